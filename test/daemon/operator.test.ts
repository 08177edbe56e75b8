/** What an operator has besides: metrics, the log, shell completion, the unit, the man page. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { readDaemonConfig } from '../../src/cli/daemon/config.js';
import { Log, lineWriter } from '../../src/cli/daemon/log.js';
import { MptError } from '../../src/core/errors.js';
import { plainMpt, TestDaemon, uuid } from './support.js';

const PACKAGING = fileURLToPath(new URL('../../../packaging/', import.meta.url));

const get = (
  where: { socketPath: string } | { port: number },
  path = '/metrics',
  method = 'GET',
): Promise<{ status: number; type: string; text: string }> =>
  new Promise((resolve, reject) => {
    request({ ...where, host: '127.0.0.1', path, method }, (response) => {
      let text = '';
      response.on('data', (piece) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text }));
    })
      .on('error', reject)
      .end();
  });

/** `name{labels} value` lines. @throws Error for what is no such line */
function samples(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of text.split('\n').filter((candidate) => candidate !== '' && !candidate.startsWith('#'))) {
    const match = /^([a-z_:][\w:]*(?:\{(?:[a-z_]\w*="(?:[^"\\]|\\.)*",?)*\})?) (\S+)$/i.exec(line);
    if (match === null) throw new Error(`no sample: ${line}`);
    found.set(match[1] as string, Number(match[2]));
  }
  return found;
}

t.test('metrics on a socket', async (t) => {
  const socketPath = join(t.testdir({}), 'metrics.sock');
  const daemon = await TestDaemon.ready(t, { config: { metrics: { socket: socketPath } } });
  t.equal(statSync(socketPath).mode & 0o777, 0o600);
  await daemon.ask({ op: 'create', type: 'mbochs-small', uuid: uuid(0) });
  await daemon.ask({ op: 'create', type: 'mbochs-small', uuid: uuid(1), settings: { online: '0' } });
  await t.rejects(daemon.ask({ op: 'create', type: 'mbochs-small', uuid: uuid(0) }));
  const client = daemon.client(uuid(0));
  client.read(7, 0, 4);
  const { status, type, text } = await get({ socketPath });
  t.same([status, type], [200, 'text/plain; version=0.0.4; charset=utf-8']);
  const found = samples(text);
  const labels = 'gpu="mbochs",type="mbochs-small"';
  for (const [name, value] of [
    [`mpt_vgpus{${labels},state="in_use"}`, 1],
    [`mpt_vgpus{${labels},state="offline"}`, 1],
    [`mpt_vgpus_available{${labels}}`, 62],
    [`mpt_vgpus_created_total{${labels}}`, 2],
    [`mpt_clients_total{${labels}}`, 1],
    ['mpt_device_threads', 1],
    ['mpt_spare_threads', 1],
    ['mpt_refused_total{code="EXISTS"}', 1],
  ] as const)
    t.equal(found.get(name), value, name);
  t.ok((found.get('process_resident_memory_bytes') ?? 0) > 1e7);
  client.close();
  await daemon.until(/client gone/);
  await daemon.ask({ op: 'set', uuid: uuid(0), settings: { online: '0' } });
  const after = samples((await get({ socketPath })).text);
  t.equal(after.get(`mpt_vgpu_events_total{vgpu="${uuid(0)}",type="mbochs-small",event="reads"}`), 1);
  t.equal(after.get(`mpt_vgpus{${labels},state="offline"}`), 2);
  t.equal(after.get(`mpt_vgpus{${labels},state="in_use"}`), undefined);
  t.equal((await get({ socketPath }, '/')).status, 404);
  t.equal((await get({ socketPath }, '/metrics', 'POST')).status, 404);
  t.equal((await get({ socketPath }, '/metrics?x=1')).status, 200);
  for (const path of ['//', 'http://[', '*', '/metricsx']) t.equal((await get({ socketPath }, path)).status, 404, `GET ${path}`);
  const half = createConnection(socketPath, () => half.write('GET /met'));
  await once(half.resume(), 'close');
  t.pass('who asks and does not end is hung up on');
  t.equal(await daemon.stop(), 0);
  t.throws(() => statSync(socketPath), { code: 'ENOENT' });
});

t.test('metrics on a port of loopback', async (t) => {
  const daemon = await TestDaemon.ready(t, { config: { metrics: { port: 0 } }, args: ['--json'] });
  const { metrics } = JSON.parse(daemon.stdout);
  const port = Number(/^http:\/\/127\.0\.0\.1:(\d+)\/metrics$/.exec(metrics)?.[1]);
  t.equal((await get({ port }, '//')).status, 404, 'a path that is no URL ends nothing');
  t.match((await get({ port })).text, /^mpt_device_threads 0$/m);
  const second = new TestDaemon({ config: { metrics: { port } } });
  t.equal(await second.ended, 2);
  t.match(second.stderr, /^mpt: IO: metrics: port \d+ of 127.0.0.1 cannot be listened at; errno 98 EADDRINUSE\n$/m);
});

t.test('a trace of a vGPU', async (t) => {
  const folder = t.testdir({});
  const trace = join(folder, 'a.json');
  const set = { trace, 'trace-limit': 1 };
  const daemon = await TestDaemon.ready(t, { config: { vgpus: [{ type: 'i915-GVTg_V4_8', uuid: uuid(0), set }] } });
  await daemon.ask({ op: 'create', type: 'i915-GVTg_V4_8', uuid: uuid(1), settings: { trace: join(folder, 'none', 'b.json') } });
  t.match(await daemon.ask({ op: 'show', uuid: uuid(0) }), { resources: { trace } });
  for (const bad of ['trace', 'trace=relative.json', 'trace-limit=0']) {
    const { code, stderr } = daemon.run('create', 'i915-GVTg_V4_8', '--set', bad);
    t.equal(code, 2, bad);
    t.match(stderr, /^mpt: INVALID_ARGUMENT: .*(is no setting|absolute path|1 to 65536)/);
  }
  for (const i of [0, 1]) {
    const client = daemon.client(uuid(i));
    t.same([...client.read(7, 0, 2)], [0x86, 0x80], 'the device is there in either case');
    client.close();
  }
  await daemon.until(/complaint vgpu=\S+001 text="the trace has ended: trace: the trace \S+ cannot be written; errno 2 ENOENT"/);
  await daemon.until(/(client gone[\s\S]*){2}/);
  t.type(JSON.parse(readFileSync(trace, 'utf8')).length, 'number', 'a whole array');
});

t.test('the log: one line an event, whatever was written', async (t) => {
  const lines: string[] = [];
  const write = (line: string): void => void lines.push(line);
  const error = new MptError('BUSY', 'in the way', { op: 'test' });
  const text = new Log({ format: 'text', level: 'info', write });
  text.info('created', { vgpu: 'x', vm: undefined, note: 'a "b"\nc' });
  text.refused('write', error, { path: 'a b' });
  text.debug('not this');
  t.same(lines, ['mpt: created vgpu=x note="a \\"b\\"\\nc"\n', 'mpt: warn: write refused path="a b" code=BUSY why="test: in the way"\n']);
  lines.length = 0;
  const json = new Log({ format: 'json', level: 'warn', write });
  json.info('not this');
  json.refused('write', error, { path: '\n' });
  t.equal(lines.length, 1);
  t.match(JSON.parse(lines[0] as string), { time: /^\d{4}-.*Z$/, level: 'warn', message: 'write refused', path: '\n', code: 'BUSY' });
  t.same([...json.refusals], [['BUSY', 1]]);
});

t.test('a log that nobody reads takes bounded memory', async (t) => {
  const stream = new PassThrough();
  const write = lineWriter(stream, (lost) => `lost ${lost}\n`);
  for (let i = 0; i < 3000; i++) write(`${'x'.repeat(1023)}\n`);
  t.equal(stream.writableLength + stream.readableLength <= (1 << 20) + stream.readableHighWaterMark, true);
  let read = '';
  stream.on('data', (piece) => {
    read += piece;
  });
  await new Promise(setImmediate);
  write('next\n');
  await new Promise(setImmediate);
  const lost = Number(/^lost (\d+)\nnext\n$/m.exec(read)?.[1]);
  t.equal(read.split('x\n').length - 1 + lost, 3000, 'and who reads again is told');
});

t.test('shell completion', async (t) => {
  const daemon = await TestDaemon.ready(t);
  await daemon.ask({ op: 'create', type: 'mdpy-vga', uuid: uuid(0) });
  const complete = (...words: string[]): string[] =>
    plainMpt(['complete', '--', ...words], { MPT_RUNTIME: daemon.runtime })
      .stdout.split('\n')
      .filter((line) => line !== '');
  t.ok(['daemon', 'types', 'create', 'serve'].every((name) => complete('').includes(name)));
  t.notOk(complete('').includes('complete'));
  t.ok(complete('create', '').includes('mdpy-vga'));
  t.same(complete('remove', '8'), [uuid(0)]);
  t.same(complete('daemon', '--log', ''), ['text', 'json']);
  t.ok(complete('create', 'mdpy-vga', '--').includes('--uuid'));
  t.same(complete('conformance', ''), ['diff']);
  t.same(complete('show', uuid(0), ''), []);
  t.same(complete('create', 'mdpy-vga', '--gpu', ''), ['0000:00:02.0', 'mdpy', 'mbochs']);
  t.ok(['weight=', 'vm=', 'trace='].every((name) => complete('create', 'mdpy-vga', '--set', '').includes(name)));
  t.same(complete('set', uuid(0), 'weight=2', ''), ['priority=', 'weight=', 'group=', 'online=', 'foreground=']);
  t.same(complete('completion', ''), ['bash', 'zsh', 'fish']);
  const bash = plainMpt(['completion', 'bash']);
  t.equal(bash.code, 0);
  t.equal(spawnSync('bash', ['-n'], { input: bash.stdout }).status, 0, 'bash takes it');
  t.equal(plainMpt(['completion', 'csh']).code, 2);
});

t.test('the unit, its configuration and the man page', async (t) => {
  const config = await readDaemonConfig(join(PACKAGING, 'mpt.json'), {});
  t.match(config, { mount: '/run/mpt/sys', metrics: { socket: '/run/mpt/metrics.sock' } });
  const unit = readFileSync(join(PACKAGING, 'mpt.service'), 'utf8');
  t.match(unit, `umount --lazy --quiet ${config.mount}`);
  for (const namespace of ['PrivateMounts', 'PrivateTmp', 'ProtectSystem', 'ProtectHome', 'ReadWritePaths'])
    t.notMatch(unit, namespace, 'would hide the tree from the host');
  const verify = spawnSync('systemd-analyze', ['verify', join(PACKAGING, 'mpt.service')], { encoding: 'utf8' });
  if (verify.error === undefined) t.notMatch(verify.stderr, /mpt\.service:.*(Unknown|Invalid|Failed to parse)/);
  const page = readFileSync(join(PACKAGING, 'mpt-daemon.8'), 'utf8').replaceAll('\\-', '-');
  for (const [option] of plainMpt(['daemon', '--help']).stdout.matchAll(/--[a-z]+/g))
    if (option !== '--help') t.ok(page.includes(option), `${option} is in the man page`);
  const groff = spawnSync('groff', ['-man', '-ww', '-z', join(PACKAGING, 'mpt-daemon.8')], { encoding: 'utf8' });
  if (groff.error === undefined) t.equal(groff.stderr, '', 'groff has nothing to say');
});
