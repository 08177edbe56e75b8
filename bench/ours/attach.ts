/** `attach empty|used`: attach_vgpu and detach_vgpu; `used` with a trap area, a DMA mapping and a tracked page to undo. */
import { Gfn, Gpa, PAGE_SIZE, VgpuId } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { BAR, BDF, openMachine } from './guest.js';
import { nowNs, type Open } from './sample.js';

/** As in bench/baseline/attach.c. */
const BAR_SIZE = 0x100_0000;
const FRAME = 0x100;

export const open: Open = ([state]) => {
  const { backend, machine } = openMachine();
  backend.hostInit(NULL_GVT_OPS);
  const vgpu = { id: VgpuId(1), vmId: machine.vmId, bdf: BDF };
  const used = state === 'used';
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) {
      const handle = backend.attachVgpu(vgpu);
      if (used) {
        handle.setTrapArea(Gpa(BAR), Gpa(BAR + BAR_SIZE - 1), true);
        handle.dmaMapGuestPage(Gfn(FRAME + 1), PAGE_SIZE);
        handle.enablePageTrack(Gfn(FRAME));
      }
      handle.detachVgpu();
    }
    return nowNs() - start;
  };
};
