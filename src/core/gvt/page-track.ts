/**
 * Guest frames whose writes the vGPU wants to know, with who is told (facts: gvt.md 1.3 #7, 3). The backend reports a
 * write with its data (level `trap`) or only the frame (level `sync`).
 */
import { Gfn, type Gpa, gpaToGfn } from '../addresses.js';
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { PageTracker } from '../mpt.js';
import { refusedByHypervisor } from './guest-error-log.js';
import type { GuestErrorLog } from './roles.js';

/** Told of writes to a tracked frame. */
export interface PageTrackHandler {
  /** Level `trap`: `size` bytes at `gpa` were written; they stand in guest memory. The write may begin in the frame before. */
  written(gpa: Gpa, value: AccessValue, size: number): Status;
  /** Level `sync`: something in the frame was written. */
  frameWritten(gfn: Gfn): Status;
}

export class PageTrack {
  readonly #tracker: PageTracker;
  readonly #log: GuestErrorLog;
  readonly #handlers = new Map<Gfn, PageTrackHandler>();

  constructor(tracker: PageTracker, log: GuestErrorLog) {
    this.#tracker = tracker;
    this.#log = log;
  }

  /** Frames tracked now. */
  get size(): number {
    return this.#handlers.size;
  }

  has(gfn: Gfn): boolean {
    return this.#handlers.has(gfn);
  }

  /**
   * Tracks a frame; for one that is tracked the handler is replaced.
   * @throws MptError NOT_RAM, LIMIT, UNSUPPORTED
   */
  add(gfn: Gfn, handler: PageTrackHandler): void {
    this.#tracker.enablePageTrack(gfn);
    this.#handlers.set(gfn, handler);
  }

  remove(gfn: Gfn): void {
    if (!this.#handlers.delete(gfn)) return;
    try {
      this.#tracker.disablePageTrack(gfn);
    } catch (error) {
      // With the VM its protections go too.
      refusedByHypervisor(this.#log, error);
    }
  }

  clear(): void {
    for (const gfn of [...this.#handlers.keys()]) this.remove(gfn);
  }

  /** A store may reach into the next frame; each tracked frame's handler is told. @returns ENXIO when none is tracked */
  written(gpa: Gpa, value: AccessValue, size: number): Status {
    const first = gpaToGfn(gpa);
    const last = gpaToGfn((gpa + size - 1) as Gpa);
    let status = this.#handlers.get(first)?.written(gpa, value, size) ?? Status.ENXIO;
    if (last !== first) {
      const second = this.#handlers.get(last)?.written(gpa, value, size) ?? Status.ENXIO;
      if (status === Status.OK || status === Status.ENXIO) status = second === Status.ENXIO ? status : second;
    }
    return status;
  }

  frameWritten(gfn: Gfn): Status {
    return this.#handlers.get(gfn)?.frameWritten(gfn) ?? Status.ENXIO;
  }

  /** Failsafe: nobody is told any more. @returns ENXIO when no frame of the store was tracked */
  giveUp(gpa: Gpa, size: number): Status {
    const first = gpaToGfn(gpa);
    const last = gpaToGfn((gpa + size - 1) as Gpa);
    const tracked = this.has(first) || this.has(last);
    for (let gfn: number = first; gfn <= last; gfn++) this.remove(Gfn(gfn));
    return tracked ? Status.OK : Status.ENXIO;
  }
}
