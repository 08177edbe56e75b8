/** The bus: registration, creation, removal, hot-unplug, groups, settings, and what is undone when a part fails. */
import t, { type Test } from 'tap';
import { type DeviceHost, errnoOf, GvtGpu, type GvtSeat, parseUuid, randomUuid, SampleGpu, VgpuBus } from '../../src/core/bus/index.js';
import { MptError } from '../../src/core/errors.js';
import { ScheduleState } from '../../src/core/gvt/scheduler/shared-state.js';
import { refused } from '../core/expect.js';
import { busRig, first, ListedAccess, LocalHost, uuid } from './support.js';

const MIB = 0x10_0000;
const rejected = async (t: Test, code: string, action: () => Promise<unknown>): Promise<MptError> => {
  const error = await action().then(
    () => undefined,
    (e: unknown) => e,
  );
  t.match(error, { code });
  return error as MptError;
};

t.test('UUIDs', async (t) => {
  t.equal(parseUuid('83B8F4F2-509F-382F-3C1E-E6BFE0FA1001'), '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001');
  for (const bad of [
    '',
    'x',
    '83b8f4f2509f382f3c1ee6bfe0fa1001',
    '83b8f4f2-509f-382f-3c1e-e6bfe0fa100',
    '83b8f4f2-509f-382f-3c1e-e6bfe0fa100g',
    ' 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001',
  ])
    t.equal(parseUuid(bad), undefined, bad);
  t.equal(randomUuid(new Uint8Array(16).fill(0xff)), 'ffffffff-ffff-4fff-bfff-ffffffffffff');
});

t.test('create and remove', async (t) => {
  const { bus, access } = busRig();
  const events: string[] = [];
  for (const name of ['created', 'removed'] as const) bus.on(name, (vgpu) => events.push(`${name} ${vgpu.type}`));
  const type = first(bus.types);
  t.same(
    bus.types.map(({ name }) => name),
    ['mdpy-vga', 'mdpy-xga', 'mdpy-hd'],
  );
  const available = (): number => type.driver.available(type.configuration);
  t.equal(available(), 4);
  const vgpu = bus.create({ type: 'mdpy-xga', uuid: uuid(0).toUpperCase() });
  t.match(vgpu, { uuid: uuid(0), online: true, weight: 1, priority: 0, group: '', vm: undefined });
  t.equal(bus.find(uuid(0)), vgpu);
  t.equal(available(), 3);
  t.same(bus.addresses(vgpu), [{ access: 'listed', address: `at ${uuid(0)}` }]);
  refused(t, 'EXISTS', () => bus.create({ type: 'mdpy-vga', uuid: uuid(0) }));
  for (let i = 1; i < 4; i++) bus.create({ type: 'mdpy-hd', uuid: uuid(i) });
  t.equal(errnoOf(refused(t, 'LIMIT', () => bus.create({ type: 'mdpy-hd', uuid: uuid(4) }))), 87, 'as the kernel: EUSERS');
  t.equal(bus.vgpuCount, 4);
  const removal = bus.remove(uuid(2));
  t.equal(bus.find(uuid(2)), undefined, 'gone at once: nobody used it');
  await removal;
  t.equal(available(), 1);
  t.equal(errnoOf(await rejected(t, 'NOT_FOUND', () => bus.remove(uuid(2)))), 19);
  await bus.close();
  t.equal(available(), 4);
  t.same(access.here, []);
  t.same(events, [
    'created mdpy-xga',
    ...Array(3).fill('created mdpy-hd'),
    'removed mdpy-hd',
    'removed mdpy-xga',
    ...Array(2).fill('removed mdpy-hd'),
  ]);
});

t.test('what is refused leaves nothing', async (t) => {
  const { bus, access } = busRig();
  const cases: [string, { type?: string; uuid?: string; gpu?: string; settings?: Record<string, string> }, RegExp][] = [
    ['BAD_TYPE', { type: 'mdpy-vgaa' }, /did you mean mdpy-vga\? types: mdpy-vga, mdpy-xga, mdpy-hd/],
    ['BAD_TYPE', { type: 'vga' }, /types: /],
    ['NOT_FOUND', { gpu: 'mdpy1' }, /no GPU is named 'mdpy1'.*did you mean mdpy0/],
    ['INVALID_ARGUMENT', { uuid: 'nonsense' }, /'nonsense' is no UUID/],
    ['INVALID_ARGUMENT', { settings: { prioritty: '1' } }, /did you mean priority\?/],
    ['INVALID_ARGUMENT', { settings: { weight: '0' } }, /weight cannot be '0'.*share of engine time, 1 to 256/],
    ['INVALID_ARGUMENT', { settings: { weight: '257' } }, /weight cannot be/],
    ['INVALID_ARGUMENT', { settings: { weight: '1e1' } }, /weight cannot be/],
    ['INVALID_ARGUMENT', { settings: { vm: '0' } }, /vm cannot be/],
    ['INVALID_ARGUMENT', { settings: { vm: '-1' } }, /vm cannot be/],
    ['INVALID_ARGUMENT', { settings: { vm: '65536' } }, /vm cannot be/],
    ['INVALID_ARGUMENT', { settings: { priority: '20' } }, /-20 \(first\) to 19/],
    ['INVALID_ARGUMENT', { settings: { group: 'a b' } }, /group cannot be/],
    ['INVALID_ARGUMENT', { settings: { group: 'g'.repeat(65) } }, /group cannot be/],
  ];
  for (const [code, spec, expected] of cases)
    t.match(refused(t, code as never, () => bus.create({ type: 'mdpy-vga', uuid: uuid(0), ...spec })).message, expected);
  access.refuses = new MptError('IO', 'refused by the test');
  refused(t, 'IO', () => bus.create({ type: 'mdpy-vga', uuid: uuid(0) }));
  t.equal(bus.vgpuCount, 0);
  t.equal(first(bus.types).driver.available(first(bus.types).configuration), 4, 'the probe that failed took nothing');
  access.refuses = undefined;
  t.ok(bus.create({ type: 'mdpy-vga', uuid: uuid(0), settings: { weight: '256', priority: '-20', vm: '65535', group: 'g'.repeat(64) } }));
});

t.test('in use: refused with a reason', async (t) => {
  const { bus } = busRig();
  const vgpu = bus.create({ type: 'mdpy-vga', uuid: uuid(0) });
  const running = bus.start(vgpu, undefined);
  refused(t, 'BUSY', () => bus.start(vgpu, undefined));
  const error = await rejected(t, 'BUSY', () => bus.remove(uuid(0)));
  t.equal(errnoOf(error), 16);
  t.match(error.message, /the vGPU 83b8f4f2-.* is in use; errno 16 EBUSY; stop the VM first/);
  refused(t, 'BUSY', () => bus.set(vgpu, 'online', '0'));
  refused(t, 'BUSY', () => bus.set(vgpu, 'group', 'x'));
  await rejected(t, 'BUSY', () => bus.unregisterGpu('mdpy0'));
  refused(t, 'BUSY', () => bus.unregisterAccess('listed'));
  t.ok(bus.find(uuid(0)) !== undefined && vgpu.online && vgpu.inUse);
  await running.shutdown();
  t.notOk(vgpu.inUse);
  await bus.remove(uuid(0));
});

t.test('hot-unplug, where the GPU can', async (t) => {
  const { bus } = busRig({ hotUnplug: true });
  const vgpu = bus.create({ type: 'mdpy-vga', uuid: uuid(0) });
  bus.start(vgpu, undefined);
  const why: string[] = [];
  bus.on('stopped', (_vgpu, reason) => why.push(reason));
  const removal = bus.remove(uuid(0));
  t.equal(bus.find(uuid(0)), vgpu, 'there until its device has ended');
  refused(t, 'NOT_FOUND', () => bus.set(vgpu, 'priority', '1'));
  refused(t, 'EXISTS', () => bus.create({ type: 'mdpy-vga', uuid: uuid(0) }));
  await removal;
  t.equal(bus.find(uuid(0)), undefined);
  t.same(why, ['shut down']);
});

t.test('operations reach the device that runs', async (t) => {
  const { bus, host } = busRig();
  const vgpu = bus.create({ type: 'mdpy-xga', uuid: uuid(0) });
  await bus.reset(vgpu);
  const running = bus.start(vgpu, undefined);
  const id = new Uint8Array(4);
  t.equal(await running.read('config', 0, id), 0);
  t.same([...id], [0x36, 0x1b, 0x0f, 0x00]);
  t.equal(await running.write('bar0', 16, Uint8Array.of(1, 2, 3, 4)), 0);
  t.equal(await running.read('bar0', 16, id), 0);
  t.same([...id], [1, 2, 3, 4]);
  t.equal(await running.read('bar1', 0, id), -22, 'no such BAR');
  t.equal(await running.setIrqs({ flags: 0x21, index: 0, start: 0, count: 1 }), -22, 'it has no interrupts');
  await bus.reset(vgpu);
  bus.set(vgpu, 'priority', '-5');
  t.same(host.priorities, [-5]);
  t.match(vgpu.ops.extensions.statistics?.(), { clients: 1, reads: 0 });
  await running.shutdown();
});

t.test('a start that fails leaves it idle', async (t) => {
  const { bus, host } = busRig();
  const vgpu = bus.create({ type: 'mdpy-xga', uuid: uuid(0) });
  host.broken = new MptError('NO_MEMORY', 'refused by the test');
  refused(t, 'NO_MEMORY', () => bus.start(vgpu, undefined));
  t.notOk(vgpu.inUse);
  host.broken = undefined;
  bus.set(vgpu, 'online', '0');
  t.same(bus.addresses(vgpu), []);
  refused(t, 'NOT_FOUND', () => bus.start(vgpu, undefined));
  bus.set(vgpu, 'online', 'y');
  await bus.start(vgpu, undefined).shutdown();
});

t.test('groups: one VM, all or none', async (t) => {
  const { bus, access } = busRig({ requiresGroup: true });
  const [a, b] = [0, 1].map((i) => bus.create({ type: 'mdpy-vga', uuid: uuid(i) })) as [never, never];
  t.same(access.here, [], 'no group, not online');
  refused(t, 'INVALID_ARGUMENT', () => bus.set(a, 'online', '1'));
  for (const vgpu of [a, b]) bus.set(vgpu, 'group', 'vm1');
  bus.set(a, 'online', '1');
  t.same(access.here, [uuid(0), uuid(1)], 'both go online');
  refused(t, 'BUSY', () => bus.set(a, 'group', ''));
  const running = bus.start(b, undefined);
  const error = await rejected(t, 'BUSY', () => bus.remove(uuid(0)));
  t.match(error.message, new RegExp(`${uuid(1)} is in use, and ${uuid(0)} is in its group`));
  refused(t, 'BUSY', () => bus.set(a, 'online', '0'));
  await running.shutdown();
  bus.set(a, 'online', '0');
  t.same(access.here, []);
  const grouped = bus.create({ type: 'mdpy-vga', uuid: uuid(2), settings: { group: 'vm2' } });
  t.ok(grouped.online, 'created with its group');
});

t.test('a member that cannot be reached keeps all offline', async (t) => {
  const { bus, access } = busRig();
  const [a] = [0, 1].map((i) => bus.create({ type: 'mdpy-vga', uuid: uuid(i), settings: { group: 'g', online: '0' } })) as [never];
  const second = new ListedAccess('second');
  bus.registerAccess(second);
  second.refuses = new MptError('IO', 'refused by the test');
  refused(t, 'IO', () => bus.set(a, 'online', '1'));
  t.same([access.here, second.here, bus.vgpus.filter(({ online }) => online)], [[], [], []]);
});

t.test('access drivers that come and go', async (t) => {
  const { bus, access } = busRig();
  bus.create({ type: 'mdpy-vga', uuid: uuid(0) });
  bus.create({ type: 'mdpy-vga', uuid: uuid(1), settings: { online: '0' } });
  const second = new ListedAccess('second');
  bus.registerAccess(second);
  t.same(second.here, [uuid(0)], 'those online are probed');
  refused(t, 'EXISTS', () => bus.registerAccess(new ListedAccess('second')));
  bus.unregisterAccess('second');
  t.same([second.here, access.here], [[], [uuid(0)]]);
  refused(t, 'NOT_FOUND', () => bus.unregisterAccess('second'));
});

t.test('GPUs that come and go', async (t) => {
  const { bus, host } = busRig();
  refused(t, 'EXISTS', () => bus.registerGpu(new SampleGpu({ gpu: 'mdpy0', kind: 'mdpy', host, memories: host.memories })));
  for (const gpu of ['', 'a/b', '..', 'x'.repeat(65)])
    refused(t, 'INVALID_ARGUMENT', () => bus.registerGpu(new SampleGpu({ gpu, kind: 'mdpy', host, memories: host.memories })));
  bus.registerGpu(new SampleGpu({ gpu: 'mdpy1', kind: 'mdpy', host, memories: host.memories, capacity: 1 }));
  bus.create({ type: 'mdpy-vga', gpu: 'mdpy1', uuid: uuid(0) });
  t.equal(bus.create({ type: 'mdpy-vga', uuid: uuid(1) }).driver.gpu, 'mdpy0');
  await bus.unregisterGpu('mdpy1');
  t.equal(bus.find(uuid(0)), undefined, 'its vGPUs went with it');
  refused(t, 'NOT_FOUND', () => bus.gpu('mdpy1'));
  for (let i = 2; i < 5; i++) bus.create({ type: 'mdpy-vga', uuid: uuid(i) });
  bus.registerGpu(new SampleGpu({ gpu: 'mdpy2', kind: 'mdpy', host, memories: host.memories }));
  t.equal(bus.create({ type: 'mdpy-vga', uuid: uuid(5) }).driver.gpu, 'mdpy2', 'the first with room');
});

t.test('foreground: one vGPU of a GPU', async (t) => {
  const { bus } = busRig();
  const [a, b] = [0, 1].map((i) => bus.create({ type: 'mdpy-vga', uuid: uuid(i) })) as [never, never];
  const driver = bus.gpu('mdpy0');
  t.equal(bus.foregroundOf(driver), undefined);
  bus.set(a, 'foreground', '1');
  bus.set(b, 'foreground', '1');
  t.equal(bus.foregroundOf(driver), b);
  bus.set(a, 'foreground', '0');
  t.equal(bus.foregroundOf(driver), b, 'what is not in front is not taken away');
  await bus.remove(uuid(1));
  t.equal(bus.foregroundOf(driver), undefined);
});

t.test('a GPU that GVT divides', async (t) => {
  const bus = new VgpuBus();
  const host = {
    open: () => {
      throw new Error('nobody starts it');
    },
  };
  bus.registerGpu(new GvtGpu({ gpu: '0000:00:02.0', host, exports: true, size: { aperture: 256 * MIB } }));
  t.same(
    bus.types.map(({ name, driver, configuration }) => [name, driver.available(configuration)]),
    [
      ['i915-GVTg_V4_8', 2],
      ['i915-GVTg_V4_4', 1],
    ],
    'as users of a 256 MiB aperture report it',
  );
  const vgpu = bus.create({ type: 'i915-GVTg_V4_4', uuid: uuid(0) });
  t.match(vgpu, { weight: 4, ops: { id: 1, resources: { aperture: 128, hidden: 512, fences: 4, resolution: '1920x1200' } } });
  t.same(
    bus.types.map(({ driver, configuration }) => driver.available(configuration)),
    [0, 0],
  );
  t.equal(errnoOf(refused(t, 'NO_SPACE', () => bus.create({ type: 'i915-GVTg_V4_8', uuid: uuid(1) }))), 28);
  await bus.remove(uuid(0));
  for (const [settings, code] of [
    [{ aperture: '0' }, 'INVALID_ARGUMENT'],
    [{ aperture: '129' }, 'NO_SPACE'],
    [{ aperture: '15' }, 'INVALID_ARGUMENT'],
    [{ hidden: '4096' }, 'NO_SPACE'],
    [{ resolution: '1x1' }, 'INVALID_ARGUMENT'],
    [{ resolution: '1024' }, 'INVALID_ARGUMENT'],
    [{ fences: '29' }, 'NO_SPACE'],
    [{ fences: '33' }, 'NO_SPACE'],
  ] as const)
    refused(t, code, () => bus.create({ type: 'i915-GVTg_V4_8', uuid: uuid(1), settings }));
  const sized = bus.create({
    type: 'i915-GVTg_V4_8',
    uuid: uuid(1),
    settings: { aperture: '128', hidden: '448', fences: '28', weight: '7', vm: '3', display: '0' },
  });
  t.match(sized, { weight: 7, vm: 3, ops: { resources: { aperture: 128, hidden: 448, fences: 28, display: 0 } } });
  t.same(bus.vgpusOfVm(3), [sized]);
  t.match(
    refused(t, 'UNSUPPORTED', () => bus.set(sized, 'vm', '4')),
    { errno: 1 },
  );
  bus.set(sized, 'weight', '9');
  t.equal(sized.weight, 9);
});

t.test('two GPUs: what is set explicitly goes where there is room for it', async (t) => {
  const bus = new VgpuBus();
  const host = { open: () => t.fail('nobody starts it') as never };
  for (const [gpu, aperture] of [
    ['small', 256],
    ['large', 512],
  ] as const)
    bus.registerGpu(new GvtGpu({ gpu, host, exports: true, size: { aperture: aperture * MIB } }));
  const type = 'i915-GVTg_V4_8';
  const made = (i: number, settings: Record<string, string> = {}): string => bus.create({ type, uuid: uuid(i), settings }).driver.gpu;
  t.equal(made(0), 'small', 'the first with room');
  t.equal(made(1, { aperture: '300' }), 'large', 'more than the first could ever give');
  t.equal(made(2, { aperture: '64' }), 'small');
  t.equal(made(3), 'large', 'the first is full');
  t.equal(errnoOf(refused(t, 'NO_SPACE', () => made(4, { aperture: '64' }))), 28);
  t.equal(made(4, { aperture: '20', fences: '1' }), 'large', 'which has no room for one of the type');
  refused(t, 'NO_SPACE', () => bus.create({ type, gpu: 'small', uuid: uuid(5), settings: { aperture: '20' } }));
  t.match(
    refused(t, 'NO_SPACE', () => made(5, { aperture: '99999' })),
    { errno: 28, hint: 'take 16 MiB to 384 MiB, in whole MiB' },
    'the most is that of the larger one',
  );
  t.match(
    refused(t, 'INVALID_ARGUMENT', () => made(5, { aperture: '15' })),
    { hint: 'MiB of aperture (low graphics memory), from 16 to what the GPU has' },
  );
});

t.test('vGPUs of a GPU share the schedule of its engines; a weight counts at once', async (t) => {
  const seats: GvtSeat[] = [];
  const host: DeviceHost<GvtSeat> = {
    open: (seat) => {
      seats.push(seat);
      throw new MptError('STOPPED', 'the seat is all that the test wants');
    },
  };
  t.throws(() => new GvtGpu({ gpu: 'c', host, exports: false, size: { generation: 9 } }), { code: 'UNSUPPORTED' });
  const gpus = ['a', 'b'].map((gpu) => new GvtGpu({ gpu, host, exports: false }));
  const vgpus = [...gpus, first(gpus)].map((gpu) =>
    gpu.create({ configuration: first(gpu.configurations), settings: new Map([['weight', 5]]) }),
  );
  for (const vgpu of vgpus) t.throws(() => vgpu.start(undefined), { code: 'STOPPED' });
  const [a, b, c] = seats as [GvtSeat, GvtSeat, GvtSeat];
  t.equal(a.schedule, c.schedule);
  t.not(a.schedule, b.schedule);
  t.strictSame([a.resources.weight, a.share.id, c.share.id], [5, 1, 2]);
  first(vgpus).setWeight(7);
  t.equal(new ScheduleState(a.schedule).weight(1), 7);
  t.throws(() => first(vgpus).start(undefined));
  t.equal(seats[3]?.resources.weight, 7, 'the next start has it too');
});

t.test('a host whose devices do not count', async (t) => {
  const host = new LocalHost();
  const gpu = new SampleGpu({ gpu: 'b', kind: 'mbochs', host, memories: host.memories });
  const ops = gpu.create({ configuration: first(gpu.configurations), settings: new Map() });
  t.same(ops.extensions.statistics?.(), { clients: 0, reads: 0, writes: 0, bytes_read: 0, bytes_written: 0, resets: 0 });
  t.same(ops.extensions.vendor, { group: 'vendor', attributes: { memory: '4 MB' } });
  const view = first(gpu.configurations).view();
  t.same(view.gfxPlane, { dmabuf: true, region: false });
  t.same(host.memories.open, [], 'what was looked at is closed again');
});
