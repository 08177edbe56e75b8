/** `mpt daemon` and who talks to it: life of vGPUs, clients, what is refused, how it ends. */
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { readDaemonConfig } from '../../src/cli/daemon/config.js';
import type { ControlRequest } from '../../src/cli/daemon/control-protocol.js';
import { Daemon } from '../../src/cli/daemon/daemon.js';
import { Log } from '../../src/cli/daemon/log.js';
import { SocketAccess } from '../../src/cli/daemon/socket-access.js';
import type { ClientAttachment } from '../../src/cli/daemon/thread-host.js';
import { fetchPicture } from '../../src/cli/display/socket-client.js';
import { type RunningVgpu, SampleGpu, VgpuBus } from '../../src/core/bus/index.js';
import { LocalHost } from '../bus/support.js';
import { mptAsNobody } from '../cli/mpt.js';
import { connectPeer } from '../vfio/sockets.js';
import type { Peer } from '../vfio/support.js';
import { first, plainMpt, TestDaemon, uuid } from './support.js';

const SMALL = 'mbochs-small';

t.test('command line: --help of each', async (t) => {
  const commands = ['daemon', 'types', 'list', 'create', 'remove', 'show', 'set'];
  for (const command of commands) {
    const { code, stdout, stderr } = plainMpt([command, '--help']);
    t.same([code, stderr], [0, ''], command);
    t.match(stdout, /--runtime <folder>/);
    t.match(stdout, new RegExp(`Example:\\n  mpt ${command}`));
  }
});

t.test('types, create, list, show, set, remove', async (t) => {
  const daemon = await TestDaemon.ready(t);
  const types = daemon.run('types');
  t.match(types.stdout, /^TYPE +GPU +AVAILABLE +INSTANCES +DESCRIPTION\ni915-GVTg_V4_8 +0000:00:02.0 +6 +0 /);
  const id = uuid(1);
  t.same(daemon.run('create', SMALL, '--uuid', id.toUpperCase(), '--set', 'weight=7', '--set', 'group=vm1'), {
    code: 0,
    stdout: `${id}\n`,
    stderr: '',
  });
  const random = daemon.run('create', 'mdpy-vga', '--json');
  t.match(JSON.parse(random.stdout).uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]/);
  t.match(daemon.run('list').stdout, new RegExp(`^UUID .*\\n${id}  mbochs-small  mbochs  -   online       7         0  vm1\\n`));
  t.match(JSON.parse(daemon.run('show', id, '--json').stdout), {
    uuid: id,
    type: SMALL,
    socket: join(daemon.runtime, `${id}.sock`),
    resources: { memory: '4 MB' },
    statistics: { clients: 0 },
  });
  t.match(daemon.run('set', id, 'weight=9', 'priority=5').stdout, /priority: 5\nweight: 9\n/);
  const wrong = daemon.run('create', SMALL, '--set', 'weight');
  t.same([wrong.code, wrong.stdout], [2, '']);
  t.match(wrong.stderr, /^mpt: INVALID_ARGUMENT: .*'weight' is no setting; as weight=4\n$/);
  const taken = daemon.run('create', SMALL, '--uuid', id, '--json');
  t.same([taken.code, JSON.parse(taken.stdout).error.code], [1, 'EXISTS']);
  t.match(taken.stderr, /^mpt: EXISTS: .*there is a vGPU .* already; errno 17 EEXIST\n$/);
  const create = (more: object): ControlRequest => ({ op: 'create', type: SMALL, ...more });
  const cases: [ControlRequest, string, RegExp][] = [
    [create({ type: 'mbochs-smal' }), 'BAD_TYPE', /did you mean mbochs-small\?/],
    [create({ uuid: 'x' }), 'INVALID_ARGUMENT', /'x' is no UUID/],
    [create({ gpu: 'mboch' }), 'NOT_FOUND', /did you mean mbochs\?/],
    [create({ settings: { wight: '1' } }), 'INVALID_ARGUMENT', /did you mean weight\?/],
    [create({ settings: { weight: '0' } }), 'INVALID_ARGUMENT', /1 to 256/],
    [{ op: 'set', uuid: id, settings: { weight: '3', vm: '1' } }, 'UNSUPPORTED', /fixed when a vGPU is created/],
    [{ op: 'remove', uuid: uuid(99) }, 'NOT_FOUND', /no vGPU has the UUID/],
    [{ op: 'show', uuid: 'nonsense' }, 'INVALID_ARGUMENT', /is no UUID/],
  ];
  for (const [request, code, message] of cases) await t.rejects(daemon.ask(request), { code, message }, message.source);
  t.equal((await daemon.ask({ op: 'show', uuid: id })).weight, 9, 'a list of settings with a bad one changes nothing');
  t.same(daemon.run('remove', id), { code: 0, stdout: '', stderr: '' });
  t.notOk(existsSync(join(daemon.runtime, `${id}.sock`)));
  t.equal((await daemon.ask({ op: 'list' })).length, 1);
  const refusals = daemon.stderr.match(/refused/g)?.length;
  t.equal(refusals, cases.length + 1, 'one line of the log for each that came to the daemon');
});

t.test('no daemon', async (t) => {
  const { code, stdout, stderr } = plainMpt(['list', '--runtime', '/nowhere']);
  t.same([code, stdout], [2, '']);
  t.match(stderr, /^mpt: IO: list: no server answers at \/nowhere\/control.sock; errno 2 ENOENT; is mpt daemon running\?/);
});

t.test('a VM uses a vGPU', async (t) => {
  const daemon = await TestDaemon.ready(t);
  const id = uuid(0);
  await daemon.ask({ op: 'create', type: 'i915-GVTg_V4_8', uuid: id, settings: { weight: '5', aperture: '100', priority: '3' } });
  t.equal(statSync(join(daemon.runtime, `${id}.sock`)).mode & 0o777, 0o600);
  t.notOk(existsSync(join(daemon.runtime, `${id}.sock.display`)), 'nobody uses it, nothing is shown');
  const client = daemon.client(id);
  t.same([...client.read(7, 0, 4)], [0x86, 0x80, 0x16, 0x16]);
  t.match(await daemon.ask({ op: 'show', uuid: id }), { inUse: true, resources: { aperture: 100 } });
  t.ok(existsSync(join(daemon.runtime, `${id}.sock.display`)), 'its display can be looked at');
  const second = connectPeer(join(daemon.runtime, `${id}.sock`));
  await daemon.until(/client refused.*is in use/);
  second.close();
  await t.rejects(daemon.ask({ op: 'remove', uuid: id }), { code: 'BUSY', errno: 16, hint: 'stop the VM first' });
  t.same([...client.read(7, 0, 2)], [0x86, 0x80], 'the first goes on');
  client.close();
  await daemon.until(/client gone/);
  const after = await daemon.ask({ op: 'show', uuid: id });
  t.match(after, { inUse: false, statistics: { clients: 1, reads: 2, bytes_read: 6 } });
  await daemon.ask({ op: 'remove', uuid: id });
  t.equal(await daemon.available('i915-GVTg_V4_8'), 6);
});

t.test('hot-unplug, where the configuration says so', async (t) => {
  const daemon = await TestDaemon.ready(t, { config: { gpus: [{ name: 'b', driver: 'mbochs', hotUnplug: true }] } });
  await daemon.ask({ op: 'create', type: SMALL, uuid: uuid(0) });
  const client = daemon.client(uuid(0));
  await daemon.ask({ op: 'remove', uuid: uuid(0) });
  t.throws(() => client.read(7, 0, 2), { code: 'VM_GONE' });
  client.close();
  t.equal(await daemon.available(SMALL), 64);
  t.equal(await daemon.stop(), 0);
  t.same(daemon.left, []);
});

t.test('a device starts afresh for the next client', async (t) => {
  const daemon = await TestDaemon.ready(t);
  await daemon.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(0) });
  for (let i = 1; i <= 2; i++) {
    const client = daemon.client(uuid(0));
    t.same([...client.read(0, 64, 2)], [...client.read(0, 64, 2)]);
    t.not(client.read(0, 0, 4).join(), '1,2,3,4', 'what the last one left is gone');
    client.write(0, 0, Uint8Array.of(1, 2, 3, 4));
    client.close();
    await daemon.until(new RegExp(`(client gone[^]*){${i}}`));
  }
  t.match((await daemon.ask({ op: 'show', uuid: uuid(0) })).statistics, { clients: 2, writes: 2, bytes_written: 8 });
});

t.test('configuration: what it creates, and what is wrong with it', async (t) => {
  const gpus = [
    { name: 'g0', driver: 'i915', apertureMiB: 256 },
    { name: 'm0', driver: 'mdpy', instances: 2, requiresGroup: true },
  ];
  const daemon = await TestDaemon.ready(t, {
    config: {
      gpus,
      vgpus: [
        { type: 'i915-GVTg_V4_8', uuid: uuid(0), set: { weight: 3, display: false } },
        { type: 'mdpy-hd', uuid: uuid(1) },
      ],
    },
  });
  t.match(await daemon.ask({ op: 'list' }), [
    { uuid: uuid(0), online: true, weight: 3 },
    { uuid: uuid(1), online: false },
  ]);
  await daemon.ask({ op: 'set', uuid: uuid(1), settings: { group: 'vm', online: '1' } });
  t.match((await daemon.ask({ op: 'show', uuid: uuid(1) })).socket, /sock$/);
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ gpu: [] }, /config: .*has no property 'gpu'; did you mean gpus\?/],
    [{ gpus: [{ name: 'x', driver: 'i91' }] }, /\/gpus\/0\/driver is "i91", allowed are i915, mdpy, mbochs/],
    [{ gpus: [{ name: 'a/b', driver: 'mdpy' }] }, /\/gpus\/0\/name is "a\/b"/],
    [{ gpus: [{ name: 'x', driver: 'mdpy', apertureMiB: 256 }] }, /apertureMiB is an option of i915, not of mdpy/],
    [
      {
        gpus: [
          { name: 'x', driver: 'mdpy' },
          { name: 'x', driver: 'mdpy' },
        ],
      },
      /^daemon: \/gpus\/1 cannot be created: .*there is a GPU x already/,
    ],
    [{ vgpus: [{ type: 'mdpy-hd', uuid: 'x' }] }, /\/vgpus\/0\/uuid is "x"/],
    [{ vgpus: [{ type: 'mdpy-hdd', uuid: uuid(0) }] }, /\/vgpus\/0 cannot be created: .*did you mean mdpy-hd\?/],
    [
      { gpus: [{ name: 'x', driver: 'i915', apertureMiB: 128 }] },
      /\/gpus\/0 cannot be created: .*no vGPU type fits beside what the host keeps/,
    ],
    [{ metrics: { port: 1, socket: 'x' } }, /\/metrics is /],
  ];
  const folder = t.testdir({});
  for (const [i, [config, message]] of cases.entries()) {
    const file = join(folder, `${i}.json`);
    writeFileSync(file, JSON.stringify({ runtime: join(folder, 'run'), ...config }));
    const started = readDaemonConfig(file, {}).then((checked) => Daemon.start(checked, new Log({ format: 'text', level: 'error' })));
    await t.rejects(started, { message }, message.source);
  }
  t.same(readdirSync(join(folder, 'run')), ['daemon.lock'], 'nothing is left');
});

t.test('two daemons, one folder', async (t) => {
  const daemon = await TestDaemon.ready(t);
  await daemon.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(0) });
  const second = new TestDaemon({ folder: daemon.folder });
  t.equal(await second.ended, 1);
  t.match(second.stderr, /^mpt: BUSY: daemon: another daemon has .*; stop it, or name another --runtime\n$/);
  t.equal((await daemon.ask({ op: 'list' })).length, 1, 'the first goes on');
});

t.test('places that cannot be', async (t) => {
  const folder = t.testdir({ file: 'x' });
  const file = plainMpt(['daemon', '--runtime', join(folder, 'file')]);
  t.same([file.code, file.stdout], [2, '']);
  t.match(file.stderr, /^mpt: IO: daemon: the folder .* cannot be made; errno 17/);
  const denied = mptAsNobody('daemon', '--runtime', '/mpt-of-nobody');
  t.same([denied.code, denied.stdout], [2, '']);
  t.match(denied.stderr, /^mpt: IO: .*errno 13 EACCES/);
  mkdirSync(join(folder, 'locked', 'daemon.lock'), { recursive: true });
  const locked = plainMpt(['daemon', '--runtime', join(folder, 'locked')]);
  t.equal(locked.code, 2);
  t.match(locked.stderr, /^mpt: IO: daemon: \S+ cannot be used; errno 21 EISDIR; is it another user's\? name a --runtime\n$/);
  const long = join(folder, 'x'.repeat(90));
  mkdirSync(long);
  const daemon = new TestDaemon({ folder: long });
  t.not(await daemon.ended, 0);
  t.match(daemon.stderr, /too long for a socket/);
});

t.test('a client that says nothing is in the way for a moment only', async (t) => {
  const daemon = await TestDaemon.ready(t);
  await daemon.ask({ op: 'create', type: SMALL, uuid: uuid(0) });
  const silent = connectPeer(join(daemon.runtime, `${uuid(0)}.sock`));
  await daemon.until(/client connected/);
  await t.rejects(daemon.ask({ op: 'remove', uuid: uuid(0) }), { code: 'BUSY' });
  await daemon.until(/client gone vgpu=\S+ why="VERSION did not come in time"/);
  await daemon.ask({ op: 'remove', uuid: uuid(0) });
  silent.close();
});

t.test('SIGTERM while nobody reads the log', async (t) => {
  const daemon = await TestDaemon.ready(t);
  const { child } = daemon;
  child.stderr?.pause();
  const asks = 50;
  // More than the pipe takes.
  for (let bytes = 0; bytes < 400_000; bytes += asks * 300)
    await Promise.all(Array.from({ length: asks }, () => daemon.ask({ op: 'create', type: 'x'.repeat(80) }).catch(() => {})));
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  t.same(await ended, [0, null]);
  clearTimeout(late);
  child.stderr?.resume();
});

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  t.test(`${signal} with clients: a clean stop`, async (t) => {
    const daemon = await TestDaemon.ready(t);
    for (const [i, type] of ['i915-GVTg_V4_8', SMALL, 'mdpy-vga'].entries()) await daemon.ask({ op: 'create', type, uuid: uuid(i) });
    const clients = [0, 1].map((i) => daemon.client(uuid(i)));
    const since = performance.now();
    t.equal(await daemon.stop(signal), 0);
    t.ok(performance.now() - since < 10_000);
    t.match(daemon.stdout, /stopped\n$/);
    t.same(daemon.left, []);
    for (const client of clients) client.close();
  });

t.test('after kill -9 the next start is clean', async (t) => {
  const config = { vgpus: [{ type: SMALL, uuid: uuid(7) }] };
  const killed = await TestDaemon.ready(t, { config });
  await killed.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(0) });
  const client = killed.client(uuid(0));
  await killed.stop('SIGKILL');
  t.ok(killed.left.includes(`${uuid(0)}.sock`));
  writeFileSync(join(killed.runtime, 'other.sock'), 'not ours');
  const daemon = await TestDaemon.ready(t, { config, folder: killed.folder });
  t.match(await daemon.ask({ op: 'list' }), [{ uuid: uuid(7) }], 'what the configuration says, nothing else');
  t.same(daemon.left, ['0000:00:02.0.display', `${uuid(7)}.sock`, 'control.sock', 'mbochs.display', 'mdpy.display', 'other.sock']);
  t.equal(await daemon.available('mdpy-vga'), 4);
  client.close();
  t.equal(await daemon.stop(), 0);
  t.same(daemon.left, ['other.sock']);
});

t.test('a control connection that misbehaves ends alone', async (t) => {
  const daemon = await TestDaemon.ready(t);
  const { createConnection } = await import('node:net');
  const say = (bytes: Uint8Array): Promise<string> =>
    new Promise((resolve) => {
      const socket = createConnection(join(daemon.runtime, 'control.sock'));
      let answer = '';
      socket.on('data', (piece) => {
        answer += piece.toString('latin1');
      });
      socket.on('close', () => resolve(answer));
      socket.on('error', () => {});
      socket.write(bytes);
    });
  const frame = (text: string): Uint8Array => {
    const bytes = Buffer.from(text);
    return Buffer.concat([new Uint8Array(Uint32Array.of(bytes.length, 0).buffer), bytes]);
  };
  for (const [bytes, expected] of [
    [Buffer.alloc(8, 0xff), /LIMIT.*header of a frame is too long/],
    [frame('no json'), /INVALID_ARGUMENT.*no JSON/],
    [frame('{"op":"constructor"}'), /op is one of types, list, create/],
    [frame('{"op":"create"}'), /type of create is missing/],
    [frame('{"op":"create","type":"x","settings":{"a":1}}'), /settings of create/],
    [frame(JSON.stringify({ op: 'remove', uuid: 'x'.repeat(257) })), /uuid of remove/],
  ] as const)
    t.match(await say(bytes), expected);
  t.equal((await daemon.ask({ op: 'types' })).length, 9);
  t.match(first(await daemon.ask({ op: 'types' })), { name: 'i915-GVTg_V4_8' });
});

t.test("a client that went a moment ago is in nobody's way", async (t) => {
  const daemon = await TestDaemon.ready(t);
  await daemon.ask({ op: 'create', type: SMALL, uuid: uuid(0) });
  for (let i = 0; i < 3; i++) {
    const client = daemon.client(uuid(0));
    client.close();
  }
  // Each has its display socket, which the one before had at the same path.
  for (let i = 0; i < 10; i++) {
    const client = daemon.client(uuid(0));
    await fetchPicture(join(daemon.runtime, `${uuid(0)}.sock.display`));
    client.close();
  }
  await daemon.ask({ op: 'remove', uuid: uuid(0) });
  t.notMatch(daemon.stderr, /refused/);
  t.equal(await daemon.available(SMALL), 64);
});

t.test('while a device ends one client waits for it, and the others are sent away', async (t) => {
  // Short: sockets' paths are.
  const folder = mkdtempSync(join(tmpdir(), 'mpt-access-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const bus = new VgpuBus();
  const log = new Log({ format: 'text', level: 'error' });
  const host = new LocalHost();
  // Whose client has hung up: it ends in a moment.
  let end: () => void = () => {};
  const attachments: ClientAttachment[] = [];
  host.open = (_seat, attachment) => {
    attachments.push(attachment as ClientAttachment);
    const ended = new Promise<string>((resolve) => {
      end = () => resolve('gone');
    });
    return { ended, abandoned: () => true } as Partial<RunningVgpu> as RunningVgpu;
  };
  bus.registerGpu(new SampleGpu({ gpu: 'g', kind: 'mdpy', host, memories: host.memories }));
  const access = new SocketAccess({ bus, log, folder, owner: { mode: 0o600 } });
  bus.registerAccess(access);
  const vgpu = bus.create({ type: 'mdpy-vga', uuid: uuid(0) });
  const until = async (what: () => boolean): Promise<void> => {
    while (!what()) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  const gone = (peer: Peer): boolean => {
    peer.take();
    return peer.gone;
  };
  const path = access.address(vgpu) as string;
  const first = connectPeer(path);
  await until(() => attachments.length === 1);
  const second = connectPeer(path);
  const others = Array.from({ length: 5 }, () => connectPeer(path));
  await until(() => others.every(gone));
  t.notOk(gone(second), 'the first of them waits');
  t.equal(attachments.length, 1);
  end();
  await until(() => attachments.length === 2);
  t.notOk(gone(second), 'and is served');
  end();
  await until(() => vgpu.running === undefined);
  for (const peer of [first, second, ...others]) peer.close();
  await bus.close();
  await access.close();
});

t.test("a GPU's own display shows its foreground vGPU", async (t) => {
  const daemon = await TestDaemon.ready(t);
  const display = join(daemon.runtime, 'mdpy.display');
  for (const i of [0, 1]) await daemon.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(i) });
  const clients = [0, 1].map((i) => daemon.client(uuid(i)));
  for (const [i, client] of clients.entries()) client.write(0, 0, Uint8Array.of(0, 0, 100 + i, 0));
  t.equal(await fetchPicture(display), undefined, 'nobody is in front');
  for (const i of [1, 0]) {
    await daemon.ask({ op: 'set', uuid: uuid(i), settings: { foreground: '1' } });
    const picture = await fetchPicture(display);
    t.match(picture, { width: 640, height: 480 });
    t.equal(picture?.rgba[0], 100 + i, `the red of vGPU ${i}`);
  }
  await daemon.ask({ op: 'set', uuid: uuid(0), settings: { foreground: '0' } });
  t.equal(await fetchPicture(display), undefined);
  for (const client of clients) client.close();
});
