/**
 * One device thread's hand on the schedule of the GPU. The engines' turns go from vGPU to vGPU through shared words; nobody keeps
 * time for all, and no thread's clock is compared with another's.
 *
 * * A free engine is taken by whoever comes. So the only vGPU on a GPU has all of it.
 * * Who comes while another runs, and is a period ahead of it, asks. The other looks between commands, leaves the engine to the one that
 *   asks and goes back to its guest. The one that asks waits for that, `HANDOVER_MS` at most; so long no thread ever waits
 *   longer for another.
 * * Who is far ahead of another that has work waits for it, though the engine is free.
 * * Who has an engine gives signs of life. One that gives none loses it (`LEASE_NS`): its thread may be dead.
 */
import type { EngineId, EngineTurns, VgpuStatistics } from '../roles.js';
import { ENGINES } from '../roles.js';
import {
  allotment,
  BALANCE_NS,
  type Claim,
  forfeit,
  goesFirst,
  HANDOVER_NS,
  LEASE_NS,
  mustWait,
  mustYield,
  PRIORITY_NS,
  RESERVE_NS,
  STAGES,
  settle,
} from './policy.js';
import { EPOCH, KNOWN, NOBODY, RESERVED, SCHEDULED, ScheduleState, SLOTS, setWeight, Wish } from './shared-state.js';

/** Longest wait for one that has been asked to let an engine go: what a chunk takes, and the hand-over. */
const HANDOVER_MS = 0.3;
/** Budget between two looks at whether another asks. */
const CHUNK_UNITS = 512;
/** Debts are forgotten after a second. */
const DEBT_MAX_NS = STAGES * BALANCE_NS;

/** Counters of time, by `EngineId`. */
const TIMES = ['rcsNs', 'bcsNs', 'vcsNs', 'vecsNs'] as const satisfies readonly (keyof VgpuStatistics)[];

type MutableClaim = { -readonly [K in keyof Claim]: Claim[K] };
const emptyClaim = (): MutableClaim => ({ priority: false, left: 0, allotted: 0, lastTurn: 0 });

type Wait = (words: Int32Array, index: number, value: number, ms: number) => unknown;

/** What was last seen of the holder of an engine. */
interface Watch {
  holder: number;
  turns: number;
  since: number;
}

export interface ScheduleParts {
  /** Nanoseconds, never going back; this thread's. */
  readonly now: () => number;
  /** Nanoseconds of processor time of this thread, by which its vGPUs pay. Default: `now`. */
  readonly threadNs?: () => number;
  /** Of `sharedSchedule()`, when other threads serve vGPUs of the same GPU. */
  readonly buffer?: SharedArrayBuffer;
  /** For a word to change; tests have their own. */
  readonly wait?: Wait;
}

export class Schedule {
  readonly state: ScheduleState;
  readonly now: () => number;
  readonly threadNs: () => number;
  #epoch: number;
  #epochSince: number;
  readonly #watches: readonly Watch[];
  readonly #mine = emptyClaim();
  readonly #other = emptyClaim();

  readonly #wait: Wait;

  constructor({ now, threadNs = now, buffer, wait = Atomics.wait }: ScheduleParts) {
    this.state = new ScheduleState(buffer);
    this.now = now;
    this.threadNs = threadNs;
    this.#wait = wait;
    this.#epoch = Atomics.load(this.state.words, EPOCH);
    this.#epochSince = now();
    this.#watches = ENGINES.map(() => ({ holder: NOBODY, turns: 0, since: 0 }));
  }

  /** A vGPU's turns at the engines. @param slot its id */
  join(slot: number, weight: number, statistics: VgpuStatistics): Turns {
    return new Turns(this, slot, weight, statistics);
  }

  /** `a` is to run before `b`. */
  goesFirst(engine: EngineId, a: number, b: number): boolean {
    return goesFirst(this.state.claim(engine, a, this.#mine), this.state.claim(engine, b, this.#other));
  }

  mustYield(engine: EngineId, holder: number, waiting: number): boolean {
    return mustYield(this.state.claim(engine, holder, this.#mine), this.state.claim(engine, waiting, this.#other));
  }

  /** Settles all accounts when a balance is due and no other thread has done it. */
  balance(now: number): void {
    const { words } = this.state;
    const epoch = Atomics.load(words, EPOCH);
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#epochSince = now;
    } else if (now - this.#epochSince >= BALANCE_NS && Atomics.compareExchange(words, EPOCH, epoch, epoch + 1) === epoch) {
      this.#epoch = epoch + 1;
      this.#epochSince = now;
      for (const { id } of ENGINES) this.#settle(id, (epoch + 1) % STAGES);
    }
  }

  #settle(engine: EngineId, stage: number): void {
    const { state } = this;
    const { words } = state;
    const slots = [...state.scheduled()];
    const accounts = slots.map((slot) => ({
      weight: state.weight(slot),
      left: Atomics.load(words, state.left(engine, slot)),
      priority: state.hasPriority(slot),
      wanted: Atomics.exchange(words, state.wanted(engine, slot), Wish.NONE) !== Wish.NONE,
    }));
    for (const [i, { left, allotted }] of settle(stage, accounts).entries()) {
      const slot = slots[i] as number;
      // Added, so that what its thread pays meanwhile is not lost.
      Atomics.add(words, state.left(engine, slot), left - (accounts[i] as { left: number }).left);
      Atomics.store(words, state.allotted(engine, slot), allotted);
    }
  }

  /** The engine is free, but `slot` is too far ahead of another that has work for it. */
  mustWait(engine: EngineId, slot: number): boolean {
    return this.#lags(engine, slot, false);
  }

  /** The slot has work again, and others go on with theirs. */
  resume(engine: EngineId, slot: number): void {
    const { state } = this;
    if (state.isAlone(slot)) return;
    const own = state.claim(engine, slot, this.#mine);
    let least = Number.POSITIVE_INFINITY;
    for (let i = 1; i < SLOTS; i++)
      if (this.#competes(engine, slot, i)) least = Math.min(least, forfeit(own, state.claim(engine, i, this.#other)));
    if (least !== Number.POSITIVE_INFINITY) Atomics.sub(state.words, state.left(engine, slot), least);
  }

  /** `slot` could not begin with its work, or was stopped: the engine is another's. */
  awaitsTurn(engine: EngineId, slot: number): boolean {
    return Atomics.load(this.state.words, this.state.wanted(engine, slot)) === Wish.HAS;
  }

  /** Others wait for `slot` to use its part of the engine. */
  isWaitedFor(engine: EngineId, slot: number): boolean {
    return this.#lags(engine, slot, true);
  }

  /** Some other slot that has work is too far behind `slot`, or the other way round. */
  #lags(engine: EngineId, slot: number, behind: boolean): boolean {
    const { state } = this;
    if (state.isAlone(slot)) return false;
    const own = state.claim(engine, slot, this.#mine);
    for (let i = 1; i < SLOTS; i++) {
      if (!this.#competes(engine, slot, i)) continue;
      const other = state.claim(engine, i, this.#other);
      if (behind ? mustWait(other, own) : mustWait(own, other)) return true;
    }
    return false;
  }

  #competes(engine: EngineId, slot: number, other: number): boolean {
    const { state } = this;
    return other !== slot && state.isScheduled(other) && Atomics.load(state.words, state.wanted(engine, other)) === Wish.HAS;
  }

  /** Takes an engine that another has, or was left: if it was left to `slot`, if its holder is dead, or by asking. */
  contend(engine: EngineId, slot: number, holder: number, now: number): boolean {
    const { state } = this;
    const { words } = state;
    const at = state.holder(engine);
    if (holder === (RESERVED | slot) || this.#lapsed(engine, holder, now))
      return Atomics.compareExchange(words, at, holder, slot) === holder;
    if ((holder & RESERVED) !== 0 || !state.isShared || !this.mustYield(engine, holder, slot)) return false;
    const asking = state.asking(engine);
    const before = Atomics.load(words, asking);
    if (before !== NOBODY && before !== slot && !this.goesFirst(engine, slot, before)) return false;
    Atomics.store(words, asking, slot);
    this.#wait(words, at, holder, HANDOVER_MS);
    // Who has it sees the question also after that, and leaves the engine to us.
    const left = RESERVED | slot;
    return Atomics.compareExchange(words, at, left, slot) === left || Atomics.compareExchange(words, at, NOBODY, slot) === NOBODY;
  }

  /** Neither the holder nor its signs of life have changed for so long that it has lost the engine. */
  #lapsed(engine: EngineId, holder: number, now: number): boolean {
    const watch = this.#watches[engine] as Watch;
    const turns = Atomics.load(this.state.words, this.state.turns(engine));
    if (watch.holder === holder && watch.turns === turns) return now - watch.since >= ((holder & RESERVED) === 0 ? LEASE_NS : RESERVE_NS);
    watch.holder = holder;
    watch.turns = turns;
    watch.since = now;
    return false;
  }
}

/** One vGPU's turns. */
export class Turns implements EngineTurns {
  readonly #schedule: Schedule;
  readonly #state: ScheduleState;
  readonly #words: Int32Array;
  readonly #slot: number;
  readonly #statistics: VgpuStatistics;
  /** The clock that the turn pays by, and its time at the last look. Alone, nobody is paid back: the cheaper clock does. */
  #clock: () => number;
  #since = 0;
  /** What this turn pays at least, and what it has paid. */
  #least = 0;
  #paid = 0;
  /** Engines that had work at the last look, as a mask. */
  #working = 0;
  /** Its owner lets it run. */
  #allowed = true;
  #priorityEnds = 0;

  constructor(schedule: Schedule, slot: number, weight: number, statistics: VgpuStatistics) {
    this.#schedule = schedule;
    this.#state = schedule.state;
    this.#words = schedule.state.words;
    this.#slot = slot;
    this.#statistics = statistics;
    this.#clock = schedule.now;
    this.stop();
    setWeight(schedule.state.words.buffer, slot, weight);
  }

  get chunk(): number {
    return this.#state.isAlone(this.#slot) ? Number.POSITIVE_INFINITY : CHUNK_UNITS;
  }

  start(): void {
    const state = this.#state;
    const slot = this.#slot;
    if (!this.#allowed || state.isScheduled(slot)) return;
    const weight = state.weight(slot);
    const allotted = allotment(weight, state.weights() + weight);
    const mask = 1 << slot;
    // Priority is for a vGPU that is new, not for one whose guest starts its engines, or whose client connects, again and again.
    const fresh = (Atomics.or(this.#words, KNOWN, mask) & mask) === 0;
    for (const { id } of ENGINES) {
      const left = fresh ? allotted : Math.min(allotted, Atomics.load(this.#words, state.left(id, slot)));
      Atomics.store(this.#words, state.left(id, slot), left);
      Atomics.store(this.#words, state.allotted(id, slot), allotted);
      Atomics.store(this.#words, state.wanted(id, slot), Wish.NONE);
    }
    if (fresh) {
      this.#priorityEnds = this.#schedule.now() + PRIORITY_NS;
      state.setPriority(slot, true);
    }
    Atomics.or(this.#words, SCHEDULED, 1 << slot);
  }

  allow(on: boolean): void {
    this.#allowed = on;
    if (!on) this.stop();
  }

  stop(): void {
    Atomics.and(this.#words, SCHEDULED, ~(1 << this.#slot));
    for (const { id } of ENGINES) this.withdraw(id);
    this.#endPriority();
  }

  begin(engine: EngineId): boolean {
    const state = this.#state;
    const slot = this.#slot;
    if (!this.#allowed) return false;
    // The engines of a vGPU that was restored are enabled without a word to us.
    if (!state.isScheduled(slot)) this.start();
    const words = this.#words;
    // Before the wish is told: a balance that is due settles what was wanted so far.
    const now = this.#look();
    const working = 1 << engine;
    if ((this.#working & working) === 0) {
      this.#working |= working;
      this.#schedule.resume(engine, slot);
    }
    Atomics.store(words, state.wanted(engine, slot), Wish.HAS);
    const holder = this.#take(engine, now);
    if (holder < 0) {
      this.#statistics.turnsWaited++;
      return false;
    }
    Atomics.compareExchange(words, state.asking(engine), slot, NOBODY);
    Atomics.store(words, state.lastTurn(engine, slot), Atomics.add(words, state.turns(engine), 1));
    this.#statistics.turns++;
    const { now: clock, threadNs } = this.#schedule;
    this.#clock = state.isAlone(slot) ? clock : threadNs;
    this.#since = this.#clock === clock && holder === NOBODY ? now : this.#clock();
    this.#paid = 0;
    this.#least = holder === NOBODY ? 0 : HANDOVER_NS;
    return true;
  }

  /** @returns who had it before, if the engine is ours now, or -1 */
  #take(engine: EngineId, now: number): number {
    const state = this.#state;
    const slot = this.#slot;
    if (this.#schedule.mustWait(engine, slot)) return -1;
    const holder = Atomics.compareExchange(this.#words, state.holder(engine), NOBODY, slot);
    return holder === NOBODY || this.#schedule.contend(engine, slot, holder, now) ? holder : -1;
  }

  goOn(engine: EngineId): boolean {
    const state = this.#state;
    const words = this.#words;
    const slot = this.#slot;
    this.#look();
    this.#pay(engine);
    Atomics.add(words, state.turns(engine), 1);
    if (Atomics.load(words, state.holder(engine)) !== slot) return false;
    const asking = Atomics.load(words, state.asking(engine));
    if (asking !== NOBODY && asking !== slot && this.#schedule.mustYield(engine, slot, asking)) {
      Atomics.compareExchange(words, state.asking(engine), asking, NOBODY);
      this.#leave(engine, RESERVED | asking);
      return false;
    }
    return !this.#schedule.mustWait(engine, slot);
  }

  end(engine: EngineId, more: boolean): void {
    if (!more) {
      this.#working &= ~(1 << engine);
      Atomics.store(this.#words, this.#state.wanted(engine, this.#slot), Wish.HAD);
    }
    this.#pay(engine);
    if (this.#paid < this.#least) Atomics.sub(this.#words, this.#state.left(engine, this.#slot), this.#least - this.#paid);
    this.#leave(engine, NOBODY);
  }

  withdraw(engine: EngineId): void {
    const state = this.#state;
    const words = this.#words;
    const slot = this.#slot;
    this.#working &= ~(1 << engine);
    Atomics.compareExchange(words, state.wanted(engine, slot), Wish.HAS, Wish.HAD);
    Atomics.compareExchange(words, state.asking(engine), slot, NOBODY);
    Atomics.compareExchange(words, state.holder(engine), RESERVED | slot, NOBODY);
  }

  #leave(engine: EngineId, to: number): void {
    const at = this.#state.holder(engine);
    const left = Atomics.compareExchange(this.#words, at, this.#slot, to) === this.#slot;
    if (left && this.#state.isShared) Atomics.notify(this.#words, at);
  }

  /** Charges the time since the last look; of a time that a machine slept no more than debts can be. */
  #pay(engine: EngineId): void {
    const now = this.#clock();
    const ns = Math.round(now - this.#since);
    this.#since = now;
    this.#statistics[TIMES[engine] as (typeof TIMES)[number]] += ns;
    this.#paid += ns;
    Atomics.sub(this.#words, this.#state.left(engine, this.#slot), Math.min(ns, DEBT_MAX_NS));
  }

  /** The time, and what is due by it. */
  #look(): number {
    const now = this.#schedule.now();
    if (now >= this.#priorityEnds) this.#endPriority();
    this.#schedule.balance(now);
    return now;
  }

  #endPriority(): void {
    if (this.#priorityEnds === Number.POSITIVE_INFINITY) return;
    this.#priorityEnds = Number.POSITIVE_INFINITY;
    this.#state.setPriority(this.#slot, false);
  }
}
