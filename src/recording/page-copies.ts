/**
 * What a recording knows of guest memory: copies of the pages at which the device model looked. The recorder has them to write only what
 * changed since the last look, the replay in place of the memory. Both do the same with them, so both know the same.
 */
import { PAGE_SIZE } from '../core/addresses.js';

/** Pages that are known at once: 64 MiB. All are forgotten together at this bound, on both sides at the same event. */
export const COPIES_MAX = 16_384;

/** Frames by DMA address and by guest-physical one are told apart by the key's lowest bit. */
export const dmaKey = (address: number): number => Math.floor(address / PAGE_SIZE) * 2;
export const guestKey = (gpa: number): number => Math.floor(gpa / PAGE_SIZE) * 2 + 1;

export class PageCopy {
  readonly bytes: Buffer;
  readonly u32: Uint32Array;

  constructor() {
    const memory = new ArrayBuffer(PAGE_SIZE);
    this.bytes = Buffer.from(memory);
    this.u32 = new Uint32Array(memory);
  }
}

export class PageCopies {
  readonly #copies = new Map<number, PageCopy>();
  readonly #limit: number;

  constructor(limit = COPIES_MAX) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#copies.size;
  }

  get(key: number): PageCopy | undefined {
    return this.#copies.get(key);
  }

  /** A page of which nothing was known: zeros. */
  add(key: number): PageCopy {
    if (this.#copies.size >= this.#limit) this.#copies.clear();
    const copy = new PageCopy();
    this.#copies.set(key, copy);
    return copy;
  }

  delete(key: number): void {
    this.#copies.delete(key);
  }
}

/** Words that a page has, and bytes that its ranges take at most: every other word alone. */
const WORDS = PAGE_SIZE / 4;
export const RANGES_MAX = PAGE_SIZE + WORDS * 2;

/**
 * Writes what differs as ranges: words to skip, words that follow, those words.
 * @returns bytes written to `target`
 */
export function diffWords(old: Uint32Array, now: Uint32Array, nowBytes: Uint8Array, target: Uint8Array): number {
  let used = 0;
  const number = (value: number): void => {
    if (value >= 128) target[used++] = (value & 127) | 128;
    target[used++] = value >= 128 ? value >>> 7 : value;
  };
  let end = 0;
  for (let i = 0; i < WORDS; i++) {
    if (old[i] === now[i]) continue;
    let to = i + 1;
    while (to < WORDS && old[to] !== now[to]) to++;
    number(i - end);
    number(to - i);
    target.set(nowBytes.subarray(i * 4, to * 4), used);
    used += (to - i) * 4;
    end = to;
    i = to;
  }
  return used;
}

/** Applies such ranges. @returns false when they leave the page or are cut short */
export function applyRanges(ranges: Uint8Array, copy: PageCopy): boolean {
  let at = 0;
  let word = 0;
  const number = (): number => {
    const low = ranges[at++] ?? Number.NaN;
    return low < 128 ? low : (low & 127) | ((ranges[at++] ?? Number.NaN) << 7);
  };
  while (at < ranges.length) {
    word += number();
    const count = number();
    if (!(count > 0 && word + count <= WORDS && at + count * 4 <= ranges.length)) return false;
    copy.bytes.set(ranges.subarray(at, at + count * 4), word * 4);
    at += count * 4;
    word += count;
  }
  return true;
}

/** FNV-1a over dwords, then over the bytes that are left. */
export function hashBytes(bytes: Uint8Array, from = 0, to = bytes.length): number {
  let hash = 0x811c_9dc5;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    const word =
      (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    hash = Math.imul(hash ^ word, 0x0100_0193);
    hash ^= hash >>> 15;
  }
  for (; at < to; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x0100_0193);
  return hash >>> 0;
}

/** The bytes of the access: the others are whatever the device model left there. */
export const maskLow = (low: number, size: number): number => (size >= 4 ? low >>> 0 : (low & ((1 << (size * 8)) - 1)) >>> 0);

export function storeCopy(copy: PageCopy | undefined, offset: number, size: 1 | 4 | 8, low: number, high: number): void {
  if (copy === undefined) return;
  if (size === 1) copy.bytes[offset] = low;
  else {
    copy.u32[offset >>> 2] = low;
    if (size === 8) copy.u32[(offset >>> 2) + 1] = high;
  }
}
