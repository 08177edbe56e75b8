/**
 * Program of cycles.test.ts, and of the lab's job `kills`: creates, attaches, runs, detaches and destroys VMs, `argv[3]` times (0:
 * until it is killed), by the ABI `argv[2]`, and prints what the process held after the first few and after the last as one JSON document.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { AcrnMachine } from '../../src/backends/acrn/index.js';
import { type Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { attach, MIB, open } from './support.js';

const abi = process.argv[2] as 'hsm' | 'vhm';
const cycles = Number(process.argv[3]) || Number.POSITIVE_INFINITY;
const END_PORT = 0xf4;
const TRACKED = 8 as Gfn;
const WINDOW = 0x100_0000;
// mov [0x8000], ax; out END_PORT, al; hlt
const GUEST = Uint8Array.of(0xa3, 0x00, 0x80, 0xe6, END_PORT, 0xf4);

/** One life of everything that holds a descriptor, a mapping or a row of the kernel's table. */
function cycle(n: number): void {
  const backend = open({ abi, pageTrack: n % 2 === 0 ? 'sync' : 'trap' });
  backend.hostInit(NULL_GVT_OPS);
  const [registerFile, sharedPage] = [backend.allocateHostPages(512), backend.allocateHostPages(1)];
  const machine = backend.createMachine({ ram: [{ gpa: 0, size: MIB }] }) as AcrnMachine;
  const handle = attach(backend, machine, { registerFile, sharedPage });
  handle.enablePageTrack(TRACKED);
  if (n % 4 === 1) handle.mapGfnToMfn(0x8_0000 as Gfn, registerFile.mfn, 4, true);
  if (n % 4 === 2) handle.setPvmmio(Gpa(WINDOW), Gpa(WINDOW + 0xff_ffff), true);
  handle.armMsi(0xfee0_0000, 0x41);
  const dma = handle.dmaMapGuestPage(TRACKED, PAGE_SIZE);
  machine.boot(Gpa(0x1000), GUEST);
  for (let ended = false; !ended; ) {
    const request = machine.requests.next(5000);
    if (request === undefined) throw new Error('the guest did not run');
    ended = request.address === END_PORT;
    machine.requests.complete(request);
  }
  handle.view(dma, 1);
  // Half of the cycles leave the cleaning up to close().
  if (n % 8 < 4) {
    handle.detachVgpu();
    machine.close();
    registerFile.release();
    backend.hostExit();
  }
  backend.close();
}

/** Node itself opens /dev/null late. */
const target = (fd: string): string => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '/dev/null';
  }
};

const held = (): { fds: number; maps: number } => ({
  fds: readdirSync('/proc/self/fd').filter((fd) => target(fd) !== '/dev/null').length,
  maps: readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:')).length,
});

/** What Node opens late is open by then. */
const WARM = 16;
for (let n = 1; n <= WARM; n++) cycle(n);
const first = held();
for (let n = WARM + 1; n <= cycles; n++) cycle(n);
process.stdout.write(`${JSON.stringify({ first, last: held() })}\n`);
