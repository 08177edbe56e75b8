/**
 * Memory as planes are read from it: through the GGTT, page by page, without a mapping for DMA. Whether somebody looks at the screen changes
 * nothing that the guest or the hypervisor could notice, and a recording need not tell of it.
 */
import { type Gpa, gfnToGpa, PAGE_SIZE, pageOffset } from '../../addresses.js';
import type { GuestMemory } from '../../mpt.js';
import type { Ggtt } from '../ggtt.js';
import type { ScanoutMemory } from '../roles.js';

export class Scanout implements ScanoutMemory {
  readonly #ggtt: Pick<Ggtt, 'frameAt'>;
  readonly #memory: Pick<GuestMemory, 'readGpa'>;
  readonly #frames: Pick<GuestMemory, 'isValidGfn'> | undefined;

  /** @param frames absent when the backend cannot tell which frames are guest memory */
  constructor(ggtt: Pick<Ggtt, 'frameAt'>, memory: Pick<GuestMemory, 'readGpa'>, frames: Pick<GuestMemory, 'isValidGfn'> | undefined) {
    this.#ggtt = ggtt;
    this.#memory = memory;
    this.#frames = frames;
  }

  shows(address: number): boolean {
    const gfn = this.#ggtt.frameAt(address);
    if (gfn === undefined) return false;
    try {
      return this.#frames === undefined || this.#frames.isValidGfn(gfn);
    } catch {
      // VM_GONE.
      return false;
    }
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const gfn = this.#ggtt.frameAt(address + done);
      if (gfn === undefined) return false;
      const at = pageOffset(address + done);
      const piece = Math.min(length - done, PAGE_SIZE - at);
      try {
        this.#memory.readGpa((gfnToGpa(gfn) + at) as Gpa, target, offset + done, piece);
      } catch {
        // NOT_RAM, VM_GONE.
        return false;
      }
      done += piece;
    }
    return true;
  }
}
