/** Two programs measured in turns, and what is told of the numbers. */
import type { Subject } from './subjects.js';

/** Pairs of samples: odd, so that the median is a pair that happened. */
const PAIRS = 15;
/** Time that one sample should take: long against a timer tick, short against what else runs on the machine. */
const SAMPLE_NS = 20e6;
/** A warm-up lasts until our side has run so often, or so long: enough for the optimizing compiler. */
const WARM_COUNT = 20_000;
const WARM_NS = 300e6;
const MAX_COUNT = 10_000_000;

export interface Comparison {
  /** Median of one repetition, in nanoseconds. */
  readonly ours: number;
  readonly baseline: number;
  /** Median of the pairs' ratios, ours to baseline. */
  readonly ratio: number;
  /** Interquartile range of the pairs' ratios, divided by their median. */
  readonly spread: number;
}

/** Value at a share of the sorted list, interpolated between neighbours. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] as number;
  const high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/**
 * Samples the two in turns: what slows the machine for a while slows both, and the pair's ratio stays.
 * @param tell called before each pair
 */
export async function compare(ours: Subject, baseline: Subject, tell: (pair: number, pairs: number) => void): Promise<Comparison> {
  tell(0, PAIRS);
  const count = await calibrate(ours, baseline);
  const pairs: { ours: number; baseline: number }[] = [];
  for (let pair = 1; pair <= PAIRS; pair++) {
    tell(pair, PAIRS);
    pairs.push({ ours: (await ours.sample(count)) / count, baseline: (await baseline.sample(count)) / count });
  }
  const ratios = pairs.map((pair) => pair.ours / pair.baseline);
  const ratio = median(ratios);
  return {
    ours: median(pairs.map((pair) => pair.ours)),
    baseline: median(pairs.map((pair) => pair.baseline)),
    ratio,
    spread: (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / ratio,
  };
}

/** Warms both up. @returns repetitions that make a sample long enough */
async function calibrate(ours: Subject, baseline: Subject): Promise<number> {
  let count = 1;
  let each = await ours.sample(1);
  await baseline.sample(1);
  for (let done = 1, spent = each; done < WARM_COUNT && spent < WARM_NS; done += count) {
    count = Math.min(count * 4, MAX_COUNT);
    const ns = await ours.sample(count);
    await baseline.sample(count);
    spent += ns;
    each = ns / count;
  }
  const wanted = Math.min(MAX_COUNT, Math.max(1, Math.round(SAMPLE_NS / Math.max(each, 0.1))));
  await ours.sample(wanted);
  await baseline.sample(wanted);
  return wanted;
}
