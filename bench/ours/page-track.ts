/** `page-track`: every frame of the VM becomes tracked and untracked again, one call a frame. */
import { Gfn, PAGE_SIZE } from '../../src/core/addresses.js';
import { openHandle, RAM_SIZE } from './guest.js';
import { nowNs, type Open } from './sample.js';

export const open: Open = () => {
  const { handle } = openHandle();
  const frames = RAM_SIZE / PAGE_SIZE;
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) {
      for (let gfn = 0; gfn < frames; gfn++) handle.enablePageTrack(Gfn(gfn));
      for (let gfn = 0; gfn < frames; gfn++) handle.disablePageTrack(Gfn(gfn));
    }
    return nowNs() - start;
  };
};
