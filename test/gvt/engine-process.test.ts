/** Commands in per-process memory: address spaces, what is privileged, what precedes a ring, semaphores, arithmetic, roots. */

import t, { type Test } from 'tap';
import type { EngineId } from '../../src/core/gvt/roles.js';
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
  VCS,
  VECS,
} from './engine-rig.js';
import { random } from './memory-backend.js';
import { view } from './page-bytes.js';

const ALL_ENGINES = [RCS, BCS, VCS, VECS] as const;
const GGTT = 1 << 22;
/** MI_BATCH_BUFFER_START's and MI_STORE_DATA_IMM's per-process forms. */
const PROCESS = 1 << 8;
const storeOwn = (address: number, value: number): number[] => [0x1000_0002, address % 2 ** 32, Math.floor(address / 2 ** 32), value];
const GPR = 0x600;

/** A per-process batch in context 1, with a data page in both address spaces. */
function batch(engine: EngineId, ...commands: number[]): Rig {
  const r = rig();
  r.memory.map(DATA);
  r.process.map(DATA);
  r.process.map(BATCH, 2);
  r.process.write(BATCH, ...commands, BATCH_END);
  const context = r.context(1);
  r.emit(1, ...batchStart(BATCH, PROCESS));
  r.submit(engine, context);
  return r;
}

/** Commands in the ring. */
function ring(engine: EngineId, set: (r: Rig) => void, ...commands: number[]): Rig {
  const r = rig();
  r.memory.map(DATA);
  r.process.map(DATA);
  const context = r.context(1, 4);
  set(r);
  r.emit(1, ...commands);
  r.submit(engine, context);
  return r;
}

const nothing = (): void => {};

function passed(t: Test, r: Rig, what: string): void {
  t.strictSame([r.hung(), r.log, r.submission.hasWork], [[], [], false], what);
}

t.test('the command’s bit says which memory', async (t) => {
  for (const engine of ALL_ENGINES) {
    const r = ring(
      engine,
      nothing,
      ...storeOwn(DATA, 1),
      ...storeDword(DATA + 4, 2),
      0x1300_4002,
      DATA + 8,
      0,
      3,
      0x1300_4002,
      ((DATA + 12) & ~7) | 4,
      0,
      4,
    );
    passed(t, r, 'ring');
    t.strictSame([r.process.read(DATA), r.process.read(DATA + 4), r.process.read(DATA + 8)], [1, 0, 3]);
    t.strictSame([r.memory.read(DATA), r.memory.read(DATA + 4), r.memory.read(DATA + 8)], [0, 2, 4]);
  }
  const r = batch(RCS, ...storeOwn(DATA, 1), 0x7a00_0004, 1 << 14, DATA + 8, 0, 5, 6);
  passed(t, r, 'batch');
  t.strictSame([r.process.read(DATA), r.process.read64(DATA + 8)], [1, [5, 6]]);
});

t.test('what a per-process batch may not do is dropped', async (t) => {
  const r = batch(
    RCS,
    ...storeDword(DATA, 1),
    0x1100_0001,
    REFUSED,
    7,
    0x1100_0001,
    0x20_0000,
    7,
    0x1240_0002,
    0x2358,
    DATA,
    0,
    0x7a00_0004,
    (1 << 14) | (1 << 24),
    DATA,
    0,
    1,
    1,
    0x7a00_0004,
    (1 << 14) | (1 << 21),
    0xd0,
    0,
    1,
    1,
    0x1080_0001,
    0x100,
    9,
    ...storeOwn(DATA + 16, 8),
  );
  passed(t, r, 'dropped');
  t.ok(view(r.memory.page(DATA))?.bytes.every((byte) => byte === 0));
  t.ok(
    view(r.memory.page(STATUS_PAGES))
      ?.bytes.subarray(0x80)
      .every((byte) => byte === 0),
  );
  t.equal(r.process.read(DATA + 16), 8, 'and what may is done');
  // It starts no privileged batch: the jump stays in its address space.
  const jump = batch(RCS, ...batchStart(BATCH + PAGE));
  t.match(jump.log[0], /command|MI_NOOP|not mapped/);
  const other = rig();
  other.process.map(BATCH, 2);
  other.process.map(DATA);
  other.process.write(BATCH, ...batchStart(BATCH + PAGE, 1 << 22));
  other.process.write(BATCH + PAGE - 4096 + 12, BATCH_END);
  other.process.write(BATCH + PAGE, ...storeOwn(DATA, 3), BATCH_END);
  const context = other.context(1);
  other.emit(1, ...batchStart(BATCH, PROCESS), NOOP);
  other.submit(RCS, context);
  passed(t, other, 'second level');
  t.equal(other.process.read(DATA), 3);
});

t.test('the root: of the image, of the registers that commands load, of each context its own', async (t) => {
  const r = rig();
  r.process.map(DATA);
  const context = r.context(1, 2);
  const image = r.ring(1).image + PAGE;
  for (let i = 0; i < 4; i++) r.memory.write(image + 0x94 + (3 - i) * 16, 0x12, ...[0, (0x345 + i) << 12]);
  r.emit(1, ...storeOwn(DATA, 1), ...storeOwn(DATA, 2));
  // PDP0 by command, then another access.
  r.emit(1, 0x1100_0003, 0x2274, 0x1, 0x2270, 0x7000, ...storeOwn(DATA, 3));
  r.submit(RCS, context);
  passed(t, r, 'roots');
  const high = 0x12 * 2 ** 20;
  t.strictSame(r.roots, [
    [false, [high + 0x345, high + 0x346, high + 0x347, high + 0x348]],
    [false, [2 ** 20 + 7, high + 0x346, high + 0x347, high + 0x348]],
  ]);
  r.emit(1, ...storeOwn(DATA, 4));
  r.submit(RCS, [context[0] | (3 << 3), 1]);
  t.strictSame(r.roots.at(-1), [true, [high + 0x345, high + 0x346, high + 0x347, high + 0x348]], '48 bits; the image’s again');
  // An engine that never uses its own memory asks for none.
  const idle = ring(BCS, nothing, NOOP);
  t.strictSame(idle.roots, []);
});

t.test('the indirect and the per-context batch of the render engine', async (t) => {
  for (const engine of [RCS, BCS] as const) {
    const r = rig();
    r.memory.map(DATA);
    r.memory.map(BATCH, 2);
    const context = r.context(1);
    const image = r.ring(1).image + PAGE;
    // Two cache lines; what stands behind them does not count.
    const stores = [storeDword(DATA, 1), storeDword(DATA + 4, 2)].flat();
    r.memory.write(BATCH + 0x40, ...stores, ...new Array(32 - stores.length).fill(NOOP), 0xffff_ffff);
    r.memory.write(BATCH + PAGE, ...storeDword(DATA + 8, 3), BATCH_END, 0xffff_ffff);
    r.memory.write(image + 0x6c, (BATCH + 0x40) | 2);
    r.memory.write(image + 0x64, (BATCH + PAGE) | 1);
    r.emit(1, ...storeDword(DATA + 12, 4));
    r.submit(engine, context);
    passed(t, r, 'ran');
    const expected = engine === RCS ? [1, 2, 3, 4] : [0, 0, 0, 4];
    t.strictSame(
      [0, 4, 8, 12].map((at) => r.memory.read(DATA + at)),
      expected,
    );
  }
  const bad: [what: string, set: (r: Rig, image: number) => void, why: RegExp][] = [
    ['a command past the end', (r, image) => r.memory.write(image + 0x6c, BATCH | 1), /runs past the batch’s end/],
    ['a batch from it', (r) => r.memory.write(BATCH, ...batchStart(BATCH)), /starts no other/],
    ['not mapped', (r, image) => r.memory.write(image + 0x6c, 0x7000_0000 | 1), /not mapped/],
  ];
  for (const [what, set, why] of bad) {
    const r = rig();
    r.memory.map(BATCH);
    const context = r.context(1);
    const image = r.ring(1).image + PAGE;
    r.memory.write(image + 0x6c, BATCH | 1);
    r.memory.write(BATCH, ...new Array(15).fill(NOOP), 0x1040_0002);
    set(r, image);
    r.emit(1, NOOP);
    r.submit(RCS, context);
    t.match(r.log, [why], what);
  }
});

t.test('MI_SEMAPHORE_WAIT: suspends the engine until the value is there', async (t) => {
  const values = [0, 4, 5, 6, 0xffff_ffff];
  const holds = [
    (m: number) => m > 5,
    (m: number) => m >= 5,
    (m: number) => m < 5,
    (m: number) => m <= 5,
    (m: number) => m === 5,
    (m: number) => m !== 5,
  ];
  for (const [operation, hold] of holds.entries())
    for (const value of values)
      for (const mode of [0, 1 << 15]) {
        const r = ring(
          VCS,
          (r) => r.memory.write(DATA, value),
          0x0e00_0002 | GGTT | mode | (operation << 12),
          5,
          DATA,
          0,
          ...storeDword(DATA + 8, 1),
        );
        t.equal(r.memory.read(DATA + 8), hold(value) ? 1 : 0, `${value}, operation ${operation}`);
        t.equal(r.submission.hasWork, !hold(value));
      }
  const r = ring(BCS, nothing, 0x0e00_c002, 7, DATA, 0, ...storeOwn(DATA + 8, 1));
  const { commands } = r.parts.statistics;
  for (let i = 0; i < 50; i++) r.submission.runSlice(1000);
  t.equal(r.parts.statistics.commands, commands, 'looked at, not executed');
  t.strictSame(r.entries(BCS).length, 1);
  r.process.write(DATA, 7);
  r.submission.runSlice(1000);
  passed(t, r, 'fulfilled');
  t.equal(r.process.read(DATA + 8), 1);
  // One engine waits for the other.
  const two = rig();
  two.memory.map(DATA);
  const [a, b] = [two.context(1), two.context(2)];
  two.emit(1, 0x0e00_c002 | GGTT, 9, DATA, 0, ...storeDword(DATA + 4, 1));
  two.emit(2, ...storeDword(DATA, 9), 0x0d80_0001, 0, 0);
  two.submit(RCS, a);
  two.submit(VCS, b);
  two.submission.runSlice(100);
  passed(t, two, 'signalled');
  t.equal(two.memory.read(DATA + 4), 1);
  t.match(ring(RCS, nothing, 0x0e00_0002 | GGTT | (6 << 12), 5, DATA, 0).log, [/the comparison does not exist/]);
  t.match(ring(RCS, nothing, 0x0e00_0002 | GGTT, 5, DATA + PAGE, 0).log, [/not mapped/]);
  // A semaphore that nobody signals is reset away.
  const stuck = ring(RCS, nothing, 0x0e00_c002 | GGTT, 5, DATA, 0);
  t.ok(stuck.submission.hasWork);
  stuck.submission.reset(1);
  t.notOk(stuck.submission.hasWork);
});

t.test('MI_CONDITIONAL_BATCH_BUFFER_END', async (t) => {
  for (const [memory, data, goesOn] of [
    [5, 4, true],
    [5, 5, false],
    [5, 6, false],
    [0xffff_ffff, 0x7fff_ffff, true],
  ] as const) {
    const r = rig();
    r.process.map(BATCH);
    r.process.map(DATA);
    r.process.write(DATA, memory);
    r.process.write(BATCH, 0x1b20_0002, data, DATA, 0, ...storeOwn(DATA + 4, 1), BATCH_END);
    const context = r.context(1);
    r.emit(1, ...batchStart(BATCH, PROCESS), ...storeOwn(DATA + 8, 2));
    r.submit(RCS, context);
    passed(t, r, `${memory} ${data}`);
    t.strictSame([r.process.read(DATA + 4), r.process.read(DATA + 8)], [goesOn ? 1 : 0, 2]);
  }
});

t.test('registers and memory: LRR, SRM, LRM, index, copies', async (t) => {
  const base = ENGINE_BASES[RCS];
  const set = (r: Rig): void => {
    r.setRegister(base + GPR, 0xabcd_0123);
    r.process.write(DATA + 32, 0x1111_2222);
  };
  const r = ring(
    RCS,
    set,
    ...[0x1500_0001, base + GPR, base + GPR + 8],
    ...[0x1200_0002, base + GPR + 8, DATA, 0],
    ...[0x1480_0002, base + GPR + 16, DATA, 0],
    ...[0x1080_0001, 0x104, 0x55],
    ...[0x1080_0002, 0x110, 0x66, 0x77],
    ...[0x1700_0003, DATA + 40, 0, DATA + 32, 0],
    ...[0x1700_0003 | (1 << 21), DATA + 48, 0, DATA + 32, 0],
    ...[0x1700_0003 | (1 << 22), DATA + 56, 0, DATA + 48, 0],
  );
  passed(t, r, 'moves');
  t.strictSame(r.loaded, [
    [base + GPR + 8, 0xabcd_0123],
    [base + GPR + 16, 0xabcd_0123],
  ]);
  t.equal(r.process.read(DATA), 0xabcd_0123);
  t.strictSame([r.memory.read(STATUS_PAGES + 0x104), r.memory.read64(STATUS_PAGES + 0x110)], [0x55, [0x66, 0x77]]);
  t.strictSame([r.process.read(DATA + 40), r.memory.read(DATA + 48), r.process.read(DATA + 56)], [0x1111_2222, 0x1111_2222, 0x1111_2222]);
  t.match(ring(RCS, nothing, 0x1500_0001, 0x2000, REFUSED).log, [/not for commands/]);
  t.match(ring(RCS, nothing, 0x1700_0003, DATA + PAGE, 0, DATA, 0).log, [/not mapped/]);
  t.match(ring(RCS, nothing, 0x1700_0003, DATA, 0, DATA + PAGE, 0).log, [/not mapped/]);
});

t.test('MI_MATH against 64-bit arithmetic', async (t) => {
  const next = random(0x3a77);
  const base = ENGINE_BASES[BCS];
  const load = (to: number, register: number, inverted = false): number =>
    (((inverted ? 0x480 : 0x080) << 20) | (to << 10) | register) >>> 0;
  const store = (register: number, from: number, inverted = false): number =>
    (((inverted ? 0x580 : 0x180) << 20) | (register << 10) | from) >>> 0;
  const [A, B, ACCU, ZF, CF] = [0x20, 0x21, 0x31, 0x32, 0x33];
  const mask = 2n ** 64n - 1n;
  const operations: [opcode: number, (a: bigint, b: bigint) => bigint][] = [
    [0x100, (a, b) => a + b],
    [0x101, (a, b) => a - b],
    [0x102, (a, b) => a & b],
    [0x103, (a, b) => a | b],
    [0x104, (a, b) => a ^ b],
  ];
  const interesting = [0n, 1n, 2n ** 32n - 1n, 2n ** 32n, mask, 2n ** 63n];
  const pick = (): bigint =>
    next() % 2 === 0 ? (interesting[next() % interesting.length] as bigint) : (BigInt(next()) << 32n) | BigInt(next());
  for (let round = 0; round < 300; round++) {
    const [opcode, compute] = operations[next() % operations.length] as (typeof operations)[number];
    const [a, b] = [pick(), pick()];
    const [ia, ib, io] = [next() % 2 === 0, next() % 2 === 0, next() % 2 === 0];
    const program = [load(A, 0, ia), load(B, 1, ib), (opcode << 20) >>> 0, store(2, ACCU, io), store(3, ZF), store(4, CF)];
    const set = (r: Rig): void => {
      for (const [i, value] of [a, b].entries()) {
        r.setRegister(base + GPR + i * 8, Number(value & 0xffff_ffffn));
        r.setRegister(base + GPR + i * 8 + 4, Number(value >> 32n));
      }
    };
    const r = ring(BCS, set, (0x0d00_0000 | (program.length - 1)) >>> 0, ...program);
    const got = (register: number): bigint =>
      (BigInt(r.register(base + GPR + register * 8 + 4)) << 32n) | BigInt(r.register(base + GPR + register * 8));
    const result = compute(ia ? ~a & mask : a, ib ? ~b & mask : b);
    const wrapped = result & mask;
    const flag = (on: boolean): bigint => (on ? mask : 0n);
    const expected = [io ? ~wrapped & mask : wrapped, flag(wrapped === 0n), flag(result < 0n || result > mask)];
    if (`${[got(2), got(3), got(4)]}` !== `${expected}`)
      t.fail(`round ${round}: ${opcode} ${a} ${b}: ${[got(2), got(3), got(4)]} not ${expected}`);
    if (r.hung().length > 0) t.fail(r.log[0]);
  }
  const zeros = ring(
    BCS,
    nothing,
    0x0d00_0003,
    (0x081 << 20) | (A << 10),
    ((0x481 << 20) >>> 0) | (B << 10),
    (0x101 << 20) >>> 0,
    store(5, ACCU),
  );
  t.strictSame([zeros.register(base + GPR + 40), zeros.register(base + GPR + 44)], [0xffff_ffff, 0xffff_ffff], '0 - 1');
  for (const instruction of [load(A, 0x20), load(3, 1), store(A, ACCU), store(1, 2), 0x0700_0000, load(ACCU, 1), store(1, 0x30)])
    t.match(ring(BCS, nothing, 0x0d00_0000, instruction).log, [/MI_MATH: the instruction 0x[0-9a-f]{8} does not exist/]);
});

t.test('what a hang leaves in the registers', async (t) => {
  const r = batch(BCS, NOOP, 0xffff_ffff);
  const base = ENGINE_BASES[BCS];
  t.strictSame(r.hung(), ['bcs']);
  t.equal(r.register(base + 0x74), BATCH + 4, 'ACTHD');
  t.equal(r.register(base + 0x140), BATCH + 4, 'BBADDR');
  t.equal(r.register(base + 0x34), 12, 'RING_HEAD: behind the start');
  t.equal(r.register(0x4094), 0, 'no page fault');
  const fault = batch(BCS, ...storeOwn(0x1234_5678_9000, 1));
  t.strictSame(
    [fault.register(0x4094), fault.register(0x4b10), fault.register(0x4b14)],
    [0x2001, 0x2345_6789, 1],
    'page fault: address bits 43:12 and 47:44',
  );
  t.equal(fault.register(base + 0xb0), 0, 'which is no bad instruction');
});

t.test('a context counts the time that it ran', async (t) => {
  const r = rig();
  const context = r.context(1);
  const image = r.ring(1).image + PAGE;
  r.memory.write(image + 0x8c, 1000);
  r.emit(1, NOOP);
  r.submit(VECS, context);
  t.equal(r.memory.read(image + 0x8c), 1000, 'the rig’s clock stands still');
});
