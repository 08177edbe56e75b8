/**
 * What a backend writes for an attached vGPU: the protected half of the template method. `MptHandle` calls these with
 * arguments that were checked, and only on real transitions; what they throw leaves as an MptError that names operation
 * and backend. The abstract ones every backend has; the others belong to a capability.
 */

import type { DmaAddress, Gfn, Gpa, Mfn } from './addresses.js';
import type { DmaBlock } from './dma-block.js';
import { MptError } from './errors.js';
import type { HostPages } from './mpt.js';

export abstract class MptHandleHooks {
  /** Copies guest memory; throws NOT_RAM before it copies anything when a byte is not RAM. */
  protected abstract doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void;
  protected abstract doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void;
  protected abstract doIsValidGfn(gfn: Gfn): boolean;
  protected abstract doInjectMsi(address: number, data: number): void;
  protected abstract doGfnToMfn(gfn: Gfn): Mfn;
  /** Pins one page of `size` and returns its address; every distinct frame gives a distinct address. */
  protected abstract doDmaMap(gfn: Gfn, size: number): DmaAddress;
  protected abstract doDmaUnmap(gfn: Gfn, size: number, address: DmaAddress): void;
  /** Live bytes of a range that is known to lie in one mapping. */
  protected abstract doDmaView(address: DmaAddress, length: number): Uint8Array;
  /** The piece of memory that a mapped page lies in, where DMA addresses follow one another as its bytes do. */
  protected doDmaBlock(_address: DmaAddress): DmaBlock | undefined {
    return undefined;
  }
  protected doDmaCopyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void {
    target.set(this.doDmaView(address, length), offset);
  }
  /** True when RAM or a direct mapping of the guest covers any byte of [start, end]. */
  protected abstract doOverlapsRam(start: Gpa, end: Gpa): boolean;
  /** Releases what the backend keeps for this vGPU. Called last, once. */
  protected doDetach(): void {}

  protected doEnablePageTrack(_gfn: Gfn): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doDisablePageTrack(_gfn: Gfn): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doSyncPageTrack(_written: (gfn: Gfn) => void): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doSetTrapArea(_start: Gpa, _end: Gpa, _map: boolean): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doMapGfnToMfn(_gfn: Gfn, _mfn: Mfn, _nr: number, _map: boolean): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doArmMsi(_address: number, _data: number): number {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doSetPvmmio(_start: Gpa, _end: Gpa, _map: boolean): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doSetOpregion(_pages: HostPages): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doSetEdid(_port: number, _edid: Uint8Array): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doGetVfioDevice(): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doPutVfioDevice(): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
}
