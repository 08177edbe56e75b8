/**
 * Reference-counted DMA mappings of one vGPU. One entry per frame: mapping it again gives the same address and one
 * more reference; asking 2 MiB of a frame mapped as 4 KiB grows the entry, which stays large until the last reference
 * goes, because unmap names the address only.
 */
import type { DmaAddress, Gfn } from './addresses.js';
import { HUGE_PAGE_SIZE, PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';
import { PageIndex } from './page-index.js';

/** What the hypervisor does for one entry. */
export interface DmaPinner {
  map(gfn: Gfn, size: number): DmaAddress;
  unmap(gfn: Gfn, size: number, address: DmaAddress): void;
}

/** An entry's fields, in one array: what is loaded of an entry lies together, and V8 looks at one array only. */
const FRAME = 0;
const ADDRESS = 1;
/** Bytes. */
const SIZE = 2;
/** 0: the entry is free. */
const REFERENCES = 3;
const FIELDS = 4;
/** Entries of a new table. */
const SMALLEST = 64;

export class DmaTable {
  readonly #pinner: DmaPinner;
  readonly #limit: number;
  /** First fields of entries, by frame and by page of the address. */
  readonly #byGfn = new PageIndex();
  readonly #byAddress = new PageIndex();
  #fields = new Float64Array(SMALLEST * FIELDS);
  /** End of the entries that were ever used, and the free ones below. */
  #used = 0;
  readonly #free: number[] = [];
  /** Addresses of 2 MiB entries; few, so ranges inside them are found by a scan. */
  readonly #huge = new Set<number>();
  #pinned = 0;

  constructor(limit: number, pinner: DmaPinner) {
    this.#limit = limit;
    this.#pinner = pinner;
  }

  get pinnedPages(): number {
    return this.#pinned;
  }

  map(gfn: Gfn, size: number): DmaAddress {
    const known = this.#byGfn.get(gfn);
    if (known < 0) return this.#add(gfn, size);
    const fields = this.#fields;
    if (size > (fields[known + SIZE] as number)) this.#grow(known, size);
    fields[known + REFERENCES] = (fields[known + REFERENCES] as number) + 1;
    return fields[known + ADDRESS] as DmaAddress;
  }

  unmap(address: DmaAddress): void {
    const entry = this.#entry(address);
    const fields = this.#fields;
    const references = fields[entry + REFERENCES] as number;
    if (references > 1) fields[entry + REFERENCES] = references - 1;
    else this.#remove(entry);
  }

  pin(address: DmaAddress): void {
    const entry = this.#entry(address);
    this.#fields[entry + REFERENCES] = (this.#fields[entry + REFERENCES] as number) + 1;
  }

  /** @throws MptError NOT_MAPPED unless [address, address + length) lies inside one entry. */
  require(address: DmaAddress, length: number): void {
    if (Number.isSafeInteger(address) && address >= 0 && Number.isSafeInteger(length) && length > 0) {
      const entry = this.#byAddress.get(pageOf(address));
      const fields = this.#fields;
      if (entry >= 0 && address + length <= (fields[entry + ADDRESS] as number) + (fields[entry + SIZE] as number)) return;
      for (const base of this.#huge) if (address >= base && address + length <= base + HUGE_PAGE_SIZE) return;
    }
    throw new MptError('NOT_MAPPED', 'the DMA range is not inside one mapping', { address, size: length });
  }

  /** Unmaps every entry whatever its references; the first failure is thrown after all were tried. */
  clear(): void {
    let failure: unknown;
    const fields = this.#fields;
    for (let entry = 0; entry < this.#used; entry += FIELDS) {
      if (fields[entry + REFERENCES] === 0) continue;
      try {
        this.#pinner.unmap(fields[entry + FRAME] as Gfn, fields[entry + SIZE] as number, fields[entry + ADDRESS] as DmaAddress);
      } catch (error) {
        failure ??= error;
      }
    }
    this.drop();
    if (failure !== undefined) throw failure;
  }

  /** Forgets every entry without telling the hypervisor: its VM is gone. */
  drop(): void {
    this.#byGfn.clear();
    this.#byAddress.clear();
    this.#huge.clear();
    this.#fields.fill(0);
    this.#used = 0;
    this.#free.length = 0;
    this.#pinned = 0;
  }

  /** The entry of an address. */
  #entry(address: DmaAddress): number {
    const entry = Number.isSafeInteger(address) && address >= 0 ? this.#byAddress.get(pageOf(address)) : -1;
    if (entry >= 0 && this.#fields[entry + ADDRESS] === address) return entry;
    throw new MptError('NOT_MAPPED', 'no page is mapped at this DMA address', { address, hint: 'each map allows one unmap' });
  }

  #add(gfn: Gfn, size: number): DmaAddress {
    this.#reserve(gfn, pagesOf(size));
    const address = this.#pinner.map(gfn, size);
    this.#pinned += pagesOf(size);
    const entry = this.#take();
    const fields = this.#fields;
    fields[entry + FRAME] = gfn;
    fields[entry + ADDRESS] = address;
    fields[entry + SIZE] = size;
    fields[entry + REFERENCES] = 1;
    this.#byGfn.set(gfn, entry);
    this.#byAddress.set(pageOf(address), entry);
    if (size === HUGE_PAGE_SIZE) this.#huge.add(address);
    return address;
  }

  #remove(entry: number): void {
    const fields = this.#fields;
    const gfn = fields[entry + FRAME] as Gfn;
    const address = fields[entry + ADDRESS] as DmaAddress;
    const size = fields[entry + SIZE] as number;
    this.#pinner.unmap(gfn, size, address);
    this.#pinned -= pagesOf(size);
    this.#byGfn.delete(gfn);
    this.#byAddress.delete(pageOf(address));
    if (size === HUGE_PAGE_SIZE) this.#huge.delete(address);
    fields[entry + REFERENCES] = 0;
    this.#free.push(entry);
  }

  /** A free entry. */
  #take(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#used === this.#fields.length) this.#enlarge();
    const entry = this.#used;
    this.#used += FIELDS;
    return entry;
  }

  #enlarge(): void {
    const larger = new Float64Array(this.#fields.length * 2);
    larger.set(this.#fields);
    this.#fields = larger;
  }

  #grow(entry: number, size: number): void {
    const fields = this.#fields;
    const gfn = fields[entry + FRAME] as Gfn;
    const address = fields[entry + ADDRESS] as DmaAddress;
    const old = fields[entry + SIZE] as number;
    const more = pagesOf(size) - pagesOf(old);
    this.#reserve(gfn, more);
    const moved = this.#pinner.map(gfn, size);
    if (moved !== address) {
      this.#pinner.unmap(gfn, size, moved);
      throw new MptError('BUSY', 'the frame is mapped as 4 KiB and cannot grow in place', { address: gfn, size });
    }
    this.#pinner.unmap(gfn, old, address);
    this.#pinned += more;
    fields[entry + SIZE] = size;
    this.#huge.add(address);
  }

  #reserve(gfn: Gfn, pages: number): void {
    if (this.#pinned + pages > this.#limit) throw this.#full(gfn, pages);
  }

  #full(gfn: Gfn, pages: number): MptError {
    return new MptError('LIMIT', `${this.#pinned} pages are pinned and ${pages} more pass the limit`, {
      address: gfn,
      limit: this.#limit,
      hint: 'raise the backend option pinLimitPages or unmap pages',
    });
  }
}

const pageOf = (address: number): number => Math.floor(address / PAGE_SIZE);
/** Without a division: its result would be a double, and so would the count be. */
const pagesOf = (size: number): number => (size === PAGE_SIZE ? 1 : HUGE_PAGE_SIZE / PAGE_SIZE);
