/** One per-process address space: the walk over shadow tables from its root, and a small cache of what it found. */
import { Gfn, hex, PAGE_SIZE, pageOffset } from '../../addresses.js';
import { type DmaPages, SINK } from '../gpu-page.js';
import { refusedByHypervisor } from '../guest-error-log.js';
import { PageCache } from '../page-cache.js';
import type { GpuMemory, GpuPage, PpgttRoot } from '../roles.js';
import { frameOf, hugeFrameOf, isIps, isLarge, isPresent, isWritable, KIND_NAMES, Kind, PAGES_64K } from './entry.js';
import { LeafPages, SCRATCH } from './leaf-pages.js';
import type { Shadow } from './shadow.js';
import type { ShadowTable } from './shadow-table.js';

/** What an address space asks of its owner. */
export interface SpaceOwner {
  readonly shadow: Shadow;
  readonly pages: DmaPages;
  /** Makes room for the tables of one walk; the space is now the one used last. */
  makeRoom(space: AddressSpace): void;
  /** Counts budget for a walk. */
  charge(tables: number): void;
}

/** Translations kept, by the low bits of the page number: 1 MiB. */
const CACHED = 256;
/** Page numbers of 32 and 48 bits of address. */
const NARROW_PAGES = 2 ** 20;
const WIDE_PAGES = 2 ** 36;
/** 4 KiB pages behind an entry of a page directory. */
const LEAF_PAGES = 512;
/** No leaf. */
const NOWHERE = -1;

export class AddressSpace implements GpuMemory {
  readonly wide: boolean;
  readonly directories: readonly number[];
  readonly #owner: SpaceOwner;
  /** The tables that the root names, once they were walked over: one PML4, or four page directories. */
  readonly #roots: (ShadowTable | undefined)[] = [undefined, undefined, undefined, undefined];
  readonly #cache = new PageCache(CACHED);
  /** 1 where all entries on the way allow writes. */
  readonly #writable = new Uint8Array(CACHED);
  /** Of the last walk. */
  #walkWritable = true;
  /** The page table that the last walk ended in, which 2 MiB it maps, and whether what leads to it allows writes. */
  #table: ShadowTable | undefined;
  #tableNumber = NOWHERE;
  #tableWritable = true;
  /** Of the shadow, when this was found. */
  #generation = -1;

  constructor(owner: SpaceOwner, { wide, directories }: PpgttRoot) {
    this.#owner = owner;
    this.wide = wide;
    this.directories = Array.from({ length: 4 }, (_, i) => directories[i] ?? 0);
  }

  page(address: number): GpuPage | undefined {
    const number = Math.floor(address / PAGE_SIZE);
    const page = this.#generation === this.#owner.shadow.generation ? this.#cache.get(number) : undefined;
    return page ?? this.#miss(number);
  }

  pageToWrite(address: number): GpuPage | undefined {
    const page = this.page(address);
    return page === undefined || this.#writable[Math.floor(address / PAGE_SIZE) & (CACHED - 1)] === 1 ? page : SINK;
  }

  run(first: GpuPage, address: number, length: number, write: boolean): number {
    const start = Math.floor(address / PAGE_SIZE);
    const { pages } = this.#owner;
    let n = PAGE_SIZE - (address - start * PAGE_SIZE);
    for (let i = 1; n < length; i++, n += PAGE_SIZE) {
      const next = this.#find(start + i);
      if (next === SCRATCH || !pages.follows(first, i * PAGE_SIZE, next) || (write && !this.#walkWritable)) break;
    }
    return Math.min(n, length);
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const page = this.page(address + done);
      if (page === undefined) return false;
      const at = pageOffset(address + done);
      const piece = Math.min(length - done, PAGE_SIZE - at);
      page.load(at, target, offset + done, piece);
      done += piece;
    }
    return true;
  }

  /** Gives back its tables; they are walked over again when they are needed. */
  flush(): void {
    const { shadow } = this.#owner;
    for (let i = 0; i < this.#roots.length; i++) {
      const table = this.#roots[i];
      this.#roots[i] = undefined;
      if (table !== undefined) shadow.put(table);
    }
    this.#forget();
  }

  #forget(): void {
    this.#cache.clear();
    this.#table = undefined;
    this.#tableNumber = NOWHERE;
  }

  #miss(number: number): GpuPage | undefined {
    const address = this.#find(number);
    if (address === SCRATCH) return undefined;
    this.#writable[number & (CACHED - 1)] = this.#walkWritable ? 1 : 0;
    try {
      return this.#cache.keep(number, this.#owner.pages.page(address));
    } catch (error) {
      refusedByHypervisor(this.#owner.shadow.parts.log, error);
      return undefined;
    }
  }

  /** DMA address behind a page number, mapped if it was not, or SCRATCH. */
  #find(number: number): number {
    const { generation } = this.#owner.shadow;
    if (this.#generation !== generation) {
      this.#forget();
      this.#generation = generation;
    }
    const tableNumber = Math.floor(number / LEAF_PAGES);
    if (tableNumber !== this.#tableNumber) return this.#walk(number);
    this.#owner.charge(0);
    this.#walkWritable = this.#tableWritable;
    return this.#inTable(this.#table as ShadowTable, number - tableNumber * LEAF_PAGES);
  }

  #walk(number: number): number {
    this.#walkWritable = true;
    if (!(number >= 0 && number < (this.wide ? WIDE_PAGES : NARROW_PAGES))) return SCRATCH;
    const { shadow } = this.#owner;
    const tables = shadow.frames;
    this.#owner.makeRoom(this);
    let table = this.#root(number);
    if (table !== undefined && this.wide) table = this.#child(table, Math.floor(number / 2 ** 27) & 511);
    if (table !== undefined && this.wide) table = this.#child(table, Math.floor(number / 2 ** 18) & 511);
    const address = table === undefined ? SCRATCH : this.#inDirectory(table, number);
    this.#owner.charge(Math.max(0, shadow.frames - tables));
    return address;
  }

  #root(number: number): ShadowTable | undefined {
    const index = this.wide ? 0 : number >>> 18;
    const known = this.#roots[index];
    if (known !== undefined) return known;
    const gfn = this.directories[index] as number;
    if (gfn === 0) return undefined;
    const table = this.#owner.shadow.get(Gfn(gfn), this.wide ? Kind.PML4 : Kind.PD);
    this.#roots[index] = table;
    return table;
  }

  /** The table behind an entry of a PML4 or of page directory pointers. */
  #child(table: ShadowTable, index: number): ShadowTable | undefined {
    const children = table.children as (ShadowTable | undefined)[];
    const known = children[index];
    const { frame, kind } = table;
    const low = frame.words[index * 2] as number;
    if (!isWritable(low)) this.#walkWritable = false;
    if (known !== undefined) return known;
    if (!isPresent(low) || frame.isPending(index)) return undefined;
    if (isLarge(low)) {
      this.#owner.shadow.parts.log.guestError(
        `PPGTT: entry ${index} of the ${KIND_NAMES[kind]} at frame ${hex(frame.gfn)} is a large page`,
      );
      return undefined;
    }
    const child = this.#owner.shadow.get(frameOf(low, frame.words[index * 2 + 1] as number), kind === Kind.PML4 ? Kind.PDP : Kind.PD);
    children[index] = child;
    return child;
  }

  /** The page behind a page directory's entry. */
  #inDirectory({ children, frame }: ShadowTable, number: number): number {
    const entry = (number >>> 9) & 511;
    const index = number & 511;
    const low = frame.words[entry * 2] as number;
    const high = frame.words[entry * 2 + 1] as number;
    const known = children?.[entry];
    if (!isWritable(low)) this.#walkWritable = false;
    if (known === undefined && (!isPresent(low) || frame.isPending(entry))) return SCRATCH;
    const { shadow } = this.#owner;
    if (isLarge(low)) {
      const leaf = (known as LeafPages | undefined) ?? new LeafPages(shadow.parts);
      (children as (LeafPages | undefined)[])[entry] = leaf;
      const address = leaf.known(index);
      return address === SCRATCH ? this.#charged(leaf.mapHuge(index, hugeFrameOf(low, high))) : address;
    }
    let table = known as ShadowTable | undefined;
    if (table === undefined) {
      table = shadow.get(frameOf(low, high), isIps(low) ? Kind.PT64 : Kind.PT);
      (children as (ShadowTable | undefined)[])[entry] = table;
      if (table === undefined) return SCRATCH;
    }
    this.#table = table;
    this.#tableNumber = Math.floor(number / LEAF_PAGES);
    this.#tableWritable = this.#walkWritable;
    return this.#inTable(table, index);
  }

  #inTable({ frame, kind, leaf }: ShadowTable, index: number): number {
    const pages = leaf as LeafPages;
    const entry = kind === Kind.PT ? index : index - (index % PAGES_64K);
    const low = frame.words[entry * 2] as number;
    if (!isWritable(low)) this.#walkWritable = false;
    const known = pages.known(index);
    if (known !== SCRATCH) return known;
    if (!isPresent(low) || frame.isPending(entry)) return SCRATCH;
    return this.#charged(pages.map(index, Gfn(frameOf(low, frame.words[entry * 2 + 1] as number) + (index - entry))));
  }

  /** What the hypervisor refuses takes as long as a table, each time. */
  #charged(address: number): number {
    if (address === SCRATCH) this.#owner.charge(1);
    return address;
  }
}
