/** Life cycle of vGPUs: creation that fails on the way, reset, scheduling, dispatch of requests. */
import t from 'tap';
import { Bdf, type Gpa, VgpuId } from '../../src/core/addresses.js';
import { dispatchRequest } from '../../src/core/gvt/dispatch.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import type { PageTrackHandler } from '../../src/core/gvt/page-track.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { NULL_GVT_OPS, Status } from '../../src/core/gvt-ops.js';
import { IoKind, IoRequest } from '../../src/core/io-request.js';
import { BAR0, BAR2, fixture, gfn, MemoryBackend, VM } from './memory-backend.js';

const MIB = 0x10_0000;
const device = (number: number): Bdf => Bdf(number << 3);

t.test('a creation that fails keeps nothing', async (t) => {
  const backend = new MemoryBackend();
  const gvt = new Gvt(backend);
  const created: Vgpu[] = [];
  gvt.on('created', (vgpu) => created.push(vgpu));
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_2', vmId: 99 as never }), { code: 'VM_NOT_FOUND' });
  backend.broken.add('attach');
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_2', vmId: VM }), { code: 'HYPERVISOR' });
  backend.broken.delete('attach');
  t.equal(gvt.vgpus.length, 0);
  const first = gvt.createVgpu({ type: 'GVTg_V4_2', vmId: VM });
  t.equal(first.id, 1, 'id and aperture were free again');
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM }), { code: 'OVERLAP' }, 'same PCI function');
  t.equal(gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: device(3) }).id, 2);
  t.strictSame(
    created.map(({ id }) => id),
    [1, 2],
  );
  t.strictSame(backend.attachedCount, 2);
});

t.test('life cycle', async (t) => {
  const backend = new MemoryBackend();
  const gvt = new Gvt(backend);
  t.throws(() => new Gvt(backend), { code: 'ALREADY_INITIALIZED' });
  const events: string[] = [];
  for (const name of ['created', 'activated', 'deactivated', 'reset', 'destroyed'] as const)
    gvt.on(name, (vgpu) => events.push(`${name} ${vgpu.id}`));
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  t.equal(gvt.vgpu(vgpu.id), vgpu);
  t.equal(vgpu.active, false);
  gvt.activate(vgpu);
  gvt.activate(vgpu);
  t.equal(vgpu.active, true);
  gvt.reset(vgpu);
  t.equal(vgpu.active, true);
  gvt.deactivate(vgpu);
  gvt.deactivate(vgpu);
  gvt.destroyVgpu(vgpu);
  t.strictSame(events, ['created 1', 'activated 1', 'reset 1', 'deactivated 1', 'destroyed 1']);
  for (const run of [() => gvt.destroyVgpu(vgpu), () => gvt.activate(vgpu), () => gvt.deactivate(vgpu), () => gvt.reset(vgpu)])
    t.throws(run, { code: 'DETACHED' });
  t.equal(gvt.emulateCfgRead(vgpu.id, 0, new Uint32Array(2), 4), Status.ENODEV);
  const again = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  t.throws(() => gvt.destroyVgpu(vgpu), { code: 'DETACHED' }, 'the old object does not stand for the new one of the same id');
  gvt.destroy();
  t.equal(backend.state, 'exited');
  t.throws(() => gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM }), { code: 'CLOSED' });
  gvt.destroy();
  t.throws(() => again.handle.detachVgpu(), { code: 'DETACHED' });
});

t.test('destruction releases the hypervisor’s side, also when the VM is gone or the backend closed', async (t) => {
  const f = fixture();
  f.map(128 * MIB, 1, 10);
  f.use(128 * MIB, 10);
  f.vgpu.pageTrack.add(gfn(9), handler().handler);
  t.strictSame([f.backend.traps.size, f.backend.mapped.size, f.backend.tracked.size], [2, 10, 1]);
  f.gvt.destroyVgpu(f.vgpu);
  t.strictSame([f.backend.traps.size, f.backend.mapped.size, f.backend.tracked.size, f.backend.attachedCount], [0, 0, 0, 0]);

  const gone = fixture();
  gone.map(128 * MIB, 1, 10);
  gone.use(128 * MIB, 10);
  gone.backend.end();
  t.equal(gone.gvt.emulateMmioRead(gone.vgpu.id, BAR0 as Gpa, new Uint32Array(2), 4), Status.OK, 'registers still answer');
  gone.gvt.reset(gone.vgpu);
  gone.gvt.destroyVgpu(gone.vgpu);
  t.equal(gone.gvt.availableInstances('GVTg_V4_8'), 6);
  t.equal(gone.gvt.defects, 0);

  const closed = fixture();
  closed.map(128 * MIB, 1);
  closed.use(128 * MIB);
  closed.backend.close();
  closed.gvt.destroy();
  t.equal(closed.gvt.vgpus.length, 0);
});

t.test('reset', async (t) => {
  const { gvt, vgpu, read, write, configWrite, map, use, backend } = fixture();
  vgpu.pageTrack.add(gfn(9), handler().handler);
  map(128 * MIB, 1, 10);
  use(128 * MIB, 10);
  read(0x7_8000);
  write(0x5_0000, 1);
  write(0x10_0000, 1);
  gvt.reset(vgpu);
  t.strictSame([backend.traps.size, backend.mapped.size, backend.tracked.size], [0, 0, 0]);
  t.equal(vgpu.pvNotified, false);
  configWrite(0x10, 4, BAR0);
  configWrite(0x18, 4, BAR2);
  configWrite(0x04, 2, 2);
  t.equal(read(0x5_0000), 0);
  t.equal(read(0x10_0000), 0, 'fences are cleared');
  t.equal(read(0x2_20a8), 0xffff_ffff);
  t.equal(read(0x7_8044), 64 * MIB);
});

t.test('ELSP needs an active vGPU', async (t) => {
  const { gvt, vgpu, write, read } = fixture();
  read(0x7_8000);
  gvt.deactivate(vgpu);
  t.equal(write(0x2_2230, 0), Status.ENODEV);
  gvt.activate(vgpu);
  t.equal(write(0x2_2230, 0), Status.OK);
});

t.test('a submission from register write to fence, status page and MSI; then the plane', async (t) => {
  const f = fixture();
  const { read, write, write64, map, backend, vgpu, gvt, configWrite } = f;
  const aperture = 128 * MIB;
  // GPU pages: 0 status, 1-2 context, 3 ring, 4 fence, 5 pixels; guest frames 16 and up.
  map(aperture, 16, 6);
  const guest = (page: number, offset = 0): number => (16 + page) * 1024 + offset / 4;
  const words = backend.words;
  const ring = [0x1040_0002, aperture + 0x4000, 0, 0xfeed_f00d, 0x0100_0000, 0];
  words.set(ring, guest(3));
  words[guest(2, 0x1c)] = ring.length * 4;
  words[guest(2, 0x24)] = aperture + 0x3000;
  words[guest(2, 0x2c)] = 1;
  configWrite(0x94, 4, 0xfee0_0000);
  configWrite(0x98, 2, 0x50);
  configWrite(0x92, 2, 1);
  read(0x7_8000);
  t.equal(write(0x2_2080, aperture), Status.OK);
  write(0x2_20a8, 0);
  write(0x4_4304, 0);
  write(0x4_430c, 0x0101_0000);
  write(0x4_4200, 0x8000_0000);
  const submit = (): Status[] => [0, 0, 1, (aperture + 0x1000) | 0x109].map((dword) => write(0x2_2230, dword) as Status);
  t.equal(submit()[3], Status.EINVAL, 'run lists are not enabled');
  t.equal(write(0x2_229c, 0x8000_8000), Status.OK);
  t.strictSame(submit(), [0, 0, 0, 0]);
  t.equal(words[guest(4)], 0xfeed_f00d, 'the fence');
  t.strictSame([...words.subarray(guest(0, 0x40), guest(0, 0x50))], [1, 0, 0x18, 1], 'active, complete');
  t.equal(words[guest(0, 0x7c)], 1, 'index');
  t.strictSame(f.read64(0x2_2370), [1, 0], 'the same in registers');
  t.equal(read(0x2_23a0) & 7, 1);
  t.equal(read(0x4_4308), 0x0101_0000, 'user interrupt and context switch');
  t.ok(backend.msis.length >= 1);
  t.strictSame(backend.msis[0], [0xfee0_0000, 0x50]);
  t.equal(vgpu.statistics.workloads, 1);
  t.equal(vgpu.statistics.interrupts, backend.msis.length);

  t.equal(vgpu.queryPlane(), undefined, 'no pipe is on');
  words[guest(5)] = 0x0011_2233;
  write(0x6_101c, (15 << 16) | 1);
  write(0x7_1188, 64);
  write(0x7_1008, 0x8000_0000);
  write(0x7_1180, (0x8000_0000 | (6 << 26)) >>> 0);
  write(0x7_119c, aperture + 0x5000);
  const picture = vgpu.queryPlane();
  t.strictSame([picture?.width, picture?.height, ...(picture?.rgba.subarray(0, 4) ?? [])], [16, 2, 0x11, 0x22, 0x33, 0xff], 'pipe B');

  // A context that is not there: the engine stops, the vGPU does not.
  write64(0x80_0000 + (aperture / 4096 + 2) * 8, 0, 0);
  const hangs: string[] = [];
  gvt.on('hang', (hung, engine, why) => {
    hangs.push(`${hung.id} ${engine}: ${why}`);
    throw new Error('a listener that fails spoils nothing');
  });
  submit();
  t.equal(vgpu.submission.hung(1), 'the context image is not mapped');
  t.strictSame(hangs, ['1 bcs: the context image is not mapped']);
  t.equal(gvt.defects, 1);
  t.equal(vgpu.failsafe, false);
  t.equal(gvt.hasWork, false);
  gvt.reset(vgpu);
  t.equal(vgpu.submission.idle(1), true);
  t.equal(vgpu.failsafe, false);
});

/** A page-track handler that keeps what it is told. */
function handler(): { handler: PageTrackHandler; told: string[] } {
  const told: string[] = [];
  return {
    told,
    handler: {
      written: (gpa, value, size) => {
        told.push(`${gpa.toString(16)} ${size} ${value[0]}`);
        return size === 4 ? Status.OK : Status.EINVAL;
      },
      frameWritten: (frame) => {
        told.push(`frame ${frame}`);
        return Status.OK;
      },
    },
  };
}

t.test('page track', async (t) => {
  const { gvt, vgpu, backend, write } = fixture();
  const { handler: track, told } = handler();
  const value = new Uint32Array([5, 0]);
  const wp = (gpa: number, size = 4): Status => gvt.writeProtectHandler(vgpu.id, gpa as Gpa, value, size);
  vgpu.pageTrack.add(gfn(4), track);
  t.strictSame([...backend.tracked], [4]);
  t.equal(wp(0x4ffc), Status.OK);
  t.equal(wp(0x4000, 8), Status.EINVAL, 'the handler’s answer');
  t.equal(wp(0x3ffe), Status.OK, 'reaches into the tracked frame');
  t.equal(wp(0x4ffe), Status.OK, 'reaches out of it');
  t.equal(wp(0x3ffc), Status.ENXIO);
  t.equal(wp(0x5000), Status.ENXIO);
  t.equal(gvt.pageWritten(vgpu.id, gfn(4)), Status.OK);
  t.equal(gvt.pageWritten(vgpu.id, gfn(5)), Status.ENXIO);
  t.strictSame(told.splice(0), ['4ffc 4 5', '4000 8 5', '3ffe 4 5', '4ffe 4 5', 'frame 4']);
  t.throws(() => vgpu.pageTrack.add(gfn(0x9999), track), { code: 'NOT_RAM' });
  t.equal(vgpu.pageTrack.has(gfn(0x9999)), false);
  vgpu.pageTrack.remove(gfn(4));
  t.equal(backend.tracked.size, 0);
  t.equal(wp(0x4000), Status.ENXIO);
  vgpu.pageTrack.add(gfn(4), track);
  vgpu.pageTrack.add(gfn(5), track);
  write(0x7_8808, 1);
  t.equal(wp(0x4ffe), Status.OK, 'failsafe: the write passes');
  t.strictSame(told, [], 'nobody is told');
  t.equal(vgpu.pageTrack.size, 0, 'and the frames are given up');
});

t.test('dispatch', async (t) => {
  const { gvt, vgpu, backend, write } = fixture();
  const request = new IoRequest();
  const send = (fields: Partial<IoRequest>, low = 0, high = 0): [Status, number, number] => {
    Object.assign(request, { kind: IoKind.MMIO, write: false, address: 0, size: 4, vgpu: vgpu.id }, fields);
    request.value[0] = low;
    request.value[1] = high;
    return [dispatchRequest(gvt, request), request.value[0] as number, request.value[1] as number];
  };
  t.strictSame(send({ kind: IoKind.PCI_CONFIG, address: 0 }), [Status.OK, 0x1616_8086, 0]);
  t.strictSame(send({ kind: IoKind.PCI_CONFIG, address: 0x3c, size: 1, write: true }, 0x0b)[0], Status.OK);
  t.strictSame(send({ kind: IoKind.PCI_CONFIG, address: 0x3c, size: 1 }), [Status.OK, 0x0b, 0]);
  t.strictSame(send({ address: BAR0 + 0x9120 }), [Status.OK, 0x0200_0000, 0]);
  t.strictSame(send({ address: BAR0 + 0x5_0000, size: 8, write: true }, 1, 2)[0], Status.OK);
  t.strictSame(send({ address: BAR0 + 0x5_0000, size: 8 }), [Status.OK, 1, 2]);
  t.strictSame(send({ address: BAR0 + 0x9120, vgpu: VgpuId(0) }), [Status.ENODEV, 0xffff_ffff, 0xffff_ffff], 'nobody’s');
  t.strictSame(send({ address: BAR0 + 0x9120, vgpu: VgpuId(5) }), [Status.ENODEV, 0xffff_ffff, 0xffff_ffff]);
  t.strictSame(send({ kind: IoKind.PIO, address: 0x60 }), [Status.ENODEV, 0xffff_ffff, 0xffff_ffff]);
  t.strictSame(send({ address: BAR0 + 1 }), [Status.EINVAL, 0xffff_ffff, 0xffff_ffff], 'refused');
  t.strictSame(send({ kind: IoKind.PCI_CONFIG, address: 4096 }), [Status.EINVAL, 0xffff_ffff, 0xffff_ffff]);
  t.strictSame(send({ address: 1, write: true }, 5), [Status.EFAULT, 5, 0], 'a write’s value stays');

  const { handler: track, told } = handler();
  vgpu.pageTrack.add(gfn(4), track);
  t.equal(send({ kind: IoKind.WP, address: 0x4000, write: true }, 7)[0], Status.OK);
  t.strictSame(told, ['4000 4 7']);
  t.equal(send({ kind: IoKind.WP, address: BAR0 + 0x5_0000, write: true }, 9)[0], Status.OK, 'a protected register');
  t.equal(send({ address: BAR0 + 0x5_0000 })[1], 9);

  const throwing = {
    ...NULL_GVT_OPS,
    emulateMmioRead: () => {
      throw new Error('defect');
    },
  };
  Object.assign(request, { kind: IoKind.MMIO, write: false, address: 0, size: 4, vgpu: vgpu.id });
  t.equal(dispatchRequest(throwing, request), Status.EFAULT);
  t.equal(request.value[0], 0xffff_ffff);

  vgpu.pageTrack.add(gfn(6), {
    written: () => {
      throw new Error('defect');
    },
    frameWritten: () => Status.OK,
  });
  t.equal(send({ kind: IoKind.WP, address: 0x6000, write: true })[0], Status.EFAULT);
  t.equal(gvt.defects, 1);
  gvt.on('failsafe', () => {
    throw new Error('a listener’s defect');
  });
  t.equal(write(0x7_8808, 1), Status.OK, 'is not the guest’s');
  t.equal(vgpu.failsafe, true);
  t.equal(gvt.defects, 2);
  t.equal(backend.attachedCount, 1);
});

t.test('guest mistakes are counted all and told few', async (t) => {
  const { vgpu, gvt, time, mistakes } = fixture();
  const value = new Uint32Array(2);
  const err = (): Status => gvt.emulateMmioRead(vgpu.id, (BAR0 + 3) as Gpa, value, 4);
  for (let i = 0; i < 1000; i++) err();
  t.equal(vgpu.statistics.guestErrors, 1000);
  t.equal(mistakes.length, 10);
  t.match(mistakes[0], /read of 4 bytes at BAR0 \+ 0x3 refused/);
  time.ns += 2.5e9;
  err();
  t.match(mistakes[10], /\(990 more not shown\)/);
  err();
  err();
  t.equal(mistakes.length, 12, 'two seconds, two messages');
  t.equal(vgpu.statistics.mmioReads, 1003);
});

t.test('without isValidGfn and traps nothing is asked of the backend', async (t) => {
  const { backend, map, use, vgpu } = fixture({ capabilities: { setTrapArea: false, isValidGfn: false, pageTrack: null } });
  map(128 * MIB, 3);
  use(128 * MIB);
  t.equal(vgpu.ggtt.mappedPages, 1);
  t.equal(vgpu.statistics.guestErrors, 0);
  t.throws(() => vgpu.pageTrack.add(gfn(1), handler().handler), { code: 'UNSUPPORTED' });
  t.equal(backend.tracked.size, 0);
});
