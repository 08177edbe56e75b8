/** The operations of one attached vGPU on an ACRN VM. */
import { DmaAddress, type Gfn, type Gpa, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { DEFAULT_LIMITS, MptHandle } from '../../core/mpt-handle.js';
import { checkPvmmio, PVMMIO_SIZE } from '../../core/pvmmio.js';
import type { ArmedMsi } from '../../native/armed-msi.js';
import { PageSnapshots } from '../../native/page-snapshots.js';
import type { AcrnBackend } from './backend.js';
import type { AcrnMachine } from './machine.js';
import { PvmmioWindow } from './pvmmio-window.js';

/** Tracked pages at once at level `sync`: each has a copy. */
const SNAPSHOTS_MAX = 16_384;

export class AcrnHandle extends MptHandle {
  readonly #acrn: AcrnBackend;
  readonly #vm: AcrnMachine;
  #armed: ArmedMsi | undefined;
  /** Guest frame of each DMA mapping, by its address. */
  readonly #dma = new Map<number, number>();
  readonly #snapshots = new PageSnapshots((gfn, target) => this.#readPage(gfn, target));
  #pvmmio: PvmmioWindow | undefined;

  constructor(backend: AcrnBackend, vm: AcrnMachine, vgpu: VgpuAttachment) {
    const trackedPages = backend.capabilities.pageTrack === 'sync' ? SNAPSHOTS_MAX : DEFAULT_LIMITS.trackedPages;
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit, trackedPages });
    this.#acrn = backend;
    this.#vm = vm;
  }

  override usesHostPages(pages: HostPages): boolean {
    const { pvmmio } = this.vgpu;
    const shown = this.#pvmmio !== undefined && (pvmmio?.registerFile === pages || pvmmio?.sharedPage === pages);
    return shown || super.usesHostPages(pages);
  }

  protected override doDetach(): void {
    this.#snapshots.clear();
    this.#dma.clear();
    this.#armed?.close();
    this.#armed = undefined;
  }

  // --- guest memory -------------------------------------------------------------------------------------------------

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#vm.memory.read(gpa, target, offset, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.#vm.memory.write(gpa, source, offset, length);
    if (this.backend.capabilities.pageTrack === 'sync')
      for (const handle of this.#siblings()) handle.#snapshots.hostWrote(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.#vm.memory.find(gfn * PAGE_SIZE) !== undefined;
  }

  // --- interrupts ---------------------------------------------------------------------------------------------------

  protected override doInjectMsi(address: number, data: number): void {
    this.#vm.irq.inject(address, data);
  }

  protected override doArmMsi(address: number, data: number): number {
    this.#armed?.close();
    this.#armed = undefined;
    this.#armed = this.#vm.irq.arm(address, data);
    return this.#armed.fd;
  }

  // --- frames and dma: physical addresses of the service VM, which are the machine's ----------------------------------

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    return Mfn(this.#vm.memory.frameOf(gfn));
  }

  /** 4 KiB only: physical frames of 2 MiB need not follow each other, and dmaHugePage is not declared. */
  protected override doDmaMap(gfn: Gfn): DmaAddress {
    const address = this.#vm.memory.frameOf(gfn) * PAGE_SIZE;
    // Pinned pages differ. The entry that is there must not lose its frame to one that only seems to be the same.
    if (this.#dma.has(address)) throw new MptError('HYPERVISOR', 'two guest frames have one physical frame', { address: gfn * PAGE_SIZE });
    this.#dma.set(address, gfn);
    return DmaAddress(address);
  }

  protected override doDmaUnmap(_gfn: Gfn, _size: number, address: DmaAddress): void {
    this.#dma.delete(address);
  }

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    const within = address % PAGE_SIZE;
    const gfn = this.#dma.get(address - within);
    if (gfn === undefined) throw new MptError('NOT_MAPPED', 'no guest RAM is behind the DMA address', { address, size: length });
    return this.#vm.memory.view(gfn * PAGE_SIZE + within, length);
  }

  // --- page track ---------------------------------------------------------------------------------------------------

  protected override doEnablePageTrack(gfn: Gfn): void {
    if (this.backend.capabilities.pageTrack === 'trap') {
      this.#vm.segments.protect(gfn, this.#vm.memory.addressOf(gfn));
      return;
    }
    if (!this.#snapshots.add(gfn)) throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#snapshots.delete(gfn);
    if (this.backend.capabilities.pageTrack !== 'trap') return;
    if (!this.#siblings().some((handle) => handle !== this && handle.tracks(gfn))) this.#vm.segments.unprotect(gfn);
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#snapshots.sync(written);
  }

  #readPage(gfn: number, target: Uint8Array): boolean {
    if (!this.doIsValidGfn(gfn as Gfn)) return false;
    this.#vm.memory.read(gfn * PAGE_SIZE, target, 0, PAGE_SIZE);
    return true;
  }

  #siblings(): readonly AcrnHandle[] {
    return this.backend.handlesOf(this.vgpu.vmId) as readonly AcrnHandle[];
  }

  // --- traps and mappings -------------------------------------------------------------------------------------------

  /** Every access without a mapping is a request for the VM's client; which vGPU it belongs to, the base class's areas tell. */
  protected override doSetTrapArea(): void {}

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    if (this.#vm.memory.touches(start, end)) return true;
    const [first, last] = [Math.floor(start / PAGE_SIZE), Math.floor(end / PAGE_SIZE)];
    return this.#siblings().some((handle) => handle.mapOverlapping(first, last) || handle.#pvmmio?.overlaps(start, end));
  }

  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    const [gpa, size] = [gfn * PAGE_SIZE, nr * PAGE_SIZE];
    if (!map) {
      this.#vm.segments.unmap(gpa, size);
      return;
    }
    const address = this.#acrn.hostPages.addressOf(mfn, nr);
    // The hypervisor would map any memory of this process: a forged frame must not give the guest our heap.
    if (address === undefined)
      throw new MptError('INVALID_ADDRESS', 'the frames are not host pages of this backend', { address: mfn, size: nr });
    this.#vm.segments.map(gpa, size, address);
  }

  protected override doSetPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    if (!map) {
      this.#pvmmio?.close();
      this.#pvmmio = undefined;
      return;
    }
    const pages = this.vgpu.pvmmio as NonNullable<VgpuAttachment['pvmmio']>;
    checkPvmmio(start, end, pages);
    if (this.doOverlapsRam(start, (start + PVMMIO_SIZE - 1) as Gpa))
      throw new MptError('OVERLAP', 'the window overlaps guest RAM or mapped memory', { address: start, size: PVMMIO_SIZE });
    this.#pvmmio = new PvmmioWindow(this.#vm, start, pages);
  }
}
