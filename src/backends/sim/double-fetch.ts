/**
 * Memory that changes on its second read. A device model that reads a guest structure twice (once to check it, once to
 * use it) can be attacked by a guest that changes it in between; here every such attack hits, every time.
 */
import type { GuestRam } from '../../core/guest-ram.js';

interface Watch {
  readonly gpa: number;
  readonly length: number;
  readonly mutate: (bytes: Uint8Array) => void;
  /** One byte for each byte of the range: 1 once it was read. */
  readonly seen: Uint8Array;
  mutated: boolean;
}

export class DoubleFetchWatches {
  readonly #ram: GuestRam;
  readonly #watches: Watch[] = [];
  #doubleFetches = 0;

  constructor(ram: GuestRam) {
    this.#ram = ram;
  }

  /** True when any range is watched: readers ask before they call `read()`. */
  get active(): boolean {
    return this.#watches.length > 0;
  }

  /** Host reads that read a watched byte again. */
  get doubleFetches(): number {
    return this.#doubleFetches;
  }

  /** @throws MptError NOT_RAM unless the range lies inside one RAM region */
  add(gpa: number, length: number, mutate: (bytes: Uint8Array) => void): void {
    this.#ram.view(gpa, length);
    this.#watches.push({ gpa, length, mutate, seen: new Uint8Array(length), mutated: false });
  }

  clear(): void {
    this.#watches.length = 0;
    this.#doubleFetches = 0;
  }

  /** The host has copied this range out: counts a second read, then lets the bytes change after the first. */
  read(gpa: number, length: number): void {
    let again = false;
    for (const watch of this.#watches) {
      const first = Math.max(gpa, watch.gpa) - watch.gpa;
      const end = Math.min(gpa + length, watch.gpa + watch.length) - watch.gpa;
      if (first >= end) continue;
      again ||= watch.seen.subarray(first, end).includes(1);
      watch.seen.fill(1, first, end);
      if (watch.mutated) continue;
      watch.mutated = true;
      watch.mutate(this.#ram.view(watch.gpa, watch.length));
    }
    if (again) this.#doubleFetches++;
  }
}
