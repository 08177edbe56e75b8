/** Views of one page of memory that the GPU reaches by DMA address. */
import { type DmaAddress, PAGE_SIZE } from '../addresses.js';
import type { DmaSpace } from '../mpt.js';
import type { GpuPage } from './roles.js';

/** @throws MptError NOT_MAPPED, VM_GONE */
export function viewPage(dma: DmaSpace, address: DmaAddress): GpuPage {
  const bytes = dma.view(address, PAGE_SIZE);
  const { buffer, byteOffset } = bytes;
  return {
    bytes,
    u32: new Uint32Array(buffer, byteOffset, PAGE_SIZE / 4),
    u64: new BigUint64Array(buffer, byteOffset, PAGE_SIZE / 8),
  };
}

/** Where writes to read-only pages go. */
export const SINK: GpuPage = ((bytes = new Uint8Array(PAGE_SIZE)) => ({
  bytes,
  u32: new Uint32Array(bytes.buffer),
  u64: new BigUint64Array(bytes.buffer),
}))();
