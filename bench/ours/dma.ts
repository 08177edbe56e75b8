/** `dma`: dma_map_guest_page and dma_unmap_guest_page of one page after another. */
import { Gfn, PAGE_SIZE } from '../../src/core/addresses.js';
import { openHandle } from './guest.js';
import { nowNs, type Open } from './sample.js';

/** As in bench/baseline/xen/dma.c. */
const FRAME = 0x100;
const FRAMES = 4;

export const open: Open = () => {
  const { handle } = openHandle();
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) handle.dmaUnmapGuestPage(handle.dmaMapGuestPage(Gfn(FRAME + (i & (FRAMES - 1))), PAGE_SIZE));
    return nowNs() - start;
  };
};
