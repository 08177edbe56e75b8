/** The page's server: what it serves to whom, and viewers that come, go, are slow, are too many. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';
import { DisplayFeed } from '../../src/cli/display/feed.js';
import { type DisplayUpdate, decodeUpdate, type Frame, FrameReader, UPDATE_LIMITS } from '../../src/cli/display/protocol.js';
import { applyUpdate } from '../../src/cli/display/rows.js';
import { serveDisplay } from '../../src/cli/display/socket-server.js';
import { DisplayWebServer, STREAM_PATH, VIEWERS_MAX } from '../../src/cli/display/web-server.js';
import type { PrivateServer } from '../../src/cli/private-server.js';
import { MptError } from '../../src/core/errors.js';
import type { Picture } from '../../src/core/vfio/device.js';
import { FakeDisplay, until } from './fake-display.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-web-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;

interface Rig {
  readonly path: string;
  readonly display: FakeDisplay;
  readonly socketServer: PrivateServer;
  readonly web: DisplayWebServer;
}

async function rig(t: Test): Promise<Rig> {
  const path = join(folder, `${++sockets}.display`);
  const display = new FakeDisplay();
  const socketServer = await serveDisplay(path, display);
  const web = await DisplayWebServer.listen(new DisplayFeed(path, { intervalMs: 10, retryMs: 10 }), 0);
  t.teardown(async () => {
    await web.close();
    await socketServer.close();
  });
  return { path, display, socketServer, web };
}

/** A viewer as the page is one. */
class Page {
  readonly socket: WebSocket;
  readonly updates: (DisplayUpdate | { type: 'gone' })[] = [];
  picture: Picture | undefined;
  closed: number | undefined;

  constructor(web: DisplayWebServer, origin = web.url.slice(0, -1)) {
    this.socket = new WebSocket(`ws://127.0.0.1:${web.port}${STREAM_PATH}`, { origin });
    this.socket.on('error', () => {});
    this.socket.on('close', (code) => {
      this.closed = code;
    });
    this.socket.on('message', (data: Buffer, binary) => {
      if (!binary) throw new Error('a text message');
      const [frame] = new FrameReader(UPDATE_LIMITS).push(data);
      const { type } = (frame as Frame).header as { type: string };
      if (type === 'gone') {
        this.picture = undefined;
        this.updates.push({ type });
        return;
      }
      const update = decodeUpdate(frame as Frame);
      this.updates.push(update);
      // Pixels of a message are views of it: rows are drawn into a copy.
      this.picture = applyUpdate(this.picture, update.type === 'picture' ? { ...update, rgba: update.rgba.slice() } : update);
    });
  }

  get types(): string[] {
    return this.updates.map(({ type }) => type);
  }

  shows(picture: Picture | undefined): boolean {
    return (
      picture !== undefined && this.picture?.width === picture.width && Buffer.from(this.picture.rgba).equals(Buffer.from(picture.rgba))
    );
  }
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

const ask = (port: number, options: { path?: string; method?: string; headers?: Record<string, string> } = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text) => {
        body += text;
      });
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
    sent.on('error', reject);
    sent.end();
  });

t.test('the page', async (t) => {
  const { web } = await rig(t);
  t.equal(web.url, `http://127.0.0.1:${web.port}/`);
  const page = await ask(web.port);
  t.equal(page.status, 200);
  t.match(page.headers['content-type'], /^text\/html/);
  t.match(page.headers['content-security-policy'], /default-src 'none'; script-src 'self'/);
  t.match(page.body, /<canvas/);
  for (const [, name = ''] of page.body.matchAll(/(?:src|href)="([^"]+)"/g)) {
    const part = await ask(web.port, { path: name });
    t.equal(part.status, 200, name);
    t.match(part.headers['content-type'], name.endsWith('.css') ? /^text\/css/ : /^text\/javascript/);
    t.ok(part.body.length > 100);
  }
  const head = await ask(web.port, { method: 'HEAD' });
  t.same([head.status, head.body], [200, '']);
  for (const path of ['/x', '/index.html', '/../web-server.js', '/page/page.mjs', '//', '/?x', '/constructor', '/__proto__'])
    t.equal((await ask(web.port, { path })).status, 404, path);
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) t.equal((await ask(web.port, { method })).status, 405, method);
});

t.test('only requests that name this host are served', async (t) => {
  const { web } = await rig(t);
  const { port } = web;
  for (const host of [`127.0.0.1:${port}`, `localhost:${port}`]) t.equal((await ask(port, { headers: { host } })).status, 200, host);
  for (const host of [
    'evil.example',
    `evil.example:${port}`,
    '127.0.0.1',
    `127.0.0.1:${port + 1}`,
    `127.0.0.1.evil.example:${port}`,
    `[::1]:${port}`,
  ])
    t.equal((await ask(port, { headers: { host } })).status, 403, host);
});

/** Status of a WebSocket handshake. */
const shake = (port: number, headers: Record<string, string>, path = STREAM_PATH): Promise<number> =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
    socket.on('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.on('unexpected-response', (_request, response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    socket.on('error', reject);
  });

t.test('only this server’s own page gets the stream', async (t) => {
  const { web } = await rig(t);
  const { port } = web;
  const host = `127.0.0.1:${port}`;
  for (const name of [host, `localhost:${port}`]) t.equal(await shake(port, { host: name, origin: `http://${name}` }), 101, name);
  t.equal(await shake(port, { host, origin: `http://localhost:${port}` }), 101);
  for (const origin of [
    '',
    'null',
    'http://evil.example',
    `https://${host}`,
    `http://${host}.evil.example`,
    `http://127.0.0.1:${port + 1}`,
    'http://localhost',
  ])
    t.equal(await shake(port, { host, origin }), 403, `origin '${origin}'`);
  t.equal(await shake(port, { host }), 403, 'no origin');
  t.equal(await shake(port, { host: 'evil.example', origin: 'http://evil.example' }), 403, 'a name that was rebound');
  t.equal(await shake(port, { host, origin: `http://${host}` }, '/'), 404);
});

t.test('several pages follow: off, on, changed rows, another size', async (t) => {
  const { display, web } = await rig(t);
  const pages = [new Page(web), new Page(web)];
  const [first, second] = pages as [Page, Page];
  const all = (condition: (page: Page) => boolean): Promise<void> => until(() => pages.every(condition));
  await all((page) => page.types.includes('off'));
  display.show(100, 80);
  await all((page) => page.shows(display.now));
  display.paint([3, 4, 70], [10, 20, 30]);
  await all((page) => page.shows(display.now));
  const last = first.updates.at(-1) as DisplayUpdate & { type: 'rows' };
  t.equal(last.type, 'rows');
  t.same(last.ranges, [
    [3, 2],
    [70, 1],
  ]);
  t.equal(last.rgba.length, 3 * 400, 'no other row was sent');
  t.same(first.types, ['off', 'picture', 'rows']);
  const late = new Page(web);
  await until(() => late.shows(display.now));
  t.same(late.types, ['picture'], 'a page that comes later gets it whole');
  pages.push(late);
  display.show(80, 100);
  await all((page) => page.shows(display.now));
  display.off();
  await all((page) => page.types.at(-1) === 'off');
  second.socket.close();
  await until(() => web.viewers === 2);
  display.show(80, 100);
  await until(() => first.shows(display.now) && late.shows(display.now));
  t.equal(second.types.at(-1), 'off');
});

t.test('the device is asked only while somebody looks', async (t) => {
  const { display, web, path } = await rig(t);
  display.show(10, 10);
  t.equal(display.calls, 0);
  const page = new Page(web);
  await until(() => page.shows(display.now));
  page.socket.close();
  await until(() => web.viewers === 0);
  const again = new DisplayFeed(path, { intervalMs: 10 });
  again.start();
  await until(() => again.state === 'on');
  again.stop();
  t.equal(again.picture, undefined);
  const second = new Page(web);
  await until(() => second.shows(display.now));
});

t.test('a server that goes and comes back', async (t) => {
  const { display, web, socketServer, path } = await rig(t);
  display.show(10, 10);
  const page = new Page(web);
  await until(() => page.shows(display.now));
  await socketServer.close();
  await until(() => page.types.at(-1) === 'gone');
  const late = new Page(web);
  await until(() => late.types.at(-1) === 'gone');
  display.show(12, 9);
  const next = await serveDisplay(path, display);
  await until(() => page.shows(display.now) && late.shows(display.now));
  t.same(page.types, ['picture', 'gone', 'picture']);
  await next.close();
});

t.test('a page that is slow skips pictures, and others are not kept waiting', async (t) => {
  const { display, web } = await rig(t);
  const everyRow = Array.from({ length: 1024 }, (_, row) => row);
  // 4 MiB a picture: more than loopback TCP buffers.
  display.show(1024, 1024);
  const slow = new Page(web);
  await until(() => slow.updates.length === 1);
  slow.socket.pause();
  const fast = new Page(web);
  await until(() => fast.shows(display.now));
  const FRAMES = 8;
  for (let i = 0; i < FRAMES; i++) {
    display.paint(everyRow.slice(0, 1020), [i, 100, i]);
    await until(() => fast.shows(display.now));
  }
  display.paint([1023], [1, 2, 3]);
  await until(() => fast.shows(display.now));
  t.ok(fast.updates.length > FRAMES, 'the fast one saw each');
  slow.socket.resume();
  await until(() => slow.shows(display.now));
  t.ok(slow.updates.length < FRAMES, `the slow one saw ${slow.updates.length - 1} of ${FRAMES + 1} changes`);
});

t.test('pages send nothing, and there is room for only so many', async (t) => {
  const { web, display } = await rig(t);
  display.show(4, 4);
  const talker = new Page(web);
  await until(() => talker.updates.length > 0);
  talker.socket.send('hello');
  await until(() => talker.closed !== undefined);
  t.equal(talker.closed, 1008);
  const shouter = new Page(web);
  await until(() => shouter.updates.length > 0);
  shouter.socket.send(new Uint8Array(65));
  await until(() => shouter.closed !== undefined);
  t.equal(shouter.closed, 1009, 'too big');
  await until(() => web.viewers === 0);
  const pages = Array.from({ length: VIEWERS_MAX }, () => new Page(web));
  await until(() => web.viewers === VIEWERS_MAX);
  const host = `127.0.0.1:${web.port}`;
  t.equal(await shake(web.port, { host, origin: `http://${host}` }), 503);
  pages[0]?.socket.close();
  await until(() => web.viewers === VIEWERS_MAX - 1);
  t.equal(await shake(web.port, { host, origin: `http://${host}` }), 101);
});

t.test('bytes that are no HTTP', async (t) => {
  const { web } = await rig(t);
  for (const text of [
    '\0\0\0\0',
    'GET / HTTP/9\r\n\r\n',
    `GET ${STREAM_PATH} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n`,
    '',
  ]) {
    const socket = connect(web.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.end(text);
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
  }
  t.equal((await ask(web.port)).status, 200, 'the server lives');
});

t.test('a port that is in use, and the end', async (t) => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
  const { port } = blocker.address() as AddressInfo;
  const error = await DisplayWebServer.listen(new DisplayFeed('/nonexistent'), port).catch((reason: unknown) => reason);
  t.ok(MptError.is(error, 'IO'));
  t.match((error as Error).message, new RegExp(`port ${port} of 127.0.0.1 is in use; errno 98 EADDRINUSE; name another port`));
  blocker.close();

  const { web, display } = await rig(t);
  display.show(4, 4);
  const page = new Page(web);
  await until(() => page.shows(display.now));
  const deaf = new Page(web);
  await until(() => deaf.shows(display.now));
  deaf.socket.pause();
  const { port: own } = web;
  const started = performance.now();
  await web.close();
  // It would be 30 s, the library's own patience.
  t.ok(performance.now() - started < 10_000, 'a page that does not answer delays the end by half a second');
  await until(() => page.closed !== undefined);
  t.equal(page.closed, 1001);
  await t.rejects(ask(own), { code: 'ECONNREFUSED' });
});
