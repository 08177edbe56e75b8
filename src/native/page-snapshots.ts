/**
 * Page track at level `sync` by comparing: what a tracked page held when it was last looked at, against what it holds. For a
 * backend whose hypervisor tells of no stores. A store of what was there already is not found.
 */
import { type Gfn, PAGE_SIZE } from '../core/addresses.js';

/** Copies a page of guest memory; false when it cannot be read any more. */
export type PageReader = (gfn: number, target: Uint8Array) => boolean;

export class PageSnapshots {
  readonly #read: PageReader;
  readonly #snapshots = new Map<number, Uint8Array>();
  readonly #page = new Uint8Array(PAGE_SIZE);

  constructor(read: PageReader) {
    this.#read = read;
  }

  /** Starts with what the page holds now. @returns false when it cannot be read */
  add(gfn: number): boolean {
    const snapshot = new Uint8Array(PAGE_SIZE);
    if (!this.#read(gfn, snapshot)) return false;
    this.#snapshots.set(gfn, snapshot);
    return true;
  }

  delete(gfn: number): void {
    this.#snapshots.delete(gfn);
  }

  clear(): void {
    this.#snapshots.clear();
  }

  /** What the host writes is no guest write: the copies of tracked pages follow. */
  hostWrote(gpa: number, source: Uint8Array, offset: number, length: number): void {
    if (this.#snapshots.size === 0) return;
    for (let done = 0; done < length; ) {
      const at = (gpa + done) % PAGE_SIZE;
      const n = Math.min(length - done, PAGE_SIZE - at);
      this.#snapshots.get(Math.floor((gpa + done) / PAGE_SIZE))?.set(source.subarray(offset + done, offset + done + n), at);
      done += n;
    }
  }

  /** Tells of each page whose content changed, once. A page that cannot be read has not been written. */
  sync(written: (gfn: Gfn) => void): void {
    const changed: number[] = [];
    for (const [gfn, snapshot] of this.#snapshots) {
      if (!this.#read(gfn, this.#page) || Buffer.compare(this.#page, snapshot) === 0) continue;
      snapshot.set(this.#page);
      changed.push(gfn);
    }
    for (const gfn of changed) written(gfn as Gfn);
  }
}
