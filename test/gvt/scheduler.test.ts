/** Who has the engines: the policy in numbers, threads that take turns by it (their clocks at the test's hand), slices of one device model. */
import t, { type Test } from 'tap';
import { Bdf } from '../../src/core/addresses.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { type EngineId, newStatistics, type VgpuStatistics } from '../../src/core/gvt/roles.js';
import {
  BALANCE_NS,
  goesFirst,
  LEASE_NS,
  mustWait,
  mustYield,
  PRIORITY_NS,
  RESERVE_NS,
  settle,
} from '../../src/core/gvt/scheduler/policy.js';
import { Schedule, type Turns } from '../../src/core/gvt/scheduler/schedule.js';
import {
  newcomer,
  RESERVED,
  ScheduleState,
  setWeight,
  sharedSchedule,
  unschedule,
  Wish,
} from '../../src/core/gvt/scheduler/shared-state.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { MemoryBackend, VM } from './memory-backend.js';

const MS = 1e6;
const ALLOTTED = 50 * MS;
const claim = (left: number, more: { priority?: boolean; allotted?: number; lastTurn?: number } = {}) => ({
  priority: false,
  left,
  allotted: ALLOTTED,
  lastTurn: 0,
  ...more,
});

t.test('who goes first', async (t) => {
  t.ok(goesFirst(claim(2), claim(1)));
  t.notOk(goesFirst(claim(1), claim(2)));
  t.ok(goesFirst(claim(-1), claim(-2)));
  t.ok(goesFirst(claim(10, { allotted: 10 }), claim(20, { allotted: 40 })), 'the larger part, not the larger rest');
  t.ok(goesFirst(claim(-9, { priority: true }), claim(9)));
  t.notOk(goesFirst(claim(9), claim(-9, { priority: true })));
  t.ok(goesFirst(claim(5, { lastTurn: 3 }), claim(5, { lastTurn: 4 })), 'least recently used');
  t.notOk(goesFirst(claim(5, { lastTurn: 4 }), claim(5, { lastTurn: 3 })));
  t.notOk(mustYield(claim(0), claim(0.009 * ALLOTTED)), 'less than a period ahead');
  t.ok(mustYield(claim(0), claim(0.01 * ALLOTTED)));
  t.ok(mustYield(claim(ALLOTTED), claim(-ALLOTTED, { priority: true })));
  t.notOk(mustYield(claim(-ALLOTTED, { priority: true }), claim(ALLOTTED)));
  t.ok(mustYield(claim(-1, { allotted: 0 }), claim(ALLOTTED)), 'one without an allotment');
});

t.test('who waits though the engine is free', async (t) => {
  t.ok(mustWait(claim(0), claim(0.1 * ALLOTTED)));
  t.notOk(mustWait(claim(0), claim(0.09 * ALLOTTED)));
  t.notOk(mustWait(claim(-ALLOTTED, { priority: true }), claim(ALLOTTED)));
  t.ok(mustWait(claim(-ALLOTTED, { priority: true }), claim(ALLOTTED, { priority: true })), 'two fresh ones');
});

t.test('a balance', async (t) => {
  const account = (weight: number, left: number, wanted = true, priority = false) => ({ weight, left, wanted, priority });
  const third = Math.floor(BALANCE_NS / 3);
  const thirds = Math.floor((2 * BALANCE_NS) / 3);
  t.strictSame(settle(1, [account(2, -5), account(1, 7)]), [
    { left: thirds - 5, allotted: thirds },
    { left: third + 7, allotted: third },
  ]);
  t.strictSame(
    settle(0, [account(1, 2 - BALANCE_NS), account(1, BALANCE_NS)]).map(({ left }) => left),
    [0, BALANCE_NS],
    'stage 0 forgets what is more than an allotment',
  );
  t.strictSame(
    settle(1, [account(1, 2 - BALANCE_NS), account(1, BALANCE_NS)]).map(({ left }) => left),
    [2 - BALANCE_NS / 2, 1.5 * BALANCE_NS],
  );
  t.strictSame(
    settle(3, [account(2, -5), account(1, 7, true, true)]).map(({ left }) => left),
    [thirds, third],
    'nobody owes for the time of another’s priority',
  );
  t.strictSame(
    settle(1, [account(2, 5), account(1, 7), account(3, 50, false)]),
    [
      { left: thirds + 5, allotted: thirds },
      { left: third + 7, allotted: third },
      { left: BALANCE_NS / 2, allotted: BALANCE_NS / 2 },
    ],
    'an idle one takes nothing from the others and gets no credit',
  );
  t.strictSame(
    settle(1, [account(5, -BALANCE_NS), account(5, 0, false)])[0],
    { left: BALANCE_NS, allotted: BALANCE_NS },
    'nobody competed',
  );
  t.strictSame(settle(1, []), []);
});

/** What a thread executes between two looks, and how long one that cannot run looks after its guest before it comes again. */
const CHUNK = 0.06 * MS;
const RETRY = 0.15 * MS;
/** Until a thread that waited for a word runs again. */
const WAKE = 0.05 * MS;

/** A device thread with one vGPU that has work for an engine, as the scheduler sees it. */
interface Thread {
  readonly turns: Turns;
  readonly statistics: VgpuStatistics;
  /** What a chunk takes, and chunks in a slice. */
  chunk: number;
  slice: number;
  /** A slice is all that it has to do until its guest has paused. */
  ends: boolean;
  /** Time for its guest after a slice. */
  pause: number;
  /** Time of its next step. */
  at: number;
  left: number;
  dead: boolean;
  idle: boolean;
}

/** Several threads on one engine, in simulated time. While one waits for another, that one goes on. */
class World {
  readonly buffer = sharedSchedule();
  readonly threads: Thread[] = [];
  now = 0;
  readonly engine: EngineId = 1;

  add(weight: number, { chunk = CHUNK, slice = 16, ends = false, pause = 0.03 * MS }: Partial<Thread> = {}): Thread {
    const slot = this.threads.length + 1;
    const statistics = newStatistics();
    // Each thread's clock began at another time.
    const schedule = new Schedule({
      now: () => this.now + slot * 3.3e15,
      buffer: this.buffer,
      wait: (words, index, value, ms) => {
        const end = this.now + ms * MS;
        while (this.now < end && Atomics.load(words, index) === value) {
          const holder = this.threads[value - 1];
          if (holder === undefined || holder.dead) this.now = end;
          else this.#step(holder);
        }
        this.now += WAKE;
      },
    });
    const turns = schedule.join(slot, weight, statistics);
    const thread: Thread = { turns, statistics, chunk, slice, ends, pause, at: this.now, left: 0, dead: false, idle: false };
    turns.start();
    this.threads.push(thread);
    return thread;
  }

  #step(thread: Thread): void {
    const { turns } = thread;
    if (thread.left > 0) {
      this.now += thread.chunk;
      thread.left--;
      if (thread.ends && thread.left === 0) {
        turns.end(this.engine, false);
        thread.at = this.now + thread.pause;
        return;
      }
      const goesOn = turns.goOn(this.engine);
      if (!goesOn) thread.left = 0;
      thread.at = this.now;
      if (thread.left > 0) return;
      turns.end(this.engine, true);
      thread.at = this.now + (goesOn ? thread.pause : RETRY);
    } else if (turns.begin(this.engine)) {
      thread.left = thread.slice;
      thread.at = this.now;
    } else thread.at = this.now + RETRY;
  }

  run(ns: number): void {
    const end = this.now + ns;
    for (;;) {
      let next: Thread | undefined;
      for (const thread of this.threads) if (!thread.dead && !thread.idle && (next === undefined || thread.at < next.at)) next = thread;
      if (next === undefined || next.at >= end || this.now >= end) break;
      this.now = Math.max(this.now, next.at);
      this.#step(next);
    }
    this.now = Math.max(this.now, end);
  }

  /** Time on the engine during `ns`, of each thread, as parts of it. */
  shares(ns: number): number[] {
    const before = this.threads.map(({ statistics }) => statistics.bcsNs);
    this.run(ns);
    return this.threads.map(({ statistics }, i) => (statistics.bcsNs - (before[i] as number)) / ns);
  }
}

const near = (t: Test, actual: readonly number[], expected: readonly number[], what: string, within = 0.03): void =>
  void t.ok(
    actual.length === expected.length && actual.every((value, i) => Math.abs(value - (expected[i] as number)) <= within),
    `${what}: ${actual.map((value) => value.toFixed(3))}`,
  );

/** Parts of what all of them had. */
function parts(shares: readonly number[]): number[] {
  const all = shares.reduce((sum, share) => sum + share);
  return shares.map((share) => share / all);
}

t.test('time on the engine goes by weight', async (t) => {
  for (const [weights, expected] of [
    [
      [2, 1],
      [2 / 3, 1 / 3],
    ],
    [
      [1, 1],
      [1 / 2, 1 / 2],
    ],
    [
      [1, 1, 2],
      [1 / 4, 1 / 4, 1 / 2],
    ],
    [
      [16, 2],
      [8 / 9, 1 / 9],
    ],
    [
      [256, 1],
      [256 / 257, 1 / 257],
    ],
  ] as const) {
    const world = new World();
    for (const weight of weights) world.add(weight);
    near(t, parts(world.shares(1000 * MS)), expected, `${weights.join(':')}, all fresh`, 0.05);
    world.run(PRIORITY_NS);
    const shares = world.shares(1000 * MS);
    near(t, parts(shares), expected, weights.join(':'), 0.01);
    const used = shares.reduce((sum, share) => sum + share);
    t.ok(used > 0.93 && used < 1.001, `the engine is used ${used}`);
  }
  // Slices of different length, pauses for the guest: the rest is for who is there.
  const world = new World();
  world.add(2, { slice: 2, pause: 0.05 * MS });
  world.add(1, { slice: 40, pause: 0.4 * MS });
  world.run(PRIORITY_NS);
  const [a, b] = world.shares(1000 * MS) as [number, number];
  t.ok(Math.abs(a / b - 2) < 0.1, `${a / b}`);
  t.ok(a + b > 0.75, `the engine is used ${a + b}`);
});

t.test('turns take about a period, and none waits long', async (t) => {
  const world = new World();
  const a = world.add(1);
  world.add(1);
  world.run(PRIORITY_NS);
  const before = a.statistics.turns;
  world.run(1000 * MS);
  const turns = a.statistics.turns - before;
  t.ok(turns > 250 && turns < 1100, `${turns} turns in a second`);
});

t.test('who submits next to nothing, over and over, costs others little', async (t) => {
  for (const [weight, other] of [
    [1, 1],
    [8, 1],
    [1, 8],
  ] as const)
    for (const [chunk, pause] of [
      [0.005, 0.05],
      [0.005, 0.5],
      [0.005, 2],
      [0.31, 0.1],
      [0.31, 1],
    ] as const) {
      const world = new World();
      world.add(weight);
      world.add(other, { chunk: chunk * MS, slice: 1, ends: true, pause: pause * MS });
      world.run(PRIORITY_NS);
      const [busy, tiny] = world.shares(1000 * MS) as [number, number];
      const least = (0.9 * weight) / (weight + other);
      t.ok(busy >= least && tiny > 0, `${weight}:${other}, ${chunk} ms each ${pause} ms: ${busy} and ${tiny}`);
    }
});

t.test('who had little to do has no credit when it has much', async (t) => {
  const world = new World();
  world.add(1);
  const tiny = world.add(1, { chunk: 0.005 * MS, slice: 1, ends: true, pause: 0.5 * MS });
  world.run(PRIORITY_NS + 3000 * MS);
  Object.assign(tiny, { chunk: CHUNK, slice: 16, ends: false, pause: 0.03 * MS });
  near(t, parts(world.shares(100 * MS)), [1 / 2, 1 / 2], 'at once', 0.05);
});

t.test('one that is stopped is left no engine', async (t) => {
  const world = new World();
  const [a, b] = [world.add(1), world.add(1)] as [Thread, Thread];
  world.run(PRIORITY_NS);
  while (a.left === 0) world.run(CHUNK);
  for (const thread of [a, b]) thread.idle = true;
  const state = new ScheduleState(world.buffer);
  Atomics.store(state.words, state.left(world.engine, 2), BALANCE_NS);
  Atomics.store(state.words, state.asking(world.engine), 2);
  b.turns.stop();
  t.ok(a.turns.goOn(world.engine), 'it asks no more');
  Atomics.store(state.words, state.holder(world.engine), RESERVED | 2);
  b.turns.stop();
  t.equal(Atomics.load(state.words, state.holder(world.engine)), 0);
});

t.test('a wish is of the period in which it is told', async (t) => {
  const world = new World();
  const { turns } = world.add(1);
  const state = new ScheduleState(world.buffer);
  world.now += BALANCE_NS;
  t.ok(turns.begin(world.engine), 'this settles what is due');
  t.equal(Atomics.load(state.words, state.wanted(world.engine, 1)), Wish.HAS);
});

t.test('alone, a vGPU has all of the GPU', async (t) => {
  const world = new World();
  const only = world.add(1, { pause: 0 });
  near(t, world.shares(1000 * MS), [1], 'all', 0.01);
  t.equal(only.statistics.turnsWaited, 0);
  t.equal(only.turns.chunk, Number.POSITIVE_INFINITY, 'and does not look for others');
  const other = world.add(1);
  t.equal(only.turns.chunk < 10_000, true);
  other.idle = true;
  world.run(PRIORITY_NS);
  near(t, world.shares(1000 * MS), [1, 0], 'also beside one that has nothing to do', 0.01);
  other.turns.stop();
  t.equal(only.turns.chunk, Number.POSITIVE_INFINITY);
});

t.test('a late one has priority for two seconds, once', async (t) => {
  const world = new World();
  world.add(2);
  world.add(1);
  world.run(2 * PRIORITY_NS);
  const late = world.add(1);
  near(t, world.shares(PRIORITY_NS - 100 * MS), [0, 0, 1], 'first', 0.2);
  world.run(300 * MS);
  near(t, parts(world.shares(2000 * MS)), [1 / 2, 1 / 4, 1 / 4], 'then by weight');
  // The guest resets its GPU and enables the engines again.
  late.turns.stop();
  late.turns.start();
  near(t, parts(world.shares(1000 * MS)), [1 / 2, 1 / 4, 1 / 4], 'no second time');
});

t.test('a client that connects over and over gains nothing', async (t) => {
  const world = new World();
  world.add(1);
  world.add(1);
  world.run(2 * PRIORITY_NS);
  const again = (slot: number): boolean => {
    const state = new ScheduleState(world.buffer);
    Atomics.store(state.words, state.left(world.engine, slot), -5 * MS);
    const turns = new Schedule({ now: () => world.now, buffer: world.buffer }).join(slot, 1, newStatistics());
    turns.start();
    const owes = Atomics.load(state.words, state.left(world.engine, slot)) === -5 * MS;
    t.equal(state.hasPriority(slot), !owes);
    turns.stop();
    return owes;
  };
  t.ok(again(2), 'another device model for the same vGPU: no priority, and what it owes');
  newcomer(world.buffer, 2);
  t.notOk(again(2), 'another vGPU');
});

t.test('a guest that resets its GPU all the time gains nothing', async (t) => {
  const world = new World();
  world.add(8);
  const resetter = world.add(1);
  world.run(PRIORITY_NS);
  const before = world.threads.map(({ statistics }) => statistics.bcsNs);
  for (let i = 0; i < 200; i++) {
    world.run(5 * MS);
    if (resetter.left > 0) resetter.turns.end(world.engine, false);
    resetter.left = 0;
    resetter.turns.stop();
    resetter.turns.start();
  }
  const [honest, other] = world.threads.map(({ statistics }, i) => statistics.bcsNs - (before[i] as number)) as [number, number];
  t.ok(other / honest < 1.1 / 8, `${other / honest} of what the other has`);
});

t.test('a guest that drops its work all the time keeps the engine from nobody', async (t) => {
  const world = new World();
  const honest = world.add(1);
  const dropper = world.add(1);
  dropper.idle = true;
  world.run(PRIORITY_NS);
  const before = honest.statistics.bcsNs;
  for (let i = 0; i < 50; i++) {
    // A submission executes a little at once; then the guest resets the engine.
    if (dropper.turns.begin(world.engine)) dropper.turns.end(world.engine, true);
    dropper.turns.withdraw(world.engine);
    world.run(20 * MS);
  }
  const part = (honest.statistics.bcsNs - before) / (1000 * MS);
  t.ok(part > 0.9, `${part} of the time`);
});

t.test('work that is gone: nobody waits, and an engine that was left to it is free', async (t) => {
  const world = new World();
  const [a, b] = [world.add(1), world.add(1)];
  for (const thread of [a, b]) thread.idle = true;
  world.run(PRIORITY_NS);
  const { engine } = world;
  const state = new ScheduleState(world.buffer);
  const { words } = state;
  // Twice: the first looks settle what is due.
  for (const { turns } of [a, b, b, a]) {
    t.ok(turns.begin(engine));
    turns.end(engine, true);
  }
  Atomics.store(words, state.left(engine, 2), -BALANCE_NS);
  t.notOk(b.turns.begin(engine), 'it waits for one that has work');
  a.turns.withdraw(engine);
  t.equal(Atomics.load(words, state.wanted(engine, 1)), Wish.HAD, 'it still counts for this period');
  t.ok(b.turns.begin(engine), 'no more');
  Atomics.store(words, state.asking(engine), 1);
  a.turns.withdraw(engine);
  t.ok(b.turns.goOn(engine), 'who asked does so no more');
  Atomics.store(words, state.holder(engine), RESERVED | 1);
  t.notOk(b.turns.begin(engine));
  a.turns.withdraw(engine);
  t.ok(b.turns.begin(engine));
  a.turns.withdraw(engine);
  t.ok(b.turns.goOn(engine), 'and takes it from nobody');
});

t.test('a reset engine, and a vGPU that failed, are waited for by nobody', async (t) => {
  const buffer = sharedSchedule();
  const state = new ScheduleState(buffer);
  const gvt = new Gvt(new MemoryBackend(), { now: () => 0, schedule: buffer });
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  gvt.activate(vgpu);
  vgpu.submission.setEnabled(1, true);
  const wanted = state.wanted(1, vgpu.id);
  Atomics.store(state.words, wanted, Wish.HAS);
  vgpu.resetEngines(1 << 2);
  t.equal(Atomics.load(state.words, wanted), Wish.HAS, 'another engine');
  vgpu.resetEngines(1 << 1);
  t.equal(Atomics.load(state.words, wanted), Wish.HAD);
  t.ok(state.isScheduled(vgpu.id));
  vgpu.enterFailsafe('guest-error');
  t.notOk(state.isScheduled(vgpu.id));
});

t.test('a vGPU that is not active takes no part, whatever its guest does', async (t) => {
  const buffer = sharedSchedule();
  const state = new ScheduleState(buffer);
  const gvt = new Gvt(new MemoryBackend(), { now: () => 0, schedule: buffer });
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  const enable = (): boolean => {
    for (const on of [false, true]) vgpu.submission.setEnabled(1, on);
    return state.isScheduled(vgpu.id);
  };
  t.notOk(enable(), 'not activated yet');
  gvt.activate(vgpu);
  t.ok(enable());
  gvt.deactivate(vgpu);
  t.notOk(enable(), 'deactivated');
  gvt.activate(vgpu);
  t.ok(enable());
});

t.test('a weight that is changed while it runs', async (t) => {
  const world = new World();
  world.add(1);
  world.add(1);
  world.run(PRIORITY_NS);
  setWeight(world.buffer, 2, 3);
  world.run(200 * MS);
  near(t, parts(world.shares(1000 * MS)), [1 / 4, 3 / 4], 'from the next balance on');
});

t.test('who was idle gets its share at once, and no more than a period’s credit', async (t) => {
  const world = new World();
  world.add(1);
  const idle = world.add(1);
  world.run(PRIORITY_NS);
  while (idle.left > 0) world.run(CHUNK);
  idle.idle = true;
  world.run(5000 * MS);
  idle.idle = false;
  idle.at = world.now;
  const [, burst] = world.shares(200 * MS) as [number, number];
  t.ok(burst >= 0.45 && burst <= 0.75, `${burst} of the first 200 ms`);
  near(t, world.shares(1000 * MS), [1 / 2, 1 / 2], 'afterwards');
});

t.test('one that dies with the engine loses it', async (t) => {
  const world = new World();
  const dead = world.add(1);
  world.add(1);
  world.add(1);
  world.run(PRIORITY_NS + 20 * MS);
  while (dead.left === 0) world.run(CHUNK);
  dead.dead = true;
  const [, b, c] = world.shares(LEASE_NS + 3 * MS) as [number, number, number];
  t.ok(b + c > 0 && b + c < 0.3, `${b + c} until the lease ends`);
  world.run(200 * MS);
  near(t, world.shares(1000 * MS), [0, 1 / 2, 1 / 2], 'the others share');
  // It was not dead, only slow: it finds out, and does nothing to who has the engine now.
  t.notOk(dead.turns.goOn(world.engine));
  dead.turns.end(world.engine, true);
  near(t, world.shares(100 * MS).slice(1), [1 / 2, 1 / 2], 'undisturbed', 0.1);
  unschedule(world.buffer, 1);
  unschedule(world.buffer, 2);
  t.equal((world.threads[2] as Thread).turns.chunk, Number.POSITIVE_INFINITY);
});

t.test('an engine that is left to one that does not come is anybody’s soon', async (t) => {
  const world = new World();
  const [a, b, c] = [world.add(1), world.add(1), world.add(1)];
  world.run(PRIORITY_NS);
  while (a.left === 0) world.run(CHUNK);
  // It asks, and ends in the middle of that.
  for (const other of [b, c]) other.dead = true;
  const words = new Int32Array(world.buffer);
  const state = new ScheduleState(world.buffer);
  Atomics.store(words, state.left(world.engine, 2), BALANCE_NS);
  Atomics.store(words, state.asking(world.engine), 2);
  t.notOk(a.turns.goOn(world.engine), 'left to it');
  Atomics.store(words, state.left(world.engine, 2), 0);
  a.turns.end(world.engine, true);
  a.left = 0;
  t.notOk(a.turns.begin(world.engine));
  t.notOk(c.turns.begin(world.engine));
  world.now += RESERVE_NS + 1;
  t.ok(a.turns.begin(world.engine));
});

t.test('one device model, several vGPUs', async (t) => {
  const gvt = new Gvt(new MemoryBackend(), { now: () => 0 });
  const busy = new Set<number>();
  const vgpus = [2, 1, 1].map((weight, i) => {
    const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', resources: { weight }, vmId: VM, bdf: Bdf((i + 2) << 3) });
    const { submission } = vgpu;
    Object.defineProperty(submission, 'hasWork', { get: () => busy.has(vgpu.id) });
    submission.busy = (engine) => engine === 1 && busy.has(vgpu.id);
    return vgpu;
  });
  // The engine itself is not in this test: what it is given takes its time.
  const state = { broken: 0, stuck: 0 };
  const executed = new Map<number, number>();
  for (const vgpu of vgpus) {
    vgpu.submission.run = (_engine, budget) => {
      if (vgpu.id === state.broken) throw new Error('defect of an engine');
      if (vgpu.id === state.stuck) return 0;
      executed.set(vgpu.id, (executed.get(vgpu.id) ?? 0) + budget);
      return budget;
    };
  }
  const spent = (): number[] => {
    const result = vgpus.map(({ id }) => executed.get(id) ?? 0);
    executed.clear();
    return result;
  };
  const [a, b, c] = vgpus as [Vgpu, Vgpu, Vgpu];
  busy.add(a.id).add(b.id).add(c.id);
  t.equal(gvt.hasWork, false, 'none is active');
  gvt.runSlice(800);
  t.strictSame(spent(), [0, 0, 0]);
  for (const vgpu of vgpus) gvt.activate(vgpu);
  t.equal(gvt.hasWork, true);
  gvt.runSlice(800);
  t.equal(
    spent().reduce((sum, n) => sum + n),
    800,
  );
  t.equal(gvt.canGoOn, true);
  state.stuck = b.id;
  busy.delete(a.id);
  gvt.runSlice(900);
  t.strictSame(spent(), [0, 0, 900], 'one that waits holds nobody up');
  busy.delete(c.id);
  gvt.runSlice(900);
  t.strictSame([...spent(), gvt.hasWork, gvt.canGoOn], [0, 0, 0, true, false]);
  state.broken = b.id;
  gvt.runSlice(900);
  t.equal(gvt.defects, 1, 'a defect is counted');
  t.match(String(gvt.lastDefect), /defect of an engine/);
  t.equal(b.failsafe, true, 'and ends that vGPU’s work');
  t.equal(gvt.hasWork, false);
});

t.test('a device model that is behind other threads executes more at once', async (t) => {
  const buffer = sharedSchedule();
  const gvt = new Gvt(new MemoryBackend(), { now: () => 0, schedule: buffer });
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  gvt.activate(vgpu);
  let executed = 0;
  let runs = 0;
  Object.defineProperty(vgpu.submission, 'hasWork', { get: () => true });
  vgpu.submission.busy = (engine) => engine === 1;
  vgpu.submission.runSlice = (budget) => {
    runs++;
    executed += budget;
    return budget;
  };
  gvt.runSlice(100);
  t.strictSame([runs, executed], [1, 100], 'alone');
  vgpu.submission.setEnabled(1, true);
  const other = new Schedule({ now: () => 0, buffer }).join(5, 1, newStatistics());
  other.start();
  t.ok(other.begin(1));
  other.end(1, true);
  gvt.runSlice(100);
  t.equal(runs, 2, 'even with the other');
  const state = new ScheduleState(buffer);
  Atomics.store(state.words, state.left(1, 5), -BALANCE_NS);
  // Its engine, which would say so, is not in this test.
  Atomics.store(state.words, state.wanted(1, vgpu.id), Wish.HAS);
  t.notOk(other.begin(1), 'the other waits, though the engine is free');
  gvt.runSlice(100);
  t.equal(runs, 6, 'four slices');
  other.stop();
  gvt.runSlice(100);
  t.equal(runs, 7);
});
