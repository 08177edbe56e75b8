/** Files of recordings: cut off, damaged, hostile, of others; and the commands that make and read them. */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import { replaySuite } from '../../src/jobs/suite-recording.js';
import { EventWriter } from '../../src/recording/event-writer.js';
import { Tag } from '../../src/recording/events.js';
import { EventReader, replay, type SuiteHeader } from '../../src/recording/index.js';
import { mpt, mptInNamespace, noNamespaces } from '../cli/mpt.js';
import { Random } from '../core/random.js';
import { folder, newFile, putTogether, recorded, same, takeApart } from './rig.js';

/** A recording of several blocks. */
function long(steps = 28_000): string {
  const next = new Random(7);
  return recorded((f) => {
    f.map(0x800_0000, 0x10, 64);
    for (let i = 0; i < steps; i++) f.write(0x2_0000 + next.below(0x4000) * 4, next.word());
  });
}

const copyOf = (path: string, bytes = readFileSync(path)): string => {
  const copy = newFile();
  writeFileSync(copy, bytes);
  return copy;
};

t.test('a file that others could read before is for its owner alone from then on', (t) => {
  const path = newFile();
  writeFileSync(path, 'what was there', { mode: 0o644 });
  new EventWriter(
    path,
    JSON.parse(
      takeApart(recorded(() => undefined))
        .head.subarray(12)
        .toString(),
    ),
  ).close();
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.end();
});

t.test('a file that is cut off anywhere is good up to its last whole block', async (t) => {
  const path = long();
  const whole = same(t, path);
  const { size } = statSync(path);
  t.ok(takeApart(path).blocks.length > 3, 'several blocks');
  t.equal(statSync(path).mode & 0o777, 0o600, 'for its owner alone: it holds guest memory');
  const headEnd = takeApart(path).head.length;
  let last = 0;
  for (let cut = headEnd; cut < size; cut += Math.ceil((size - headEnd) / 9)) {
    const short = copyOf(path);
    truncateSync(short, cut);
    const { steps, divergence, recordedMs, truncated } = replay(short);
    t.equal(divergence, null, `cut at ${cut} of ${size}`);
    t.equal(recordedMs, null);
    t.ok(steps >= last && steps < whole.steps);
    t.equal(truncated, cut > headEnd);
    last = steps;
  }
  for (const cut of [0, 5, 11, headEnd - 1]) {
    const short = copyOf(path);
    truncateSync(short, cut);
    t.throws(() => replay(short), { code: 'BAD_RECORDING' });
  }
});

t.test('what is no recording is refused with its reason', async (t) => {
  const file = (text: string | Buffer): string => copyOf('', Buffer.from(text));
  const head = (value: unknown): string => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(Buffer.byteLength(text));
    return file(Buffer.concat([Buffer.from('MPTREC1\n'), size, Buffer.from(text)]));
  };
  const created = '2026-01-01';
  const gvt = { kind: 'gvt', created, backend: { name: 'x', version: '1' }, capabilities: {}, gpu: { aperture: 1, ggtt: 1, fences: 1 } };
  const cases: readonly (readonly [path: string, code: string, message: RegExp])[] = [
    [join(folder, 'absent'), 'IO', /cannot be read/],
    [folder, 'IO', /not a regular file|cannot be read/],
    [file('a text file of some length'), 'BAD_RECORDING', /is no recording of mpt/],
    [file('MPTREC7\n\0\0\0\0'), 'BAD_RECORDING', /version 7, this mpt reads 1/],
    [head('{'), 'BAD_RECORDING', /no JSON/],
    [head('[]'), 'BAD_RECORDING', /no object/],
    [head({ kind: 'gvt' }), 'BAD_RECORDING', /when it was made/],
    [head({ kind: 'later', created }), 'BAD_RECORDING', /"later" are not known/],
    [head({ ...gvt, backend: 1 }), 'BAD_RECORDING', /names no backend/],
    [head({ ...gvt, capabilities: { x: {} } }), 'BAD_RECORDING', /no capabilities/],
    [head({ ...gvt, gpu: {} }), 'BAD_RECORDING', /size of the GPU/],
    [head(gvt), 'INVALID_ARGUMENT', /aperture/],
    [head({ kind: 'device', created, device: 'pipe', type: 'x' }), 'BAD_RECORDING', /names no device/],
    [head({ kind: 'device', created, device: 'mdpy', type: 'x' }), 'BAD_TYPE', /no device type/],
    [file(Buffer.concat([Buffer.from('MPTREC1\n'), Buffer.from([255, 255, 255, 255])])), 'BAD_RECORDING', /too long/],
  ];
  for (const [path, code, message] of cases) t.throws(() => replay(path), { code, message });
});

t.test('damaged blocks: a size, a checksum, an event', async (t) => {
  const path = long();
  const bytes = readFileSync(path);
  const { head } = takeApart(path);
  const damaged = (at: number, value: number): string => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32LE(value >>> 0, at);
    return copyOf(path, copy);
  };
  t.throws(() => replay(damaged(head.length, 0xffff_ffff)), { code: 'BAD_RECORDING', message: /impossible size/ });
  t.throws(() => replay(damaged(head.length, 0)), { code: 'BAD_RECORDING', message: /impossible size/ });
  t.throws(() => replay(damaged(head.length, 100)), { code: 'BAD_RECORDING', message: /damaged/ });
  t.throws(() => replay(damaged(head.length + 100, 0xdead_beef)), { code: 'BAD_RECORDING', message: /damaged/ });
  const block = (...numbers: number[]): string => putTogether({ head, blocks: [Uint8Array.from(numbers)] });
  t.throws(() => replay(block(200)), { message: /unknown tag 200/ });
  t.throws(() => replay(block(16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), { message: /too long/ });
  t.throws(() => replay(block(16, 0xff)), { message: /leaves its block/ });
  t.throws(() => replay(block(16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0)), { message: /out of range/ });
  t.throws(() => replay(block(25, 100, 1)), { message: /bytes of an event .* leave their block/ });
  t.throws(() => replay(block(25, 1, 0x7b)), { message: /no JSON/ });
  t.throws(() => replay(block(25, 2, 0x5b, 0x5d)), { message: /not known/ });
  const control = (what: unknown): string => {
    const text = Buffer.from(JSON.stringify(what));
    return block(25, text.length, ...text);
  };
  for (const wrong of [
    { do: 'edid', vgpu: 1, edid: { length: 2e9 } },
    { do: 'restore', spec: { vmId: 1 }, state: { length: 2e9 } },
    { do: 'restore', spec: { vmId: 1 }, state: 7 },
    { do: 'activate', vgpu: '__proto__' },
  ])
    t.throws(() => replay(control(wrong)), { message: /a control event is damaged/ });
  t.throws(() => replay(block(24, 0x81, 0x80, 4)), { message: /a slice is longer/ });
  t.equal(replay(block(24, 0x80, 0x80, 4)).steps, 1, 'the longest');
  t.throws(() => replay(block(6, 0, 0, 4, 0, 0)), { message: /outside of any step/ });
  t.throws(() => replay(block(26, 0, 0, 4, 1)), { message: /not one of a GVT device/ });
});

t.test('any bytes in place of the events: refused, or another course of things, never more', async (t) => {
  const next = new Random(99);
  const whole = takeApart(long(200));
  const codes = new Set<string>();
  for (let round = 0; round < 200; round++) {
    const blocks = whole.blocks.map((block) => Buffer.from(block));
    for (let n = next.below(4); n >= 0; n--) {
      const block = next.pick(blocks);
      block[next.below(block.length)] = next.below(256);
    }
    try {
      const { divergence } = replay(putTogether({ head: whole.head, blocks }));
      codes.add(divergence === null ? 'same' : 'different');
    } catch (error) {
      if (!MptError.is(error)) throw error;
      codes.add(error.code);
    }
  }
  t.notOk(codes.has('INTERNAL'), [...codes].join(' '));
  t.ok(codes.has('different') && codes.has('BAD_RECORDING'), [...codes].join(' '));
});

t.test('mpt run --record and mpt replay', async (t) => {
  const file = newFile();
  const made = mpt('run', '--backend', 'sim', '--record', file, '--json');
  t.equal(made.code, 0, made.stderr);
  const again = mpt('replay', file, '--json');
  t.equal(again.code, 0, again.stderr);
  t.match(JSON.parse(again.stdout), { kind: 'gvt', backend: { name: 'sim' }, divergence: null, unasked: 0, truncated: false });
  const told = mpt('replay', file);
  t.match(
    told.stdout,
    /^recording of a GVT device on sim .*\nreplayed {2}\d+ steps, \d+ events, in \d+ ms; recorded in \d+ ms\nthe same {2}to the last event\n$/,
  );

  const text = newFile();
  writeFileSync(text, 'something else');
  const refused = mpt('replay', text, '--json');
  t.equal(refused.code, 2);
  t.match(JSON.parse(refused.stdout), { error: { code: 'BAD_RECORDING' } });
  t.match(mpt('run', '--backend', 'sim', '--record', join(folder, 'none/x')), { code: 2, stderr: /none\/x cannot be written/ });
  t.match(mpt('serve', '--device', 'mdpy', '--socket', join(folder, 's'), '--record', folder), { code: 2, stderr: /is a directory/ });
});

t.test('a difference is told by mpt replay, with what was before it, and exit code 1', async (t) => {
  const { head, blocks } = takeApart(
    recorded((f) => {
      f.read(0x4_4200);
      f.read(0x9120);
    }),
  );
  const last = blocks.at(-1) as Buffer;
  // The answer of the last read, three bytes of its `end` before the `close`.
  const at = last.lastIndexOf(Buffer.from([0, 0, 0x80, 0x80, 0x80, 0x10, 0, 0]));
  t.ok(at > 0, 'the answer 0x02000000 is found');
  last[at + 5] = 0x18;
  const path = putTogether({ head, blocks });
  const { code, stdout } = mpt('replay', path);
  t.equal(code, 1);
  t.match(stdout, /\nDIFFERENT at step \d+: read of 4 bytes of .* at BAR0 \+ 0x9120\n/);
  t.match(stdout, /\nexpected {2}the answer 0x3000000, status OK\ngot {7}the answer 0x2000000, status OK\nbefore it\n/);
  t.match(JSON.parse(mpt('replay', path, '--json').stdout), { divergence: { expected: /0x3000000/, history: [] } });
});

t.test('mpt conformance --record and mpt replay', async (t) => {
  for (const backend of ['sim', 'vfio-user']) {
    const file = newFile();
    const made = mpt('conformance', '--backend', backend, '--record', file, '--reporter', 'json', 'mpt/dma');
    t.equal(made.code, 0, made.stderr);
    const { totals } = JSON.parse(made.stdout) as { totals: unknown };
    const again = mpt('replay', file, '--json');
    t.equal(again.code, 0, again.stdout);
    t.match(JSON.parse(again.stdout), { kind: 'conformance', backend: { name: backend }, divergence: null, totals });
  }
  const file = newFile();
  t.equal(mpt('conformance', '--backend', 'sim', '--record', file, 'mpt/valid-gfn').code, 0);
  const { head, blocks } = takeApart(file);
  const changed = blocks.map((block) =>
    Buffer.from(block.toString('latin1').replace(/("is_valid_gfn".{0,40}"result":)true/, '$1null'), 'latin1'),
  );
  const { code, stdout } = mpt('replay', putTogether({ head, blocks: changed }));
  t.equal(code, 1);
  t.match(stdout, /\nDIFFERENT at step \d+: mpt\/valid-gfn\/[\w-]+\n/);
  t.match(stdout, /\nexpected {2}case\("mpt\/valid-gfn\/[\w-]+", "pass"\)\n|\nexpected {2}is_valid_gfn/);
  for (const [crossing, why] of [
    [{ result: null }, /an answer that no backend gives/],
    [{ result: {}, seen: [[0, 0, { length: 2e9 }]] }, /a crossing of the suite is damaged/],
    [{ result: {}, out: [{ length: 2e9 }] }, /a crossing of the suite is damaged/],
    [{ error: {} }, /a crossing of the suite is damaged/],
  ] as const) {
    const text = Buffer.from(JSON.stringify({ what: 'open', args: [{}], ...crossing }));
    const block = Buffer.from([Tag.CROSSING, (text.length & 127) | 128, text.length >> 7, ...text]);
    const reader = new EventReader(putTogether({ head, blocks: [block] }));
    const context = { stopped: () => false, progress: () => undefined };
    t.throws(() => replaySuite(reader, reader.header as SuiteHeader, context), { code: 'BAD_RECORDING', message: why });
    reader.close();
  }
});

t.test('a disk that is full ends the run with the error', { skip: noNamespaces() ?? false }, async (t) => {
  const { code, stderr } = mptInNamespace('mount -t tmpfs -o size=8k none /mnt', 'run', '--backend', 'sim', '--record', '/mnt/x.mptrec');
  t.equal(code, 2, stderr);
  t.match(stderr, /mpt: IO: record: the recording .* cannot be written; errno 28 ENOSPC/);
});
