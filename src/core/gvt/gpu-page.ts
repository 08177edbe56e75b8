/** Pages of memory that the GPU reaches by DMA address. */
import { type DmaAddress, PAGE_SIZE } from '../addresses.js';
import { DmaBlock } from '../dma-block.js';
import type { DmaSpace } from '../mpt.js';
import type { GpuPage } from './roles.js';

const words = new Uint32Array(2);
const qword = new BigUint64Array(words.buffer);

/** A page of a block. Made for each use: two numbers, where a view of its bytes would take 100 ns and 200 bytes. */
export class PageView implements GpuPage {
  readonly block: DmaBlock;
  readonly start: number;

  /** @param start of the page in the block, bytes */
  constructor(block: DmaBlock, start: number) {
    this.block = block;
    this.start = start;
  }

  /** A page of its own. @param bytes 4 KiB, 8-byte aligned */
  static of(bytes: Uint8Array): PageView {
    return new PageView(new DmaBlock(0, bytes), 0);
  }

  get gone(): boolean {
    return this.block.gone;
  }

  /** Live, as `u32`; empty when the memory went. */
  get bytes(): Uint8Array {
    const { bytes } = this.block;
    return bytes.length <= PAGE_SIZE ? bytes : bytes.subarray(this.start, this.start + PAGE_SIZE);
  }

  get u32(): Uint32Array {
    const { u32 } = this.block;
    return u32.length <= PAGE_SIZE / 4 ? u32 : u32.subarray(this.start / 4, (this.start + PAGE_SIZE) / 4);
  }

  load8(offset: number): number {
    return this.block.bytes[this.start + offset] as number;
  }

  load32(offset: number): number {
    return this.block.u32[(this.start + offset) / 4] as number;
  }

  load(offset: number, target: Uint8Array, at: number, length: number): void {
    const from = this.start + offset;
    target.set(this.block.bytes.subarray(from, from + length), at);
  }

  store8(offset: number, value: number): void {
    this.block.bytes[this.start + offset] = value;
  }

  store32(offset: number, value: number): void {
    this.block.u32[(this.start + offset) / 4] = value;
  }

  /** The halves meet in a buffer: shifting them together would make two bigints a store. */
  store64(offset: number, low: number, high: number): void {
    words[0] = low;
    words[1] = high;
    this.block.u64[(this.start + offset) / 8] = qword[0] as bigint;
  }

  fill32(offset: number, end: number, value: number): void {
    this.block.u32.fill(value, (this.start + offset) / 4, (this.start + end) / 4);
  }

  store(offset: number, source: Uint8Array, from: number, to: number): void {
    this.block.bytes.set(source.subarray(from, to), this.start + offset);
  }
}

/** `fill32` on, into the pages that follow. @param length bytes, a multiple of 4 as `offset` is */
export function fillAcross(page: GpuPage, offset: number, length: number, value: number): void {
  const { block } = page;
  if (offset + length <= PAGE_SIZE || block === undefined) page.fill32(offset, Math.min(PAGE_SIZE, offset + length), value);
  else {
    const start = page.start + offset;
    const end = start + length;
    // A colour of equal bytes, as black and white are, is what memset does.
    if (value === (value & 0xff) * 0x101_0101) {
      block.bytes.fill(value, start, end);
      return;
    }
    const filled = start + Math.min(length, FILLED);
    block.u32.fill(value, start / 4, filled / 4);
    for (let at = filled; at < end; at += FILLED) block.bytes.copyWithin(at, start, start + Math.min(FILLED, end - at));
  }
}

/** Bytes that are filled dword by dword, and copied on from there: the copies come from the first cache, and V8's fill is a loop. */
const FILLED = 16_384;

const between = new Uint8Array(PAGE_SIZE);

/** Copies from page to page, and on into those that follow either. The ranges do not overlap. */
export function copyAcross(from: GpuPage, source: number, to: GpuPage, target: number, length: number): void {
  if (from.block === undefined || to.block === undefined) {
    from.load(source, between, 0, length);
    to.store(target, between, 0, length);
    return;
  }
  const read = from.start + source;
  const written = to.start + target;
  if (from.block === to.block) to.block.bytes.copyWithin(written, read, read + length);
  else to.block.bytes.set(from.block.bytes.subarray(read, read + length), written);
}

/** A DMA space that makes its pages itself, as a recording does. */
export interface PagedDmaSpace extends DmaSpace {
  /** @throws MptError NOT_MAPPED, VM_GONE */
  page?(address: DmaAddress): GpuPage;
}

const NOWHERE = new DmaBlock(0, new Uint8Array());

/** Pages by DMA address. Remembers the block that was used last: guests have few. */
export class DmaPages {
  readonly #dma: PagedDmaSpace;
  #block = NOWHERE;

  constructor(dma: PagedDmaSpace) {
    this.#dma = dma;
  }

  /** @param address of a page that is mapped now. @throws MptError NOT_MAPPED, VM_GONE */
  page(address: number): GpuPage {
    const at = address - this.#block.start;
    return at >= 0 && at < this.#block.bytes.length ? new PageView(this.#block, at) : this.#find(address as DmaAddress);
  }

  /**
   * True when a page's bytes lie directly behind those of another page in this process, as their addresses do: bytes of both can be moved at once.
   * @param address of the second, which is mapped now
   */
  follows(first: GpuPage, distance: number, address: number): boolean {
    const { block, start } = first;
    return block !== undefined && address === block.start + start + distance && start + distance < block.bytes.length;
  }

  /** Blocks may be others by now. */
  forget(): void {
    this.#block = NOWHERE;
  }

  #find(address: DmaAddress): GpuPage {
    const dma = this.#dma;
    if (dma.page !== undefined) return dma.page(address);
    const block = dma.block?.(address);
    if (block === undefined) return new PageView(new DmaBlock(address, dma.view(address, PAGE_SIZE)), 0);
    this.#block = block;
    return new PageView(block, address - block.start);
  }
}

/** Where writes to read-only pages go. */
export const SINK: GpuPage = PageView.of(new Uint8Array(PAGE_SIZE));
