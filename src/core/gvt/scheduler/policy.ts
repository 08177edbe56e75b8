/**
 * The time-based policy: who goes before whom, and what is settled at the end of a balance period (facts: gvt.md 4.13). Pure functions
 * of numbers; times in nanoseconds.
 *
 * Each vGPU has an allotment of each engine's time, in proportion to its weight, and pays what it runs out of it. The one goes first of
 * whose allotment the larger part is left. docs/decisions/0020 tells where this differs from GVT-g's policy, and why.
 */

/** A turn is about this long while others wait. */
export const PERIOD_NS = 1e6;
/** Allotments are handed out once in this time. */
export const BALANCE_NS = 100e6;
/** Large debts and credits are forgotten once in so many balances. */
export const STAGES = 10;
/** A fresh vGPU goes before all others for this long. */
export const PRIORITY_NS = 2e9;
/** Who has the engine and shows no sign of life for this long has lost it. */
export const LEASE_NS = 20e6;
/** An engine that was left to another is anybody's after this long. */
export const RESERVE_NS = 2e6;
/**
 * A turn that another was asked for pays at least this much: what the other loses by it, until its thread looks again. Otherwise tiny
 * submissions, which hardly pay, would cost the other most of its time.
 */
export const HANDOVER_NS = 0.2e6;

/** How much further ahead the one that waits must be. Two that always have work change about once a period. */
const LEAD = PERIOD_NS / BALANCE_NS;

/** How far one whose work has just come starts ahead of those that have some: enough to go first, and for a few turns. */
const START = 3 * LEAD;

/**
 * How far one may run ahead of another that has work too. Without this bound weights would not hold where threads, not the engine,
 * are what is short: each would get what the host's scheduler gives its thread.
 */
const LAG = 0.1;

/** One vGPU at one engine. */
export interface Claim {
  readonly priority: boolean;
  /** What is left of the allotment; negative: debt. */
  readonly left: number;
  readonly allotted: number;
  /** Number of its last turn; a larger one is later. */
  readonly lastTurn: number;
}

const part = ({ left, allotted }: Claim): number => (allotted > 0 ? left / allotted : 0);

/** Of two that could run now, `a` goes first: by priority, then by what is left, then the one whose last turn is longer ago. */
export function goesFirst(a: Claim, b: Claim): boolean {
  if (a.priority !== b.priority) return a.priority;
  const difference = part(a) - part(b);
  return difference === 0 ? a.lastTurn < b.lastTurn : difference > 0;
}

/** The one that has the engine lets it go for one that waits. */
export function mustYield(holder: Claim, waiting: Claim): boolean {
  if (holder.priority !== waiting.priority) return waiting.priority;
  return part(waiting) - part(holder) >= LEAD;
}

/** An engine is free, but one that has work as well has not had its part of it: that one's thread will come. */
export const mustWait = (comer: Claim, absent: Claim): boolean => (!comer.priority || absent.priority) && part(absent) - part(comer) >= LAG;

/**
 * What a comer that had no work gives up of what it has left, beside the one of those that work that has most: time that it did not want is no
 * credit. Otherwise who does little would be so far ahead that all wait for each of its moves, and could then have the engine to itself.
 */
export const forfeit = (comer: Claim, working: Claim): number =>
  Math.max(0, Math.floor(comer.left - (part(working) + START) * comer.allotted));

/** What a balance looks at. */
export interface Account {
  readonly weight: number;
  readonly left: number;
  /** It had work in the period that ends, whether it ran or not. */
  readonly wanted: boolean;
  /** It goes before all others. */
  readonly priority: boolean;
}

export interface Settlement {
  readonly left: number;
  readonly allotted: number;
}

/**
 * The accounts of one engine for the next period. Time is divided among those that had work; one that had none gets what would be its
 * part, and no credit. Debt and credit are carried; stage 0 forgets what is more than an allotment, and what comes from a time when
 * nobody competed or one had priority is forgotten at once.
 */
export function settle(stage: number, accounts: readonly Account[]): Settlement[] {
  let wanting = 0;
  let weights = 0;
  let special = false;
  for (const { wanted, weight, priority } of accounts) {
    special ||= priority;
    if (!wanted) continue;
    wanting++;
    weights += weight;
  }
  return accounts.map(({ weight, left, wanted }) => {
    const allotted = allotment(weight, wanted ? weights : weights + weight);
    if (!wanted || special || wanting < 2) return { left: allotted, allotted };
    const carried = stage === 0 ? Math.min(Math.max(left, -allotted), allotted) : left;
    return { left: carried + allotted, allotted };
  });
}

/** @param weights of all that divide the time, this one's included */
export const allotment = (weight: number, weights: number): number => Math.floor((BALANCE_NS * weight) / weights);
