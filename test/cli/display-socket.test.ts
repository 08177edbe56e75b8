/** The display socket: pictures, watching, its file, and clients that do not behave. */
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type DisplayUpdate, encodeFrame, FrameReader, UPDATE_LIMITS } from '../../src/cli/display/protocol.js';
import { answersOf, connectTo, fetchPicture } from '../../src/cli/display/socket-client.js';
import { serveDisplay } from '../../src/cli/display/socket-server.js';
import type { PrivateServer } from '../../src/cli/private-server.js';
import { type ErrorCode, MptError } from '../../src/core/errors.js';
import { FakeDisplay, until } from './fake-display.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-display-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;
const newPath = (): string => join(folder, `${++sockets}.display`);

interface Rig {
  readonly path: string;
  readonly display: FakeDisplay;
  readonly server: PrivateServer;
}

async function rig(t: Test): Promise<Rig> {
  const path = newPath();
  const display = new FakeDisplay();
  const server = await serveDisplay(path, display);
  t.teardown(() => server.close());
  return { path, display, server };
}

/** The promise is refused with this code. */
async function rejected(t: Test, code: ErrorCode, promise: Promise<unknown>, message = /./): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  t.ok(MptError.is(error, code), `${code}: ${error}`);
  t.match((error as Error | undefined)?.message, message);
}

/** Everything that comes until the other side hangs up. */
async function toTheEnd(socket: Socket): Promise<unknown[]> {
  const reader = new FrameReader(UPDATE_LIMITS);
  const headers: unknown[] = [];
  for await (const piece of socket) for (const { header } of reader.push(piece as Buffer)) headers.push(header);
  return headers;
}

t.test('a picture when it is asked for', async (t) => {
  const { path, display } = await rig(t);
  t.equal(await fetchPicture(path), undefined, 'off');
  const shown = display.show(300, 200);
  const got = await fetchPicture(path);
  t.same([got?.width, got?.height], [300, 200]);
  t.ok(Buffer.from(shown.rgba).equals(Buffer.from(got?.rgba ?? [])));
  const socket = await connectTo(path);
  const answers: DisplayUpdate[] = [];
  for (let i = 0; i < 3; i++) socket.write(encodeFrame({ op: 'picture' }));
  for await (const update of answersOf(socket, { op: 'picture' })) if (answers.push(update) === 4) break;
  t.same(
    answers.map(({ type }) => type),
    ['picture', 'picture', 'picture', 'picture'],
    'several requests on one connection',
  );
  t.equal(display.calls, 6);
});

t.test('watching: the picture once, then changed rows only', async (t) => {
  const { path, display } = await rig(t);
  const updates = answersOf(await connectTo(path), { op: 'watch', intervalMs: 10 });
  const next = async (): Promise<DisplayUpdate> => (await updates.next()).value as DisplayUpdate;
  t.same(await next(), { type: 'off' });
  display.show(64, 48);
  t.match(await next(), { type: 'picture', width: 64, height: 48 });
  display.paint([5, 6, 40], [1, 2, 3]);
  const rows = (await next()) as DisplayUpdate & { type: 'rows' };
  t.match(rows, { type: 'rows', width: 64, height: 48 });
  t.same(rows.ranges, [
    [5, 2],
    [40, 1],
  ]);
  t.equal(rows.rgba.length, 3 * 64 * 4);
  const calls = display.calls;
  await until(() => display.calls > calls + 3);
  display.paint([0], [9, 9, 9]);
  t.same(((await next()) as { ranges?: unknown }).ranges, [[0, 1]], 'nothing was sent while nothing changed');
  display.show(48, 64);
  t.match(await next(), { type: 'picture', width: 48, height: 64 });
  display.off();
  t.same(await next(), { type: 'off' });
  await updates.return(undefined);
});

t.test('a source that writes each picture into the same memory', async (t) => {
  const path = newPath();
  const rgba = new Uint8Array(new SharedArrayBuffer(16 * 16 * 4));
  const server = await serveDisplay(path, { picture: async () => ({ width: 16, height: 16, rgba }) });
  t.teardown(() => server.close());
  const watchers = [40, 10].map(async (intervalMs) => answersOf(await connectTo(path), { op: 'watch', intervalMs }));
  const [first, second] = (await Promise.all(watchers)) as [AsyncGenerator<DisplayUpdate>, AsyncGenerator<DisplayUpdate>];
  for (const updates of [first, second]) t.match((await updates.next()).value, { type: 'picture' });
  rgba.fill(9, 64 * 3, 64 * 4);
  rgba.fill(8, 64 * 15);
  for (const updates of [first, second]) {
    const { value } = (await updates.next()) as { value: DisplayUpdate & { type: 'rows' } };
    t.same(
      value.ranges,
      [
        [3, 1],
        [15, 1],
      ],
      'compared with what was sent, not with what is there',
    );
    t.same([value.rgba[0], value.rgba[64]], [9, 8]);
    await updates.return(undefined);
  }
});

t.test('watching ends with its connection, changes or none', async (t) => {
  const { path, display, server } = await rig(t);
  display.show(8, 8);
  const socket = await connectTo(path);
  const updates = answersOf(socket, { op: 'watch', intervalMs: 10 });
  await updates.next();
  socket.destroy();
  // Nothing is drawn, so the server writes nothing by which it could notice.
  const other = answersOf(await connectTo(path), { op: 'watch', intervalMs: 5000 });
  await other.next();
  await fetchPicture(path);
  const calls = display.calls;
  const started = performance.now();
  let asked = 0;
  for (; performance.now() - started < 100; asked++) await fetchPicture(path);
  t.equal(display.calls - calls, asked, 'for 100 ms nobody else asks');
  await other.return(undefined);
  await server.close();
});

t.test('those who ask at the same time share one picture', async (t) => {
  const { path, display } = await rig(t);
  display.show(8, 8);
  let open: () => void = () => {};
  display.gate = new Promise((resolve) => {
    open = resolve;
  });
  const all = [fetchPicture(path), fetchPicture(path), fetchPicture(path), fetchPicture(path)];
  await until(() => display.calls === 1);
  const marker = await connectTo(path);
  marker.write(encodeFrame({ op: 'nonsense' }));
  await toTheEnd(marker);
  open();
  for (const picture of await Promise.all(all)) t.equal(picture?.width, 8);
  t.equal(display.calls, 1);
});

t.test('a reader that is slow gets fewer pictures, and the last one', async (t) => {
  const { path, display } = await rig(t);
  // 1 MiB a picture: several times what the kernel buffers.
  const [width, height] = [512, 512];
  const everyRow = Array.from({ length: height }, (_, row) => row);
  display.show(width, height);
  const slow = await connectTo(path);
  slow.pause();
  slow.write(encodeFrame({ op: 'watch', intervalMs: 10 }));
  const fast = answersOf(await connectTo(path), { op: 'watch', intervalMs: 10 });
  await fast.next();
  const FRAMES = 12;
  for (let i = 1; i <= FRAMES; i++) {
    display.paint(everyRow, [i, i, i]);
    const { value } = await fast.next();
    t.equal((value as { rgba: Uint8Array }).rgba[0], i);
  }
  await fast.return(undefined);
  const reader = new FrameReader(UPDATE_LIMITS);
  const seen: number[] = [];
  for await (const piece of slow) {
    for (const { payload } of reader.push(piece as Buffer)) seen.push(payload[0] as number);
    if (seen.at(-1) === FRAMES) break;
  }
  t.ok(seen.length <= 3, `${seen.length} of ${FRAMES} pictures: ${seen}`);
});

t.test('a device that fails: the reason is told, then the server hangs up', async (t) => {
  const { path, display } = await rig(t);
  display.failure = new MptError('STOPPED', 'the device thread ended', { op: 'serve' });
  await rejected(t, 'STOPPED', fetchPicture(path), /^serve: the device thread ended$/);
  const updates = answersOf(await connectTo(path), { op: 'watch', intervalMs: 10 });
  await rejected(t, 'STOPPED', updates.next());
  display.failure = new TypeError('no such thing');
  await rejected(t, 'INTERNAL', fetchPicture(path), /no such thing/);
  display.failure = undefined;
  t.equal(await fetchPicture(path), undefined, 'the next client is served');
});

t.test('requests that are none: told why, and nobody else is disturbed', async (t) => {
  const { path, display } = await rig(t);
  display.show(4, 4);
  const huge = Buffer.alloc(8, 0xff);
  const cases: [string, Uint8Array, ErrorCode][] = [
    ['a header past the limit', huge, 'LIMIT'],
    ['a payload', encodeFrame({ op: 'picture' }, Uint8Array.of(1)), 'INVALID_ARGUMENT'],
    ['a state without one', encodeFrame({ op: 'state', does: 'restore' }), 'INVALID_ARGUMENT'],
    ['a state that is saved with one', encodeFrame({ op: 'state', does: 'save' }, Uint8Array.of(1)), 'INVALID_ARGUMENT'],
    ['no such order', encodeFrame({ op: 'state', does: 'sell' }), 'INVALID_ARGUMENT'],
    ['an order that nobody here takes', encodeFrame({ op: 'state', does: 'save' }), 'UNSUPPORTED'],
    ['no JSON', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'LIMIT'],
    ['an unknown op', encodeFrame({ op: 'reset' }), 'INVALID_ARGUMENT'],
    ['an interval out of range', encodeFrame({ op: 'watch', intervalMs: 1 }), 'INVALID_ARGUMENT'],
    ['too many at once', Buffer.concat(Array.from({ length: 200 }, () => encodeFrame({ op: 'picture' }))), 'LIMIT'],
  ];
  for (const [what, bytes, code] of cases) {
    const socket = await connectTo(path);
    socket.write(bytes);
    t.match((await toTheEnd(socket)).at(-1), { type: 'error', error: { code } }, what);
  }
  const mute = await connectTo(path);
  const half = await connectTo(path);
  half.write(encodeFrame({ op: 'picture' }).subarray(0, 9));
  t.equal((await fetchPicture(path))?.width, 4);
  mute.destroy();
  half.destroy();
});

t.test('the socket’s file: only its user’s, removed at the end, a dead one replaced', async (t) => {
  const path = newPath();
  const umask = process.umask(0o022);
  const server = await serveDisplay(path, new FakeDisplay());
  t.equal(process.umask(umask), 0o022, 'the umask is as before');
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.ok(statSync(path).isSocket());
  await rejected(t, 'BUSY', serveDisplay(path, new FakeDisplay()), /another server answers/);
  t.ok(existsSync(path), 'it is left alone');
  const client = await connectTo(path);
  const ended = toTheEnd(client);
  await server.close();
  t.notOk(existsSync(path));
  t.same(await ended, [], 'clients are hung up on');
  await server.close();

  // A server that was killed leaves its socket behind.
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('close', resolve));
  t.ok(existsSync(path));
  await rejected(t, 'IO', fetchPicture(path), /no server answers .*errno 111 ECONNREFUSED; the path is that of mpt serve/);
  const next = await serveDisplay(path, new FakeDisplay());
  t.equal(await fetchPicture(path), undefined);
  await next.close();

  writeFileSync(path, 'mine');
  await rejected(t, 'IO', serveDisplay(path, new FakeDisplay()), /is there and is no socket/);
  t.ok(existsSync(path));
  await rejected(t, 'IO', fetchPicture(path), /no server answers/);
  await rejected(t, 'IO', fetchPicture(join(folder, 'none')), /no server answers .*errno 2 ENOENT/);
  await rejected(t, 'IO', serveDisplay(join(folder, 'none', 'x'), new FakeDisplay()), /cannot be listened at/);
  const long = join(folder, 'x'.repeat(120));
  await rejected(t, 'INVALID_ARGUMENT', serveDisplay(long, new FakeDisplay()), /too long .*limit 107/);
  t.notMatch(readdirSync(folder).join(), /xxx/);
});

t.test('process.exit() removes the socket too', async (t) => {
  const path = newPath();
  const module = new URL('../../src/cli/display/socket-server.js', import.meta.url).href;
  const script = `const { serveDisplay } = await import(${JSON.stringify(module)});
    await serveDisplay(${JSON.stringify(path)}, { picture: async () => undefined });
    console.log(require('fs').existsSync(${JSON.stringify(path)}));
    process.exit(3);`;
  const child = spawn(process.execPath, [
    '--input-type=module',
    '-e',
    `import { createRequire } from 'module'; const require = createRequire('/'); ${script}`,
  ]);
  let stdout = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  t.equal(await new Promise((resolve) => child.once('close', resolve)), 3);
  t.equal(stdout, 'true\n');
  t.notOk(existsSync(path));
});

t.test('a server that hangs up, says nonsense or says nothing', async (t) => {
  const answers: Record<string, (socket: Socket) => void> = {
    silent: () => {},
    gone: (socket) => socket.destroy(),
    nonsense: (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
    untyped: (socket) => socket.write(encodeFrame({ type: 'cursor' })),
    short: (socket) => socket.write(encodeFrame({ type: 'picture', width: 9, height: 9 }, new Uint8Array(4))),
    rows: (socket) => socket.end(encodeFrame({ type: 'rows', width: 1, height: 1, ranges: [] })),
  };
  const path = newPath();
  let answer = answers['silent'] as (socket: Socket) => void;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => server.close());
  for (const [name, code, message] of [
    ['gone', 'IO', /hung up without an answer/],
    ['nonsense', 'LIMIT', /too long/],
    ['untyped', 'INVALID_ARGUMENT', /no display update/],
    ['short', 'INVALID_ARGUMENT', /no display update/],
    ['rows', 'IO', /gave no picture/],
  ] as const) {
    answer = answers[name] as (socket: Socket) => void;
    await rejected(t, code, fetchPicture(path), message);
  }
  answer = answers['silent'] as (socket: Socket) => void;
  await rejected(t, 'TIMEOUT', fetchPicture(path, 30), /did not answer within 30 ms/);
});

t.test('a path that may not be opened', { skip: process.getuid?.() === 0 ? 'root may open everything' : false }, async (t) => {
  const { path } = await rig(t);
  chmodSync(path, 0);
  await rejected(t, 'IO', fetchPicture(path), /cannot be opened; errno 13 EACCES/);
});
