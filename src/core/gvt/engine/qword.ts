/** Quadwords in GPU memory. */
import { PAGE_SIZE } from '../../addresses.js';
import type { GpuPage } from '../roles.js';

const words = new Uint32Array(2);
const qword = new BigUint64Array(words.buffer);

/**
 * Stores two dwords as one aligned 8-byte store, so that no reader sees one without the other. The halves meet in a
 * buffer: shifting them together would make two bigints a store.
 * @param address GPU address inside `page`, a multiple of 8
 */
export function storeQword(page: GpuPage, address: number, low: number, high: number): void {
  words[0] = low;
  words[1] = high;
  page.u64[(address % PAGE_SIZE) >> 3] = qword[0] as bigint;
}
