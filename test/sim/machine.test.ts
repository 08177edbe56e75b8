// The simulated machine under the guest agent: accesses, page tracking, interrupts, mappings, pvmmio, stopping.
import { Worker } from 'node:worker_threads';
import t from 'tap';
import type { SimBackend, SimOptions } from '../../src/backends/sim/backend.js';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import { sim } from '../../src/backends/sim/index.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { IO_KIND_NAMES, type IoRequest } from '../../src/core/io-request.js';
import { Bdf, Gfn, Gpa, type GvtOps, Mfn, NULL_GVT_OPS, VgpuId } from '../../src/core/mpt.js';
import { AGENT_FREE_GPA, GuestAgent } from '../../src/guest/agent.js';

const MIB = 0x10_0000;
const BAR0 = 0xc000_0000;
const RAM = [
  { gpa: 0, size: MIB },
  { gpa: 2 * MIB, size: 2 * MIB },
];
const BUFFER = AGENT_FREE_GPA;

interface World {
  readonly backend: SimBackend;
  readonly vm: SimMachine;
  readonly handle: SimHandle;
  readonly agent: GuestAgent;
  /** `mmio r4 c0000000 v1`, `wp w4 10000 = 7 v1`: what the device saw. */
  readonly seen: string[];
}

function world(options: SimOptions = {}, ops: GvtOps = NULL_GVT_OPS, onIdle?: (handle: SimHandle) => void): World {
  const backend = sim.open(options) as SimBackend;
  backend.hostInit(ops);
  const vm = backend.createMachine({ ram: RAM }) as SimMachine;
  const pvmmio = { registerFile: backend.allocateHostPages(512), sharedPage: backend.allocateHostPages(1) };
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: vm.vmId, bdf: Bdf(0x10), pvmmio }) as SimHandle;
  const seen: string[] = [];
  const dispatch = (request: IoRequest): void => {
    const { kind, write, address, size, value, vgpu } = request;
    const data = size === 8 ? `${value[1]?.toString(16)}:${value[0]?.toString(16)}` : value[0]?.toString(16);
    seen.push(`${IO_KIND_NAMES[kind]} ${write ? 'w' : 'r'}${size} ${address.toString(16)}${write ? ` = ${data}` : ''} v${vgpu}`);
    if (write) return;
    value[0] = 0x4433_2211;
    value[1] = 0x8877_6655;
  };
  const agent = new GuestAgent(vm, dispatch, { timeoutMs: 2000, onIdle: () => onIdle?.(handle) });
  agent.boot();
  return { backend, vm, handle, agent, seen };
}

const take = (seen: string[]): string[] => seen.splice(0);

t.test('loads and stores: RAM without an exit, MMIO of every size, split at pages', async (t) => {
  const { backend, vm, handle, agent, seen } = world();
  handle.setTrapArea(Gpa(BAR0), Gpa(BAR0 + 0xff_ffff), true);
  agent.write(BUFFER, 4, 0xdead_beef);
  agent.write(BUFFER + 5, 2, 0x1234);
  agent.write64(BUFFER + 8, 1, 0x8000_0002);
  t.equal(agent.read(BUFFER + 2, 1), 0xad);
  t.equal(agent.read(BUFFER + 4, 4), 0x0012_3400);
  t.same(agent.read64(BUFFER + 8), { lo: 1, hi: 0x8000_0002 });
  const host = new Uint8Array(4);
  handle.readGpa(Gpa(BUFFER), host);
  t.same([...host], [0xef, 0xbe, 0xad, 0xde], 'the host reads what the guest wrote');
  t.same(take(seen), [], 'RAM makes no exit');

  t.equal(agent.read(BAR0, 1), 0x11);
  t.equal(agent.read(BAR0 + 2, 2), 0x2211);
  t.equal(agent.read(BAR0 + 4, 4), 0x4433_2211);
  t.same(agent.read64(BAR0 + 8), { lo: 0x4433_2211, hi: 0x8877_6655 });
  agent.write(BAR0, 1, 0x1ff);
  agent.write64(BAR0 + 16, 3, 4);
  t.same(take(seen), [
    'mmio r1 c0000000 v1',
    'mmio r2 c0000002 v1',
    'mmio r4 c0000004 v1',
    'mmio r8 c0000008 v1',
    'mmio w1 c0000000 = ff v1',
    'mmio w8 c0000010 = 4:3 v1',
  ]);

  t.equal(agent.read(BAR0 + 0xffe, 4), 0x2211_2211);
  agent.write(BAR0 + 0xffd, 4, 0x4433_2211);
  t.same(take(seen), [
    'mmio r2 c0000ffe v1',
    'mmio r2 c0001000 v1',
    'mmio w2 c0000ffd = 2211 v1',
    'mmio w1 c0000fff = 33 v1',
    'mmio w1 c0001000 = 44 v1',
  ]);

  agent.write(MIB - 2, 4, 0x8765_4321);
  t.equal(agent.read(MIB - 2, 4), 0x2211_4321, 'half RAM, half hole');
  t.same(take(seen), ['mmio w2 100000 = 8765 v0', 'mmio r2 100000 v0'], 'nobody owns the hole');

  agent.portOut(0x3f8, 1, 0x41);
  t.equal(agent.portIn(0x60, 4), 0x4433_2211);
  t.equal(agent.pciRead(0x10, 0x2c, 4), 0x4433_2211);
  agent.pciWrite(0x18, 0x3e, 2, 0xbeef);
  t.equal(agent.portIn(0xcf8, 4) >>> 0, 0x8000_183c, 'the address register reads back');
  t.same(take(seen), ['pio w1 3f8 = 41 v0', 'pio r4 60 v0', 'pci r4 2c v1', 'pci w2 3e = beef v0']);
  agent.portOut(0xcf8, 4, 0x1000);
  t.equal(agent.portIn(0xcfc, 4), 0xffff_ffff, 'configuration cycles are off');
  t.same(take(seen), []);
  t.match(vm.exitCounts(), { mmio: 13, pci: 2, wp: 0 });
  backend.close();
});

t.test('page track, level trap: each write is applied and reported', async (t) => {
  const { backend, handle, agent, seen, vm } = world();
  const gfn = Gfn(BUFFER / 4096 + 1);
  const gpa = gfn * 4096;
  handle.enablePageTrack(gfn);
  agent.write(gpa, 4, 0x1111);
  agent.write64(gpa + 8, 1, 2);
  agent.write(gpa - 2, 4, 0xaabb_ccdd);
  agent.write(gpa + 0xffd, 4, 0xaabb_ccdd);
  agent.write(gpa - 4, 4, 5);
  t.equal(agent.read(gpa, 4), 0xaabb, 'the data is in memory');
  t.same(take(seen), [
    'wp w4 11000 = 1111 v1',
    'wp w8 11008 = 2:1 v1',
    'wp w2 11000 = aabb v1',
    'wp w2 11ffd = ccdd v1',
    'wp w1 11fff = bb v1',
  ]);
  handle.writeGpa(Gpa(gpa), Uint8Array.of(1));
  t.same(take(seen), [], 'the host writes without a report');

  const second = backend.attachVgpu({ id: VgpuId(2), vmId: vm.vmId, bdf: Bdf(0x18) });
  second.enablePageTrack(gfn);
  handle.disablePageTrack(gfn);
  agent.write(gpa, 1, 7);
  t.same(take(seen), ['wp w1 11000 = 7 v2'], 'another vGPU still tracks the frame');
  second.disablePageTrack(gfn);
  agent.write(gpa, 1, 8);
  t.same(take(seen), []);
  t.throws(() => handle.enablePageTrack(Gfn(MIB / 4096)), { code: 'NOT_RAM' });
  backend.close();
});

t.test('page track, level sync: written frames are found, once, by every vGPU that tracks them', async (t) => {
  const reported: string[] = [];
  const ops: GvtOps = {
    ...NULL_GVT_OPS,
    pageWritten: (vgpu, gfn) => {
      reported.push(`v${vgpu} ${gfn.toString(16)}`);
      return 0;
    },
  };
  const { backend, vm, handle, agent, seen } = world({ pageTrack: 'sync' }, ops);
  const second = backend.attachVgpu({ id: VgpuId(2), vmId: vm.vmId, bdf: Bdf(0x18) });
  agent.write(0x1_0000, 4, 1);
  for (const gfn of [0x10, 0x11, 0x12]) handle.enablePageTrack(Gfn(gfn));
  t.equal(handle.syncPageTrack(), 0, 'what was written before does not count');
  agent.write(0x1_1000, 1, 1);
  agent.write(0x1_1ffe, 4, 1);
  second.enablePageTrack(Gfn(0x11));
  t.equal(handle.syncPageTrack(), 2);
  t.equal(second.syncPageTrack(), 0);
  agent.write(0x1_1000, 4, 2);
  t.equal(handle.syncPageTrack(), 1);
  t.equal(second.syncPageTrack(), 1, 'one reader does not take the mark from the other');
  t.equal(handle.syncPageTrack(), 0);
  agent.write(0x1_2000, 4, 2);
  handle.disablePageTrack(Gfn(0x12));
  t.equal(handle.syncPageTrack(), 0);
  t.same(reported, ['v1 11', 'v1 12', 'v1 11', 'v2 11']);
  t.same(take(seen), [], 'no write was an exit');
  backend.close();

  const none = sim.open({ pageTrack: 'none' });
  t.equal(none.capabilities.pageTrack, null);
  none.close();
});

t.test('interrupts: counted by the guest, kept while it is masked, and recorded', async (t) => {
  const { backend, vm, handle, agent } = world();
  handle.injectMsi(0xfee0_0000, 0x41);
  handle.injectMsi(0xfee0_0000, 0x41);
  agent.waitInterrupt(0x41, 1);
  t.equal(agent.interruptCount(0x41), 1, 'two messages before the guest ran are one');
  handle.injectMsi(0xfeef_f00c, 0x52);
  t.equal(agent.interruptCount(0x52), 0, 'no logical destination is set up');
  handle.injectMsi(0xfeef_f000, 0x152);
  t.equal(agent.interruptCount(0x52), 1, 'broadcast, lowest priority');
  handle.injectMsi(0xfee0_1000, 0x52);
  t.equal(agent.interruptCount(0x52), 1, 'another processor');

  agent.write(0xfee0_0080, 4, 0x60);
  handle.injectMsi(0xfee0_0000, 0x61);
  handle.injectMsi(0xfee0_0000, 0x71);
  t.equal(agent.interruptCount(0x71), 1, 'above the task priority');
  t.equal(agent.interruptCount(0x61), 0, 'of the task priority class: waits');
  t.equal(agent.read(0xfee0_0230, 4), 2, 'IRR has the waiting vector');
  agent.write(0xfee0_0080, 4, 0);
  t.equal(agent.interruptCount(0x61), 1);
  agent.write(0xfee0_00f0, 4, 0xff);
  handle.injectMsi(0xfee0_0000, 0x61);
  agent.write(0xfee0_00f0, 4, 0x1ff);
  t.equal(agent.interruptCount(0x61), 1, 'a disabled local APIC accepts nothing');
  agent.write(0xfee0_0300, 4, 0x4_0043);
  t.equal(agent.interruptCount(0x43), 1, 'an interrupt to itself');
  t.equal(agent.read(0xfee0_0030, 2), 0x14, 'version register');

  t.equal(handle.msiCount, 8);
  t.same(handle.msis.at(-1), { address: 0xfee0_0000, data: 0x61 });
  for (let i = 0; i < 1500; i++) handle.injectMsi(0xfee0_0000, 0x44);
  t.equal(handle.msis.length, 1024, 'the record is bounded');
  t.equal(handle.msiCount, 1508);
  t.throws(() => handle.armMsi(0xfee0_0000, 0x41), { code: 'UNSUPPORTED' });

  const { agent: idle, handle: late } = world({}, NULL_GVT_OPS, (waiting) => waiting.injectMsi(0xfee0_0000, 0x45));
  idle.waitInterrupt(0x45, 3);
  t.ok(late.msiCount >= 3, 'a halted guest is woken by messages that come while it sleeps');
  late.injectMsi(0xfee0_0000, 0x412);
  t.throws(() => idle.read(0, 4), { code: 'GUEST_FAULT', message: /NMI/ }, 'an NMI is not maskable; the agent reports it');
  late.backend.close();
  t.equal(vm.closed, false);
  backend.close();
});

t.test('interrupts whose frames are pushed to a tracked stack are reported access by access', async (t) => {
  const { backend, handle, agent, seen } = world();
  handle.enablePageTrack(Gfn(0xf));
  for (let level = 2; level < 16; level++) handle.injectMsi(0xfee0_0000, level * 16 + 1);
  t.equal(agent.interruptCount(0xf1), 1);
  t.equal(agent.interruptCount(0x21), 1);
  t.ok(seen.length >= 14 * 3, 'EFLAGS, CS and EIP of each interrupt');
  t.ok(seen.every((line) => line.startsWith('wp w4 ff')));
  backend.close();
});

t.test('map_gfn_to_mfn: the guest sees host pages, and RAM, by machine frame', async (t) => {
  const { backend, handle, agent, seen } = world();
  const pages = backend.allocateHostPages(2);
  pages.bytes.set([1, 2, 3, 4], 4096);
  const gfn = Gfn(BAR0 / 4096);
  handle.mapGfnToMfn(gfn, pages.mfn, 2, true);
  t.equal(agent.read(BAR0 + 4096, 4), 0x0403_0201);
  agent.write(BAR0 + 8, 4, 0x55);
  t.equal(pages.bytes[8], 0x55);
  t.same(take(seen), []);
  t.throws(() => pages.release(), { code: 'BUSY' });
  t.throws(() => handle.mapGfnToMfn(Gfn(gfn + 1), pages.mfn, 1, true), { code: 'OVERLAP' });
  t.throws(() => handle.setTrapArea(Gpa(BAR0), Gpa(BAR0 + 4095), true), { code: 'OVERLAP' });
  handle.mapGfnToMfn(gfn, pages.mfn, 2, false);
  agent.read(BAR0 + 4096, 4);
  t.same(take(seen), ['mmio r4 c0001000 v0'], 'the mapping is gone for instructions too');
  for (const mfn of [pages.mfn + 1, pages.mfn - 1, 0, 1 << 20])
    t.throws(() => handle.mapGfnToMfn(gfn, Mfn(mfn), 2, true), { code: 'INVALID_ADDRESS' }, `frame ${mfn} is not wholly ours`);
  t.equal(backend.fromVirtToMfn(pages.hva), pages.mfn);
  t.throws(() => backend.fromVirtToMfn((pages.hva - 1) as never), { code: 'INVALID_ADDRESS' });
  pages.release();
  t.throws(() => handle.mapGfnToMfn(gfn, pages.mfn, 2, true), { code: 'INVALID_ADDRESS' }, 'released');
  t.throws(() => backend.fromVirtToMfn(pages.hva), { code: 'INVALID_ADDRESS' });
  const again = backend.allocateHostPages(2);
  t.not(again.mfn, pages.mfn, 'frame numbers are not used twice');

  const ram = handle.gfnToMfn(Gfn(0x200));
  handle.mapGfnToMfn(gfn, ram, 1, true);
  agent.write(BAR0, 4, 0x1234);
  t.equal(agent.read(0x20_0000, 4), 0x1234);
  handle.detachVgpu();
  agent.read(BAR0, 4);
  t.same(take(seen), ['mmio r4 c0000000 v0'], 'detaching unmapped it');
  backend.close();
});

t.test('set_pvmmio: registers are read without an exit, writes reported, PVINFO trapped', async (t) => {
  const { backend, handle, agent, seen } = world();
  const { registerFile, sharedPage } = handle.vgpu.pvmmio as NonNullable<typeof handle.vgpu.pvmmio>;
  const last = BAR0 + 0xff_ffff;
  const view = new DataView(registerFile.bytes.buffer);
  view.setUint32(0x2000, 0xabcd, true);
  view.setUint32(0x7_9000, 0x9999, true);
  t.throws(() => handle.setPvmmio(Gpa(BAR0 + 1), Gpa(last), true), { code: 'INVALID_ARGUMENT' });
  t.throws(() => handle.setPvmmio(Gpa(BAR0), Gpa(BAR0 + 0x1f_ffff), true), { code: 'INVALID_ARGUMENT' });
  t.throws(() => handle.setPvmmio(Gpa(2 * MIB), Gpa(2 * MIB + 0xff_ffff), true), { code: 'OVERLAP' });
  handle.setTrapArea(Gpa(BAR0), Gpa(last), true);
  handle.setPvmmio(Gpa(BAR0), Gpa(last), true);
  t.equal(agent.read(BAR0 + 0x2000, 4), 0xabcd);
  t.equal(agent.read(BAR0 + 0x7_9000, 4), 0x9999);
  t.same(take(seen), []);
  agent.write(BAR0 + 0x2000, 4, 0x42);
  t.equal(view.getUint32(0x2000, true), 0x42, 'the write is stored');
  agent.read(BAR0 + 0x7_8000, 4);
  agent.write(BAR0 + 0x7_8ffc, 4, 1);
  agent.write(BAR0 + 0x20_0004, 4, 0x66);
  t.equal(sharedPage.bytes[4], 0x66, 'the shared page is plain memory');
  agent.read(BAR0 + 0x20_1000, 4);
  t.same(take(seen), ['wp w4 c0002000 = 42 v1', 'mmio r4 c0078000 v1', 'mmio w4 c0078ffc = 1 v1', 'mmio r4 c0201000 v1']);
  t.throws(() => registerFile.release(), { code: 'BUSY' });
  handle.setPvmmio(Gpa(BAR0), Gpa(last), false);
  agent.read(BAR0 + 0x2000, 4);
  agent.read(BAR0 + 0x20_0004, 4);
  t.same(take(seen), ['mmio r4 c0002000 v1', 'mmio r4 c0200004 v1']);
  handle.setTrapArea(Gpa(BAR0), Gpa(last), false);
  handle.setPvmmio(Gpa(BAR0), Gpa(last), true);
  agent.read(BAR0 + 0x7_8000, 4);
  t.same(take(seen), ['mmio r4 c0078000 v1'], 'PVINFO belongs to the vGPU even without a trap area');
  registerFile.bytes.fill(0);
  handle.detachVgpu();
  registerFile.release();
  sharedPage.release();
  backend.close();
});

t.test('stopping: from the same thread, from another one, and under load', async (t) => {
  const { backend, vm, agent } = world();
  t.same({ tid: vm.stopToken.tid, pid: vm.stopToken.pid }, { tid: 0, pid: process.pid }, 'the flag alone is enough');
  const code = `const { workerData } = require('node:worker_threads');
    const flag = new Int32Array(workerData);
    Atomics.wait(flag, 0, 0, 20);
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);`;
  const stopper = new Worker(code, { eval: true, workerData: vm.stopToken.flag });
  t.throws(() => agent.spin(), { code: 'STOPPED' }, 'a spinning guest is stopped by another thread');
  t.ok(vm.requests.stopped);
  await new Promise((resolve) => stopper.on('exit', resolve));
  backend.close();

  const shared = sim.open();
  shared.stopFlag = new SharedArrayBuffer(4);
  const machines = [0, 1].map(() => shared.createMachine({ ram: RAM }));
  t.ok(
    machines.every((machine) => machine.stopToken.flag === shared.stopFlag),
    'a backend can share one flag among its machines',
  );
  shared.close();
});
