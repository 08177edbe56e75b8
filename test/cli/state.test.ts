/** `mpt state` and `mpt serve --restore` as an operator uses them, with a guest of ours connected to the server. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { orderState } from '../../src/cli/display/socket-client.js';
import { parseDocument } from '../../src/core/gvt/state/document.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { TestDaemon, uuid } from '../daemon/support.js';
import { ClientGuest } from '../state/client-guest.js';
import { withHeader } from '../state/forge.js';
import { QueuedWork } from '../state/queued-work.js';
import { connectTransport } from '../vfio/sockets.js';
import { MPT, mpt, mptBeside, mptInNamespace, noNamespaces, type Outcome } from './mpt.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-state-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;

interface Server {
  readonly path: string;
  readonly output: { text: string };
  /** Resolves when it has told this. */
  until(pattern: RegExp): Promise<void>;
  stop(): Promise<number | null>;
}

const serve = (t: Test, ...args: string[]): Promise<Server> => serveBy(t, [process.execPath, MPT], ...args);

async function serveBy(t: Test, [command, ...first]: readonly [string, ...string[]], ...args: string[]): Promise<Server> {
  const path = join(folder, `${sockets++}.sock`);
  const words = [...first, 'serve', '--socket', path, ...args];
  const child: ChildProcess = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { text: '' };
  const told = new EventEmitter();
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  await new Promise<void>((resolve, reject) => {
    const take = (piece: Buffer): void => {
      output.text += piece;
      told.emit('more');
      if (output.text.includes('Ctrl-C ends it')) resolve();
    };
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    child.on('close', () => reject(new Error(`it ended: ${output.text}`)));
  });
  const stop = (): Promise<number | null> => {
    child.kill('SIGTERM');
    return ended;
  };
  t.teardown(async () => {
    await stop();
  });
  const until = async (pattern: RegExp): Promise<void> => {
    while (!pattern.test(output.text)) await once(told, 'more');
  };
  return { path, output, until, stop };
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));
const connect = (path: string): ClientGuest =>
  new ClientGuest(new VfioUserClient(connectTransport(path)), () => void Atomics.wait(sleeper, 0, 0, 2));

t.test('saved, put away, brought back: the guest stays connected and its work goes on', async (t) => {
  const recording = join(folder, 'vgpu.rec');
  const server = await serve(t, '--device', 'gvt', '--record', recording);
  const guest = connect(server.path);
  const work = new QueuedWork(guest);
  work.queue();
  const file = join(folder, 'vgpu.state');
  const saved = mpt('state', server.path, '--save', file, '--pause');
  t.match(saved, { code: 0, stderr: '', stdout: /^saved .*vgpu\.state: GVTg_V4_8, \d+ bytes, sha256 [0-9a-f]{64}\nthe vGPU is put away/ });
  t.ok(work.unfinished().length >= 3, 'RCS waits at its semaphore');
  const bytes = readFileSync(file);
  t.equal(parseDocument(bytes).header.vgpu.type, 'GVTg_V4_8');
  t.match(mpt('display', server.path, '--picture', join(folder, 'x.png')), { code: 1, stderr: /NO_PICTURE/ }, 'the server still answers');
  t.match(
    mpt('display', server.path, '--unplug'),
    { code: 1, stderr: /^mpt: BUSY: set_edid: GVTg_V4_8 is put away; mpt state SOCKET --resume brings it back\n$/ },
    'nothing of it can be changed',
  );
  const again = mpt('state', server.path, '--save', join(folder, 'again.state'));
  t.equal(again.code, 0);
  t.ok(readFileSync(join(folder, 'again.state')).equals(bytes), 'what is put away stays as it is');
  const restored = mpt('state', server.path, '--restore', file, '--json');
  t.match(restored, { code: 0, stderr: '' });
  t.strictSame(JSON.parse(restored.stdout), { restored: { path: file, type: 'GVTg_V4_8' } });
  t.match(work.finish(), QueuedWork.expected);
  t.notMatch(server.output.text, /gone|complaint|the guest:/, 'the client noticed nothing');
  t.match(mpt('state', server.path, '--resume'), { code: 2, stderr: /^mpt: INVALID_ARGUMENT: .*the vGPU is not paused\n$/ });
  t.match(mpt('state', server.path, '--save', file, '--pause', '--json').stdout, /"paused":true/);
  t.match(mpt('state', server.path, '--resume'), { code: 0, stdout: 'the vGPU goes on\n' });
  t.equal(guest.read(0xe000_0000 + 0x7_8000, 4), 0x7654_4776);
  guest.close();
  t.equal(await server.stop(), 0);
  t.match(mpt('replay', recording), { code: 0, stderr: '' }, 'a recording has it all');
});

t.test('a state that is not accepted leaves the vGPU that is there', async (t) => {
  const server = await serve(t, '--device', 'gvt');
  const guest = connect(server.path);
  const work = new QueuedWork(guest);
  work.queue();
  const file = join(folder, 'good.state');
  t.equal(mpt('state', server.path, '--save', file).code, 0);
  const good = readFileSync(file);
  const bad = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };
  const flipped = Uint8Array.from(good);
  flipped[good.length - 9] = (flipped[good.length - 9] as number) ^ 4;
  const cases = [
    [join(folder, 'none'), /^mpt: IO: state: .*none cannot be read; errno 2 ENOENT\n$/],
    [folder, /^mpt: IO: state: .* cannot be read; errno 21 EISDIR\n$/],
    [bad('short.state', good.subarray(0, 5000)), /^mpt: BAD_STATE: state: .*short\.state: the saved state is truncated\n$/],
    [bad('flipped.state', flipped), /^mpt: BAD_STATE: .*the section 'statistics' of the saved state is damaged\n$/],
    [bad('text.state', Buffer.from('hello')), /^mpt: BAD_STATE: .*text\.state: this is no saved vGPU\n$/],
    [
      bad('large.state', new Uint8Array((1 << 24) + 1)),
      /^mpt: BAD_STATE: .*too large for a saved vGPU \(size 16777217, limit 16777216\)\n$/,
    ],
    ['/dev/zero', /^mpt: BAD_STATE: .*too large/],
    [
      bad(
        'gpu.state',
        withHeader(good, (header) => Object.assign(header['gpu'] as object, { fences: 20 }) && undefined),
      ),
      /^mpt: BAD_STATE: restore_vgpu: .*another GPU: its fences is 20, and this one’s 32/,
    ],
  ] as const;
  const outcomes = await Promise.all(cases.map(([path]) => mptBeside(['state', server.path, '--restore', path])));
  for (const [i, [path, message]] of cases.entries()) {
    const { code, stdout, stderr } = outcomes[i] as Outcome;
    t.same([code, stdout], [2, ''], path);
    t.match(stderr, message);
  }
  t.match(work.finish(), QueuedWork.expected, 'the guest’s work goes on');
  t.notMatch(server.output.text, /gone/);
  guest.close();
});

t.test('a full disk: nothing is lost, not even a vGPU that was to be put away', { skip: noNamespaces() ?? false }, async (t) => {
  const server = await serve(t, '--device', 'gvt');
  const guest = connect(server.path);
  const work = new QueuedWork(guest);
  work.queue();
  const outcome = mptInNamespace('mount -t tmpfs -o size=8k none /mnt', 'state', server.path, '--save', '/mnt/x.state', '--pause');
  t.match(outcome, { code: 2, stdout: '', stderr: /^mpt: IO: state: \/mnt\/x\.state cannot be written; errno 28 ENOSPC\n$/ });
  t.match(work.finish(), QueuedWork.expected, 'it goes on');
  guest.close();
});

t.test(
  'a recording and a trace that fill the disk: a line for each, and the device goes on',
  { skip: noNamespaces() ?? false },
  async (t) => {
    const script = 'mount -t tmpfs -o size=8k none /mnt && exec "$0" "$@"';
    const command = ['unshare', '--mount', 'sh', '-c', script, process.execPath, MPT] as const;
    const server = await serveBy(t, [...command], '--device', 'gvt', '--record', '/mnt/x.mptrec', '--trace', '/mnt/x.json');
    const guest = connect(server.path);
    const work = new QueuedWork(guest);
    work.queue();
    t.match(work.finish(), QueuedWork.expected);
    // Engine resets, and numbers that do not pack: more than a page of either file.
    for (let i = 0; i < 3000; i++) {
      guest.write(0xe000_0000 + 0x941c, 4, 1 << (1 + (i % 4)));
      guest.write(0xe000_0000 + 0x4_4308, 4, Math.imul(i, 2_654_435_761) >>> 0);
    }
    await server.until(/mpt: the recording has ended: record: the recording \/mnt\/x\.mptrec cannot be written; errno 28 ENOSPC\n/);
    await server.until(/mpt: the trace has ended: trace: the trace \/mnt\/x\.json cannot be written; errno 28 ENOSPC\n/);
    t.equal(server.output.text.match(/has ended/g)?.length, 2, 'told once');
    t.notMatch(server.output.text, /gone|the guest:/);
    guest.close();
    t.equal(await server.stop(), 0);
  },
);

t.test('wrong usage', async (t) => {
  const server = await serve(t, '--device', 'mbochs');
  const file = join(folder, 'never.state');
  const orders = [
    [[server.path], 2, /^mpt: INVALID_ARGUMENT: state: exactly one of --save, --restore and --resume is needed; see mpt state --help\n$/],
    [[server.path, '--save', file, '--resume'], 2, /exactly one of/],
    [[server.path, '--resume', '--pause'], 2, /--pause goes with --save/],
    [[server.path, '--save', join(folder, 'no', 'such')], 2, /^mpt: IO: state: .*cannot be written/],
    [[server.path, '--save', file], 1, /^mpt: UNSUPPORTED: save_vgpu: mbochs-medium has no state that could be saved; a vGPU has one\n$/],
    [[join(folder, 'nobody.sock'), '--save', file], 2, /^mpt: IO: .*no server answers at/],
  ] as const;
  const outcomes = await Promise.all(orders.map(([args]) => mptBeside(['state', ...args])));
  for (const [i, [args, code, message]] of orders.entries()) {
    t.equal(outcomes[i]?.code, code, args.join(' '));
    t.match(outcomes[i]?.stderr, message);
  }
  t.notOk(existsSync(file));
  t.same(
    readdirSync(folder).filter((name) => name.endsWith('.part')),
    [],
  );
  const starts = [
    [['--device', 'mbochs', '--restore', file], /--restore is for --device gvt/],
    [['--device', 'gvt', '--type', 'GVTg_V4_4', '--restore', file], /--type is what the saved vGPU says; leave --type out/],
    [['--device', 'gvt', '--fences', '3', '--restore', file], /--fences is what the saved vGPU says/],
    [['--device', 'gvt', '--no-display', '--restore', file], /--no-display is what the saved vGPU says/],
    [['--device', 'gvt', '--restore', file], /^mpt: IO: state: .*never\.state cannot be read/],
  ] as const;
  const started = await Promise.all(starts.map(([args]) => mptBeside(['serve', '--socket', join(folder, 'y.sock'), ...args])));
  for (const [i, [args, message]] of starts.entries()) {
    t.same([started[i]?.code, started[i]?.stdout], [2, ''], args.join(' '));
    t.match(started[i]?.stderr, message);
  }
  const help = mpt('state', '--help').stdout;
  for (const option of ['--save <file>', '--pause', '--resume', '--restore <file>', '--json', 'Example:'])
    t.ok(help.includes(option), option);
});

t.test('a client that goes while the vGPU is put away', async (t) => {
  const server = await serve(t, '--device', 'gvt');
  const guest = connect(server.path);
  new QueuedWork(guest).queue();
  t.equal(mpt('state', server.path, '--save', join(folder, 'left.state'), '--pause').code, 0);
  guest.close();
  await server.until(/client 1 gone: the client disconnected/);
  t.match(mpt('state', server.path, '--resume'), { code: 0, stdout: 'the vGPU goes on\n' });
  const next = connect(server.path);
  const work = new QueuedWork(next);
  work.queue();
  t.match(work.finish(), QueuedWork.expected, 'the next one finds it reset');
  next.close();
});

t.test('a server that does not answer: what may have happened all the same', async (t) => {
  const path = join(folder, 'mute.sock');
  const mute = createServer(() => {}).listen(path);
  await once(mute, 'listening');
  for (const [does, hint] of [
    ['pause', /within 50 ms; the vGPU may be put away by now.*--resume brings it back/],
    ['resume', /try again/],
    ['save', /goes on/],
  ] as const)
    await t.rejects(orderState(path, { does }, 50), { code: 'TIMEOUT', message: hint }, does);
  mute.close();
});

t.test('a server that starts from a saved state', async (t) => {
  const first = await serve(t, '--device', 'gvt', '--type', 'GVTg_V4_4');
  const guest = connect(first.path);
  const work = new QueuedWork(guest);
  work.queue();
  const file = join(folder, 'start.state');
  t.equal(mpt('state', first.path, '--save', file, '--pause').code, 0);
  const second = await serve(t, '--device', 'gvt', '--restore', file);
  t.match(second.output.text, /serving GVTg_V4_4 on/);
  const moved = guest.reconnect(new VfioUserClient(connectTransport(second.path)));
  work.continueOn(moved);
  t.ok(work.unfinished().length >= 3);
  t.match(work.finish(), QueuedWork.expected, 'the same memory with another server');
  t.notMatch(second.output.text, /the guest:/, 'no complaint about memory that came later');
  moved.close();
});

t.test('a vGPU of the daemon', async (t) => {
  const daemon = await TestDaemon.ready(t);
  const id = uuid(21);
  t.equal(daemon.run('create', 'i915-GVTg_V4_8', '--uuid', id).code, 0);
  const path = join(daemon.runtime, `${id}.sock`);
  const guest = connect(path);
  const work = new QueuedWork(guest);
  work.queue();
  const file = join(folder, 'daemon.state');
  t.match(mpt('state', path, '--save', file, '--pause'), { code: 0, stderr: '' });
  t.match(mpt('state', path, '--restore', file), { code: 0, stderr: '' });
  t.match(work.finish(), QueuedWork.expected);
  t.match(mpt('state', path, '--save', file, '--pause'), { code: 0 });
  guest.close();
  await daemon.until(/client gone.*disconnected/);
  t.match(await daemon.ask({ op: 'show', uuid: id }), { inUse: false }, 'put away or not, it is free when its client goes');
});
