/** The command streamer and its commands: walking, batches, forms and limits of each command, hostile streams. */
import t, { type Test } from 'tap';
import { Outcome } from '../../src/core/gvt/engine/outcome.js';
import { CommandStreamer } from '../../src/core/gvt/engine/streamer.js';
import type { EngineId } from '../../src/core/gvt/roles.js';
import { INLINE_BUDGET } from '../../src/core/gvt/submission/submission.js';
import {
  BATCH,
  BATCH_END,
  BCS,
  batchStart,
  DATA,
  ENGINE_BASES,
  NOOP,
  PAGE,
  RCS,
  REFUSED,
  type Rig,
  rig,
  STATUS_PAGES,
  storeDword,
  TIMESTAMP_HIGH,
  TIMESTAMP_LOW,
  USER_INTERRUPT,
  VCS,
  VECS,
} from './engine-rig.js';
import { fixture, gfn, random } from './memory-backend.js';

const ALL_ENGINES = [RCS, BCS, VCS, VECS] as const;
const USE_GGTT = 1 << 22;
/** GPU addresses far above 4 GiB: 48 bits. */
const FAR = 0x9abc_def0_1000;

/** Runs commands in context 1's ring of an engine. @returns the rig, with one data page mapped */
function run(engine: EngineId, ...commands: number[]): Rig {
  const r = rig();
  r.memory.map(DATA);
  return submit(r, engine, ...commands);
}

function submit(r: Rig, engine: EngineId, ...commands: number[]): Rig {
  const context = r.context(1, 4);
  r.emit(1, ...commands);
  r.submit(engine, context);
  return r;
}

/** Asserts that the engine stopped, which is one guest error, and that nothing came after it. */
function failed(t: Test, r: Rig, why: RegExp, what: string): void {
  t.equal(r.hung().length, 1, what);
  t.equal(r.log.length, 1, `${what}: one line`);
  t.match(r.log[0], why, what);
  t.notMatch(r.log[0], '\n', what);
  t.notOk(r.submission.hasWork, what);
}

function passed(t: Test, r: Rig, what: string): void {
  t.strictSame([r.hung(), r.log, r.submission.hasWork], [[], [], false], what);
}

t.test('a ring that wraps: between commands, inside a command, inside a page', async (t) => {
  for (const pages of [1, 2, 512]) {
    const size = pages * PAGE;
    for (const lead of [0, 1, 2, 3, 4]) {
      const r = rig();
      r.memory.map(DATA);
      const context = r.context(1, pages);
      const ring = r.ring(1);
      // The command's first `lead` dwords stand before the end.
      const head = size - lead * 4;
      r.memory.write(ring.image + PAGE + 0x14, head % size);
      ring.tail = head % size;
      r.emit(1, ...storeDword(DATA, 0x1234), USER_INTERRUPT);
      r.submit(BCS, context);
      passed(t, r, `${lead} dwords before the end of ${pages} pages`);
      t.equal(r.memory.read(DATA), 0x1234);
      t.equal(r.memory.read(ring.image + PAGE + 0x14), ring.tail);
      t.equal(ring.tail, (5 - lead) * 4);
    }
  }
});

t.test('a full ring, all but one dword', async (t) => {
  const r = rig();
  const context = r.context(1);
  for (let i = 0; i < 1023; i++) r.emit(1, NOOP);
  r.submit(RCS, context);
  t.equal(r.parts.statistics.commands, 1023);
  // From there around the end and back to just before the head.
  for (let i = 0; i < 1023; i++) r.emit(1, NOOP);
  r.submit(RCS, context);
  t.equal(r.parts.statistics.commands, 2046);
  r.submit(RCS, context);
  t.equal(r.parts.statistics.commands, 2046, 'head at tail: nothing');
});

t.test('a command across two pages is fetched once from each', async (t) => {
  for (const before of [1021, 1022, 1023]) {
    const r = rig();
    r.memory.map(DATA);
    r.memory.map(BATCH, 2);
    const context = r.context(1, 2);
    const { start } = r.ring(1);
    for (let i = 0; i < before; i++) r.emit(1, NOOP);
    r.emit(1, ...storeDword(DATA, before), NOOP);
    r.submit(VCS, context);
    t.equal(r.memory.read(DATA), before);
    t.strictSame([r.memory.copies.get(start), r.memory.copies.get(start + PAGE)], [1, 1]);
  }
  // The second page is not mapped: nothing of the command happens.
  const r = rig();
  r.memory.map(DATA);
  r.memory.map(BATCH);
  r.memory.write(BATCH + PAGE - 12, ...storeDword(DATA, 1).slice(0, 3));
  submit(r, VCS, ...batchStart(BATCH + PAGE - 12));
  failed(t, r, /^vcs: MI_STORE_DATA_IMM runs into memory that is not mapped \(batch, 0x8300ff4\)$/, 'second page');
  t.equal(r.memory.read(DATA), 0);
});

t.test('a command that the tail cuts', async (t) => {
  const whole = storeDword(DATA, 5);
  for (let kept = 1; kept < whole.length; kept++) {
    const r = run(BCS, NOOP, ...whole.slice(0, kept));
    failed(t, r, /^bcs: MI_STORE_DATA_IMM runs past the ring’s tail \(ring, 0x8110004\)$/, `${kept} dwords`);
    t.equal(r.memory.read(DATA), 0);
    t.equal(r.parts.statistics.commands, 1, 'what stood before it was executed');
  }
  // A command that is skipped is measured as well: here to the next lap of the ring.
  failed(t, run(VCS, 0x7000_0fff, NOOP), /video command runs past/, 'skipped');
});

t.test('batches', async (t) => {
  const store = (value: number): number[] => storeDword(DATA, value);
  const second = 1 << 22;
  const layout = (r: Rig, ...batches: number[][]): void =>
    batches.forEach((commands, i) => {
      r.memory.map(BATCH + i * PAGE);
      r.memory.write(BATCH + i * PAGE, ...commands);
    });
  const go = (ring: number[], ...batches: number[][]): Rig => {
    const r = rig();
    r.memory.map(DATA);
    layout(r, ...batches);
    return submit(r, RCS, ...ring);
  };
  const [b0, b1, b2] = [BATCH, BATCH + PAGE, BATCH + 2 * PAGE];

  let r = go([...batchStart(b0), ...storeDword(DATA + 8, 9)], [...store(1), BATCH_END, ...store(2), BATCH_END]);
  passed(t, r, 'ends at its first end');
  t.strictSame([r.memory.read(DATA), r.memory.read(DATA + 8)], [1, 9], 'and the ring goes on behind it');
  t.equal(r.register(0x2074), r.ring(1).start + r.ring(1).tail, 'ACTHD: back in the ring');

  r = go(
    [...batchStart(b0), ...storeDword(DATA + 8, 9)],
    [...batchStart(b1), ...store(1), BATCH_END],
    [...storeDword(DATA + 4, 2), BATCH_END],
  );
  passed(t, r, 'a first-level start in a batch replaces it');
  t.strictSame([r.memory.read64(DATA), r.memory.read(DATA + 8)], [[0, 2], 9]);

  r = go([...batchStart(b0)], [...batchStart(b1, second), ...store(1), BATCH_END], [...storeDword(DATA + 4, 2), BATCH_END]);
  passed(t, r, 'a second-level one returns to it');
  t.strictSame(r.memory.read64(DATA), [1, 2]);

  r = go(
    [...batchStart(b0)],
    [...batchStart(b1, second), ...batchStart(b2, second), ...store(1), BATCH_END],
    [...storeDword(DATA + 4, 2), BATCH_END],
    [...storeDword(DATA + 8, 3), BATCH_END],
  );
  passed(t, r, 'one second-level batch after another');
  t.strictSame([r.memory.read64(DATA), r.memory.read(DATA + 8)], [[1, 2], 3]);

  failed(t, go([...batchStart(b0, second)], [BATCH_END]), /starts from a first-level batch only \(ring/, 'second level from the ring');
  failed(
    t,
    go([...batchStart(b0)], [...batchStart(b1, second)], [...batchStart(b2, second)], [BATCH_END]),
    /starts from a first-level batch only \(batch, 0x8301000\)/,
    'third level',
  );
  failed(t, go([...batchStart(b0)], [...batchStart(b1, second)], [...batchStart(b2)], [BATCH_END]), /not for second-level/, 'jump from it');
  failed(t, go([BATCH_END]), /MI_BATCH_BUFFER_END: there is no batch in the ring itself/, 'end in the ring');
  failed(t, go([...batchStart(b2)], [BATCH_END]), /the command is not mapped \(batch, 0x8302000\)/, 'not mapped');
  failed(
    t,
    go(
      [...batchStart(b0)],
      Array.from({ length: 1024 }, () => NOOP),
    ),
    /not mapped \(batch, 0x8301000\)/,
    'no end',
  );
  for (const length of [2, 4]) {
    const [header, ...address] = batchStart(b0);
    failed(t, go([(header as number) - 3 + length, ...address, NOOP], [BATCH_END]), new RegExp(`the length is ${length}`), 'length');
  }

  // 48 bits of address, dword aligned; what is above or below does not count.
  for (const [low, high] of [
    [0, 0],
    [3, 0],
    [0, 0xffff_0000],
  ] as const) {
    r = rig();
    r.memory.map(DATA);
    r.memory.map(FAR);
    r.memory.write(FAR, ...store(6), BATCH_END);
    const [header, addressLow, addressHigh] = batchStart(FAR) as [number, number, number];
    submit(r, RCS, header, addressLow + low, addressHigh + high);
    passed(t, r, 'far away');
    t.equal(r.memory.read(DATA), 6);
  }
  r = rig();
  submit(r, RCS, ...batchStart(0xffff_ffff_f000));
  failed(t, r, /not mapped \(batch, 0xfffffffff000\)/, 'the last page of all');
});

t.test('a batch that jumps to itself: bounded, resettable, and it sees its end when the guest writes one', async (t) => {
  for (const wait of [[], [NOOP, USER_INTERRUPT]]) {
    const r = rig();
    r.memory.map(DATA);
    r.memory.map(BATCH);
    const jump = BATCH + wait.length * 4;
    r.memory.write(BATCH, ...wait, ...batchStart(BATCH));
    submit(r, BCS, ...batchStart(BATCH), ...storeDword(DATA, 1));
    const inline = r.parts.statistics.commands;
    t.ok(inline > 100 && inline <= INLINE_BUDGET, `${inline} commands inline`);
    for (let i = 0; i < 5; i++) {
      const before = r.parts.statistics.commands;
      r.submission.runSlice(100);
      const done = r.parts.statistics.commands - before;
      t.ok(done > 5 && done <= 100, `${done} commands in a slice of 100`);
    }
    t.ok(r.submission.hasWork);
    r.memory.write(jump, BATCH_END);
    r.submission.runSlice(200);
    passed(t, r, 'ended');
    t.equal(r.memory.read(DATA), 1);

    r.memory.write(jump, ...batchStart(BATCH));
    r.emit(1, ...batchStart(BATCH), NOOP);
    r.submit(BCS, [r.ring(1).image | 0x109, 1]);
    t.ok(r.submission.hasWork);
    r.submission.reset(1 << BCS);
    t.notOk(r.submission.hasWork);
  }
  // A batch that rewrites its own jump sees that at its next round, within the slice.
  const r = rig();
  r.memory.map(BATCH);
  r.memory.write(BATCH, ...storeDword(BATCH + 16, BATCH_END), ...batchStart(BATCH));
  submit(r, BCS, ...batchStart(BATCH), NOOP);
  passed(t, r, 'rewritten by itself');
});

t.test('what is checked is what is executed', async (t) => {
  const r = rig();
  r.memory.map(DATA);
  r.memory.map(BATCH, 2);
  const at = BATCH + PAGE - 8;
  const [header, low, high, value] = storeDword(DATA + 4, 0x600d) as [number, number, number, number];
  r.memory.write(at, header, low, high, value, BATCH_END);
  r.memory.onCopy = (address) => {
    // After each look the guest turns the command into another: longer, elsewhere, with other data.
    if (address === BATCH) r.memory.write(at, 0x1040_00ff, DATA);
    if (address === BATCH + PAGE) r.memory.write(BATCH + PAGE, 0xffff_ffff, 0xbad, 0xffff_ffff);
  };
  submit(r, RCS, ...batchStart(at));
  passed(t, r, 'one look at each page');
  t.strictSame(r.memory.read64(DATA), [0, 0x600d]);
  t.strictSame([r.memory.copies.get(BATCH), r.memory.copies.get(BATCH + PAGE)], [1, 1]);
});

t.test('MI_STORE_DATA_IMM', async (t) => {
  const header = 0x1000_0000 | USE_GGTT;
  let r = run(VECS, header | 2, DATA + 0x20, 0, 0xffff_fffe, header | 2, DATA + 0x27, 0, 3);
  passed(t, r, 'dwords');
  t.strictSame(r.memory.read64(DATA + 0x20), [0xffff_fffe, 3], 'bits 1:0 of the address do not count');
  r = run(VECS, header | 3 | (1 << 21), DATA + 0x28, 0, 0x89ab_cdef, 0xfedc_ba98);
  passed(t, r, 'qword');
  t.strictSame(r.memory.read64(DATA + 0x28), [0x89ab_cdef, 0xfedc_ba98]);
  r = run(VECS, header | 2, DATA + PAGE - 4, 0, 8);
  passed(t, r, 'last dword of a page');
  t.equal(r.memory.read(DATA + PAGE - 4), 8);
  r = rig();
  r.memory.map(FAR);
  submit(r, VECS, ...storeDword(FAR + 4, 77), header | 3 | (1 << 21), (FAR + 16) % 2 ** 32, Math.floor(FAR / 2 ** 32), 1, 2);
  passed(t, r, 'far away');
  t.strictSame([r.memory.read(FAR + 4), r.memory.read64(FAR + 16)], [77, [1, 2]]);

  failed(t, run(VECS, 0x1000_0002, DATA, 0, 1), /^vecs: MI_STORE_DATA_IMM: the address is not mapped/, 'per process');
  failed(t, run(VECS, header | 2, DATA + PAGE, 0, 1), /the address is not mapped/, 'hole');
  failed(t, run(VECS, header | 2, DATA, 1, 1), /the address is not mapped/, 'the high dword counts');
  failed(t, run(VECS, header | 3 | (1 << 21), DATA + 4, 0, 1, 2), /a qword is not aligned/, 'alignment');
  for (const length of [2, 3, 5, 6, 257])
    failed(t, run(VECS, header | (length - 2), DATA, 0, 1, ...new Array(254).fill(0)), new RegExp(`the length is ${length} `), `${length}`);
  for (const length of [4, 6])
    failed(t, run(VECS, header | (length - 2) | (1 << 21), DATA, 0, 1, 2, 3), /the length is/, `qword, ${length}`);
});

t.test('MI_LOAD_REGISTER_IMM', async (t) => {
  const lri = (...pairs: number[]): number[] => [0x1100_0000 | (pairs.length - 1), ...pairs];
  let r = run(RCS, ...lri(0x20c0, 0x0080_0080), ...lri(0x7000, 1, 0x7007, 2));
  passed(t, r, 'pairs');
  t.strictSame(r.loaded, [
    [0x20c0, 0x0080_0080],
    [0x7000, 1],
    [0x7004, 2],
  ]);
  const many = Array.from({ length: 254 }, (_, i) => (i % 2 === 0 ? 0x3000 + i * 2 : i));
  r = run(RCS, ...lri(...many));
  passed(t, r, 'the longest');
  t.equal(r.loaded.length, 127);
  r = run(RCS, ...lri(0x3000, 1, REFUSED, 2, 0x3004, 3));
  failed(t, r, /^rcs: MI_LOAD_REGISTER_IMM: register 0x10000 is not for commands \(ring, 0x8110000\)$/, 'refused');
  t.strictSame(r.loaded, [[0x3000, 1]], 'nothing after it');
  r = run(RCS, ...lri(0x1f_fffc, 1));
  passed(t, r, 'last register');
  failed(t, run(RCS, ...lri(0x20_0000, 1)), /register 0x200000 does not exist/, 'past the last');
  failed(t, run(RCS, ...lri(0xffff_ffff, 1)), /register 0x7ffffc does not exist/, 'bits above 22 do not count');
  failed(t, run(RCS, 0x1100_0000, 0x3000), /the length is 2/, 'no pair');
  failed(t, run(RCS, 0x1100_0002, 0x3000, 1, 0x3004), /the length is 4/, 'half a pair');
});

t.test('MI_STORE_REGISTER_MEM and MI_LOAD_REGISTER_MEM', async (t) => {
  const [srm, lrm] = [0x1200_0002 | USE_GGTT, 0x1480_0002 | USE_GGTT];
  let r = rig();
  r.memory.map(DATA);
  r.memory.map(FAR);
  r.setRegister(0xb118, 0xcafe_f00d);
  const far = [FAR % 2 ** 32, Math.floor(FAR / 2 ** 32)] as const;
  submit(r, RCS, srm, 0xb118, DATA + 4, 0, srm, 0xb118, ...far, lrm, 0x21f0, DATA + 4, 0);
  passed(t, r, 'there and back');
  t.strictSame([r.memory.read(DATA + 4), r.memory.read(FAR), r.loaded], [0xcafe_f00d, 0xcafe_f00d, [[0x21f0, 0xcafe_f00d]]]);
  for (const [name, command] of [
    ['MI_STORE_REGISTER_MEM', srm],
    ['MI_LOAD_REGISTER_MEM', lrm],
  ] as const) {
    failed(t, run(RCS, command & ~USE_GGTT, 0xb118, DATA, 0), new RegExp(`${name}: the address is not mapped`), 'per process');
    failed(t, run(RCS, command, 0xb118, DATA + PAGE, 0), /the address is not mapped/, 'hole');
    failed(t, run(RCS, command - 1, 0xb118, DATA), /the length is 3/, 'short');
    failed(t, run(RCS, command + 1, 0xb118, DATA, 0, 0), /the length is 5/, 'long');
  }
  r = run(RCS, lrm, REFUSED, DATA, 0);
  failed(t, r, /register 0x10000 is not for commands/, 'audited');
  failed(t, run(RCS, lrm, 0x20_0000, DATA, 0), /does not exist/, 'past the last');
});

t.test('MI_FLUSH_DW', async (t) => {
  const flush = 0x1300_0000;
  const [IMMEDIATE, RESERVED, TIMESTAMP] = [1 << 14, 2 << 14, 3 << 14];
  const [INDEX, NOTIFY, GGTT] = [1 << 21, 1 << 8, 4];
  let r = run(BCS, flush | 2, 0, 0, 0, flush | 3, 0, 0, 0, 0);
  passed(t, r, 'without a write');
  t.strictSame(r.trace, ['bcs.ctx-switch', 'bcs.ctx-switch']);
  r = run(BCS, flush | 2 | IMMEDIATE, (DATA + 0x10) | GGTT, 0, 0xaaaa_5555);
  passed(t, r, 'a dword');
  t.strictSame(r.memory.read64(DATA + 0x10), [0xaaaa_5555, 0]);
  r = run(BCS, flush | 3 | IMMEDIATE, (DATA + 0x18) | GGTT | 3, 0, 0xffff_ffff, 0x8000_0000);
  passed(t, r, 'a qword');
  t.strictSame(r.memory.read64(DATA + 0x18), [0xffff_ffff, 0x8000_0000], 'bits 2:0 of the address do not count');
  for (const length of [4, 5]) {
    r = run(BCS, flush | (length - 2) | TIMESTAMP, (DATA + 0x20) | GGTT, 0, 1, ...new Array(length - 4).fill(2));
    passed(t, r, 'the timestamp');
    t.strictSame(r.memory.read64(DATA + 0x20), [TIMESTAMP_LOW, TIMESTAMP_HIGH]);
  }
  // The index form: an offset in the status page, bits 11:3, whatever else the address says.
  for (const address of [0xd0, 0xd4, 0xd7, 0x5_50d0, 0xffff_f0d0]) {
    r = run(BCS, flush | 2 | IMMEDIATE | INDEX, address, 0xffff_ffff, 42);
    passed(t, r, 'status page');
    t.equal(r.memory.read(STATUS_PAGES + PAGE + 0xd0), 42, `0x${address.toString(16)}`);
  }
  r = rig();
  r.setRegister(ENGINE_BASES[BCS] + 0x80, STATUS_PAGES + PAGE + 0x7f4);
  submit(r, BCS, flush | 3 | IMMEDIATE | INDEX, 0xff8, 0, 1, 2);
  passed(t, r, 'bits 11:0 of HWS_PGA do not count');
  t.strictSame(r.memory.read64(STATUS_PAGES + PAGE + 0xff8), [1, 2]);

  for (const [engine, event] of [
    [BCS, 'bcs.flush'],
    [VCS, 'vcs.flush'],
    [VECS, 'vecs.flush'],
    [RCS, undefined],
  ] as const) {
    r = run(engine, flush | 2 | NOTIFY, 0, 0, 0);
    passed(t, r, 'notify');
    t.strictSame(r.trace.slice(1, -1), event === undefined ? [] : [event]);
  }
  // VCS's invalidate bit (7) is not part of the length.
  r = run(VCS, flush | (1 << 7) | (1 << 18) | 2 | IMMEDIATE, DATA | GGTT, 0, 9, NOOP);
  passed(t, r, 'VCS');
  t.equal(r.memory.read(DATA), 9);
  t.equal(r.parts.statistics.commands, 2);

  failed(t, run(BCS, flush | 2 | IMMEDIATE, DATA, 0, 1), /^bcs: MI_FLUSH_DW: the address is not mapped/, 'per process');
  failed(t, run(BCS, flush | 2 | IMMEDIATE, (DATA + PAGE) | GGTT, 0, 1), /the address is not mapped/, 'hole');
  failed(t, run(BCS, flush | 2 | RESERVED, DATA | GGTT, 0, 1), /post-sync operation 2 does not exist/, 'reserved');
  for (const length of [2, 3, 6, 65])
    failed(t, run(BCS, flush | (length - 2), 0, 0, 0, ...new Array(64).fill(0)), new RegExp(`the length is ${length} `), `${length}`);
  r = rig();
  r.setRegister(ENGINE_BASES[BCS] + 0x80, 0);
  submit(r, BCS, flush | 2 | IMMEDIATE | INDEX, 0, 0, 1);
  failed(t, r, /the address is not mapped/, 'no status page');
});

t.test('PIPE_CONTROL', async (t) => {
  const header = 0x7a00_0004;
  const [IMMEDIATE, DEPTH, TIMESTAMP] = [1 << 14, 2 << 14, 3 << 14];
  const [INDEX, NOTIFY, GGTT, STALL] = [1 << 21, 1 << 8, 1 << 24, 1 << 20];
  const at = DATA + 0x30;
  for (const [flags, expected] of [
    [STALL, [1, 1]],
    [STALL | GGTT, [1, 1]],
    [IMMEDIATE | GGTT, [0x8765_4321, 0x9000_0000]],
    [DEPTH | GGTT, [0, 0]],
    [TIMESTAMP | GGTT, [TIMESTAMP_LOW, TIMESTAMP_HIGH]],
  ] as const) {
    const r = rig();
    r.memory.map(DATA);
    r.memory.write(at, 1, 1);
    submit(r, RCS, header, flags, at, 0, 0x8765_4321, 0x9000_0000);
    passed(t, r, `flags 0x${flags.toString(16)}`);
    t.strictSame(r.memory.read64(at), expected, `flags 0x${flags.toString(16)}`);
    t.strictSame(r.trace, ['rcs.ctx-switch', 'rcs.ctx-switch']);
  }
  let r = run(RCS, header, IMMEDIATE | GGTT | NOTIFY, at | 3, 0, 5, 6);
  passed(t, r, 'notify');
  t.strictSame(
    [r.memory.read64(at), r.trace],
    [
      [5, 6],
      ['rcs.ctx-switch', 'rcs.pipe-control', 'rcs.ctx-switch'],
    ],
  );
  r = run(RCS, header, IMMEDIATE | INDEX, 0x1_00d0, 0, 7, 8);
  passed(t, r, 'status page');
  t.strictSame(r.memory.read64(STATUS_PAGES + 0xd0), [7, 8]);
  failed(t, run(RCS, header, IMMEDIATE, at, 0, 1, 2), /^rcs: PIPE_CONTROL: the address is not mapped/, 'per process');
  failed(t, run(RCS, header, IMMEDIATE | GGTT, at + 4, 0, 1, 2), /a qword is not aligned/, 'alignment');
  failed(t, run(RCS, header, IMMEDIATE | INDEX, 4, 0, 1, 2), /a qword is not aligned/, 'alignment in the status page');
  failed(t, run(RCS, header, IMMEDIATE | GGTT, at, 1, 1, 2), /the address is not mapped/, 'hole');
  for (const length of [2, 5, 7]) failed(t, run(RCS, header - 6 + length, 0, 0, 0, 0, 0, 0), /the length is/, `${length} dwords`);
});

t.test('MI_USER_INTERRUPT and the ring’s mask', async (t) => {
  const events = ['rcs.user', 'bcs.user', 'vcs.user', 'vecs.user'];
  for (const engine of ALL_ENGINES) {
    const bit = engine === BCS ? 1 << 16 : 1;
    for (const [mask, raised] of [
      [0, true],
      [~bit, true],
      [bit, false],
      [-1, false],
    ] as const) {
      const r = rig();
      r.setRegister(ENGINE_BASES[engine] + 0xa8, mask);
      submit(r, engine, USER_INTERRUPT);
      passed(t, r, 'interrupt');
      t.strictSame(r.trace.slice(1, -1), raised ? [events[engine]] : [], `${events[engine]}, mask ${mask}`);
    }
  }
});

t.test('commands without an effect are walked over by their length and counted', async (t) => {
  const BLT = 2 << 29;
  const skipped: [engine: EngineId, header: number, dwords: number][] = [
    ...[0x03, 0x07, 0x0c, 0x0f].map((opcode): [EngineId, number, number] => [RCS, opcode << 23, 1]),
    ...[0x12, 0x13, 0x28].map((opcode): [EngineId, number, number] => [BCS, opcode << 23, 2]),
    ...[0x14, 0x18, 0x19, 0x2b, 0x2c, 0x2d].map((opcode): [EngineId, number, number] => [RCS, (opcode << 23) | 9, 11]),
    ...[0x11, 0x24, 0x25, 0x26, 0x31, 0x52].map((opcode): [EngineId, number, number] => [BCS, BLT | (opcode << 22) | 6, 8]),
    ...[0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77].map((opcode): [EngineId, number, number] => [
      BCS,
      BLT | (opcode << 22) | 0xff,
      257,
    ]),
    [RCS, 0x6904_0003, 1], // PIPELINE_SELECT
    [RCS, 0x680b_0001, 1], // 3DSTATE_VF_STATISTICS
    [RCS, 0x6101_000e, 16], // STATE_BASE_ADDRESS
    [RCS, 0x7b00_0005, 7], // 3DPRIMITIVE
    [RCS, 0x7801_80ff, 257], // 3DSTATE_*: the length has eight bits
    [RCS, 0x7000_0007, 9], // MEDIA_VFE_STATE
    [RCS, 0x7100_0900, 0x902], // MEDIA_OBJECT with inline data: sixteen bits
    [RCS, 0x7105_0d0d, 15], // GPGPU_WALKER: eight
    [VCS, 0x7000_0003, 5], // MFX_PIPE_MODE_SELECT
    [VCS, 0x7358_0a00, 0xa02], // MFX: twelve bits
    [VCS, 0x6800_0100, 1], // MFX_WAIT: always one dword
    [VECS, 0x7402_0003, 5], // VEBOX
  ];
  for (const [engine, header, dwords] of skipped) {
    const r = rig();
    r.memory.map(DATA);
    const context = r.context(1, 4);
    // What the command carries would fail as a command.
    r.emit(1, header >>> 0, ...new Array(dwords - 1).fill(0xffff_ffff), ...storeDword(DATA, 1));
    r.submit(engine, context);
    const what = `0x${(header >>> 0).toString(16)}`;
    passed(t, r, what);
    t.equal(r.memory.read(DATA), 1, what);
    t.strictSame([r.parts.statistics.commands, r.parts.statistics.skippedCommands], [2, 1], what);
  }
  // These do nothing in silicon either, and are not counted as skipped.
  for (const opcode of [0x00, 0x05, 0x08, 0x0b, 0x0d, 0x0e]) {
    const r = run(RCS, (opcode << 23) | 1, ...storeDword(DATA, 1));
    passed(t, r, `MI opcode ${opcode}`);
    t.strictSame([r.parts.statistics.commands, r.parts.statistics.skippedCommands, r.memory.read(DATA)], [2, 0, 1]);
  }
});

t.test('commands that do not exist, or not there', async (t) => {
  const everywhere = [
    ...[0x01, 0x04, 0x06, 0x09, 0x10, 0x11, 0x15, 0x16, 0x17, 0x1d, 0x1f, 0x23, 0x25, 0x2f, 0x30, 0x37, 0x3f].map((opcode) => opcode << 23),
    ...[1, 4, 5, 6, 7].map((type) => type << 29),
    0xffff_ffff,
  ];
  const cases: [EngineId, number][] = [
    ...ALL_ENGINES.flatMap((engine) => everywhere.map((header): [EngineId, number] => [engine, header])),
    ...[RCS, VCS, VECS].map((engine): [EngineId, number] => [engine as EngineId, 0x5400_0005]), // XY_COLOR_BLT
    [BCS, 0x7a00_0004], // PIPE_CONTROL
    [BCS, (2 << 29) | (0x7f << 22)],
  ];
  for (const [engine, header] of cases) {
    const r = run(engine, ...storeDword(DATA, 1), header >>> 0, ...storeDword(DATA, 2));
    const text = (header >>> 0).toString(16).padStart(8, '0');
    failed(t, r, new RegExp(`^(.cs|vecs): command 0x${text} is not allowed \\(ring, 0x8110010\\)$`), text);
    t.equal(r.memory.read(DATA), 1, `${text}: nothing after it`);
    t.strictSame([r.parts.statistics.commands, r.parts.statistics.skippedCommands], [1, 0]);
  }
  // What is a blit to the blitter and PIPE_CONTROL to the render engine are media commands to the video engines.
  for (const engine of [VCS, VECS] as const) passed(t, run(engine, 0x7a00_0004, 0, 0, 0, 0, 0), 'video');
});

/** What one command may use above the budget: two page fetches, 257 dwords, an interrupt, a row of a blit. */
const OVERSHOOT = 8 + 33 + 16 + 128;

/** A stream of dwords that a decoder takes seriously. */
function noise(next: () => number, out: Uint32Array, addresses: readonly number[]): void {
  const below = (n: number): number => next() % n;
  const address = (): number => (addresses[below(addresses.length)] as number) + (below(8) === 0 ? below(4096) : below(512) * 8);
  const operand = (): number => {
    const kind = below(6);
    if (kind === 0) return address() % 2 ** 32;
    if (kind === 1) return 0;
    if (kind === 2) return next();
    if (kind === 3) return [0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x8000_8000][below(4)] as number;
    return below(64);
  };
  const opcodes = [0x02, 0x20, 0x22, 0x24, 0x26, 0x29, 0x31, 0x31, 0x0a, 0x08, 0x1a];
  const lengths: Readonly<Record<number, number[]>> = { 0x20: [2, 3], 0x22: [1, 3, 9], 0x24: [2], 0x26: [2, 3], 0x29: [2], 0x31: [1] };
  for (let i = 0; i < out.length; ) {
    const kind = below(20);
    let dwords: number[];
    if (kind < 11) {
      const opcode = opcodes[below(opcodes.length)] as number;
      const known = lengths[opcode];
      const length = known === undefined ? 0 : below(12) === 0 ? below(256) : (known[below(known.length)] as number);
      const bits = opcode === 0x31 ? (below(4) === 0 ? USE_GGTT : 0) : below(10) === 0 ? next() & 0x7f_ff00 : USE_GGTT;
      const qword = opcode === 0x20 && length === 3 ? 1 << 21 : 0;
      const flush = opcode === 0x26 ? (below(4) << 14) | (below(2) << 21) | (below(2) << 8) : 0;
      dwords = [((opcode << 23) | bits | qword | flush | length) >>> 0];
      if (opcode === 0x22) for (let j = 0; j <= length; j++) dwords.push(j % 2 === 0 ? 0x3000 + below(64) * 4 : next());
      else if (known !== undefined) {
        const at = opcode === 0x24 || opcode === 0x29 ? [0x3000 + below(64) * 4, address() % 2 ** 32] : [address() % 2 ** 32];
        dwords.push(...at, below(30) === 0 ? next() : 0, next(), next());
        dwords.length = length + 2;
      }
    } else if (kind < 14) {
      const color = below(2) === 0;
      dwords = [((2 << 29) | ((color ? 0x50 : 0x53) << 22) | (below(4) << 20) | (color ? 5 : 8)) >>> 0];
      dwords.push(((below(4) << 24) | (below(256) << 16) | (below(6) === 0 ? next() & 0xffff : 64 + below(400))) >>> 0);
      const corner = (): number => (below(8) === 0 ? next() : (below(40) << 16) | below(40));
      dwords.push(corner(), corner(), address() % 2 ** 32, below(30) === 0 ? next() : 0);
      if (color) dwords.push(next());
      else dwords.push(corner(), below(6) === 0 ? next() : 64 + below(400), address() % 2 ** 32, 0);
    } else if (kind < 16) dwords = [0x7a00_0004, next() & 0x0120_c100, address() % 2 ** 32, 0, next(), next()];
    else if (kind < 18) dwords = [0, 0, 0];
    else if (kind < 19) dwords = [((3 << 29) | (next() & 0x1fff_00ff)) >>> 0, operand(), operand()];
    else dwords = [below(6) === 0 ? next() : 0, operand()];
    for (const dword of dwords) if (i < out.length) out[i++] = dword;
  }
}

t.test('noise: never throws, keeps to its budget', async (t) => {
  const next = random(0x0c2e_61e5);
  const r = rig();
  r.memory.map(DATA, 3);
  r.memory.map(BATCH, 2);
  r.memory.map(FAR, 2);
  r.context(1, 2);
  const { start } = r.ring(1);
  const addresses = [DATA, DATA + PAGE, DATA + 2 * PAGE, DATA + 3 * PAGE, BATCH, BATCH + PAGE, start, STATUS_PAGES];
  const ends = { done: 0, fault: 0, budget: 0 };
  const reasons = new Set<string>();
  const page = new Uint32Array(PAGE / 4);
  for (let round = 0; round < 3000; round++) {
    const engine = ALL_ENGINES[round % 2 === 0 ? BCS : next() % 4] as EngineId;
    for (const at of [start, start + PAGE, BATCH, BATCH + PAGE]) {
      noise(next, page, addresses);
      r.memory.page(at)?.store(0, new Uint8Array(page.buffer), 0, PAGE);
    }
    const streamer = new CommandStreamer(
      { id: engine, name: ['rcs', 'bcs', 'vcs', 'vecs'][engine], base: ENGINE_BASES[engine] } as never,
      r.parts,
    );
    const head = (next() % 2048) & ~1;
    streamer.begin({ head: head * 4, tail: ((head + 2 + (next() % 200) * 2) % 2048) * 4, start, size: 2 * PAGE });
    for (let slice = 0; slice < 4; slice++) {
      const budget = [1, 7, 100, 1000][next() % 4] as number;
      const outcome = streamer.run(budget);
      if (streamer.spent > budget + OVERSHOOT) t.fail(`round ${round}: spent ${streamer.spent} of ${budget}`);
      if (outcome === Outcome.BUDGET) {
        ends.budget++;
        continue;
      }
      if (outcome === Outcome.FAULT) reasons.add(streamer.fault.why.replace(/0x[0-9a-f]+|\d+/g, 'N').replace(/ \(.*/, ''));
      ends[outcome === Outcome.DONE ? 'done' : 'fault']++;
      break;
    }
    r.trace.length = 0;
    r.loaded.length = 0;
  }
  t.ok(ends.done > 100 && ends.fault > 100 && ends.budget > 100, JSON.stringify(ends));
  t.ok(reasons.size > 20, `${reasons.size} ways to fail`);
  t.ok(r.parts.statistics.commands > 10_000, `${r.parts.statistics.commands} commands`);
});

t.test('noise through a whole vGPU: registers, GGTT, interrupts and memory of the real parts', async (t) => {
  const next = random(0x5eed_0c02);
  const f = fixture();
  const { gvt, vgpu, backend, read, write, map } = f;
  const base = vgpu.resources.aperture.start;
  // The VM keeps what no GGTT entry shows: the first 64 frames are mapped, the others must not change.
  const shown = 64;
  const guarded = backend.words.slice(shown * 1024);
  const page = new Uint32Array(PAGE / 4);
  const addresses = Array.from({ length: shown + 4 }, (_, i) => base + i * PAGE);
  let hangs = 0;
  for (let round = 0; round < 300; round++) {
    if (round % 100 === 0) {
      if (round > 0) gvt.reset(vgpu);
      f.configWrite(0x10, 4, 0xe000_0000);
      f.configWrite(0x18, 4, 0xc000_0000);
      f.configWrite(0x04, 2, 2);
      read(0x7_8000);
      map(base, gfn(0), shown);
      for (const engine of ENGINE_BASES) {
        write(engine + 0x80, base + 2 * PAGE);
        write(engine + 0x29c, 0x8000_8000);
        write(engine + 0xa8, 0);
      }
    }
    const engine = ENGINE_BASES[round % 3 === 0 ? next() % 4 : BCS] as number;
    for (let i = 4; i < 8; i++) {
      noise(next, page, addresses);
      backend.words.set(page, i * 1024);
    }
    backend.words.set([0, (next() % 512) * 8], 1024 + 5);
    backend.words[1024 + 7] = (next() % 512) * 8;
    backend.words[1024 + 9] = base + 4 * PAGE;
    backend.words[1024 + 11] = 1;
    for (const dword of [0, 0, round, base + 0x109]) write(engine + 0x230, dword);
    for (let slice = 0; slice < 3; slice++) gvt.runSlice(500);
    if (vgpu.statistics.hangs > hangs) {
      hangs++;
      write(0x941c, 0x1e);
      for (const base of ENGINE_BASES) write(base + 0x3a0, 0xffff_0505);
    }
  }
  t.equal(gvt.defects, 0, 'no exception inside the device model');
  t.ok(hangs > 50 && hangs < 300, `${hangs} hangs`);
  t.notOk(vgpu.failsafe);
  t.ok(vgpu.statistics.commands > 1000, `${vgpu.statistics.commands} commands`);
  t.strictSame(
    backend.words.subarray(shown * 1024).findIndex((word, i) => word !== guarded[i]),
    -1,
    'no other memory was written',
  );
});
