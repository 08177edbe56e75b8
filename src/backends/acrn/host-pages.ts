/**
 * Host pages that map_gfn_to_mfn and set_pvmmio give to guests: shared memory of this process. Physical pages behind one another need
 * not follow each other, so their frame numbers are ours, above every physical frame.
 */
import { type Hva, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import type { HostPages } from '../../core/mpt.js';
import { RangeSet } from '../../core/ranges.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';

/** First frame number of host pages: no machine has memory there (2^51 bytes). */
const HOST_FRAMES = 2 ** 39;

export class AcrnHostPages implements HostPages {
  readonly mfn: Mfn;
  readonly hva: Hva;
  readonly count: number;
  readonly #pool: HostPagePool;
  readonly #mapping: OwnedMapping;

  constructor(pool: HostPagePool, mapping: OwnedMapping, mfn: number) {
    this.#pool = pool;
    this.#mapping = mapping;
    this.mfn = Mfn(mfn);
    this.hva = mapping.hva;
    this.count = mapping.length / PAGE_SIZE;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.#mapping.buffer);
  }

  release(): void {
    if (!this.#mapping.open) return;
    this.#pool.released(this);
    this.#mapping.close();
  }
}

export class HostPagePool {
  readonly #sys: Syscalls;
  readonly #requireUnused: (pages: HostPages) => void;
  readonly #pages = new RangeSet<AcrnHostPages>();
  /** Numbers are not used again, so that a stale one never names other pages. */
  #next = HOST_FRAMES;

  /** @param requireUnused throws BUSY while a guest has any of the pages */
  constructor(sys: Syscalls, requireUnused: (pages: HostPages) => void) {
    this.#sys = sys;
    this.#requireUnused = requireUnused;
  }

  allocate(count: number): AcrnHostPages {
    const mapping = OwnedMapping.memfd(this.#sys, count * PAGE_SIZE, 'host pages', 'mpt-host-pages');
    const pages = new AcrnHostPages(this, mapping, this.#next);
    this.#next += count;
    this.#pages.add(pages.mfn, pages.mfn + count - 1, pages);
    return pages;
  }

  /** Address of `nr` frames in one set of pages, or undefined. */
  addressOf(mfn: number, nr: number): number | undefined {
    const pages = this.#pages.find(mfn)?.value;
    if (pages === undefined || mfn + nr > pages.mfn + pages.count) return undefined;
    return pages.hva + (mfn - pages.mfn) * PAGE_SIZE;
  }

  /** Frame of an address of this process, or undefined. */
  frameAt(hva: number): Mfn | undefined {
    for (const { value: pages } of this.#pages) {
      const offset = hva - pages.hva;
      if (offset >= 0 && offset < pages.count * PAGE_SIZE) return Mfn(pages.mfn + Math.floor(offset / PAGE_SIZE));
    }
    return undefined;
  }

  /** For pages that are released. @throws MptError BUSY */
  released(pages: AcrnHostPages): void {
    this.#requireUnused(pages);
    this.#pages.delete(pages.mfn, pages.mfn + pages.count - 1);
  }

  /** Releases all. */
  close(): void {
    for (const { value } of [...this.#pages]) value.release();
  }
}
