/** The operations of one attached vGPU on the simulation. */

import { DmaAddress, type Gfn, type Gpa, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import type { DmaBlock } from '../../core/dma-block.js';
import { MptError } from '../../core/errors.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { DEFAULT_LIMITS, MptHandle } from '../../core/mpt-handle.js';
import { checkPvmmio, PVMMIO, PVMMIO_SIZE } from '../../core/pvmmio.js';
import { type Mapping, makeMapping, PageFlag } from '../../pc/address-space.js';
import { MSI_LOG_MAX } from './abi.js';
import type { SimBackend } from './backend.js';
import type { SimMachine } from './machine.js';

/** An interrupt message as it was injected. */
export interface Msi {
  readonly address: number;
  readonly data: number;
}

export class SimHandle extends MptHandle {
  /** Messages injected, oldest first; at most the last 1024. */
  readonly msis: Msi[] = [];
  /** Messages injected since attach, dropped ones included. */
  msiCount = 0;
  readonly #vm: SimMachine;
  readonly #sim: SimBackend;
  /** Mappings of map_gfn_to_mfn by their first frame. */
  readonly #mapped = new Map<number, Mapping>();
  /** While set_pvmmio is on: its window and mappings. */
  #pvmmio: { readonly start: number; readonly mappings: readonly Mapping[] } | undefined;
  /** Level `sync`: tracked frames found dirty and not yet reported. */
  readonly #dirty = new Set<number>();
  #opregion: HostPages | undefined;
  readonly #edids = new Map<number, Uint8Array>();

  constructor(backend: SimBackend, vm: SimMachine, vgpu: VgpuAttachment) {
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit });
    this.#sim = backend;
    this.#vm = vm;
  }

  /** The pages that set_opregion made known. */
  get opregion(): HostPages | undefined {
    return this.#opregion;
  }

  /** A copy of the EDID that set_edid offered for the port, 0 (A) to 4 (E). */
  edid(port: number): Uint8Array | undefined {
    return this.#edids.get(port)?.slice();
  }

  /** True while any of the pages is mapped into the guest or is its OpRegion. */
  override usesHostPages(pages: HostPages): boolean {
    const { pvmmio } = this.vgpu;
    const inPvmmio = this.#pvmmio !== undefined && pvmmio !== undefined && (pvmmio.registerFile === pages || pvmmio.sharedPage === pages);
    return inPvmmio || this.#opregion === pages || super.usesHostPages(pages);
  }

  protected override doDetach(): void {
    this.#dirty.clear();
    this.#opregion = undefined;
    this.#edids.clear();
    this.#sim.faults.check('detach_vgpu');
  }

  // --- guest memory -------------------------------------------------------------------------------------------------

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#sim.faults.check('read_gpa');
    this.#vm.memory.read(gpa, target, offset, length);
    if (this.#vm.watches.active) this.#vm.watches.read(gpa, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.#sim.faults.check('write_gpa');
    this.#vm.memory.write(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    this.#sim.faults.check('is_valid_gfn');
    return this.#vm.memory.find(gfn * PAGE_SIZE) !== undefined;
  }

  // --- interrupts ---------------------------------------------------------------------------------------------------

  protected override doInjectMsi(address: number, data: number): void {
    this.#sim.faults.check('inject_msi');
    this.msiCount++;
    if (this.msis.length >= MSI_LOG_MAX) this.msis.shift();
    this.msis.push({ address, data });
    this.#vm.lapic.message(address, data);
  }

  // --- page track ---------------------------------------------------------------------------------------------------

  protected override doEnablePageTrack(gfn: Gfn): void {
    this.#sim.faults.check('enable_page_track');
    if (this.#vm.memory.find(gfn * PAGE_SIZE) === undefined)
      throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
    if (this.backend.capabilities.pageTrack === 'trap') {
      this.#vm.space.setFlag(gfn, PageFlag.TRAP, true);
      return;
    }
    // What was written before now belongs to those who track the frame already, not to this vGPU.
    this.#collectDirty();
    this.#dirty.delete(gfn);
    this.#vm.space.setFlag(gfn, PageFlag.LOG, true);
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#sim.faults.check('disable_page_track');
    if (this.backend.capabilities.pageTrack === 'sync') {
      this.#collectDirty();
      this.#dirty.delete(gfn);
    }
    if (this.#siblings().some((handle) => handle !== this && handle.tracks(gfn))) return;
    this.#vm.space.setFlag(gfn, PageFlag.TRAP | PageFlag.LOG, false);
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#sim.faults.check('sync_page_track');
    this.#collectDirty();
    const frames = [...this.#dirty];
    this.#dirty.clear();
    for (const gfn of frames) written(gfn as Gfn);
  }

  /** Moves the marks of written pages to every vGPU that tracks them: taking a mark clears it for all. */
  #collectDirty(): void {
    const handles = this.#siblings();
    for (const handle of handles)
      for (const gfn of handle.trackedFrames()) if (this.#vm.space.hasFlag(gfn, PageFlag.DIRTY)) handle.#dirty.add(gfn);
    for (const handle of handles) for (const gfn of handle.trackedFrames()) this.#vm.space.setFlag(gfn, PageFlag.DIRTY, false);
  }

  #siblings(): readonly SimHandle[] {
    return this.backend.handlesOf(this.vgpu.vmId) as readonly SimHandle[];
  }

  // --- traps and mappings -------------------------------------------------------------------------------------------

  /** Every access that no memory answers is a request; which vGPU it belongs to, the base class's areas tell. */
  protected override doSetTrapArea(): void {
    this.#sim.faults.check('set_trap_area');
  }

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    return this.#vm.space.touches(start, end);
  }

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    this.#sim.faults.check('gfn_to_mfn');
    return Mfn(this.#vm.machineAddress(gfn, PAGE_SIZE) / PAGE_SIZE);
  }

  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    this.#sim.faults.check('map_gfn_to_mfn');
    if (map) {
      const mapping = makeMapping(gfn * PAGE_SIZE, this.#sim.hostMemory.view(mfn * PAGE_SIZE, nr * PAGE_SIZE));
      this.#vm.space.add(mapping);
      this.#mapped.set(gfn, mapping);
    } else {
      this.#vm.space.remove(this.#mapped.get(gfn) as Mapping);
      this.#mapped.delete(gfn);
    }
  }

  /**
   * The register file is mapped at the start of the window with its stores reported, except the PVINFO page, which has
   * no mapping and so traps both ways; the shared page follows at 2 MiB.
   */
  protected override doSetPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    this.#sim.faults.check('set_pvmmio');
    if (!map) {
      for (const mapping of this.#pvmmio?.mappings ?? []) this.#vm.space.remove(mapping);
      this.#pvmmio = undefined;
      return;
    }
    const { registerFileSize, pvinfoOffset, sharedPageOffset } = PVMMIO;
    const pages = this.vgpu.pvmmio as NonNullable<VgpuAttachment['pvmmio']>;
    checkPvmmio(start, end, pages);
    const { registerFile, sharedPage } = pages;
    if (this.#vm.space.touches(start, start + PVMMIO_SIZE - 1))
      throw new MptError('OVERLAP', 'the window overlaps guest RAM or mapped memory', { address: start, size: PVMMIO_SIZE });
    const file = this.#sim.hostMemory.view(registerFile.mfn * PAGE_SIZE, registerFileSize);
    const shared = this.#sim.hostMemory.view(sharedPage.mfn * PAGE_SIZE, PAGE_SIZE);
    const afterPvinfo = pvinfoOffset + PAGE_SIZE;
    const mappings = [
      makeMapping(start, file.subarray(0, pvinfoOffset), PageFlag.TRAP),
      makeMapping(start + afterPvinfo, file.subarray(afterPvinfo), PageFlag.TRAP),
      makeMapping(start + sharedPageOffset, shared),
    ];
    for (const mapping of mappings) this.#vm.space.add(mapping);
    this.#pvmmio = { start, mappings };
  }

  // --- dma ----------------------------------------------------------------------------------------------------------

  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    this.#sim.faults.check('dma_map_guest_page');
    const address = this.#vm.machineAddress(gfn, size);
    this.#vm.pinnedPages += size / PAGE_SIZE;
    return DmaAddress(address);
  }

  protected override doDmaUnmap(_gfn: Gfn, size: number): void {
    this.#sim.faults.check('dma_unmap_guest_page');
    this.#vm.pinnedPages -= size / PAGE_SIZE;
  }

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    this.#sim.faults.check('dma_view');
    return this.#sim.hostMemory.view(address, length);
  }

  protected override doDmaBlock(address: DmaAddress): DmaBlock | undefined {
    this.#sim.faults.check('dma_view');
    return this.#sim.hostMemory.find(address, PAGE_SIZE)?.dma;
  }

  protected override doDmaCopyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void {
    this.#sim.faults.check('dma_copy');
    target.set(this.#sim.hostMemory.view(address, length), offset);
    if (this.#vm.watches.active) this.#vm.watches.read(this.#vm.gpaOf(address), length);
  }

  // --- the rest of the table ----------------------------------------------------------------------------------------

  protected override doSetOpregion(pages: HostPages): void {
    this.#sim.faults.check('set_opregion');
    this.#sim.hostMemory.view(pages.mfn * PAGE_SIZE, pages.count * PAGE_SIZE);
    this.#opregion = pages;
  }

  protected override doSetEdid(port: number, edid: Uint8Array): void {
    this.#sim.faults.check('set_edid');
    this.#edids.set(port, edid);
  }

  protected override doGetVfioDevice(): void {
    this.#sim.faults.check('get_vfio_device');
  }

  protected override doPutVfioDevice(): void {
    this.#sim.faults.check('put_vfio_device');
  }
}
