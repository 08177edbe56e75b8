/** Views of one page of memory that the GPU reaches by DMA address. */
import { type DmaAddress, PAGE_SIZE } from '../addresses.js';
import type { DmaSpace } from '../mpt.js';
import type { GpuPage } from './roles.js';

/** A page of which few are read as anything but bytes: the other views are made when they are asked for. */
class PageView implements GpuPage {
  readonly bytes: Uint8Array;
  #u32: Uint32Array | undefined;
  #u64: BigUint64Array | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get u32(): Uint32Array {
    this.#u32 ??= new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, PAGE_SIZE / 4);
    return this.#u32;
  }

  get u64(): BigUint64Array {
    this.#u64 ??= new BigUint64Array(this.bytes.buffer, this.bytes.byteOffset, PAGE_SIZE / 8);
    return this.#u64;
  }
}

/** @throws MptError NOT_MAPPED, VM_GONE */
export const viewPage = (dma: DmaSpace, address: DmaAddress): GpuPage => new PageView(dma.view(address, PAGE_SIZE));

/** Where writes to read-only pages go. */
export const SINK: GpuPage = new PageView(new Uint8Array(PAGE_SIZE));
