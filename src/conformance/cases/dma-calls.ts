/** Short forms that the DMA cases share. */
import { type DmaAddress, Gfn, PAGE_SIZE } from '../../core/addresses.js';
import type { MptHandle } from '../../core/mpt-handle.js';
import { SCRATCH_FRAME } from '../layout.js';

/** dma_map_guest_page. */
export const map = (handle: MptHandle, gfn: number = SCRATCH_FRAME, size: number = PAGE_SIZE): DmaAddress =>
  handle.dmaMapGuestPage(Gfn(gfn), size);
/** An address beside one that was handed out. */
export const at = (address: DmaAddress, offset: number): DmaAddress => (address + offset) as DmaAddress;
