/**
 * The MPT operations on KVM. Frames are host virtual frames: user space has nothing lower, and the software engine
 * needs nothing else. Guest RAM, host pages and DMA addresses therefore share one number space, the process's own.
 */

import { DmaAddress, type Gfn, type Gpa, Hva, Mfn, PAGE_SIZE, VmId } from '../../core/addresses.js';
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import type { DmaBlock } from '../../core/dma-block.js';
import { MptError } from '../../core/errors.js';
import type { Machine, MachineSpec } from '../../core/machine.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { MptBackend } from '../../core/mpt-backend.js';
import { DEFAULT_LIMITS, MptHandle } from '../../core/mpt-handle.js';
import type { ArmedMsi } from '../../native/armed-msi.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import { O, type Syscalls } from '../../native/syscalls.js';
import { KvmMachine, type KvmVmOwner } from './machine.js';
import { DEFAULT_DEVICE, kvmFeatures, probeKvm } from './probe.js';

export interface KvmOptions {
  /** Device node, default /dev/kvm. */
  readonly device?: string;
  /** `trap` (read-only slots, default) or `sync` (dirty log). */
  readonly pageTrack?: PageTrackLevel;
  /** Pages that one vGPU's DMA mappings may pin. Default: no limit. */
  readonly pinLimitPages?: number;
}

/** VM numbers are the process's own: KVM has none. */
let lastVmId = 0;

export class KvmBackend extends MptBackend implements KvmVmOwner {
  readonly name = 'kvm';
  readonly version: string;
  readonly capabilities: Readonly<Capabilities>;
  readonly sys: Syscalls;
  readonly maxSlots: number;
  readonly pinLimit: number;
  readonly #kvm: OwnedFd;
  readonly #vms = new Map<VmId, KvmMachine>();
  readonly #hostPages = new Set<KvmHostPages>();

  constructor(sys: Syscalls, options: KvmOptions = {}) {
    super();
    this.sys = sys;
    const { device = DEFAULT_DEVICE, pageTrack, pinLimitPages = DEFAULT_LIMITS.pinnedPages } = options;
    this.pinLimit = pinLimitPages;
    const probe = probeKvm(sys, device, pageTrack);
    if (!probe.available) throw new MptError('UNAVAILABLE', probe.reason, { backend: 'kvm', op: 'open' });
    this.version = probe.version ?? '';
    this.#kvm = new OwnedFd(sys, sys.open(device, O.RDWR | O.CLOEXEC), `opening ${device}`);
    const features = kvmFeatures(sys, this.#kvm.fd, pageTrack);
    this.capabilities = features.capabilities;
    this.maxSlots = features.maxSlots;
  }

  get kvmFd(): number {
    return this.#kvm.fd;
  }

  protected override doHasVm(vmId: VmId): boolean {
    return this.#vms.has(vmId);
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): KvmHandle {
    return new KvmHandle(this, this.#vms.get(vgpu.vmId) as KvmMachine, vgpu);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    if (!this.coversHostPages(hva, 1) && ![...this.#vms.values()].some((vm) => vm.coversHva(hva, 1)))
      throw new MptError('INVALID_ADDRESS', 'the address is neither guest RAM nor host pages of this backend', { address: hva });
    return Mfn(Math.floor(hva / PAGE_SIZE));
  }

  protected override doAllocateHostPages(count: number): HostPages {
    const pages = new KvmHostPages(this, OwnedMapping.anonymous(this.sys, count * PAGE_SIZE, 'host pages'));
    this.#hostPages.add(pages);
    return pages;
  }

  protected override doCreateMachine(spec: MachineSpec): Machine {
    const machine = new KvmMachine(this, VmId(++lastVmId), spec);
    this.#vms.set(machine.vmId, machine);
    return machine;
  }

  /** True when host pages of this backend cover [hva, hva + length). */
  coversHostPages(hva: number, length: number): boolean {
    for (const pages of this.#hostPages) if (hva >= pages.hva && hva + length <= pages.hva + pages.count * PAGE_SIZE) return true;
    return false;
  }

  /** Called by a machine that closes. */
  vmClosed(vm: KvmMachine): void {
    this.vmGone(vm.vmId);
    this.#vms.delete(vm.vmId);
  }

  /** Called by host pages that are released. @throws MptError BUSY */
  released(pages: KvmHostPages): void {
    this.requireUnused(pages);
    this.#hostPages.delete(pages);
  }

  protected override doClose(): void {
    for (const vm of [...this.#vms.values()]) vm.close();
    for (const pages of [...this.#hostPages]) pages.release();
    this.#kvm.close();
  }
}

class KvmHostPages implements HostPages {
  readonly #backend: KvmBackend;
  readonly #mapping: OwnedMapping;
  readonly hva: Hva;
  readonly mfn: Mfn;
  readonly count: number;

  constructor(backend: KvmBackend, mapping: OwnedMapping) {
    this.#backend = backend;
    this.#mapping = mapping;
    this.hva = mapping.hva;
    this.mfn = Mfn(mapping.hva / PAGE_SIZE);
    this.count = mapping.length / PAGE_SIZE;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.#mapping.buffer);
  }

  release(): void {
    if (!this.#mapping.open) return;
    this.#backend.released(this);
    this.#mapping.close();
  }
}

export class KvmHandle extends MptHandle {
  readonly #vm: KvmMachine;
  readonly #kvm: KvmBackend;
  #armed: ArmedMsi | undefined;
  /** Level `sync`: tracked frames found dirty and not yet reported. */
  readonly #dirty = new Set<number>();

  constructor(backend: KvmBackend, vm: KvmMachine, vgpu: VgpuAttachment) {
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit });
    this.#kvm = backend;
    this.#vm = vm;
  }

  protected override doDetach(): void {
    this.#armed?.close();
    this.#armed = undefined;
  }

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#vm.memory.read(gpa, target, offset, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.#vm.memory.write(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.#vm.memory.find(gfn * PAGE_SIZE) !== undefined;
  }

  protected override doInjectMsi(address: number, data: number): void {
    const armed = this.#armed;
    if (armed !== undefined && armed.address === address && armed.data === data) armed.raise();
    else this.#vm.irq.signal(address, data);
  }

  protected override doArmMsi(address: number, data: number): number {
    this.#armed?.close();
    this.#armed = undefined;
    this.#armed = this.#vm.irq.arm(address, data);
    return this.#armed.fd;
  }

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    return Mfn(this.#hvaOf(gfn, PAGE_SIZE) / PAGE_SIZE);
  }

  /** Every access without a memory slot exits; which vGPU it belongs to, the base class's areas tell. */
  protected override doSetTrapArea(): void {}

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    return this.#vm.slots.overlaps(start, end);
  }

  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    if (!map) {
      this.#vm.slots.remove(gfn, nr);
      return;
    }
    const hva = Hva(mfn * PAGE_SIZE);
    // KVM would map any memory of this process: a forged frame must not give the guest our heap, nor another VM's RAM,
    // which goes away with that VM.
    if (!this.#kvm.coversHostPages(hva, nr * PAGE_SIZE) && !this.#vm.coversHva(hva, nr * PAGE_SIZE))
      throw new MptError('INVALID_ADDRESS', 'the frames are neither RAM of this VM nor host pages of this backend', {
        address: mfn,
        size: nr,
      });
    this.#vm.slots.add(gfn, nr, hva);
  }

  // --- dma: pinned by existence, since the process keeps guest RAM mapped for the VM's whole life -------------------

  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    return DmaAddress(this.#hvaOf(gfn, size));
  }

  protected override doDmaUnmap(): void {}

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    const region = this.#vm.regionAtHva(address);
    if (region === undefined) throw new MptError('NOT_MAPPED', 'no guest RAM is behind the DMA address', { address, size: length });
    return region.bytes.subarray(address - region.hva, address - region.hva + length);
  }

  protected override doDmaBlock(address: DmaAddress): DmaBlock | undefined {
    return this.#vm.regionAtHva(address)?.block;
  }

  #hvaOf(gfn: Gfn, size: number): number {
    const gpa = gfn * PAGE_SIZE;
    const region = this.#vm.memory.find(gpa);
    if (region === undefined || gpa - region.gpa + size > region.size)
      throw new MptError('NOT_RAM', 'the frame is not guest RAM of one region', {
        address: gpa,
        size,
        hint: `RAM is ${this.#vm.memory.describe()}`,
      });
    return region.hva + (gpa - region.gpa);
  }

  // --- page track ---------------------------------------------------------------------------------------------------

  protected override doEnablePageTrack(gfn: Gfn): void {
    if (!this.doIsValidGfn(gfn)) throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
    if (this.backend.capabilities.pageTrack === 'trap') {
      this.#vm.slots.protect(gfn);
      return;
    }
    // What was written before now belongs to the frames already tracked, not to this one.
    if (!this.#vm.slots.logDirty(gfn, true)) this.#collectDirty();
    this.#dirty.delete(gfn);
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    if (this.#trackedElsewhere(gfn)) return;
    if (this.backend.capabilities.pageTrack === 'trap') {
      this.#vm.slots.unprotect(gfn);
      return;
    }
    this.#dirty.delete(gfn);
    const { first, last } = this.#vm.slots.bounds(gfn);
    for (const handle of this.backend.handlesOf(this.#vm.vmId))
      for (const other of handle.trackedFrames()) if (other >= first && other <= last && !(handle === this && other === gfn)) return;
    this.#vm.slots.logDirty(gfn, false);
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#collectDirty();
    const frames = [...this.#dirty];
    this.#dirty.clear();
    for (const gfn of frames) written(gfn as Gfn);
  }

  /** Moves the dirty log to the handles that track: reading it clears it for everyone. */
  #collectDirty(): void {
    const handles = this.backend.handlesOf(this.#vm.vmId) as readonly KvmHandle[];
    this.#vm.slots.takeDirty((first, frames, bitmap) => {
      for (const handle of handles)
        for (const gfn of handle.trackedFrames()) {
          const bit = gfn - first;
          if (bit >= 0 && bit < frames && ((bitmap[bit >> 3] as number) & (1 << (bit & 7))) !== 0) handle.#dirty.add(gfn);
        }
    });
  }

  #trackedElsewhere(gfn: Gfn): boolean {
    return this.backend.handlesOf(this.#vm.vmId).some((handle) => handle !== this && handle.tracks(gfn));
  }
}
