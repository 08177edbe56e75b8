/**
 * Host pages that map_gfn_to_mfn gives to guests. They belong to a domain of their own, which never runs: Xen keeps its
 * memory while it exists, so a guest that still maps a page after this process was killed reaches nobody else's memory.
 * (Pages of dom0 itself would return to its kernel with the process, and the guest would keep them.)
 *
 * Their frame numbers are ours, above every machine frame; the machine frames are looked up when a page is mapped, and are
 * pinned by a grant while it is.
 */
import { type Hva, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { HostPages } from '../../core/mpt.js';
import { RangeSet } from '../../core/ranges.js';
import { OwnedMapping } from '../../native/mapping.js';
import { readDomainInfo, type XenHost } from './domain.js';
import { checkXen, xenFailure } from './failure.js';
import type { ForeignOwner } from './foreign-ram.js';
import { type Grant, GrantTable } from './grants.js';
import { createDomain, destroyDomain } from './machine.js';

/** First frame number of host pages: no machine has memory there (2^51 bytes). */
export const HOST_FRAMES = 2 ** 39;
/** KiB that it may hold: 4 GiB. */
const HOLDER_KIB = 4 * 1024 * 1024;
/** It needs one page so that it is an ordinary domain. */
const HOLDER_RAM = [{ gpa: 0, size: PAGE_SIZE }];
const POPULATE_AT_ONCE = 1024;

export class XenHostPages implements HostPages {
  readonly mfn: Mfn;
  readonly hva: Hva;
  readonly count: number;
  /** First frame in the holding domain. */
  readonly holderGfn: number;
  readonly #pool: HostPagePool;
  readonly #mapping: OwnedMapping;

  constructor(pool: HostPagePool, mapping: OwnedMapping, holderGfn: number) {
    this.#pool = pool;
    this.#mapping = mapping;
    this.holderGfn = holderGfn;
    this.mfn = Mfn(HOST_FRAMES + holderGfn);
    this.hva = mapping.hva;
    this.count = mapping.length / PAGE_SIZE;
  }

  get bytes(): Uint8Array {
    return new Uint8Array(this.#mapping.buffer);
  }

  /** @param giveBack false leaves the pages with their domain */
  release(giveBack = true): void {
    if (!this.#mapping.open) return;
    this.#pool.released(this);
    this.#mapping.close();
    if (giveBack) this.#pool.giveBack(this);
  }
}

/** The holding domain and what is in it. */
export class HostPagePool implements ForeignOwner {
  readonly #host: XenHost;
  readonly #requireUnused: (pages: HostPages) => void;
  readonly #pages = new RangeSet<XenHostPages>();
  #domid = -1;
  #grants: GrantTable | undefined;
  /** Frames are not used again, so that a stale number never names other pages. */
  #nextGfn = 1;
  #kept = false;

  constructor(host: XenHost, requireUnused: (pages: HostPages) => void) {
    this.#host = host;
    this.#requireUnused = requireUnused;
  }

  /** The holding domain, or -1 before the first pages. */
  get domid(): number {
    return this.#domid;
  }

  /** A guest that goes on still maps pages: the holding domain outlives this process. */
  keep(): void {
    this.#kept = true;
  }

  get kept(): boolean {
    return this.#kept;
  }

  fail(call: string, result: number, place = {}): never {
    throw xenFailure(call, result, { domid: this.#domid, ...place });
  }

  requireAlive(): void {
    this.#holder();
  }

  /** @throws MptError NO_MEMORY, LIMIT, HYPERVISOR */
  allocate(count: number): XenHostPages {
    const { sys, xen: calls } = this.#host;
    const domid = this.#holder();
    const first = this.#nextGfn;
    const gfns = BigUint64Array.from({ length: count }, (_, i) => BigInt(first + i));
    this.#nextGfn += count;
    let asked = 0;
    try {
      while (asked < count) {
        const batch = gfns.slice(asked, asked + POPULATE_AT_ONCE);
        asked += batch.length;
        checkXen('populate_physmap', calls.populate(domid, batch, 0), { domid, gfn: Number(batch[0]), size: count });
      }
      const errors = new Int32Array(count);
      const address = checkXen('foreign_map', calls.mapForeign(domid, gfns, errors), { domid, gfn: first });
      const mapping = OwnedMapping.adopt(sys, address, count * PAGE_SIZE, 'host pages', () => calls.unmapForeign(address, count));
      const bad = errors.findIndex((error) => error !== 0);
      if (bad >= 0) {
        mapping.close();
        this.fail('foreign_map', errors[bad] as number, { gfn: first + bad });
      }
      const pages = new XenHostPages(this, mapping, first);
      // Xen scrubs what a domain frees, but not what was never another's.
      pages.bytes.fill(0);
      this.#pages.add(pages.mfn, pages.mfn + count - 1, pages);
      return pages;
    } catch (error) {
      // Frame by frame: of the last batch any part may be there.
      for (let i = 0; i < asked; i++) calls.decreaseReservation(domid, gfns.slice(i, i + 1));
      throw error;
    }
  }

  /** The pages that hold all of [mfn, mfn + nr), if they are host pages. */
  find(mfn: number, nr: number): XenHostPages | undefined {
    const range = this.#pages.find(mfn);
    return range !== undefined && mfn + nr - 1 <= range.end ? range.value : undefined;
  }

  /** The pages around a host virtual address. */
  atHva(hva: number): XenHostPages | undefined {
    for (const { value } of this.#pages) if (hva >= value.hva && hva < value.hva + value.count * PAGE_SIZE) return value;
    return undefined;
  }

  /** Pins one host page. @returns its grant: the machine frame is `busAddress / 4096` */
  pin(mfn: number): Grant {
    return (this.#grants as GrantTable).map(mfn - HOST_FRAMES);
  }

  unpin(grant: Grant): void {
    this.#grants?.unmap(grant);
  }

  /** For XenHostPages only. @throws MptError BUSY while a guest has any of the pages */
  released(pages: XenHostPages): void {
    this.#requireUnused(pages);
  }

  /** For XenHostPages only: their mapping is closed. */
  giveBack(pages: XenHostPages): void {
    this.#pages.delete(pages.mfn, pages.mfn + pages.count - 1);
    const gfns = BigUint64Array.from({ length: pages.count }, (_, i) => BigInt(pages.holderGfn + i));
    this.#host.xen.decreaseReservation(this.#domid, gfns);
  }

  /** Closes every mapping of this process, and destroys the domain unless it is kept. */
  close(): void {
    for (const { value } of [...this.#pages]) value.release(!this.#kept);
    this.#grants?.close();
    this.#grants = undefined;
    if (this.#domid >= 0 && !this.#kept) destroyDomain(this.#host, this.#domid);
    this.#domid = -1;
  }

  #holder(): number {
    if (this.#domid >= 0) {
      const info = readDomainInfo(this.#host.xen, this.#host.layout, this.#domid);
      if (info === undefined || info.dying)
        throw new MptError('HYPERVISOR', `domain ${this.#domid}, which holds the host pages, was destroyed`, {
          hint: 'close the backend and open it again; leave that domain alone',
        });
      return this.#domid;
    }
    const { sys, xen, journal } = this.#host;
    const domid = createDomain(this.#host, HOLDER_RAM, 'pvh', 1, 'holder');
    try {
      checkXen('max_mem', xen.setMaxMem(domid, HOLDER_KIB), { domid });
    } catch (error) {
      destroyDomain(this.#host, domid);
      throw error;
    }
    this.#domid = domid;
    this.#grants = new GrantTable(sys, xen, this, journal);
    return this.#domid;
  }
}
