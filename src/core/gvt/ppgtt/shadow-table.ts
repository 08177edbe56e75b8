/**
 * The shadow of guest page-table pages. A `TableFrame` is a guest frame with the copy of its entries that the GPU goes by; a
 * `ShadowTable` is that frame in one of its uses, with what its entries lead to. Both are made when the engine first walks over them.
 */
import type { Gfn } from '../../addresses.js';
import { ENTRIES, KINDS, type Kind, PAGES_64K, Kind as TableKind } from './entry.js';
import { LeafPages, type LeafParts } from './leaf-pages.js';
import { Spares } from './spares.js';

/** How writes to the frame come to be known. */
export const Watch = {
  /** The hypervisor reports them. */
  TRACKED: 0,
  /** Nobody does, for a while: a leaf table that is written often is compared at each synchronisation instead. */
  OUT_OF_SYNC: 1,
  /** Nobody can: it is compared at each synchronisation. */
  UNTRACKED: 2,
} as const;
export type Watch = (typeof Watch)[keyof typeof Watch];

/** A page of entries. */
export class TableCopy {
  /** Low and high dword of each. */
  readonly words = new Uint32Array(ENTRIES * 2);
  readonly bytes = new Uint8Array(this.words.buffer);
  /** To compare two at once, see `differsAt`. */
  readonly doubles = new Float64Array(this.words.buffer);
}
/** Of a frame that was given up: all of it leads nowhere. */
const NO_ENTRIES = new TableCopy();

type Children = (ShadowTable | LeafPages | undefined)[];

/** What is in them is written over. */
const copies = new Spares(64, () => new TableCopy());
/** All undefined. */
const childArrays = new Spares(16, (): Children => new Array(ENTRIES).fill(undefined));

export class TableFrame {
  readonly gfn: Gfn;
  /** The entries as last read. */
  copy = copies.take();
  /** By kind. */
  readonly tables: (ShadowTable | undefined)[] = new Array(KINDS).fill(undefined);
  watch: Watch = Watch.UNTRACKED;
  /** Reported as written since the last synchronisation (level `sync`). */
  dirty = false;
  /** Writes that trapped since the last synchronisation. */
  writes = 0;
  /** Synchronisations in a row that found nothing changed, while out of sync. */
  quiet = 0;
  /** A bit for each entry that was half written: it leads nowhere until the next synchronisation reads it whole. */
  #pending: Uint32Array | undefined;

  constructor(gfn: Gfn) {
    this.gfn = gfn;
  }

  /** Nobody uses it any more. */
  giveUp(): void {
    copies.give(this.copy);
    this.copy = NO_ENTRIES;
  }

  /** Low and high dword of each entry. */
  get words(): Uint32Array {
    return this.copy.words;
  }

  /** Its shadow tables. */
  get uses(): number {
    let uses = 0;
    for (const table of this.tables) if (table !== undefined) uses++;
    return uses;
  }

  /** Only a page table, never a directory. */
  get isLeaf(): boolean {
    const { tables } = this;
    return tables[TableKind.PD] === undefined && tables[TableKind.PDP] === undefined && tables[TableKind.PML4] === undefined;
  }

  get hasPending(): boolean {
    return this.#pending !== undefined;
  }

  isPending(index: number): boolean {
    return this.#pending !== undefined && ((this.#pending[index >> 5] as number) & (1 << (index & 31))) !== 0;
  }

  setPending(index: number): void {
    this.#pending ??= new Uint32Array(ENTRIES / 32);
    this.#pending[index >> 5] = (this.#pending[index >> 5] as number) | (1 << (index & 31));
  }

  /** The entry was written whole. */
  settle(index: number): void {
    if (this.#pending !== undefined) this.#pending[index >> 5] = (this.#pending[index >> 5] as number) & ~(1 << (index & 31));
  }

  /** All entries were read whole. */
  settleAll(): void {
    this.#pending = undefined;
  }
}

export class ShadowTable {
  readonly frame: TableFrame;
  readonly kind: Kind;
  /** Entries of tables above that lead here, and roots. */
  references = 0;
  /** A page table's pages. */
  readonly leaf: LeafPages | undefined;
  /** What a directory's entries lead to. */
  children: Children | undefined;

  constructor(frame: TableFrame, kind: Kind, parts: LeafParts) {
    this.frame = frame;
    this.kind = kind;
    if (kind <= TableKind.PT) this.leaf = new LeafPages(parts);
    else this.children = childArrays.take();
  }

  /** Forgets what an entry led to, since it changed. @returns whether it led anywhere */
  unlink(index: number, put: (table: ShadowTable) => void): boolean {
    const { children, leaf } = this;
    if (leaf !== undefined) {
      if (this.kind === TableKind.PT) return leaf.drop(index);
      // The first of sixteen entries stands for all; the others do not count.
      if (index % PAGES_64K !== 0) return false;
      let dropped = false;
      for (let i = 0; i < PAGES_64K; i++) dropped = leaf.drop(index + i) || dropped;
      return dropped;
    }
    const child = children?.[index];
    if (children === undefined || child === undefined) return false;
    children[index] = undefined;
    if (child instanceof LeafPages) child.release();
    else put(child);
    return true;
  }

  /** Forgets everything. */
  release(put: (table: ShadowTable) => void): void {
    this.leaf?.release();
    const { children } = this;
    if (children === undefined) return;
    for (let i = 0; i < ENTRIES; i++) if (children[i] !== undefined) this.unlink(i, put);
    this.children = undefined;
    childArrays.give(children);
  }
}
