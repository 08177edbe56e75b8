/** What is ACRN's own, on each ABI that answers here: irqfd, ioeventfd, irq lines, the table of mappings, dom0_ready, stopping. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ACRN_HYPERVISOR } from '../../src/backends/acrn/abi.js';
import { type Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { IO_KIND_NAMES, type IoRequest } from '../../src/core/io-request.js';
import { GuestAgent } from '../../src/guest/agent.js';
import { EventFd } from '../../src/native/eventfd.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { OwnedMapping } from '../../src/native/mapping.js';
import type { Syscalls } from '../../src/native/syscalls.js';
import { ABIS, attach, MIB, noAcrn, noStandIn, open, SMALL_RAM, setup, standIn, standInAtRest, standInState } from './support.js';

const MSI = 0xfee0_0000;
const HOLE = 0x100_0000;
const describe = ({ kind, write, size, address, value, vgpu }: IoRequest): string =>
  `${IO_KIND_NAMES[kind]} ${write ? 'w' : 'r'}${size} ${address.toString(16)}${write ? ` = ${(value[0] as number).toString(16)}` : ''} v${vgpu}`;

function agentOf(machine: Parameters<typeof attach>[1], timeoutMs = 5000) {
  const seen: string[] = [];
  const agent = new GuestAgent(
    machine,
    (request) => {
      seen.push(describe(request));
      request.value[0] = 0x5566_7788;
    },
    { timeoutMs },
  );
  agent.boot();
  return { agent, seen };
}

/** Waits until `look` is true, at most a second. */
async function soon(look: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 100; tries++) {
    if (look()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

for (const abi of ABIS) {
  t.test(`${abi}: an armed message is raised by its eventfd, and by inject_msi`, { skip: noAcrn }, async (t) => {
    const { backend, machine, handle } = setup({ options: { abi } });
    const { agent } = agentOf(machine);
    const fd = handle.armMsi(MSI, 0x41);
    libcSyscalls.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    agent.waitInterrupt(0x41, 1);
    handle.injectMsi(MSI, 0x41);
    agent.waitInterrupt(0x41, 2);
    const other = handle.armMsi(MSI, 0x42);
    libcSyscalls.write(other, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    agent.waitInterrupt(0x42, 1);
    t.equal(agent.interruptCount(0x41), 2, 'arming another replaced it');
    backend.close();
  });

  t.test(`${abi}: ioeventfd takes exact writes off the request path`, { skip: noAcrn }, async (t) => {
    const { backend, machine } = setup({ options: { abi } });
    const { agent, seen } = agentOf(machine);
    const fd = libcSyscalls.eventfd(0, 0);
    const event = EventFd.adopt(libcSyscalls, fd) as EventFd;
    const range = { address: HOLE + 0x40, length: 4, data: 0x77 };
    t.equal(machine.calls.ioeventfd(fd, { ...range, bind: true }), 0);
    agent.write(HOLE + 0x40, 4, 0x77);
    t.ok(await soon(() => event.consume()), 'the matching write signalled');
    t.same(seen.splice(0), [], 'and was no request');
    agent.write(HOLE + 0x40, 4, 0x78);
    t.same(seen.splice(0), [], 'nor is another value: the kernel has the address');
    t.notOk(event.consume(), 'which does not signal');
    t.equal(machine.calls.ioeventfd(fd, { ...range, bind: false }), 0);
    agent.write(HOLE + 0x40, 4, 0x77);
    t.same(seen, ['mmio w4 1000040 = 77 v0'], 'unbound');
    event.close();
    backend.close();
  });

  t.test(`${abi}: irq lines and the interrupt monitor`, { skip: noAcrn }, async (t) => {
    const { backend, machine } = setup({ options: { abi } });
    for (const operation of ['GSI_SET_HIGH', 'GSI_SET_LOW', 'GSI_RAISING_PULSE', 'GSI_FALLING_PULSE'] as const)
      t.equal(machine.calls.setIrqline(11, ACRN_HYPERVISOR[operation]), 0, operation);
    const page = OwnedMapping.anonymous(libcSyscalls, PAGE_SIZE, 'the monitor');
    t.ok(machine.calls.monitorInterrupts(page.hva) >= 0, 'the monitor takes a page');
    backend.close();
    page.close();
  });

  t.test(`${abi}: pvmmio on a VM that runs: parts fail, and everything is taken back`, { skip: noStandIn }, async (t) => {
    const backend = open({ abi });
    backend.hostInit(NULL_GVT_OPS);
    const [registerFile, sharedPage] = [backend.allocateHostPages(512), backend.allocateHostPages(1)];
    const machine = backend.createMachine({ ram: [{ gpa: 0, size: MIB }] });
    const handle = attach(backend, machine, { registerFile, sharedPage });
    handle.setTrapArea(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), true);
    const { agent, seen } = agentOf(machine);
    for (const nth of [1, 2, 3]) {
      standIn(`fail set_memseg EFAULT ${nth}`);
      t.throws(() => handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), true), { code: 'HYPERVISOR', errno: 14 }, `part ${nth} refused`);
      standIn('clear');
      for (const offset of [0, 0x7_8000, 0x7_9000, 0x20_0000]) {
        agent.read(HOLE + offset, 4);
        t.same(seen.splice(0), [`mmio r4 ${(HOLE + offset).toString(16)} v1`], `part ${nth}: offset ${offset} traps as before`);
      }
    }
    // What could not be taken away either is taken away before anything is mapped over it: the real hypervisor would panic.
    standIn('fail set_memseg EFAULT 3');
    standIn('fail unset_memseg EBUSY');
    t.throws(() => handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), true), { code: 'HYPERVISOR', errno: 14 });
    standIn('clear');
    handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), true);
    registerFile.bytes.fill(0x21, 0x2000, 0x2004);
    t.equal(agent.read(HOLE + 0x2000, 4), 0x2121_2121);
    agent.write(HOLE + 0x2000, 2, 0x4321);
    agent.write64(HOLE + 0x7_7ffc, 1, 2);
    t.same(
      seen.splice(0),
      ['wp w2 1002000 = 4321 v1', 'wp w4 1077ffc = 1 v1', 'mmio w4 1078000 = 2 v1'],
      'a store into PVINFO comes apart',
    );
    t.equal(registerFile.bytes[0x2001], 0x43);
    standIn('fail unset_memseg EBUSY 2');
    t.throws(() => handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), false), { code: 'HYPERVISOR', errno: 16 });
    handle.setPvmmio(Gpa(HOLE), Gpa(HOLE + 0xff_ffff), false);
    agent.read(HOLE, 4);
    t.same(seen.splice(0), ['mmio r4 1000000 v1'], 'the second try went on where the first stopped');
    backend.close();
  });

  t.test(`${abi}: a failed write protection leaves the page as it was`, { skip: noStandIn }, async (t) => {
    const { backend, machine, handle } = setup({ options: { abi, pageTrack: 'trap' } });
    const { agent, seen } = agentOf(machine);
    const gfn = 0x20 as Gfn;
    for (const [call, errno] of [
      ['unset_memseg', 'EFAULT'],
      ['set_memseg', 'ENOMEM'],
    ] as const) {
      standIn(`fail ${call} ${errno}`);
      t.throws(() => handle.enablePageTrack(gfn), { code: errno === 'ENOMEM' ? 'NO_MEMORY' : 'HYPERVISOR' }, call);
      t.equal(handle.tracks(gfn), false, 'it is not tracked');
      agent.write(gfn * PAGE_SIZE, 4, 0x1111);
      t.same(seen.splice(0), [], 'and not protected');
      t.equal(agent.read(gfn * PAGE_SIZE, 4), 0x1111);
    }
    // Neither protecting nor mapping back works: the page is a hole, and the guest notices nothing.
    standIn('fail set_memseg ENOMEM 1 2');
    t.throws(() => handle.enablePageTrack(gfn), { code: 'NO_MEMORY' });
    agent.write(gfn * PAGE_SIZE + 8, 4, 0x2222);
    t.equal(agent.read(gfn * PAGE_SIZE + 8, 4), 0x2222, 'stores and loads are carried out');
    t.same(seen.splice(0), [], 'and are nobody’s');
    handle.enablePageTrack(gfn);
    agent.write(gfn * PAGE_SIZE + 8, 4, 0x3333);
    t.same(seen.splice(0), ['wp w4 20008 = 3333 v1'], 'the next change mends it');
    handle.disablePageTrack(gfn);
    agent.write(gfn * PAGE_SIZE + 8, 4, 0x4444);
    t.same(seen, []);
    t.equal(agent.read(gfn * PAGE_SIZE + 8, 4), 0x4444);
    backend.close();
  });

  t.test(`${abi}: the kernel's table of mappings runs out, and nothing worse happens`, { skip: noAcrn }, async (t) => {
    const { backend, machine, handle } = setup({ options: { abi, pageTrack: 'trap' } });
    const { agent, seen } = agentOf(machine);
    const pages = backend.allocateHostPages(1);
    const gfn = 0x20 as Gfn;
    let changes = 0;
    handle.enablePageTrack(gfn);
    t.throws(
      () => {
        for (; changes < 1000; changes++) {
          handle.mapGfnToMfn(0x1000 as Gfn, pages.mfn, 1, true);
          handle.mapGfnToMfn(0x1000 as Gfn, pages.mfn, 1, false);
        }
      },
      { code: 'LIMIT', limit: 256 },
    );
    t.equal(machine.segments.rows, 256, 'all rows were used');
    handle.disablePageTrack(gfn);
    agent.write(gfn * PAGE_SIZE, 4, 0x77);
    t.same(seen, [], 'a page that stays protected is reported to nobody');
    t.equal(agent.read(gfn * PAGE_SIZE, 4), 0x77, 'and its store is carried out');
    handle.enablePageTrack(gfn);
    agent.write(gfn * PAGE_SIZE, 4, 0x78);
    t.same(seen, ['wp w4 20000 = 78 v1'], 'tracking it again needs no row');
    t.throws(() => handle.enablePageTrack(0x21 as Gfn), { code: 'LIMIT' });
    agent.write(0x2_1000, 4, 1);
    t.equal(agent.read(0x2_1000, 4), 1, 'the page of the refused call is untouched');
    backend.close();
  });

  t.test(`${abi}: forged slots, through the kernel`, { skip: noStandIn }, async (t) => {
    const { backend, machine, handle } = setup({ options: { abi }, ram: [{ gpa: 0, size: 0xc000 }] });
    handle.setTrapArea(Gpa(0xc000), Gpa(0xcfff), true);
    // mov eax, [0xc010]; jmp back
    machine.boot(Gpa(0x1000), Uint8Array.of(0x66, 0xa1, 0x10, 0xc0, 0xeb, 0xfa));
    const take = (): string => {
      const request = machine.requests.next(1000);
      if (request === undefined) return 'nothing';
      const line = describe(request);
      machine.requests.complete(request);
      return line;
    };
    t.equal(take(), 'mmio r4 c010 v1');
    for (const line of [
      ...['type=4', 'type=0xffffffff', 'type=2', 'direction=7', 'size=0', 'size=9', 'size=0x100000004', 'size=0xffffffffffffffff'],
      ...[
        'address=0xffffffffffffffff',
        'address=0xfffffffffffff',
        'address=0xfffff',
        'type=0 address=0x10000',
        'type=3',
        'polling=0xffffffff',
      ],
      ...['type=3 address=0x8000 direction=1 size=8', 'direction=1 address=0xbffe size=8', 'type=0 address=0xcf8', 'type=0 address=0xcfc'],
    ]) {
      standIn(`forge ${line}`);
      // One more than was on its way: what was forged has been taken, whatever it was.
      for (let n = 0; n < 4; n++) t.match(take(), /^(mmio|pio|pci|wp) /, line);
      t.equal(take(), 'mmio r4 c010 v1', `${line}: the guest goes on`);
    }
    for (const state of ['1', '3', '0xffffffff']) {
      standIn(`forge state=${state}`);
      const seen: string[] = [];
      for (let request = machine.requests.next(100); request !== undefined && seen.length < 8; request = machine.requests.next(100)) {
        seen.push(describe(request));
        machine.requests.complete(request);
      }
      t.ok(seen.length <= 4, `state ${state}: the vCPU that lies waits`);
      machine.calls.notifyFinished(0);
      t.equal(take(), 'mmio r4 c010 v1', `state ${state}: and goes on when it is told`);
    }
    backend.close();
    t.match(await standInAtRest(), { leaked: { fds: 0, threads: 0, mappings: 0 } });
  });

  t.test(`${abi}: reading guest memory takes nothing`, { skip: noStandIn }, async (t) => {
    const { backend, handle } = setup({ options: { abi }, ram: [{ gpa: 0, size: 4 * MIB }] });
    const held = () => ({ maps: readFileSync('/proc/self/maps', 'utf8').split('memfd:').length, state: standInState().files[0] });
    const bytes = new Uint8Array(3 * PAGE_SIZE);
    handle.readGpa(Gpa(0), bytes);
    const before = held();
    // Across the 2 MiB border too, where the original failed.
    for (let i = 0; i < 20_000; i++) handle.readGpa(Gpa(((i * 40_961) % (4 * MIB - bytes.length)) + (i % 2)), bytes);
    handle.readGpa(Gpa(2 * MIB - 100), bytes, 0, 200);
    const after = held();
    t.same(after.state, before.state, 'the hypervisor maps what it mapped');
    t.equal(after.maps, before.maps, 'and so does this process');
    backend.close();
  });

  t.test(`${abi}: a stop from another thread, and times`, { skip: noAcrn }, async (t) => {
    const { backend, machine } = setup({ options: { abi }, ram: SMALL_RAM });
    machine.boot(Gpa(0x1000), Uint8Array.of(0xeb, 0xfe));
    const start = performance.now();
    t.equal(machine.requests.next(30), undefined);
    t.ok(performance.now() - start >= 29, 'as long as it was told');
    const { Worker } = await import('node:worker_threads');
    const stopper = new Worker(
      'const { workerData } = require("node:worker_threads"); setTimeout(() => Atomics.store(new Int32Array(workerData), 0, 1), 100);',
      { eval: true, workerData: machine.stopToken.flag },
    );
    await new Promise((resolve) => stopper.once('online', resolve));
    t.equal(machine.requests.next(), undefined, 'a wait without end ends');
    t.equal(machine.requests.stopped, true);
    await stopper.terminate();
    backend.close();
  });
}

t.test('dom0_ready is a uevent of the device, where it has one', { skip: noAcrn }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-acrn-'));
  const node = join(folder, 'uevent');
  writeFileSync(node, '');
  const opened: string[] = [];
  const sys: Syscalls = {
    ...libcSyscalls,
    open: (path, flags) => {
      if (!path.endsWith('/uevent')) return libcSyscalls.open(path, flags);
      opened.push(path);
      return libcSyscalls.open(node, flags);
    },
  };
  const backend = open({}, sys);
  backend.hostInit(NULL_GVT_OPS);
  backend.dom0Ready();
  // The VHM is no misc device: it has a class of its own.
  t.match(opened[0], /^\/sys\/class\/(misc\/acrn_hsm|vhm\/acrn_vhm)\/uevent$/);
  t.match(readFileSync(node, 'utf8'), /^change [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} GVT_DOM0_READY=1$/);
  rmSync(folder, { recursive: true });
  backend.close();
});

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
