/** A vGPU is exchanged under a connected client: regions, memory and interrupts stay, the guest's work goes on. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { VfioUserBackend } from '../../src/backends/vfio-user/backend.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { ServedVgpu } from '../../src/jobs/served-vgpu.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { refused } from '../core/expect.js';
import { connectTransport } from '../vfio/sockets.js';
import { openFds } from '../vfio/support.js';
import { ClientGuest } from './client-guest.js';
import { sections } from './forge.js';
import { QueuedWork } from './queued-work.js';
import { undisturbed } from './world.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-state-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;

function open(t: Test, display = true) {
  const backend = new VfioUserBackend({ sys, sockets: libcSockets });
  const events: string[] = [];
  const machine = backend.serve(join(folder, `${sockets++}.sock`), {
    onConnect: () => events.push('connect'),
    onDisconnect: (why) => events.push(why),
    onComplaint: (what) => events.push(what),
  });
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, display });
  gvt.activate(vgpu);
  t.teardown(() => {
    gvt.destroy();
    backend.close();
  });
  const serve = (): void => {
    for (let quiet = 0; quiet < 2; ) {
      const request = machine.requests.next(0);
      if (request === undefined) quiet++;
      else {
        dispatchRequest(gvt, request);
        machine.requests.complete(request);
      }
    }
  };
  const connect = (): ClientGuest =>
    new ClientGuest(new VfioUserClient(connectTransport(machine.path), { pump: serve }), () => {
      serve();
      gvt.runSlice(512);
    });
  return { backend, machine, gvt, vgpu, events, serve, connect };
}

t.test('in the middle of queued work', async (t) => {
  const expected = undisturbed(new VfioUserBackend({ sys, sockets: libcSockets }));
  const { machine, gvt, vgpu, events, connect } = open(t);
  const guest = connect();
  const work = new QueuedWork(guest);
  work.queue();
  t.equal(work.unfinished().length, 7);
  const fds = openFds();
  machine.hold();
  const state = gvt.saveVgpu(vgpu);
  gvt.destroyVgpu(vgpu);
  refused(t, 'NOT_INITIALIZED', () => machine.requests.next(0), 'nobody is there to answer');
  const restored = gvt.restoreVgpu({ vmId: machine.vmId }, state);
  t.strictSame(sections(gvt.saveVgpu(restored), 'vgpu'), sections(state, 'vgpu'), 'it is the same, but for the time');
  gvt.activate(restored);
  t.equal(openFds(), fds, 'no descriptor more or less');
  const { interrupts, ...found } = work.finish();
  const { interrupts: _, ...wanted } = expected;
  t.strictSame(found, wanted, 'as if nothing had happened');
  t.ok(interrupts > 0, `${interrupts} interrupts came by the client’s eventfd`);
  t.strictSame(events, ['connect'], 'the client noticed nothing');
  t.equal(gvt.defects, 0);
  guest.close();
});

t.test('what cannot be exchanged', async (t) => {
  const { machine, gvt, vgpu, events, serve, connect } = open(t);
  const other = open(t, false);
  const guest = connect();
  machine.hold();
  machine.hold();
  const [state, foreign] = [gvt.saveVgpu(vgpu), other.gvt.saveVgpu(other.vgpu)];
  gvt.destroyVgpu(vgpu);
  refused(t, 'INVALID_ARGUMENT', () => gvt.restoreVgpu({ vmId: machine.vmId }, foreign), 'a vGPU without the display’s regions');
  refused(t, 'BAD_STATE', () => gvt.restoreVgpu({ vmId: machine.vmId }, state.subarray(1)), 'no state');
  const back = gvt.restoreVgpu({ vmId: machine.vmId }, state);
  gvt.activate(back);
  t.equal(guest.client.read(7, 0, 2)[0], 0x86, 'the client is still there, and so is its device');
  t.strictSame(events, ['connect']);
  guest.close();
  serve();
  t.equal(events.length, 2, 'it can go');
  gvt.destroyVgpu(back);
  refused(t, 'NOT_INITIALIZED', () => machine.hold(), 'without a vGPU there is nothing to hold');
});

t.test('a client that goes while the vGPU is away', async (t) => {
  const { machine, gvt, vgpu, events, serve, connect } = open(t);
  const guest = connect();
  new QueuedWork(guest).queue();
  machine.hold();
  const state = gvt.saveVgpu(vgpu);
  gvt.destroyVgpu(vgpu);
  guest.close();
  const restored = gvt.restoreVgpu({ vmId: machine.vmId }, state);
  gvt.activate(restored);
  serve();
  t.match(events, ['connect', /disconnected/], 'it is noticed when the vGPU is back');
  t.notOk(restored.hasWork, 'which is reset then');
  t.equal(restored.ggtt.mappedPages, 0);
  const next = connect();
  const work = new QueuedWork(next);
  work.queue();
  t.match(work.finish(), QueuedWork.expected, 'the next client finds it clean');
  next.close();
});

t.test('a client that goes while its vGPU is put away is missed at once', async (t) => {
  for (const does of ['resume', 'restore'] as const) {
    const { machine, gvt, vgpu, events, serve, connect } = open(t);
    const guest = connect();
    new QueuedWork(guest).queue();
    const served = new ServedVgpu(gvt, machine, vgpu, { vmId: machine.vmId });
    const state = served.obey({ does: 'pause' }) as Uint8Array;
    served.sleep();
    t.strictSame(events, ['connect'], 'it is there');
    guest.close();
    served.sleep();
    t.strictSame(events, ['connect', 'the client disconnected']);
    served.sleep();
    served.obey(does === 'resume' ? { does } : { does, state });
    t.notOk(served.vgpu.active && served.vgpu.hasWork, 'nothing runs without a client');
    t.equal(served.vgpu.submission.hasWork, does === 'restore', 'what the operator gave is what there is; what was resumed was reset');
    if (does === 'restore') continue;
    gvt.activate(served.vgpu);
    const next = connect();
    const work = new QueuedWork(next);
    work.queue();
    t.match(work.finish(), QueuedWork.expected, 'the next client finds it clean');
    next.close();
    serve();
  }
});

t.test('a held client that is never answered again', async (t) => {
  const before = openFds();
  const { machine, gvt, vgpu, backend, connect } = open(t);
  const guest = connect();
  machine.hold();
  gvt.destroyVgpu(vgpu);
  gvt.destroy();
  backend.close();
  guest.close();
  t.equal(openFds(), before, 'everything is given back');
});
