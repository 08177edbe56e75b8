/**
 * Reference-counted DMA mappings of one vGPU. One entry per frame: mapping it again gives the same address and one
 * more reference; asking 2 MiB of a frame mapped as 4 KiB grows the entry, which stays large until the last reference
 * goes, because unmap names the address only.
 */
import { DmaAddress, type Gfn, HUGE_PAGE_SIZE, PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';

/** What the hypervisor does for one entry. */
export interface DmaPinner {
  map(gfn: Gfn, size: number): DmaAddress;
  unmap(gfn: Gfn, size: number, address: DmaAddress): void;
}

interface DmaEntry {
  readonly gfn: Gfn;
  size: number;
  references: number;
}

export class DmaTable {
  readonly #pinner: DmaPinner;
  readonly #limit: number;
  readonly #byGfn = new Map<number, number>();
  readonly #byAddress = new Map<number, DmaEntry>();
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
    if (known !== undefined) {
      const entry = this.#byAddress.get(known) as DmaEntry;
      if (size > entry.size) this.#grow(entry, known, size);
      entry.references++;
      return DmaAddress(known);
    }
    this.#reserve(gfn, size / PAGE_SIZE);
    const address = this.#pinner.map(gfn, size);
    this.#pinned += size / PAGE_SIZE;
    this.#byGfn.set(gfn, address);
    this.#byAddress.set(address, { gfn, size, references: 1 });
    if (size === HUGE_PAGE_SIZE) this.#huge.add(address);
    return address;
  }

  unmap(address: DmaAddress): void {
    const entry = this.#entry(address);
    if (entry.references > 1) {
      entry.references--;
      return;
    }
    this.#pinner.unmap(entry.gfn, entry.size, address);
    this.#pinned -= entry.size / PAGE_SIZE;
    this.#byGfn.delete(entry.gfn);
    this.#byAddress.delete(address);
    this.#huge.delete(address);
  }

  pin(address: DmaAddress): void {
    this.#entry(address).references++;
  }

  /** @throws MptError NOT_MAPPED unless [address, address + length) lies inside one entry. */
  require(address: DmaAddress, length: number): void {
    if (Number.isSafeInteger(address) && address >= 0 && Number.isSafeInteger(length) && length > 0) {
      const page = address - (address % PAGE_SIZE);
      const entry = this.#byAddress.get(page);
      if (entry !== undefined && address + length <= page + entry.size) return;
      for (const base of this.#huge) if (address >= base && address + length <= base + HUGE_PAGE_SIZE) return;
    }
    throw new MptError('NOT_MAPPED', 'the DMA range is not inside one mapping', { address, size: length });
  }

  /** Unmaps every entry whatever its references; the first failure is thrown after all were tried. */
  clear(): void {
    let failure: unknown;
    for (const [address, { gfn, size }] of this.#byAddress) {
      try {
        this.#pinner.unmap(gfn, size, DmaAddress(address));
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
    this.#pinned = 0;
  }

  #entry(address: DmaAddress): DmaEntry {
    const entry = this.#byAddress.get(address);
    if (entry === undefined)
      throw new MptError('NOT_MAPPED', 'no page is mapped at this DMA address', { address, hint: 'each map allows one unmap' });
    return entry;
  }

  #grow(entry: DmaEntry, address: number, size: number): void {
    const more = (size - entry.size) / PAGE_SIZE;
    this.#reserve(entry.gfn, more);
    const moved = this.#pinner.map(entry.gfn, size);
    if (moved !== address) {
      this.#pinner.unmap(entry.gfn, size, moved);
      throw new MptError('BUSY', 'the frame is mapped as 4 KiB and cannot grow in place', { address: entry.gfn, size });
    }
    this.#pinner.unmap(entry.gfn, entry.size, DmaAddress(address));
    this.#pinned += more;
    entry.size = size;
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
