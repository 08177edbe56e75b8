/**
 * Neither side waits for the other for ever: the guest runs while the engine is busy, the engine works while the guest
 * polls, and a wait without time returns. On every backend of this machine.
 */
import t, { type Test } from 'tap';
import { BACKENDS, type BackendModule, dispatchRequest, GpuDriver, GuestAgent, Gvt } from '../../src/index.js';

const MIB = 0x10_0000;
/** Where `GpuDriver.start` maps guest memory, and what it leaves free there. */
const MAPPED = 0x10_0000;
const CONTEXT = 0x10_1000;
const RING = 0x10_4000;
const FENCE = 0x10_5000;
const BATCH = 0x11_0000;
const FRAMEBUFFER = 0x20_0000;
const BCS_ELSP = 0x2_2230;
const GDRST = 0x941c;
const GDRST_BLT = 1 << 3;
const FILL = 0x5430_0005;
const BATCH_START = 0x1880_0001;
const BATCH_END = 0x0500_0000;
const FLUSH_DW_STORE = 0x1300_4002;

/** A vGPU with a running blitter and helpers to feed it by hand. */
function world(backend: BackendModule) {
  const opened = backend.open();
  const machine = opened.createMachine({ ram: [{ gpa: 0, size: 16 * MIB }] });
  const gvt = new Gvt(opened);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId });
  gvt.activate(vgpu);
  const agent = new GuestAgent(machine, (request) => dispatchRequest(gvt, request), {
    timeoutMs: 10_000,
    hasWork: () => gvt.hasWork,
    onIdle: () => gvt.runSlice(4096),
  });
  agent.boot();
  const driver = new GpuDriver(agent, 1024, 768);
  const device = driver.probe();
  driver.start();
  const gpu = (gpa: number): number => device.aperture.address + gpa - MAPPED;
  const submit = (ring: readonly number[], batch: readonly number[]): void => {
    agent.stream(BATCH, batch);
    agent.stream(RING, ring);
    const state = CONTEXT + 4096;
    agent.write(state + 0x14, 4, 0);
    agent.write(state + 0x1c, 4, ring.length * 4);
    agent.write(state + 0x24, 4, gpu(RING));
    agent.write(state + 0x2c, 4, 1);
    // Valid, 32-bit addressing, privileged.
    for (const dword of [0, 0, 1, gpu(CONTEXT) | 0x109]) agent.write(device.bar0.address + BCS_ELSP, 4, dword);
  };
  const fill = (rop: number): number[] => [FILL, ((3 << 24) | (rop << 16) | 4096) >>> 0, 0, (767 << 16) | 1023, gpu(FRAMEBUFFER), 0, 7];
  return { opened, machine, gvt, vgpu, agent, device, gpu, submit, fill };
}

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
  const { opened, gvt, vgpu, agent, device, gpu, submit, fill } = world(backend);
  // Inverting the whole screen is the slow kind of blit: a slice takes longer than the kick's period.
  const slow = [0, 1, 2, 3].flatMap(() => fill(0x55));
  submit([BATCH_START, gpu(BATCH), 0, 0], [...slow, BATCH_START, gpu(BATCH), 0]);
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
  const { opened, agent, device, gpu, submit, fill } = world(backend);
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
