/**
 * Program of cycles.test.ts (needs --expose-gc): creates, attaches, runs, detaches and destroys, `argv[2]` times, and
 * prints what the process held after each `argv[3]` cycles as one JSON document.
 */
import { KvmBackend } from '../../src/backends/kvm/backend.js';
import type { KvmMachine } from '../../src/backends/kvm/machine.js';
import { type Gfn, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { attach, END_PORT, type Footprint, footprint, MIB, runBytes } from './support.js';

const [cycles, interval] = [Number(process.argv[2]), Number(process.argv[3])];
const RAM = [{ gpa: 0, size: 2 * MIB }];
const TRACKED = 8 as Gfn;
// mov [0x8000], ax; out END_PORT, al
const GUEST = [0xa3, 0x00, 0x80, 0xe6, END_PORT, 0xf4];

/** One life of everything that holds a descriptor, a mapping or a timer. */
function cycle(n: number): void {
  const backend = new KvmBackend(libcSyscalls, { pageTrack: n % 16 === 0 ? 'sync' : 'trap' });
  backend.hostInit(NULL_GVT_OPS);
  const machine = backend.createMachine({ ram: RAM }) as KvmMachine;
  const handle = attach(backend, machine);
  const pages = backend.allocateHostPages(4);
  pages.bytes.fill(1);
  // A change of memory slots costs about 1 ms of waiting in the kernel: some cycles make them, not all.
  if (n % 4 === 0) handle.enablePageTrack(TRACKED);
  if (n % 4 === 1) handle.mapGfnToMfn(0x8_0000 as Gfn, pages.mfn, 4, true);
  handle.armMsi(0xfee0_0000, 0x41);
  handle.injectMsi(0xfee0_0000, 0x41);
  const dma = handle.dmaMapGuestPage(TRACKED, PAGE_SIZE);
  // Every page of the RAM, so that one that stayed would be seen in the resident set.
  for (const { bytes } of machine.regions) for (let at = 0; at < bytes.length; at += PAGE_SIZE) bytes[at + 1] = 1;
  const seen = runBytes(machine, GUEST);
  if (seen.at(-1) === 'timeout') throw new Error('the guest did not run');
  if (n === 1 && footprint().kvmMaps < 3) throw new Error('the mappings are not seen in /proc/self/maps');
  handle.view(dma, 1);
  handle.syncPageTrack();
  // Half of the cycles leave the cleaning up to close().
  if (n % 8 < 4) {
    handle.detachVgpu();
    pages.release();
    machine.close();
    backend.hostExit();
  }
  backend.close();
}

const samples: (Omit<Footprint, 'fds'> & { cycle: number; fds: number })[] = [];
for (let n = 1; n <= cycles; n++) {
  cycle(n);
  if (n % interval !== 0) continue;
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const held = footprint();
  samples.push({ cycle: n, ...held, fds: held.fds.length });
}
process.stdout.write(`${JSON.stringify(samples)}\n`);
