/**
 * Reference-counted DMA mappings of one vGPU. One entry per frame: mapping it again gives the same address and one
 * more reference; asking 2 MiB of a frame mapped as 4 KiB grows the entry, which stays large until the last reference
 * goes, because unmap names the address only.
 */
import { DmaAddress, type Gfn, HUGE_PAGE_SIZE, PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';
import { NumberTable } from './number-table.js';

/** What the hypervisor does for one entry. */
export interface DmaPinner {
  map(gfn: Gfn, size: number): DmaAddress;
  unmap(gfn: Gfn, size: number, address: DmaAddress): void;
}

const SMALLEST = 64;

export class DmaTable {
  readonly #pinner: DmaPinner;
  readonly #limit: number;
  /** Entries by frame and by address. */
  readonly #byGfn = new NumberTable();
  readonly #byAddress = new NumberTable();
  /** The entries' fields; an entry without references is free, and its frame is the next free one. */
  #gfns = new Float64Array(SMALLEST);
  #addresses = new Float64Array(SMALLEST);
  #sizes = new Uint32Array(SMALLEST);
  #references = new Float64Array(SMALLEST);
  /** Entries that were ever used, and the first free one below; -1: none. */
  #used = 0;
  #free = -1;
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
    if (known >= 0) {
      if (size > (this.#sizes[known] as number)) this.#grow(known, size);
      this.#references[known] = (this.#references[known] as number) + 1;
      return this.#addresses[known] as DmaAddress;
    }
    this.#reserve(gfn, size / PAGE_SIZE);
    const address = this.#pinner.map(gfn, size);
    this.#pinned += size / PAGE_SIZE;
    const entry = this.#take();
    this.#gfns[entry] = gfn;
    this.#addresses[entry] = address;
    this.#sizes[entry] = size;
    this.#references[entry] = 1;
    this.#byGfn.set(gfn, entry);
    this.#byAddress.set(address, entry);
    if (size === HUGE_PAGE_SIZE) this.#huge.add(address);
    return address;
  }

  unmap(address: DmaAddress): void {
    const entry = this.#entry(address);
    const references = this.#references[entry] as number;
    if (references > 1) {
      this.#references[entry] = references - 1;
      return;
    }
    const gfn = this.#gfns[entry] as Gfn;
    const size = this.#sizes[entry] as number;
    this.#pinner.unmap(gfn, size, address);
    this.#pinned -= size / PAGE_SIZE;
    this.#byGfn.delete(gfn);
    this.#byAddress.delete(address);
    if (size === HUGE_PAGE_SIZE) this.#huge.delete(address);
    this.#references[entry] = 0;
    this.#gfns[entry] = this.#free;
    this.#free = entry;
  }

  pin(address: DmaAddress): void {
    const entry = this.#entry(address);
    this.#references[entry] = (this.#references[entry] as number) + 1;
  }

  /** @throws MptError NOT_MAPPED unless [address, address + length) lies inside one entry. */
  require(address: DmaAddress, length: number): void {
    if (Number.isSafeInteger(address) && address >= 0 && Number.isSafeInteger(length) && length > 0) {
      const page = address - (address % PAGE_SIZE);
      const entry = this.#byAddress.get(page);
      if (entry >= 0 && address + length <= page + (this.#sizes[entry] as number)) return;
      for (const base of this.#huge) if (address >= base && address + length <= base + HUGE_PAGE_SIZE) return;
    }
    throw new MptError('NOT_MAPPED', 'the DMA range is not inside one mapping', { address, size: length });
  }

  /** Unmaps every entry whatever its references; the first failure is thrown after all were tried. */
  clear(): void {
    let failure: unknown;
    for (let entry = 0; entry < this.#used; entry++) {
      if (this.#references[entry] === 0) continue;
      try {
        this.#pinner.unmap(this.#gfns[entry] as Gfn, this.#sizes[entry] as number, this.#addresses[entry] as DmaAddress);
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
    this.#references.fill(0);
    this.#used = 0;
    this.#free = -1;
    this.#pinned = 0;
  }

  /** The entry of an address. */
  #entry(address: DmaAddress): number {
    const entry = Number.isSafeInteger(address) && address >= 0 ? this.#byAddress.get(address) : -1;
    if (entry >= 0) return entry;
    throw new MptError('NOT_MAPPED', 'no page is mapped at this DMA address', { address, hint: 'each map allows one unmap' });
  }

  /** A free entry. */
  #take(): number {
    if (this.#free >= 0) {
      const entry = this.#free;
      this.#free = this.#gfns[entry] as number;
      return entry;
    }
    if (this.#used === this.#gfns.length) {
      this.#gfns = doubled(this.#gfns);
      this.#addresses = doubled(this.#addresses);
      this.#references = doubled(this.#references);
      const sizes = new Uint32Array(this.#sizes.length * 2);
      sizes.set(this.#sizes);
      this.#sizes = sizes;
    }
    return this.#used++;
  }

  #grow(entry: number, size: number): void {
    const gfn = this.#gfns[entry] as Gfn;
    const address = this.#addresses[entry] as DmaAddress;
    const old = this.#sizes[entry] as number;
    const more = (size - old) / PAGE_SIZE;
    this.#reserve(gfn, more);
    const moved = this.#pinner.map(gfn, size);
    if (moved !== address) {
      this.#pinner.unmap(gfn, size, moved);
      throw new MptError('BUSY', 'the frame is mapped as 4 KiB and cannot grow in place', { address: gfn, size });
    }
    this.#pinner.unmap(gfn, old, DmaAddress(address));
    this.#pinned += more;
    this.#sizes[entry] = size;
    this.#huge.add(address);
  }

  #reserve(gfn: Gfn, pages: number): void {
    if (this.#pinned + pages > this.#limit)
      throw new MptError('LIMIT', `${this.#pinned} pages are pinned and ${pages} more pass the limit`, {
        address: gfn,
        limit: this.#limit,
        hint: 'raise the backend option pinLimitPages or unmap pages',
      });
  }
}

function doubled(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
