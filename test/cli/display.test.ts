/** `mpt display` as a user runs it, against the display socket of a server in this process. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import t from 'tap';
import { displaySocketPath } from '../../src/cli/display/protocol.js';
import { serveDisplay } from '../../src/cli/display/socket-server.js';
import { MptError } from '../../src/core/errors.js';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { FakeDisplay } from './fake-display.js';
import { mpt, mptBeside } from './mpt.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-display-cli-'));
const socket = join(folder, 'device.sock');
const display = new FakeDisplay();
const server = await serveDisplay(displaySocketPath(socket), display);
t.teardown(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

t.test('--picture writes what is shown', async (t) => {
  const shown = display.show(123, 45);
  const file = join(folder, 'a.png');
  const { code, stdout, stderr } = await mptBeside(['display', socket, '--picture', file]);
  t.same([code, stderr], [0, '']);
  const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex');
  t.equal(stdout, `picture ${file}, 123x45, sha256 ${sha256}\n`);
  const png = decode(readFileSync(file));
  t.same([png.width, png.height, png.channels], [123, 45, 4]);
  t.ok(Buffer.from(png.data as Uint8Array).equals(Buffer.from(shown.rgba)), 'pixel for pixel');
  const other = join(folder, 'b.png');
  const json = await mptBeside(['display', socket, '--picture', other, '--json']);
  t.same(JSON.parse(json.stdout), { picture: { path: other, width: 123, height: 45, sha256 } });
  t.equal(json.code, 0);
});

t.test('--picture of a display that is off writes nothing', async (t) => {
  display.off();
  const file = join(folder, 'off.png');
  const { code, stdout, stderr } = await mptBeside(['display', socket, '--picture', file]);
  t.same([code, stdout], [1, '']);
  t.match(stderr, /^mpt: NO_PICTURE: display: the display is off; .*\n$/);
  t.notOk(existsSync(file));
  const json = await mptBeside(['display', socket, '--picture', file, '--json']);
  t.match(JSON.parse(json.stdout), { error: { code: 'NO_PICTURE' } });
});

t.test('--listen serves the page until a signal', async (t) => {
  display.show(4, 4);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    let page: Promise<Response> | undefined;
    const { code, stdout, stderr } = await mptBeside(['display', socket, '--listen', '0'], (text, child) => {
      const url = /display on (http:\/\/127\.0\.0\.1:\d+\/)\n/.exec(text)?.[1];
      if (url === undefined || page !== undefined) return;
      page = fetch(url);
      void page.finally(() => child.kill(signal));
    });
    t.same([code, stderr], [0, ''], signal);
    t.match(stdout, /^display on http:\/\/127\.0\.0\.1:\d+\/\nCtrl-C ends it\.\nstopped\n$/);
    const answer = await (page as Promise<Response>);
    t.equal(answer.status, 200);
    t.match(await answer.text(), /<canvas/);
  }
  let killed = false;
  const json = await mptBeside(['display', socket, '--listen', '0', '--json'], (_text, child) => {
    if (!killed) killed = child.kill('SIGINT');
  });
  t.match(JSON.parse(json.stdout), { url: /^http:\/\/127\.0\.0\.1:\d+\/$/ });
  t.equal(json.code, 0);
});

t.test('--edid, --plug and --unplug change the monitor', async (t) => {
  const edid = monitorEdid({ width: 1920, height: 1200 });
  const file = join(folder, 'monitor.edid');
  writeFileSync(file, edid);
  for (const [args, says, change] of [
    [['--unplug'], 'the monitor is unplugged\n', { connected: false }],
    [['--plug'], 'the monitor is connected\n', { connected: true }],
    [['--edid', file], 'another monitor is connected\n', { connected: true, edid: Buffer.from(edid) }],
  ] as const) {
    const { code, stdout, stderr } = await mptBeside(['display', socket, ...args]);
    t.same([code, stdout, stderr], [0, says, '']);
    t.same(display.changes.pop(), change);
  }
  const json = await mptBeside(['display', socket, '--edid', file, '--json']);
  t.same(JSON.parse(json.stdout), { connected: true, edid: true });
  display.changes.length = 0;
  writeFileSync(file, edid.subarray(1));
  const bad = await mptBeside(['display', socket, '--edid', file]);
  t.equal(bad.code, 2);
  t.match(bad.stderr, /INVALID_ARGUMENT: set_edid: this is no EDID: it has 127 bytes/);
  t.equal((await mptBeside(['display', socket, '--edid', join(folder, 'none')])).code, 2);
  t.same(display.changes, [], 'the server is not asked');
  display.failure = new MptError('UNSUPPORTED', 'it has no monitor', { op: 'set_edid' });
  const refused = await mptBeside(['display', socket, '--plug']);
  display.failure = undefined;
  t.match(refused.stderr, /UNSUPPORTED: set_edid: it has no monitor/);
});

t.test('what cannot be done', async (t) => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, '127.0.0.1', resolve));
  const used = String((blocker.address() as AddressInfo).port);
  const nobody = join(folder, 'nobody.sock');
  const file = join(folder, 'x.png');
  for (const [args, code, says] of [
    [[socket], 2, /INVALID_ARGUMENT: display: exactly one of --picture, --listen, --edid, --plug and --unplug is needed/],
    [[socket, '--picture', file, '--listen', '0'], 2, /exactly one of/],
    [
      [nobody, '--picture', file],
      2,
      /IO: display: no server answers at .*nobody\.sock\.display; errno 2 ENOENT; the path is that of mpt serve/,
    ],
    [[nobody, '--listen', '0'], 2, /IO: display: no server answers/],
    [[socket, '--listen', used], 2, new RegExp(`IO: display: port ${used} of 127.0.0.1 is in use; errno 98 EADDRINUSE`)],
    [[socket, '--picture', folder], 2, /IO: picture: .* is a directory/],
    [[socket, '--picture', join(folder, 'none', 'x.png')], 2, /IO: picture: .*cannot be written/],
    [[], 2, /missing required argument 'socket'/],
    ...['65536', '80x'].map((port) => [[socket, '--listen', port], 2, /it must be a port, 0 to 65535/] as const),
  ] as const) {
    const outcome = await mptBeside(['display', ...args]);
    t.equal(outcome.code, code, args.join(' '));
    t.match(outcome.stderr, says);
    t.equal(outcome.stdout, '');
  }
  blocker.close();
  t.notOk(existsSync(file));
  t.same(
    readdirSync(folder).filter((name) => name.endsWith('.part')),
    [],
  );
  t.match(mpt('display', '--help').stdout, /Example:\n {2}mpt display .* --picture .*\n {2}mpt display .* --listen 8080/);
});
