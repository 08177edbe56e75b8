/** Page-table entries of the per-process tables (facts: gvt.md 4.11): 8 bytes each, 512 in a page, as two dwords. */
import { Gfn, HUGE_PAGE_SIZE, PAGE_SIZE } from '../../addresses.js';

export const ENTRIES = 512;
/** Bytes of one entry. */
export const ENTRY_SIZE = 8;
/** 4 KiB pages in a 2 MiB one. */
export const HUGE_PAGES = HUGE_PAGE_SIZE / PAGE_SIZE;

/**
 * What a table page is used as. The same guest frame may be several of them at once; a table's children are always of a kind
 * below its own, so that no guest can make a shadow contain itself.
 */
export const Kind = {
  /** Page table whose entries map 64 KiB: only each sixteenth counts. */
  PT64: 0,
  PT: 1,
  /** Page directory. */
  PD: 2,
  /** Page directory pointers. */
  PDP: 3,
  PML4: 4,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];
export const KINDS = 5;
export const KIND_NAMES = ['64 KiB page table', 'page table', 'page directory', 'page directory pointer table', 'PML4'] as const;

const PRESENT = 1 << 0;
/** What is behind the entry may be written. */
const WRITABLE = 1 << 1;
/** The entry maps a large page: 2 MiB in a page directory, 1 GiB above it. */
const LARGE = 1 << 7;
/** Intermediate page size: the page table behind the directory's entry maps 64 KiB pages. */
const IPS = 1 << 11;
/** Entries of a 64 KiB page. */
export const PAGES_64K = 16;

export const isPresent = (low: number): boolean => (low & PRESENT) !== 0;
export const isWritable = (low: number): boolean => (low & WRITABLE) !== 0;
export const isLarge = (low: number): boolean => (low & LARGE) !== 0;
export const isIps = (low: number): boolean => (low & IPS) !== 0;

/** Bits 12-45 of an address: GPU addresses have 46 bits. */
const FRAME_HIGH_MASK = 0x3fff;
export const frameOf = (low: number, high: number): Gfn => Gfn((high & FRAME_HIGH_MASK) * 0x10_0000 + (low >>> 12));
/** First frame of a 2 MiB page; bit 12 of its entry is an attribute. */
export const hugeFrameOf = (low: number, high: number): Gfn => Gfn((high & FRAME_HIGH_MASK) * 0x10_0000 + (low >>> 21) * HUGE_PAGES);
