/** The trace is what the guest did: contexts, execution in them, interrupts, resets; and its file is whole whatever ends it. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { MptError } from '../../src/core/errors.js';
import { TraceLog } from '../../src/core/gvt/trace/trace-log.js';
import { VgpuTrace } from '../../src/core/gvt/trace/vgpu-trace.js';
import { openTrace } from '../../src/recording/index.js';
import { MPT, mpt, mptInterrupted, noNamespaces } from '../cli/mpt.js';
import { BATCH, BCS, batchStart, NOOP, RCS, rig, USER_INTERRUPT } from './engine-rig.js';
import { fixture } from './memory-backend.js';

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly ts: number;
  readonly dur?: number;
  readonly pid: number;
  readonly tid: number;
  readonly args?: Readonly<Record<string, unknown>>;
}

const folder = mkdtempSync(join(tmpdir(), 'mpt-trace-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** A log in memory, whose clock goes on by a microsecond each time that it is read. */
function memoryLog(): { log: TraceLog; events: () => TraceEvent[] } {
  let ns = 0;
  let text = '';
  const log = new TraceLog({
    now: () => {
      ns += 1000;
      return ns;
    },
    write: (piece) => {
      text += piece;
    },
  });
  return {
    log,
    events: () => {
      log.flush();
      return JSON.parse(`[${text}]`) as TraceEvent[];
    },
  };
}

/** Spans of one row, as a viewer nests them. @throws Error when one ends that did not begin, or reaches out of the one around it */
function spansOf(
  events: readonly TraceEvent[],
  tid: number,
): { name: string; from: number; to: number; how?: unknown; inner: TraceEvent[] }[] {
  const spans: ReturnType<typeof spansOf> = [];
  let open: (typeof spans)[0] | undefined;
  for (const event of events.filter((candidate) => candidate.tid === tid)) {
    if (event.ph === 'B') {
      if (open !== undefined) throw new Error(`${event.name} begins inside ${open.name}`);
      open = { name: event.name, from: event.ts, to: Number.POSITIVE_INFINITY, inner: [] };
      spans.push(open);
    } else if (event.ph === 'E') {
      if (open?.name !== event.name) throw new Error(`${event.name} ends, ${open?.name} is open`);
      open.to = event.ts;
      open.how = event.args?.how;
      open = undefined;
    } else if (event.ph === 'X') {
      if (open === undefined || event.ts < open.from) throw new Error(`${event.name} is in no span`);
      open.inner.push(event);
    }
  }
  for (const { from, to, inner } of spans)
    for (const { ts, dur = 0 } of inner) if (ts < from || ts + dur > to) throw new Error('execution reaches out of its context');
  return spans;
}

const ROW = { RCS: 1, BCS: 2, INTERRUPTS: 5, VGPU: 0 } as const;

t.test('contexts, and execution in them, on the row of their engine', async (t) => {
  const { log, events } = memoryLog();
  const r = rig(undefined, new VgpuTrace(log, 3, 'GVTg_V4_8'));
  const contexts = [1, 2].map((id) => {
    const context = r.context(id, 16);
    for (let i = 0; i < 3000; i++) r.emit(id, NOOP);
    r.emit(id, USER_INTERRUPT);
    return context;
  }) as [[number, number], [number, number]];
  r.submit(BCS, contexts[0], contexts[1]);
  while (r.submission.hasWork) r.submission.runSlice(500);
  const other = r.context(5);
  r.emit(5, NOOP);
  r.submit(RCS, other);
  const seen = events();
  t.ok(seen.every(({ pid }) => pid === 3));
  const spans = spansOf(seen, ROW.BCS);
  t.strictSame(
    spans.map(({ name, how }) => [name, how]),
    [
      ['context 1', 'done'],
      ['context 2', 'done'],
    ],
  );
  t.ok(spans.every(({ inner }) => inner.length >= 1) && (spans[1]?.inner.length ?? 0) > 2, 'the second needed several slices');
  const commands = [...spans, ...spansOf(seen, ROW.RCS)].flatMap(({ inner }) => inner.map(({ args }) => args?.commands as number));
  t.equal(
    commands.reduce((sum, n) => sum + n),
    r.parts.statistics.commands,
  );
  t.equal(spansOf(seen, ROW.RCS).length, 1);
  const submitted = seen.filter(({ name }) => name === 'submit').flatMap(({ args }) => args?.contexts as number[]);
  t.strictSame(submitted, [1, 2, 5]);
  t.equal(submitted.length, r.parts.statistics.workloads);
  t.strictSame(
    seen.filter(({ name, tid }) => name === 'context switch' && tid === ROW.BCS).map(({ args }) => args?.context),
    [0, 1, 2],
    'idle to active, element switch, active to idle',
  );
});

t.test('a hang stays open until the engine is reset', async (t) => {
  const { log, events } = memoryLog();
  const r = rig(undefined, new VgpuTrace(log, 1, 'x'));
  const context = r.context(1);
  r.emit(1, ...batchStart(BATCH));
  r.submit(BCS, context);
  t.match(
    events().find(({ name }) => name === 'hang'),
    { tid: ROW.BCS, args: { why: /the command is not mapped/ } },
  );
  t.strictSame(
    spansOf(events(), ROW.BCS).map(({ to }) => to),
    [Number.POSITIVE_INFINITY],
  );
  r.submission.reset(1 << BCS);
  t.match(spansOf(events(), ROW.BCS), [{ name: 'context 1', how: 'reset' }]);
});

t.test('a whole vGPU: interrupts, resets, failsafe; without a trace nothing is looked at', async (t) => {
  const { log, events } = memoryLog();
  const { gvt, vgpu, write, configWrite, read } = fixture({ trace: log });
  configWrite(0x94, 4, 0xfee0_0000);
  configWrite(0x98, 2, 0x41);
  configWrite(0x92, 2, 1);
  read(0x7_8000);
  write(0x4_4304, 0);
  write(0x4_430c, 0xffff_ffff);
  write(0x4_4200, 0x8000_0000);
  vgpu.interrupts.raise('bcs.user');
  write(0x4_4304, 0xffff_ffff);
  vgpu.interrupts.raise('bcs.error');
  write(0x941c, 1 << 3);
  write(0x941c, 1);
  gvt.reset(vgpu);
  vgpu.enterFailsafe('guest-error');
  gvt.deactivate(vgpu);
  const seen = events();
  t.strictSame(
    seen.filter(({ tid, ph }) => tid === ROW.INTERRUPTS && ph === 'i').map(({ name }) => name),
    ['bcs.user', ...Array.from({ length: vgpu.statistics.interrupts }, () => 'MSI')],
    'a masked one did not happen',
  );
  t.ok(vgpu.statistics.interrupts > 0);
  t.strictSame(
    seen.filter(({ tid, ph }) => tid === ROW.VGPU && ph === 'i').map(({ name, args }) => [name, args]),
    [
      ['activate', undefined],
      ['engine reset', { engines: 2 }],
      ['GT reset', undefined],
      ['device reset', undefined],
      ['failsafe', { reason: 'guest-error' }],
      ['deactivate', undefined],
    ],
  );
  t.match(
    seen.filter(({ ph }) => ph === 'M').map(({ args }) => args?.name),
    ['vGPU 1 GVTg_V4_8', 'vGPU', 'rcs', 'bcs', 'vcs', 'vecs', 'interrupts'],
  );
});

t.test('what is kept before it is written is bounded', async (t) => {
  let longest = 0;
  let pieces = 0;
  const log = new TraceLog({
    now: () => 0,
    write: (text) => {
      pieces++;
      longest = Math.max(longest, text.length);
    },
  });
  const trace = new VgpuTrace(log, 1, 'x');
  for (let i = 0; i < 5000; i++) trace.msi(i, i);
  t.ok(pieces > 5 && longest < 34_000, `${pieces} pieces, ${longest} characters`);
});

t.test('the last events of a guest that rests are written, too', async (t) => {
  const time = { ns: 0 };
  const written: string[] = [];
  const log = new TraceLog({ now: () => time.ns, write: (text) => written.push(text) });
  log.event('i', 'last', 1, 0, time.ns);
  time.ns = 0.9e9;
  log.idle();
  t.equal(written.length, 0);
  time.ns = 1e9;
  log.idle();
  log.idle();
  t.equal(written.length, 1, 'after a second, once');
});

const parsed = (path: string): TraceEvent[] => JSON.parse(readFileSync(path, 'utf8')) as TraceEvent[];

t.test('the file is whole after each write', async (t) => {
  const path = join(folder, 'x.json');
  const trace = openTrace({ path, onFailure: ({ message }) => t.fail(message) });
  t.strictSame(parsed(path), []);
  trace.log.event('i', 'a "name"', 1, 2, trace.log.now());
  trace.log.flush();
  t.match(parsed(path), [{ name: 'a "name"', pid: 1, tid: 2 }]);
  trace.log.event('i', 'ü', 1, 2, trace.log.now());
  trace.log.flush();
  trace.log.event('i', 'c', 1, 2, trace.log.now());
  trace.close();
  trace.close();
  t.strictSame(
    parsed(path).map(({ name }) => name),
    ['a "name"', 'ü', 'c'],
  );
  for (const [path, errno] of [
    ['/nonexistent/x.json', 2],
    ['/dev/full', 28],
  ] as const)
    t.throws(() => openTrace({ path, onFailure: () => undefined }), { code: 'IO', errno, message: /the trace .* cannot be written/ });
});

t.test('a trace that reaches its limit is whole, and ends', async (t) => {
  const path = join(folder, 'limit.json');
  const limit = 40_000;
  const told: MptError[] = [];
  const trace = openTrace({ path, limit, onFailure: (error) => told.push(error) });
  for (let i = 0; i < 100; i++) {
    for (let n = 0; n < 10; n++) trace.log.event('i', `event ${i}`, 1, 2, trace.log.now());
    trace.log.flush();
  }
  trace.close();
  t.match(told, [{ code: 'LIMIT', limit, message: /limit\.json is as large as it may be .*; set --trace-limit$/ }]);
  t.equal(told.length, 1, 'told once');
  const { size } = statSync(path);
  t.ok(size <= limit && size > limit - 2000, `${size} bytes`);
  t.equal(parsed(path).length % 10, 0, 'no piece is cut');
});

t.test('mpt run --trace: as many workloads as it tells', async (t) => {
  const path = join(folder, 'run.json');
  const { code, stdout, stderr } = mpt('run', '--backend', 'sim', '--json', '--trace', path);
  t.equal(code, 0, stderr);
  const { workloads, commands } = JSON.parse(stdout);
  const seen = parsed(path);
  const spans = spansOf(seen, ROW.BCS);
  t.equal(spans.length, workloads);
  t.ok(spans.every(({ how }) => how === 'done'));
  t.equal(
    spans.flatMap(({ inner }) => inner).reduce((sum, { args }) => sum + (args?.commands as number), 0),
    commands,
  );
  t.match(mpt('run', '--trace', join(folder, 'no', 'such')).stderr, /^mpt: IO: trace: .*no.such cannot be written; errno 2 ENOENT\n$/);
  t.match(
    mpt('run', '--trace-limit', '5').stderr,
    /^mpt: INVALID_ARGUMENT: trace: --trace-limit is for --trace; give --trace FILE, or leave it out\n$/,
  );
  t.match(mpt('run', '--trace', path, '--trace-limit', '0').stderr, /must be a whole number of MiB from 1/);
  t.match(mpt('serve', '--device', 'mdpy', '--socket', join(folder, 's'), '--trace', path).stderr, /--trace is for --device gvt/);
});

t.test('after Ctrl-C it is whole, too', async (t) => {
  const path = join(folder, 'stopped.json');
  const { code } = await mptInterrupted('SIGINT', 'serve', '--device', 'gvt', '--socket', join(folder, 's.sock'), '--trace', path);
  t.equal(code, 0);
  t.match(parsed(path), [{ name: 'process_name', args: { name: 'vGPU 1 GVTg_V4_8' } }]);
});

t.test('a full disk is told, and does not end the run', { skip: noNamespaces() ?? false }, async (t) => {
  const check = 'JSON.parse(require("fs").readFileSync("/mnt/t.json"))';
  const script = `mount -t tmpfs -o size=4k none /mnt && "$0" "$@"; code=$?; "$0" -e '${check}' || exit 99; exit $code`;
  const words = ['--mount', 'sh', '-c', script, process.execPath, MPT, 'run', '--backend', 'sim', '--json', '--trace', '/mnt/t.json'];
  const { status, stdout, stderr } = spawnSync('unshare', words, { encoding: 'utf8', timeout: 60_000 });
  t.equal(status, 0, stderr);
  t.equal(JSON.parse(stdout).workloads, 5);
  t.equal(stderr, 'mpt: the trace has ended: trace: the trace /mnt/t.json cannot be written; errno 28 ENOSPC\n');
});

t.test('accesses are counted by block', async (t) => {
  const { vgpu, read, write, configRead, map } = fixture();
  const { statistics } = vgpu;
  const before = { ...statistics };
  read(0x7_8000);
  read(0x2_2234);
  write(0x10_0000, 1);
  read(0x13_8124);
  read(0x4_4200);
  read(0x7_0180);
  read(0xc_4000);
  map(0x800_0000, 1, 3);
  configRead(0, 4);
  const counted = Object.fromEntries(
    (['gt', 'display', 'pch', 'pvinfo', 'ggtt', 'config'] as const).map((block) => [
      block,
      statistics[`${block}Accesses`] - before[`${block}Accesses`],
    ]),
  );
  t.strictSame(counted, { gt: 3, display: 2, pch: 1, pvinfo: 1, ggtt: 3, config: 1 });
  t.equal(statistics.mmioReads + statistics.mmioWrites - before.mmioReads - before.mmioWrites, 10);
});
