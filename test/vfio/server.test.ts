/** A device on a socket: clients that come, go, come back, come second; the socket's path. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { findSampleType, Samples } from '../../src/core/samples/index.js';
import { RegionIndex } from '../../src/core/vfio/device.js';
import { MemfdMemories } from '../../src/native/device-memory.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { type ServerEvents, VfioUserServer } from '../../src/vfio/server.js';
import { refused } from '../core/expect.js';
import { connect, connectClient, connectPeer, hostileClient, pump, settle } from './sockets.js';
import { closeFd, counted, eventfd, mappings, memfd, OURS, openFds, TestDevice, versionMessage } from './support.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-vfio-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const calls = { sys, sockets: libcSockets };
let sockets = 0;
const newPath = (): string => join(folder, `${sockets++}.sock`);
const held = () => ({ fds: openFds(), maps: mappings(OURS) });

function serve(
  t: Test,
  device = new TestDevice(),
  path = newPath(),
  more: { readonly greetingLimitMs?: number } = {},
): { server: VfioUserServer; device: TestDevice; told: string[] } {
  const told: string[] = [];
  const events: ServerEvents & typeof more = {
    ...more,
    onConnect: () => told.push('connected'),
    onDisconnect: (why) => told.push(why),
    onComplaint: (what) => told.push(what),
  };
  const server = new VfioUserServer(calls, path, device, events);
  t.teardown(() => server.close());
  return { server, device, told };
}

t.test('a client that comes back finds a clean device', async (t) => {
  const { server, device, told } = serve(t);
  const before = held();
  const [event, file] = [eventfd(), memfd(0x2000)];
  for (let round = 1; round <= 3; round++) {
    const client = connectClient(server);
    client.version();
    client.dmaMap(0, 0x1000, file);
    client.dmaMap(0x1000, 0x1000);
    client.setIrqs(0x24, 2, 0, 1, { fds: [event] });
    client.write(0, 0x40, Uint8Array.of(round));
    t.same([...client.read(0, 0x40, 2)], [round, 0], `round ${round}`);
    device.irqs.trigger(2, 0);
    t.same([counted(event), server.memory.count, server.clients], [1, 2, round]);
    if (round === 2) client.stream.transport.send(0, 8);
    client.close();
    settle(server);
    t.same([server.session, server.memory.count, device.irqs.trigger(2, 0), device.bar0[0x40]], [undefined, 0, false, 0]);
    t.equal(device.resets, round, 'reset each time');
    t.same(held(), { ...before, fds: before.fds + 2 }, 'all of it is given back');
  }
  t.same(told, ['connected', 'the client disconnected', 'connected', 'the client disconnected', 'connected', 'the client disconnected']);
  closeFd(event);
  closeFd(file);
});

t.test('a second client is sent away, the first goes on', async (t) => {
  const { server, told } = serve(t);
  const first = connectClient(server);
  first.version();
  const second = connectPeer(server.path);
  settle(server);
  second.take();
  t.equal(second.gone, true, 'it is hung up on');
  second.close();
  t.same([...first.read(0, 0, 1)], [0]);
  t.same([server.clients, told.length, told[1]], [1, 2, 'test: a second client was sent away: one is connected']);
  first.close();
  settle(server);
  const third = connectClient(server);
  third.version();
  t.equal(server.clients, 2);
  third.close();
});

t.test('several devices on several sockets', async (t) => {
  const samples = new Samples(new MemfdMemories(sys));
  const test = serve(t);
  const devices = (['mbochs-small', 'mdpy-vga', 'mdpy-xga'] as const).map((type) => samples.create(findSampleType(type)));
  const servers = devices.map((device) => new VfioUserServer(calls, newPath(), device));
  const clients = [test.server, ...servers].map((server) => connectClient(server));
  for (const client of clients) client.version();
  const ids = clients.slice(1).map((client) =>
    Buffer.from(client.read(RegionIndex.CONFIG, 0, 4))
      .readUInt32LE(0)
      .toString(16),
  );
  t.same(ids, ['11111234', 'f1b36', 'f1b36']);
  clients.forEach((client, i) => {
    client.write(0, 0x100, Uint8Array.of(i, i + 1));
  });
  t.same(
    clients.map((client) => [...client.read(0, 0x100, 2)]),
    clients.map((_, i) => [i, i + 1]),
    'each has its own memory',
  );
  clients[1]?.close();
  settle(servers[0] as VfioUserServer);
  t.same([...(clients[2]?.read(0, 0x100, 2) ?? [])], [2, 3], 'one that goes does not touch the others');
  for (const client of clients) client.close();
  for (const server of servers) server.close();
  for (const device of devices) device.close();
});

t.test('the memory that a client maps is the device that the display reads', async (t) => {
  const device = new Samples(new MemfdMemories(sys)).create(findSampleType('mdpy-vga'));
  const server = new VfioUserServer(calls, newPath(), device);
  const client = connectClient(server);
  client.version();
  const info = client.regionInfo(0);
  t.same([info.flags, info.size, info.fileOffset], [7, 0x20_0000, 0]);
  const fd = info.fd as number;
  sys.lseek(fd, 8, 0);
  sys.write(fd, Uint8Array.of(1, 2, 3, 4));
  t.same([...client.read(0, 8, 4)], [1, 2, 3, 4]);
  t.same([...(device.picture()?.rgba.subarray(8, 12) ?? [])], [3, 2, 1, 255]);
  t.equal(sys.ftruncate(fd, 4096), -1, 'it cannot be shortened');
  closeFd(fd);
  client.close();
  server.close();
  device.close();
});

t.test('the path', async (t) => {
  const { server } = serve(t);
  const { path } = server;
  t.equal(statSync(path).mode & 0o777, 0o600, 'its owner only');
  const before = openFds();
  const error = refused(t, 'IO', () => new VfioUserServer(calls, path, new TestDevice()), 'a server that lives');
  t.same([error.errno, error.hint], [98, 'another server listens there: stop it or choose another path']);
  t.ok(connectPeer(path).send(versionMessage(1)), 'it was not harmed');
  const client = connectClient(server);
  refused(t, 'IO', () => new VfioUserServer(calls, path, new TestDevice()), 'also while it has a client');
  client.close();
  const long = join(folder, 'x'.repeat(108 - folder.length - 1));
  t.equal(long.length, 108);
  t.match(refused(t, 'IO', () => new VfioUserServer(calls, long, new TestDevice())).message, /the socket path has 108 bytes/);
  new VfioUserServer(calls, long.slice(0, 107), new TestDevice()).close();
  const file = join(folder, 'file');
  writeFileSync(file, 'text');
  refused(t, 'IO', () => new VfioUserServer(calls, file, new TestDevice()), 'a file that is no socket');
  t.ok(existsSync(file), 'which stays');
  const dangling = join(folder, 'dangling');
  symlinkSync(join(folder, 'nowhere'), dangling);
  t.equal(refused(t, 'IO', () => new VfioUserServer(calls, dangling, new TestDevice()), 'a link to nothing').errno, 98);
  t.ok(lstatSync(dangling).isSymbolicLink());
  refused(t, 'IO', () => new VfioUserServer(calls, join(folder, 'no', 'such'), new TestDevice()), 'a folder that is not there');
  refused(t, 'IO', () => new VfioUserServer(calls, join(file, 'x'), new TestDevice()), 'below a file');
  mkdirSync(join(folder, 'dir'));
  refused(t, 'IO', () => new VfioUserServer(calls, join(folder, 'dir'), new TestDevice()), 'a folder');
  t.ok(openFds() - before <= 2, 'what failed holds nothing');
  server.close();
  t.notOk(existsSync(path), 'removed at the end');
  server.close();
});

t.test("a dead server's socket is replaced, and another's is not removed", async (t) => {
  const path = newPath();
  const bind = `import { createServer } from 'node:net'; createServer().listen(${JSON.stringify(path)}, () => console.log('bound'));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', bind], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  refused(t, 'IO', () => new VfioUserServer(calls, path, new TestDevice()), 'while it lives');
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  t.ok(existsSync(path));
  const { server } = serve(t, new TestDevice(), path);
  const client = connectClient(server);
  client.version();
  client.close();
  // Somebody removes the path and another server takes it.
  rmSync(path);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(path, resolve));
  server.close();
  t.ok(existsSync(path), "it stays: it is the other's");
  await new Promise((resolve) => other.close(resolve));
});

t.test('a client that is gone before it is accepted', async (t) => {
  const { server, told } = serve(t);
  closeFd(connect(server.path));
  settle(server);
  t.same(told, ['connected', 'the client disconnected']);
  const client = connectClient(server);
  client.version();
  client.close();
});

t.test('a process without a descriptor or memory left sends clients away and lives', async (t) => {
  const path = newPath();
  const told: string[] = [];
  let [acceptErrno, mmapErrno] = [24, 0];
  const scarce = {
    sys: { ...sys, mmap: (...args: Parameters<typeof sys.mmap>) => (mmapErrno > 0 ? -mmapErrno : sys.mmap(...args)) },
    sockets: {
      ...libcSockets,
      accept: (fd: number, flags: number) => (acceptErrno > 0 ? -acceptErrno : libcSockets.accept(fd, flags)),
    },
  };
  const server = new VfioUserServer(scarce, path, new TestDevice(), { onComplaint: (what) => told.push(what) });
  const first = connectPeer(path);
  const since = performance.now();
  pump(server);
  t.match(told.splice(0), [/^test: a client cannot be accepted, errno 24/]);
  t.ok(performance.now() - since > 50, 'it does not ask again at once');
  acceptErrno = 0;
  mmapErrno = 12;
  pump(server);
  t.match(told.splice(0), [/^test: a client was sent away: .*message buffer/]);
  mmapErrno = 0;
  first.close();
  const client = connectClient(server);
  client.version();
  client.close();
  server.close();
});

/** Pumps for `ms` and waits as long as a server does. @returns the longest that one turn took */
function pumpFor(server: VfioUserServer, ms: number): number {
  let longest = 0;
  for (const since = performance.now(); performance.now() - since < ms; ) {
    const at = performance.now();
    pump(server, server.device, 100);
    longest = Math.max(longest, performance.now() - at);
  }
  return longest;
}
const ended = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
};

t.test('a client that sends a byte now and then does not keep the server', async (t) => {
  const { server, told } = serve(t);
  const child = await hostileClient(server.path, 'drip');
  const longest = pumpFor(server, 1500);
  t.ok(longest < 1000, `a turn took ${Math.round(longest)} ms at most`);
  const second = connectPeer(server.path);
  pumpFor(server, 60);
  second.take();
  t.ok(second.gone, 'others are told that it is taken');
  child.kill('SIGKILL');
  await ended(child);
  pumpFor(server, 50);
  t.equal(told.at(-1), 'the client disconnected');
  second.close();
});

t.test('a client that does not get to VERSION is hung up on', async (t) => {
  const { server, told } = serve(t, new TestDevice(), newPath(), { greetingLimitMs: 0 });
  for (const sent of [[], [...versionMessage(1)].slice(0, -1)]) {
    const silent = connectPeer(server.path);
    silent.send(Uint8Array.from(sent));
    settle(server);
    silent.take();
    t.ok(silent.gone, `after ${sent.length} bytes`);
    silent.close();
  }
  t.same(told, ['connected', 'VERSION did not come in time', 'connected', 'VERSION did not come in time']);
  const client = connectPeer(server.path);
  client.send(versionMessage(1));
  settle(server);
  t.ok(server.session?.ready, 'one whose VERSION is there is never too late');
  settle(server);
  t.ok(server.session?.ready);
  client.close();
});

t.test('a client that never reads is given up', async (t) => {
  const { server, told } = serve(t);
  const child = await hostileClient(server.path, 'mute');
  const longest = pumpFor(server, 3500);
  t.ok(longest < 3000, `a turn took ${Math.round(longest)} ms at most`);
  t.equal(told.includes('a message could not be sent'), true);
  child.kill('SIGKILL');
  await ended(child);
});

t.test('a client that asks without end leaves the server its turns', async (t) => {
  const { server } = serve(t);
  const child = await hostileClient(server.path, 'flood');
  const longest = pumpFor(server, 500);
  t.ok(longest < 400, `a turn took ${Math.round(longest)} ms at most`);
  child.kill('SIGKILL');
  await ended(child);
});
