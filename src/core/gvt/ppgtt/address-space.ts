/** One per-process address space: the walk over shadow tables from its root, and a small cache of what it found. */
import { Gfn, hex, PAGE_SIZE } from '../../addresses.js';
import { SINK } from '../gpu-page.js';
import type { GpuMemory, GpuPage, PpgttRoot } from '../roles.js';
import { frameOf, hugeFrameOf, isIps, isLarge, isPresent, isWritable, KIND_NAMES, Kind, PAGES_64K } from './entry.js';
import { LeafPages } from './leaf-pages.js';
import type { Shadow } from './shadow.js';
import type { ShadowTable } from './shadow-table.js';

/** What an address space asks of its owner. */
export interface SpaceOwner {
  readonly shadow: Shadow;
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
/** Equal to no page number. */
const NO_PAGE = Number.NaN;

export class AddressSpace implements GpuMemory {
  readonly wide: boolean;
  readonly directories: readonly number[];
  readonly #owner: SpaceOwner;
  /** The tables that the root names, once they were walked over: one PML4, or four page directories. */
  readonly #roots: (ShadowTable | undefined)[] = [undefined, undefined, undefined, undefined];
  readonly #tags = new Float64Array(CACHED).fill(NO_PAGE);
  readonly #pages = new Array<GpuPage | undefined>(CACHED).fill(undefined);
  /** 1 where all entries on the way allow writes. */
  readonly #writable = new Uint8Array(CACHED);
  /** Of the last walk. */
  #walkWritable = true;
  /** Of the shadow, when the cache was filled. */
  #generation = -1;

  constructor(owner: SpaceOwner, { wide, directories }: PpgttRoot) {
    this.#owner = owner;
    this.wide = wide;
    this.directories = Array.from({ length: 4 }, (_, i) => directories[i] ?? 0);
  }

  page(address: number): GpuPage | undefined {
    const number = Math.floor(address / PAGE_SIZE);
    const slot = number & (CACHED - 1);
    if (this.#tags[slot] === number && this.#generation === this.#owner.shadow.generation) {
      const page = this.#pages[slot] as GpuPage;
      if (!page.gone) return page;
    }
    return this.#miss(number, slot);
  }

  pageToWrite(address: number): GpuPage | undefined {
    const page = this.page(address);
    return page === undefined || this.#writable[Math.floor(address / PAGE_SIZE) & (CACHED - 1)] === 1 ? page : SINK;
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const page = this.page(address + done);
      if (page === undefined) return false;
      const at = (address + done) % PAGE_SIZE;
      const piece = Math.min(length - done, PAGE_SIZE - at);
      target.set(page.bytes.subarray(at, at + piece), offset + done);
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
    this.#tags.fill(NO_PAGE);
    this.#pages.fill(undefined);
  }

  #miss(number: number, slot: number): GpuPage | undefined {
    const { shadow } = this.#owner;
    if (this.#generation !== shadow.generation) {
      // Pages without their numbers are never looked at.
      this.#tags.fill(NO_PAGE);
      this.#generation = shadow.generation;
    }
    this.#walkWritable = true;
    const page = this.#walk(number);
    this.#writable[slot] = this.#walkWritable ? 1 : 0;
    this.#pages[slot] = page;
    this.#tags[slot] = page === undefined ? NO_PAGE : number;
    return page;
  }

  #walk(number: number): GpuPage | undefined {
    if (!(number >= 0 && number < (this.wide ? WIDE_PAGES : NARROW_PAGES))) return undefined;
    const { shadow } = this.#owner;
    const tables = shadow.frames;
    this.#owner.makeRoom(this);
    let table = this.#root(number);
    if (table !== undefined && this.wide) table = this.#child(table, Math.floor(number / 2 ** 27) & 511);
    if (table !== undefined && this.wide) table = this.#child(table, Math.floor(number / 2 ** 18) & 511);
    const page = table === undefined ? undefined : this.#inDirectory(table, (number >>> 9) & 511, number & 511);
    this.#owner.charge(Math.max(0, shadow.frames - tables));
    return page;
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

  /** The page with number `index` behind a page directory's entry. */
  #inDirectory({ children, frame }: ShadowTable, entry: number, index: number): GpuPage | undefined {
    const low = frame.words[entry * 2] as number;
    const high = frame.words[entry * 2 + 1] as number;
    const known = children?.[entry];
    if (!isWritable(low)) this.#walkWritable = false;
    if (known === undefined && (!isPresent(low) || frame.isPending(entry))) return undefined;
    const { shadow } = this.#owner;
    if (isLarge(low)) {
      const leaf = (known as LeafPages | undefined) ?? new LeafPages(shadow.parts);
      (children as (LeafPages | undefined)[])[entry] = leaf;
      return leaf.known(index) ?? leaf.mapHuge(index, hugeFrameOf(low, high));
    }
    let table = known as ShadowTable | undefined;
    if (table === undefined) {
      table = shadow.get(frameOf(low, high), isIps(low) ? Kind.PT64 : Kind.PT);
      (children as (ShadowTable | undefined)[])[entry] = table;
    }
    return table === undefined ? undefined : this.#inTable(table, index);
  }

  #inTable({ frame, kind, leaf }: ShadowTable, index: number): GpuPage | undefined {
    const known = leaf?.known(index);
    const entry = kind === Kind.PT ? index : index - (index % PAGES_64K);
    const low = frame.words[entry * 2] as number;
    if (!isWritable(low)) this.#walkWritable = false;
    if (known !== undefined) return known;
    if (!isPresent(low) || frame.isPending(entry)) return undefined;
    return leaf?.map(index, Gfn(frameOf(low, frame.words[entry * 2 + 1] as number) + (index - entry)));
  }
}
