/** The operations of one attached vGPU over the memory and interrupts of its client. */

import { DmaAddress, type Gfn, type Gpa, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import { DmaBlock } from '../../core/dma-block.js';
import { MptError } from '../../core/errors.js';
import type { VgpuAttachment } from '../../core/mpt.js';
import { DEFAULT_LIMITS, MptHandle } from '../../core/mpt-handle.js';
import type { MappedRegion } from '../../core/ram-access.js';
import { PageSnapshots } from '../../native/page-snapshots.js';
import { TRACKED_PAGES_MAX, VM_FRAMES } from './abi.js';
import type { PresentedFunction } from './presented.js';
import type { ServingBackend } from './serving.js';

/** The VM of a handle. */
export interface VfioUserVm {
  /** First frame number of the VM's window. */
  readonly firstFrame: number;
  /** The vGPU goes. */
  withdraw(presented: PresentedFunction): void;
}

export class VfioUserHandle extends MptHandle {
  readonly presented: PresentedFunction;
  readonly #vm: VfioUserVm;
  /** By what the client mapped. */
  readonly #blocks = new WeakMap<MappedRegion, DmaBlock>();
  readonly #snapshots = new PageSnapshots((gfn, target) => this.#readPage(gfn, target));

  constructor(backend: ServingBackend, vm: VfioUserVm, vgpu: VgpuAttachment, presented: PresentedFunction) {
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit, trackedPages: TRACKED_PAGES_MAX });
    this.#vm = vm;
    this.presented = presented;
  }

  protected override doDetach(): void {
    this.#snapshots.clear();
    this.#vm.withdraw(this.presented);
  }

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.presented.memory.read(gpa, target, offset, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.presented.memory.write(gpa, source, offset, length);
    this.#snapshots.hostWrote(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.presented.memory.covers(gfn * PAGE_SIZE, PAGE_SIZE);
  }

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    return this.presented.memory.touches(start, end);
  }

  protected override doInjectMsi(address: number, data: number): void {
    if (!this.presented.raise(address, data))
      throw new MptError('VM_GONE', 'no client is connected', { address, hint: 'the VM ended, or has not started yet' });
  }

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    this.#require(gfn, PAGE_SIZE);
    return Mfn(this.#vm.firstFrame + gfn);
  }

  // --- page track: what a page held is compared with what it holds ----------------------------------------------------

  protected override doEnablePageTrack(gfn: Gfn): void {
    if (!this.#snapshots.add(gfn)) throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#snapshots.delete(gfn);
  }

  /** A frame that cannot be read, because the client took it away or does not answer, has not been written. */
  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#snapshots.sync(written);
  }

  #readPage(gfn: number, target: Uint8Array): boolean {
    const { memory } = this.presented;
    if (!memory.covers(gfn * PAGE_SIZE, PAGE_SIZE)) return false;
    try {
      memory.read(gfn * PAGE_SIZE, target, 0, PAGE_SIZE);
      return true;
    } catch (error) {
      if (MptError.is(error) && error.code === 'NOT_RAM') return false;
      throw error;
    }
  }

  // --- DMA: the address is the guest-physical one in the VM's window --------------------------------------------------

  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    this.#require(gfn, size);
    return DmaAddress((this.#vm.firstFrame + gfn) * PAGE_SIZE);
  }

  protected override doDmaUnmap(): void {}

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    return this.presented.memory.view(address - this.#vm.firstFrame * PAGE_SIZE, length);
  }

  protected override doDmaBlock(address: DmaAddress): DmaBlock | undefined {
    const window = this.#vm.firstFrame * PAGE_SIZE;
    const piece = this.presented.memory.find(address - window);
    if (piece === undefined) return undefined;
    let block = this.#blocks.get(piece);
    if (block === undefined) {
      block = new DmaBlock(window + piece.gpa, piece.bytes);
      this.#blocks.set(piece, block);
    }
    return block;
  }

  /** @throws MptError NOT_RAM unless the range is memory that this process has mapped as one piece */
  #require(gfn: number, size: number): void {
    const { memory } = this.presented;
    const gpa = gfn * PAGE_SIZE;
    const piece = memory.find(gpa);
    if (piece !== undefined && gpa - piece.gpa + size <= piece.size && gfn < VM_FRAMES) return;
    const kind = memory.mapAt(gpa)?.kind;
    throw new MptError('NOT_RAM', kind === undefined ? 'the frame is not guest RAM' : 'the frame is not mapped for DMA', {
      address: gpa,
      size,
      ...(kind === undefined || kind === 'mapped' ? {} : { hint: HINTS[kind] }),
    });
  }
}

const HINTS = {
  message: 'the client shares no file: give QEMU -object memory-backend-memfd,share=on for its memory',
  file: "the client's file can be shortened: use memory-backend-memfd with seal=on, or trust the client",
} as const;
