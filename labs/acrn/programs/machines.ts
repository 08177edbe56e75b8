/**
 * `machines COUNT`: creates, uses and destroys that many VMs of the backend acrn, one after another, and says `N` on a line after each.
 * The first line comes before the first.
 */

import { acrn } from '../../../src/backends/acrn/index.js';
import { bdf, Gfn, Gpa, PAGE_SIZE, VgpuId } from '../../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../../src/core/gvt-ops.js';
import type { HostPages } from '../../../src/core/mpt.js';
import type { MptHandle } from '../../../src/core/mpt-handle.js';
import { GuestAgent } from '../../../src/guest/agent.js';

const RAM_SIZE = 0x40_0000;
const BAR = 0xc000_0000;
const BAR_SIZE = 0x10_0000;
const FRAME = 0x100;
const ACCESSES = 4;
/** Guest addresses without RAM, for host pages and the register file. */
const HOLE = 0x100_0000;
const PVMMIO_WINDOW = 0x100_0000;
const MSI_ADDRESS = 0xfee0_0000;

/** What a vGPU may set up besides: each VM has one of these when it ends or is killed. */
type Extra = (handle: MptHandle, pages: { readonly registerFile: HostPages; readonly sharedPage: HostPages }) => void;
const EXTRAS: readonly Extra[] = [
  (handle) => handle.enablePageTrack(Gfn(FRAME)),
  (handle, { registerFile }) => handle.mapGfnToMfn(Gfn(HOLE / PAGE_SIZE), registerFile.mfn, 4, true),
  (handle) => handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + PVMMIO_WINDOW - 1), true),
  (handle) => void handle.armMsi(MSI_ADDRESS, 0x41),
];

/** @param n its number: VMs differ in what they use, and every second one tracks pages by trap */
function useOne(n: number): void {
  const backend = acrn.open({ pageTrack: n % 2 === 0 ? 'trap' : 'sync' });
  try {
    const machine = backend.createMachine({ ram: [{ gpa: Gpa(0), size: RAM_SIZE }] });
    backend.hostInit(NULL_GVT_OPS);
    const pvmmio = { registerFile: backend.allocateHostPages(512), sharedPage: backend.allocateHostPages(1) };
    const handle = backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: bdf(0, 2, 0), pvmmio });
    handle.setTrapArea(Gpa(BAR), Gpa(BAR + BAR_SIZE - 1), true);
    handle.dmaMapGuestPage(Gfn(FRAME), PAGE_SIZE);
    (EXTRAS[Math.floor(n / 2) % EXTRAS.length] as Extra)(handle, pvmmio);
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
  useOne(i);
  process.stdout.write(`${i}\n`);
}
