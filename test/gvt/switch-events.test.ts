/** When a guest is told of context switches, with pacing: what streams is told later, who waits at once. */
import t from 'tap';
import { BATCH_END, batchStart, ENGINE_BASES, type Rig, rig, storeDword, USER_INTERRUPT } from './engine-rig.js';

import { fixture } from './memory-backend.js';

const BCS = 1;
const DATA = 0x40_0000;
const BATCH = 0x50_0000;
const IDLE_TO_ACTIVE = 1;
const FINISHED = 0x18;
const MS = 1e6;
const BCS_BASE = ENGINE_BASES[BCS] as number;
const IMR = BCS_BASE + 0xa8;

/** A paced engine with a context, whose user interrupt is masked; each `run` submits so many batches, which store a running number. */
function paced(longest = MS): Rig & { time: { ns: number }; run(batches: number): number } {
  const time = { ns: 1e9 };
  const r = rig({ now: () => time.ns, longest });
  const context = r.context(1);
  r.memory.map(DATA);
  r.memory.map(BATCH);
  r.memory.write(BATCH, BATCH_END);
  r.setRegister(IMR, 0xffff_ffff);
  let stored = 0;
  return {
    ...r,
    time,
    run(batches) {
      for (let i = 0; i < batches; i++) r.emit(1, ...batchStart(BATCH), ...storeDword(DATA, ++stored), USER_INTERRUPT);
      r.submit(BCS, context);
      return stored;
    },
  };
}

const BOTH = [
  [IDLE_TO_ACTIVE, 0],
  [FINISHED, 1],
];

t.test('one batch at a time is told at once, however often', async (t) => {
  const r = paced();
  for (let i = 0; i < 5; i++) {
    r.time.ns += 1000;
    r.run(1);
    t.strictSame(r.entries(BCS), BOTH);
    t.equal(r.submission.untilTick, Number.POSITIVE_INFINITY);
  }
});

t.test('a guest that streams is told later: the work is done at once, entries and interrupt wait for their time', async (t) => {
  const r = paced();
  r.run(2);
  t.strictSame(r.entries(BCS), BOTH, 'the first is told at once');
  r.time.ns += 20_000;
  r.trace.length = 0;
  const stored = r.run(3);
  t.equal(r.memory.read(DATA), stored, 'what was submitted is done');
  t.strictSame(r.trace, [], 'and not told of');
  t.equal(r.submission.hasWork, false);
  const due = r.submission.untilTick;
  t.ok(due > 0 && due < MS, `due in ${due} ns`);
  r.time.ns += due - 1;
  r.submission.tick();
  t.strictSame(r.trace, [], 'nor a moment too early');
  r.time.ns += 1;
  r.submission.tick();
  t.strictSame(r.trace, ['bcs.ctx-switch'], 'one interrupt');
  t.strictSame(r.entries(BCS), BOTH);
  t.equal(r.submission.untilTick, Number.POSITIVE_INFINITY);
});

t.test('the time grows up to the longest while the guest streams, and ends with one batch', async (t) => {
  const r = paced();
  const paces: number[] = [];
  for (let i = 0; i < 12; i++) {
    r.run(2);
    const { untilTick } = r.submission;
    paces.push(untilTick === Number.POSITIVE_INFINITY ? 0 : untilTick);
    r.time.ns += paces.at(-1) as number;
    r.submission.tick();
  }
  t.strictSame(
    paces,
    [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10].map((steps) => steps * 100_000),
  );
  r.run(1);
  t.equal(r.submission.untilTick, Number.POSITIVE_INFINITY, 'told at once');
  r.time.ns += MS;
  r.run(2);
  t.equal(r.submission.untilTick, Number.POSITIVE_INFINITY, 'nothing was told for so long that it is due');
});

/** A switch that waits. */
function waiting(): ReturnType<typeof paced> {
  const r = paced();
  r.run(2);
  r.entries(BCS);
  r.run(2);
  r.trace.length = 0;
  return r;
}

t.test('what ends the wait', async (t) => {
  const submitted = waiting();
  submitted.run(1);
  t.equal(submitted.entries(BCS).length, 4, 'another submission: all in their order');

  const read = waiting();
  t.equal(read.submission.readCsbPointer(BCS) & 7, 3, 'a read of the registers that tell of switches');
  t.strictSame(read.trace, ['bcs.ctx-switch']);

  const other = waiting();
  other.submission.settle(0);
  t.strictSame(other.trace, [], 'not another engine');
  other.submission.settle(BCS);
  t.strictSame(other.trace, ['bcs.ctx-switch']);

  const begun = waiting();
  begun.time.ns += 50_000;
  begun.submission.wanted(BCS);
  t.strictSame(begun.trace, ['bcs.ctx-switch'], 'somebody begins to wait');
  begun.run(2);
  t.equal(begun.submission.untilTick, 200_000, 'from half the time on it grows again');

  const reset = waiting();
  reset.submission.reset(1 << BCS);
  reset.time.ns += 10 * MS;
  reset.submission.tick();
  t.strictSame(reset.trace, [], 'a reset engine tells of nothing');
});

t.test('nothing waits for a guest that waits, nor while the engine has more to do', async (t) => {
  const r = paced();
  r.run(2);
  r.entries(BCS);
  r.setRegister(IMR, 0);
  r.run(2);
  t.strictSame(r.entries(BCS), BOTH, 'the user interrupt is wanted');
  r.setRegister(IMR, 0xffff_ffff);
  r.run(2);
  t.ok(r.submission.untilTick < MS, 'again');
  r.submission.settle();
  r.entries(BCS);
  // A batch that starts itself.
  r.memory.write(BATCH, batchStart(BATCH)[0] as number);
  r.memory.write(BATCH + 4, BATCH);
  r.run(2);
  t.equal(r.submission.hasWork, true);
  t.strictSame(r.entries(BCS), [[IDLE_TO_ACTIVE, 0]], 'its start is told');
});

t.test('a vGPU: paced when the device model is told so; the register by which a guest wants the user interrupt ends a wait', async (t) => {
  for (const switchPaceMs of [0, 1]) {
    const f = fixture({ switchPaceMs });
    const { vgpu, backend } = f;
    const { words } = backend;
    const aperture = vgpu.resources.aperture.start;
    f.configWrite(0x94, 4, 0xfee0_0000);
    f.configWrite(0x98, 4, 0x41);
    f.configWrite(0x92, 2, 1);
    f.read(0x7_8000);
    f.map(aperture, 0, 8);
    for (const [offset, value] of [
      [BCS_BASE + 0x80, aperture],
      [BCS_BASE + 0x29c, 0x8000_8000],
      [0x4_4304, 0],
      [0x4_430c, 0xffff_ffff],
      [0x4_4200, 0x8000_0000],
    ] as const)
      f.write(offset, value);
    // Context at frame 1, ring at 3 with two batches at 4.
    words[2 * 1024 + 9] = aperture + 3 * 4096;
    words[2 * 1024 + 11] = 1;
    words[4 * 1024] = BATCH_END;
    const submit = (): void => {
      const head = (words[2 * 1024 + 5] as number) & 0xffc;
      for (let i = 0; i < 2; i++) words.set([0x1880_0001, aperture + 4 * 4096, 0], 3 * 1024 + head / 4 + i * 3);
      words[2 * 1024 + 7] = head + 24;
      for (const dword of [0, 0, 1, aperture + 4096 + 0x109]) f.write(BCS_BASE + 0x230, dword);
    };
    submit();
    t.equal(backend.msis.length, 1);
    submit();
    t.equal(words[2 * 1024 + 5], 48, 'done');
    if (switchPaceMs === 0) {
      t.equal(backend.msis.length, 2, 'told');
      t.equal(f.gvt.untilSwitchMs, Number.POSITIVE_INFINITY);
      continue;
    }
    t.equal(backend.msis.length, 1, 'not told');
    t.equal(f.gvt.untilSwitchMs, 0.2);
    f.write(IMR, 0);
    t.equal(backend.msis.length, 2, 'told to who waits');
    f.write(IMR, 0xffff_ffff);
    submit();
    f.time.ns += f.gvt.untilSwitchMs * 1e6;
    f.gvt.runSlice(100);
    t.equal(backend.msis.length, 3, 'told in time');
    submit();
    f.gvt.saveVgpu(vgpu);
    t.equal(backend.msis.length, 4, 'told before it is saved');
  }
});
