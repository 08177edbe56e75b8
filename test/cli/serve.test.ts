/** `mpt serve` as a user runs it: what it refuses, what it tells, how it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { connectPeer, connectTransport, hostileClient } from '../vfio/sockets.js';
import { message } from '../vfio/support.js';
import { MPT, mpt, mptAsNobody, mptBeside, type Outcome } from './mpt.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-serve-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let paths = 0;
/** A path in a folder of its own. */
function newPath(): string {
  const own = join(folder, String(paths++));
  mkdirSync(own);
  return join(own, 'device.sock');
}
const beside = (path: string): string[] => readdirSync(join(path, '..')).sort();

class Serving {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  stdout = '';
  stderr = '';
  #look: () => void = () => {};

  constructor(...args: string[]) {
    this.child = spawn(process.execPath, [MPT, 'serve', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.on('data', (chunk) => {
      this.stdout += chunk;
      this.#look();
    });
    this.child.stderr?.on('data', (chunk) => {
      this.stderr += chunk;
      this.#look();
    });
    const deadline = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    this.ended = new Promise((resolve) => {
      this.child.on('close', (code) => {
        clearTimeout(deadline);
        this.#look();
        resolve({ code, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** Resolves when its output has this; rejects when it ended without. */
  until(pattern: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#look = () => {
        if (pattern.test(this.stdout) || pattern.test(this.stderr)) resolve();
        else if (this.child.exitCode !== null || this.child.signalCode !== null)
          reject(new Error(`no ${pattern} in: ${this.stdout} ${this.stderr}`));
      };
      this.#look();
    });
  }

  async stop(signal: NodeJS.Signals): Promise<Outcome & { readonly ms: number }> {
    const since = performance.now();
    this.child.kill(signal);
    return { ...(await this.ended), ms: performance.now() - since };
  }
}

const ready = async (path: string, ...more: string[]): Promise<Serving> => {
  const serving = new Serving('--device', 'mbochs', '--type', 'small', '--socket', path, ...more);
  await serving.until(/Ctrl-C|"ready"/);
  return serving;
};

t.test('--help', async (t) => {
  const { code, stdout, stderr } = mpt('serve', '--help');
  t.same([code, stderr], [0, '']);
  for (const option of ['--device <kind>', '--type <name>', '--socket <path>', '--trust-client', '--json'])
    t.ok(stdout.includes(option), option);
  t.match(stdout, /choices: "gvt", "mbochs",\s+"mdpy"/);
});

t.test('wrong usage', async (t) => {
  const path = newPath();
  const long = join(folder, 'x'.repeat(120));
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const cases: [string, string[], RegExp][] = [
    ['no such device', ['--device', 'vga', '--socket', path], /argument 'vga' is invalid. Allowed choices are gvt, mbochs, mdpy/],
    ['no device', ['--socket', path], /required option '--device <kind>' not specified/],
    ['no socket', ['--device', 'mdpy'], /required option '--socket <path>' not specified/],
    ['no such type', ['--device', 'mbochs', '--type', 'smal', '--socket', path], /^mpt: BAD_TYPE: .*'smal'.*did you mean mbochs-small\?/],
    [
      "another device's type",
      ['--device', 'mdpy', '--type', 'medium', '--socket', path],
      /^mpt: BAD_TYPE: .*types: mdpy-vga, mdpy-xga, mdpy-hd/,
    ],
    ['no such vGPU type', ['--device', 'gvt', '--type', 'GVTg_V4_9', '--socket', path], /^mpt: BAD_TYPE: .*did you mean GVTg_V4_8\?/],
    [
      'too little aperture',
      ['--device', 'gvt', '--aperture', '8', '--socket', path],
      /^mpt: INVALID_ARGUMENT: .*aperture of 8 MiB.*take 16 MiB to 384 MiB/,
    ],
    ['resources of a display device', ['--device', 'mdpy', '--fences', '2', '--socket', path], /^mpt: INVALID_ARGUMENT: .*--fences is for/],
    ['no resolution', ['--device', 'gvt', '--resolution', '1280', '--socket', path], /must be WIDTHxHEIGHT/],
    ['no such connector', ['--device', 'gvt', '--connector', 'vga', '--socket', path], /'vga' is invalid. Allowed choices are hdmi, dp/],
    [
      'a connector of a display device',
      ['--device', 'mdpy', '--connector', 'dp', '--socket', path],
      /^mpt: INVALID_ARGUMENT: .*--connector dp needs a vGPU with a display.*mdpy has no connector/,
    ],
    ['a connector without a display', ['--device', 'gvt', '--no-display', '--connector', 'dp', '--socket', path], /leave --no-display out/],
    ['a path that is too long', ['--device', 'mdpy', '--socket', long], /^mpt: IO: .*bytes.*choose a shorter path/],
    [
      'a path that leaves no room for the display',
      ['--device', 'mdpy', '--socket', long.slice(0, 107)],
      /^mpt: INVALID_ARGUMENT: .*too long/,
    ],
    ['a file', ['--device', 'mdpy', '--socket', file], /^mpt: IO: .*is no socket/],
    ['a folder that is not there', ['--device', 'mdpy', '--socket', join(folder, 'no', 'such')], /^mpt: IO: .*errno 2/],
  ];
  const outcomes = await Promise.all(cases.map(([, args]) => mptBeside(['serve', ...args])));
  for (const [i, [name, , expected]] of cases.entries()) {
    const { code, stdout, stderr } = outcomes[i] as Outcome;
    t.same([code, stdout], [2, ''], name);
    t.match(stderr, expected, name);
    t.equal(stderr.trimEnd().split('\n').length, 1, `${name}: one line`);
  }
  t.same(beside(path), [], 'nothing was made');
  t.notOk(existsSync(long.slice(0, 107)));
  t.ok(existsSync(file), 'what is no socket stays');
  const json = mpt('serve', '--device', 'mbochs', '--type', 'smal', '--socket', path, '--json');
  t.same([json.code, JSON.parse(json.stdout).error.code], [2, 'BAD_TYPE']);
});

t.test('a server that is killed leaves a recording that replays', async (t) => {
  for (const [device, region] of [
    ['mdpy', 7],
    ['gvt', 7],
  ] as const) {
    const path = newPath();
    const file = `${path}.mptrec`;
    const serving = new Serving('--device', device, '--socket', path, '--record', file);
    await serving.until(/Ctrl-C/);
    const made = statSync(file).size;
    const client = new VfioUserClient(connectTransport(path));
    client.version();
    for (let at = 0; at < 64; at += 4) client.read(region, at, 4);
    // What was recorded is written when nothing comes for a second; the client stays and is silent.
    while (statSync(file).size === made) await new Promise((resolve) => setTimeout(resolve, 20));
    await serving.stop('SIGKILL');
    client.close();
    const { code, stdout } = mpt('replay', file, '--json');
    t.equal(code, 0, stdout);
    const { steps, divergence, recordedMs } = JSON.parse(stdout) as { steps: number; divergence: unknown; recordedMs: unknown };
    t.ok(steps >= 16, `${device}: ${steps} steps`);
    t.same([divergence, recordedMs], [null, null], 'the same, and not ended in order');
    rmSync(file);
  }
});

t.test('a vGPU with resources of its own', async (t) => {
  const path = newPath();
  const sizes = ['--aperture', '96', '--hidden', '200', '--fences', '3', '--resolution', '1280x800'];
  const serving = new Serving('--device', 'gvt', ...sizes, '--connector', 'dp', '--socket', path);
  await serving.until(/Ctrl-C/);
  const client = new VfioUserClient(connectTransport(path));
  client.version();
  client.write(7, 0x10, Uint8Array.of(0, 0, 0, 0xe0));
  client.write(7, 4, Uint8Array.of(2, 0));
  const u32 = (offset: number): number => Buffer.from(client.read(0, offset, 4)).readUInt32LE();
  t.strictSame([u32(0x7_8044), u32(0x7_804c), u32(0x7_8050)], [96 << 20, 200 << 20, 3], 'PVINFO');
  client.write(0, 0xe_4114, Uint8Array.of(0, 0, 0, 0x90));
  client.write(0, 0xe_4110, Uint8Array.of(0, 0, 0x40, 0x80));
  t.equal(u32(0xe_4114), 0x0012_0000, 'the DisplayPort monitor answers: revision 1.2');
  client.close();
  t.equal((await serving.stop('SIGINT')).code, 0);
});

t.test('without permission', async (t) => {
  const path = newPath();
  const { code, stdout, stderr } = mptAsNobody('serve', '--device', 'mdpy', '--socket', process.getuid?.() === 0 ? path : '/device.sock');
  t.same([code, stdout], [2, '']);
  t.match(stderr, /^mpt: IO: .*errno 13 EACCES/);
});

t.test('what it tells, and how it ends', async (t) => {
  const path = newPath();
  const serving = await ready(path);
  t.match(serving.stdout, new RegExp(`^serving mbochs-small on ${path}\\n.*\\n  -machine q35,memory-backend=m0\\n`));
  t.match(serving.stdout, `"driver":"vfio-user-pci","socket":{"path":"${path}","type":"unix"}`);
  t.equal(beside(path).length, 2, 'its socket and that of its display');
  const client = new VfioUserClient(connectTransport(path));
  client.version();
  t.same([...client.read(7, 0, 4)], [0x34, 0x12, 0x11, 0x11]);
  const second = mpt('serve', '--device', 'mdpy', '--socket', path);
  t.same([second.code, second.stdout], [2, '']);
  t.match(second.stderr, /^mpt: IO: .*errno 98 EADDRINUSE.*another server listens there/);
  t.same([...client.read(7, 0, 2)], [0x34, 0x12], 'the first goes on');
  const outcome = await serving.stop('SIGTERM');
  t.equal(outcome.code, 0, 'a client is connected when it ends');
  t.equal(outcome.stderr, 'mpt: mbochs-small: a second client was sent away: one is connected\n', 'the other server, which looked');
  t.match(outcome.stdout, /client 1 connected\nclient 1 gone: .*\nstopped\n$/);
  t.same(beside(path), [], 'both sockets are removed');
  t.throws(() => client.read(7, 0, 2), { code: 'VM_GONE' });
  client.close();
});

t.test('--json', async (t) => {
  const path = newPath();
  const serving = await ready(path, '--json');
  const peer = connectPeer(path);
  peer.send(message(1, 4));
  await serving.until(/"disconnected"/);
  peer.close();
  const { code, stdout, stderr } = await serving.stop('SIGINT');
  t.same([code, stderr], [0, '']);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.same(
    lines.map(({ type }) => type),
    ['ready', 'connected', 'complaint', 'disconnected'],
  );
  t.match(lines[0], { name: 'mbochs-small', socket: path, qemu: ['-machine'] });
  t.match(lines[2].text, /^mbochs-small: the first message is not VERSION/);
  t.same(lines[3], { type: 'disconnected', client: 1, why: 'the first message is not VERSION' });
});

t.test('after kill -9 the next server takes the same path', async (t) => {
  const path = newPath();
  const killed = await ready(path);
  t.equal((await killed.stop('SIGKILL')).code, null);
  t.equal(beside(path).length, 2, 'the sockets are left');
  const serving = await ready(path);
  const client = new VfioUserClient(connectTransport(path));
  client.version();
  t.same([...client.read(7, 0, 2)], [0x34, 0x12]);
  client.close();
  t.equal((await serving.stop('SIGTERM')).code, 0);
  t.same(beside(path), []);
});

t.test('a signal between the two sockets', async (t) => {
  const path = newPath();
  const seen = new Promise<void>((resolve) => {
    const watcher = watch(join(path, '..'), () => {
      if (!existsSync(path)) return;
      watcher.close();
      resolve();
    });
  });
  const serving = new Serving('--device', 'mdpy', '--socket', path);
  await seen;
  const { code, ms } = await serving.stop('SIGTERM');
  t.equal(code, 0);
  t.ok(ms < 10_000, `${Math.round(ms)} ms`);
  t.same(beside(path), []);
});

for (const scenario of ['drip', 'mute', 'flood'] as const)
  t.test(`a signal while a client misbehaves: ${scenario}`, async (t) => {
    const path = newPath();
    const serving = await ready(path);
    const client = await hostileClient(path, scenario);
    await serving.until(/client 1 connected/);
    const { code, ms } = await serving.stop('SIGTERM');
    t.equal(code, 0);
    t.ok(ms < 10_000, `${Math.round(ms)} ms`);
    t.same(beside(path), [], 'ended by itself, not by force');
    client.kill('SIGKILL');
  });

t.test('--trust-client', async (t) => {
  const path = newPath();
  const serving = await ready(path, '--trust-client');
  const client = new VfioUserClient(connectTransport(path));
  client.version();
  const reading = sys.open(MPT, 0);
  t.doesNotThrow(() => client.dmaMap(0, 4096, reading, 0, 1), 'a file that can be shortened is mapped');
  sys.close(reading);
  client.close();
  t.equal((await serving.stop('SIGINT')).code, 0);
});
