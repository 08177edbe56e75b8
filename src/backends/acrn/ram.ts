/** A VM's RAM: shared memory of this process, and the physical frames of the service VM behind it. */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { GuestRam, type MappedRegion } from '../../core/guest-ram.js';
import type { PageFrames } from '../../native/page-frames.js';

/** One region and the memory behind it. */
export interface AcrnRegion extends MappedRegion {
  readonly hva: number;
  /** Physical frame of each page; 0 until it was asked for. HSM and VHM pin RAM, so a frame stays what it is. */
  readonly frames: Float64Array;
}

export class AcrnRam extends GuestRam<AcrnRegion> {
  readonly #pagemap: PageFrames;

  constructor(regions: readonly AcrnRegion[], pagemap: PageFrames) {
    super(regions);
    this.#pagemap = pagemap;
  }

  /** Physical frame of a guest frame. @throws MptError NOT_RAM, HYPERVISOR: an error never comes back as a frame */
  frameOf(gfn: number): number {
    const { region, page } = this.#locate(gfn);
    let frame = region.frames[page] as number;
    if (frame === 0) {
      // Touched, so that the page is there.
      void Atomics.load(region.bytes, page * PAGE_SIZE);
      frame = this.#pagemap.frameOf(region.hva + page * PAGE_SIZE);
      region.frames[page] = frame;
    }
    return frame;
  }

  /** Address of this process behind a guest frame. @throws MptError NOT_RAM */
  addressOf(gfn: number): number {
    const { region, page } = this.#locate(gfn);
    return region.hva + page * PAGE_SIZE;
  }

  /** Guest frame at an address of this process, or undefined. */
  gfnAt(hva: number): number | undefined {
    const region = this.regions.find(({ hva: from, size }) => hva >= from && hva - from < size);
    return region === undefined ? undefined : Math.floor((region.gpa + (hva - region.hva)) / PAGE_SIZE);
  }

  #locate(gfn: number): { region: AcrnRegion; page: number } {
    const gpa = gfn * PAGE_SIZE;
    const region = this.find(gpa);
    if (region === undefined)
      throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gpa, hint: `RAM is ${this.describe()}` });
    return { region, page: (gpa - region.gpa) / PAGE_SIZE };
  }
}
