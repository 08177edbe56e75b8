/** Pages of memory that the GPU reaches by DMA address. */
import { type DmaAddress, PAGE_SIZE } from '../addresses.js';
import type { DmaSpace } from '../mpt.js';
import type { GpuPage } from './roles.js';

const words = new Uint32Array(2);
const qword = new BigUint64Array(words.buffer);

/** A page over bytes. Of few pages more than the bytes is used: the other views are made when they are asked for. */
export class PageView implements GpuPage {
  readonly bytes: Uint8Array;
  #u32: Uint32Array | undefined;
  #u64: BigUint64Array | undefined;

  /** Of the bytes; kept, since asking them costs 30 ns, and not asked for where nobody needs it. */
  #buffer: ArrayBufferLike | undefined;
  #start = -1;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get buffer(): ArrayBufferLike {
    this.#buffer ??= this.bytes.buffer;
    return this.#buffer;
  }

  get start(): number {
    if (this.#start < 0) this.#start = this.bytes.byteOffset;
    return this.#start;
  }

  /** A view of memory that went with its VM is empty. */
  get gone(): boolean {
    return this.bytes.length === 0;
  }

  get u32(): Uint32Array {
    this.#u32 ??= new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, PAGE_SIZE / 4);
    return this.#u32;
  }

  store8(offset: number, value: number): void {
    this.bytes[offset] = value;
  }

  store32(offset: number, value: number): void {
    this.u32[offset >>> 2] = value;
  }

  /** The halves meet in a buffer: shifting them together would make two bigints a store. */
  store64(offset: number, low: number, high: number): void {
    this.#u64 ??= new BigUint64Array(this.bytes.buffer, this.bytes.byteOffset, PAGE_SIZE / 8);
    words[0] = low;
    words[1] = high;
    this.#u64[offset >>> 3] = qword[0] as bigint;
  }

  fill32(offset: number, end: number, value: number): void {
    this.u32.fill(value, offset >>> 2, end >>> 2);
  }

  store(offset: number, source: Uint8Array, from: number, to: number): void {
    this.bytes.set(source.subarray(from, to), offset);
  }
}

/** The second page lies directly behind the first in this process: bytes of both can be moved at once. */
export const follows = (first: GpuPage, second: GpuPage): boolean =>
  first.start !== undefined && second.start === first.start + PAGE_SIZE && first.buffer === second.buffer;

/** `fill32` on, into the pages that follow. @param length bytes, a multiple of 4 as `offset` is */
export function fillAcross(page: GpuPage, offset: number, length: number, value: number): void {
  const { buffer, start = 0 } = page;
  if (offset + length <= PAGE_SIZE || buffer === undefined) page.fill32(offset, Math.min(PAGE_SIZE, offset + length), value);
  else {
    const first = Math.min(length, FILLED);
    new Uint32Array(buffer, start + offset, first >>> 2).fill(value);
    if (first === length) return;
    const bytes = new Uint8Array(buffer, start + offset, length);
    for (let done = first; done < length; done += first) bytes.copyWithin(done, 0, Math.min(first, length - done));
  }
}

/** Bytes that are filled dword by dword, and copied on from there: the copies come from the first cache, and V8's fill is a loop. */
const FILLED = 16_384;

/** Copies from page to page, and on into those that follow either. The ranges do not overlap. */
export function copyAcross(from: GpuPage, source: number, to: GpuPage, target: number, length: number): void {
  if (from.buffer === undefined || to.buffer === undefined) to.store(target, from.bytes as Uint8Array, source, source + length);
  else {
    const [read, written] = [(from.start as number) + source, (to.start as number) + target];
    new Uint8Array(to.buffer, written, length).set(new Uint8Array(from.buffer, read, length));
  }
}

/** A DMA space that makes its pages itself, as a recording does. */
export interface PagedDmaSpace extends DmaSpace {
  /** @throws MptError NOT_MAPPED, VM_GONE */
  page?(address: DmaAddress): GpuPage;
}

/** @throws MptError NOT_MAPPED, VM_GONE */
export const viewPage = (dma: PagedDmaSpace, address: DmaAddress): GpuPage =>
  dma.page === undefined ? new PageView(dma.view(address, PAGE_SIZE)) : dma.page(address);

/** Where writes to read-only pages go. */
export const SINK: GpuPage = new PageView(new Uint8Array(PAGE_SIZE));
