/** Two programs measured in turns, and what is told of the numbers. */
import type { Subject } from './subjects.js';

/** Pairs of samples of a row: odd, so that the median is a pair that happened. */
const MIN_PAIRS = 9;
const MAX_PAIRS = 151;
const MAX_COUNT = 10_000_000;

/** How long a row is measured. */
export interface Pace {
  /**
   * Time that one sample should take. Short, so that many samples lie between two turns of whatever else runs on the core; long
   * against what the switch from one program to the other costs in cold caches.
   */
  readonly sampleNs: number;
  /** Time that the pairs of a row may take, once there are enough of them. */
  readonly rowNs: number;
  /** A warm-up lasts until our side has run so often, or so long: enough for the optimizing compiler. */
  readonly warmCount: number;
  readonly warmNs: number;
  /** Pairs of each row, instead of as many as `rowNs` holds. */
  readonly pairs?: number;
}

/** For what takes microseconds. */
export const PACE: Pace = { sampleNs: 6e6, rowNs: 1.5e9, warmCount: 20_000, warmNs: 300e6 };

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
function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] as number;
  const high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}

const median = (values: readonly number[]): number => quantile(values, 0.5);

/**
 * Samples the two in turns: what slows the machine for a while slows both, and the pair's ratio stays.
 * @param tell called before each pair
 */
export async function compare(
  ours: Subject,
  baseline: Subject,
  pace: Pace,
  tell: (pair: number, pairs: number) => void,
): Promise<Comparison> {
  tell(0, MIN_PAIRS);
  const { count, pairNs } = await calibrate(ours, baseline, pace);
  const total = pace.pairs ?? Math.min(MAX_PAIRS, Math.max(MIN_PAIRS, Math.floor(pace.rowNs / pairNs) | 1));
  const pairs: { ours: number; baseline: number }[] = [];
  for (let pair = 1; pair <= total; pair++) {
    tell(pair, total);
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

/** Warms both up. @returns repetitions that make a sample long enough, and what a pair of such samples takes */
async function calibrate(ours: Subject, baseline: Subject, pace: Pace): Promise<{ count: number; pairNs: number }> {
  let count = 1;
  let each = await ours.sample(1);
  await baseline.sample(1);
  const wanted = (): number => Math.min(MAX_COUNT, Math.max(1, Math.round(pace.sampleNs / Math.max(each, 0.1))));
  for (let done = 1, spent = each; done < pace.warmCount && spent < pace.warmNs; done += count) {
    count = Math.min(count * 4, wanted());
    const ns = await ours.sample(count);
    await baseline.sample(count);
    spent += ns;
    each = ns / count;
  }
  count = wanted();
  return { count, pairNs: (await ours.sample(count)) + (await baseline.sample(count)) };
}
