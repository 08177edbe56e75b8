/** MSIs on the real /dev/kvm, counted by the guest's own handler: inject_msi, and irqfds raised from another thread. */
import { existsSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import type { KvmBackend } from '../../src/backends/kvm/backend.js';
import { kvm } from '../../src/backends/kvm/index.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { refused } from '../core/expect.js';
import { attach, bootAgent, noKvm, RAM, setup } from './support.js';

const skip = noKvm;
const MSI = 0xfee0_0000;
const one = new Uint8Array(new BigUint64Array([1n]).buffer);

t.test('inject_msi reaches the guest’s handler, each vector its own', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent } = bootAgent(machine);
  for (let i = 1; i <= 20; i++) {
    handle.injectMsi(MSI, 0x41);
    agent.waitInterrupt(0x41, i);
  }
  handle.injectMsi(MSI, 0xfe);
  handle.injectMsi(MSI, 0x4041);
  agent.waitInterrupt(0xfe, 1);
  t.same([agent.interruptCount(0x41), agent.interruptCount(0xfe), agent.interruptCount(0x42)], [21, 1, 0]);
  handle.injectMsi(MSI + 0xff000, 0x43);
  t.equal(agent.interruptCount(0x43), 1, 'to every CPU');
  handle.injectMsi(MSI + 0x05000, 0x44);
  t.equal(agent.interruptCount(0x44), 0, 'to a CPU that is not there: dropped, as on a real bus');
  backend.close();
});

t.test('an armed message is raised from another thread while the guest halts', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent } = bootAgent(machine);
  const fd = handle.armMsi(MSI, 0x51);
  const control = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(
    `const { workerData: { control, fd } } = require('node:worker_threads');
     const { writeSync } = require('node:fs');
     const one = new Uint8Array(new BigUint64Array([1n]).buffer);
     for (let done = 0; ; ) {
       Atomics.wait(control, 0, done);
       const wanted = Atomics.load(control, 0);
       if (wanted < 0) break;
       while (done < wanted) { writeSync(fd, one); done++; }
     }`,
    { eval: true, workerData: { control, fd } },
  );
  const ended = new Promise((resolve) => worker.on('exit', resolve));
  const rounds = 50;
  for (let i = 1; i <= rounds; i++) {
    Atomics.store(control, 0, i);
    Atomics.notify(control, 0);
    agent.waitInterrupt(0x51, i);
  }
  t.equal(agent.interruptCount(0x51), rounds, 'each write is one interrupt');
  Atomics.store(control, 0, -1);
  Atomics.notify(control, 0);
  t.equal(await ended, 0);
  backend.close();
  t.notOk(existsSync(`/proc/self/fd/${fd}`), 'the eventfd went with the handle');
});

t.test('inject_msi and the armed message agree; arming again replaces', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent } = bootAgent(machine);
  const first = handle.armMsi(MSI, 0x51);
  handle.injectMsi(MSI, 0x51);
  agent.waitInterrupt(0x51, 1);
  handle.injectMsi(MSI, 0x52);
  agent.waitInterrupt(0x52, 1);
  writeSync(first, one);
  agent.waitInterrupt(0x51, 2);
  const second = handle.armMsi(MSI, 0x53);
  writeSync(second, one);
  agent.waitInterrupt(0x53, 1);
  handle.injectMsi(MSI, 0x51);
  agent.waitInterrupt(0x51, 3);
  for (let vector = 0x60; vector < 0x80; vector++) {
    writeSync(handle.armMsi(MSI, vector), one);
    agent.waitInterrupt(vector, 1);
  }
  t.same(
    [0x51, 0x52, 0x53].map((vector) => agent.interruptCount(vector)),
    [3, 1, 1],
  );
  backend.close();
});

t.test('two vGPUs arm messages of their own; one goes, the other stays', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const second = attach(backend, machine, 2, 0x18);
  const { agent } = bootAgent(machine);
  const [a, b] = [handle.armMsi(MSI, 0x51), second.armMsi(MSI, 0x52)];
  writeSync(a, one);
  writeSync(b, one);
  agent.waitInterrupt(0x51, 1);
  agent.waitInterrupt(0x52, 1);
  handle.detachVgpu();
  t.notOk(existsSync(`/proc/self/fd/${a}`));
  writeSync(b, one);
  agent.waitInterrupt(0x52, 2);
  const third = attach(backend, machine, 3);
  writeSync(third.armMsi(MSI, 0x53), one);
  agent.waitInterrupt(0x53, 1);
  writeSync(b, one);
  agent.waitInterrupt(0x52, 3);
  t.equal(agent.interruptCount(0x51), 1);
  backend.close();
});

t.test('detach of an armed vGPU whose VM went: no error, its descriptor closed', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const fd = handle.armMsi(MSI, 0x51);
  machine.close();
  refused(t, 'VM_GONE', () => handle.injectMsi(MSI, 0x51));
  t.doesNotThrow(() => handle.detachVgpu());
  t.notOk(existsSync(`/proc/self/fd/${fd}`));
  backend.close();
});

t.test('detach of an armed vGPU whose VM went leaves the next VM’s routes alone', { skip }, async (t) => {
  const backend = kvm.open() as KvmBackend;
  backend.hostInit(NULL_GVT_OPS);
  const gone = backend.createMachine({ ram: RAM });
  const stale = attach(backend, gone, 1);
  stale.armMsi(MSI, 0x51);
  gone.close();
  // Takes the descriptor numbers of the VM that went.
  const machine = backend.createMachine({ ram: RAM });
  const handle = attach(backend, machine, 2);
  const { agent } = bootAgent(machine, 1000);
  const fd = handle.armMsi(MSI, 0x61);
  writeSync(fd, one);
  agent.waitInterrupt(0x61, 1);
  try {
    stale.detachVgpu();
  } catch (error) {
    t.fail(`detach: ${error}`);
  }
  writeSync(fd, one);
  t.doesNotThrow(() => agent.waitInterrupt(0x61, 2), 'still routed');
  backend.close();
});
