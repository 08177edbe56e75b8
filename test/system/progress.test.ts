/**
 * Neither side waits for the other for ever: the guest runs while the engine is busy, the engine works while the guest
 * polls, and a wait without time returns. On every backend of this machine.
 */
import t, { type Test } from 'tap';
import { BACKENDS, type BackendModule } from '../../src/index.js';
import { BATCH, BATCH_END, BATCH_START, busyGuest, FENCE, FLUSH_DW_STORE, GDRST, GDRST_BLT } from './busy-guest.js';

const MIB = 0x10_0000;

function each(name: string, body: (t: Test, backend: BackendModule) => void): void {
  for (const backend of BACKENDS) {
    const probe = backend.probe();
    t.test(`${backend.name}: ${name}`, { skip: probe.available ? false : probe.reason }, (t) => {
      body(t, backend);
      t.end();
    });
  }
}

each('the guest runs, and can reset the engine, while a batch restarts itself for ever', (t, backend) => {
  const { opened, gvt, vgpu, agent, device, submitEndless } = busyGuest(backend);
  submitEndless();
  t.ok(gvt.hasWork);
  for (let i = 0; i < 50; i++) agent.write(FENCE, 4, i);
  t.equal(agent.read(FENCE, 4), 49, 'the guest goes on');
  t.ok(gvt.hasWork, 'so does the engine');
  agent.write(device.bar0.address + GDRST, 4, GDRST_BLT);
  t.notOk(gvt.hasWork, 'the guest’s reset ends the batch');
  t.equal(vgpu.statistics.guestErrors, 0);
  opened.close();
});

each('the engine works while the guest polls the fence through the aperture', (t, backend) => {
  const { opened, agent, device, gpu, submit, fill } = busyGuest(backend);
  const fence = [FLUSH_DW_STORE, gpu(FENCE) | 4, 0, 77];
  submit([BATCH_START, gpu(BATCH), 0, ...fence, 0], [...[0, 1, 2, 3].flatMap(() => fill(0xf0)), BATCH_END, 0]);
  agent.poll(device.bar2.address + gpu(FENCE), 0xffff_ffff, 77);
  t.equal(agent.read(FENCE, 4), 77);
  opened.close();
});

each('a wait of 0 ms returns while the guest spins', (t, backend) => {
  const opened = backend.open();
  const machine = opened.createMachine({ ram: [{ gpa: 0, size: MIB }] });
  machine.boot(0x8000 as never, Uint8Array.of(0xeb, 0xfe));
  for (let i = 0; i < 10; i++) t.equal(machine.requests.next(0), undefined);
  opened.close();
});
