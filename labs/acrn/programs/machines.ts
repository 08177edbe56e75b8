/**
 * `machines COUNT`: creates, uses and destroys that many VMs of the backend acrn, one after another, and says `N` on a line after each.
 * The first line comes before the first.
 */

import { acrn } from '../../../src/backends/acrn/index.js';
import { bdf, Gfn, Gpa, PAGE_SIZE, VgpuId } from '../../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../../src/core/gvt-ops.js';
import { GuestAgent } from '../../../src/guest/agent.js';

const RAM_SIZE = 0x40_0000;
const BAR = 0xc000_0000;
const BAR_SIZE = 0x10_0000;
const FRAME = 0x100;
const ACCESSES = 4;

function useOne(): void {
  const backend = acrn.open();
  try {
    const machine = backend.createMachine({ ram: [{ gpa: Gpa(0), size: RAM_SIZE }] });
    backend.hostInit(NULL_GVT_OPS);
    const handle = backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: bdf(0, 2, 0) });
    handle.setTrapArea(Gpa(BAR), Gpa(BAR + BAR_SIZE - 1), true);
    handle.dmaMapGuestPage(Gfn(FRAME), PAGE_SIZE);
    let accesses = 0;
    const agent = new GuestAgent(machine, () => void accesses++);
    agent.boot();
    agent.burstWrite(BAR, 4, 1, ACCESSES);
    if (accesses !== ACCESSES) throw new Error(`${accesses} accesses arrived, not ${ACCESSES}`);
  } finally {
    backend.close();
  }
}

const count = Number(process.argv[2]);
process.stdout.write('0\n');
for (let i = 1; i <= count; i++) {
  useOne();
  process.stdout.write(`${i}\n`);
}
