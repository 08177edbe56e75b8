/** Sequences out of a seed, the smallest that fails, and how much memory they leave behind. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { CONNECTORS, type Connector } from '../../src/core/gvt/display/connector.js';
import { operations } from './operations.js';
import { noReach, type Reach, runSequence, type Sequence } from './sequence.js';
import { LEVELS } from './world.js';

export interface Exploration {
  readonly seed: number;
  readonly sequences: number;
  /** Operations of each at most. */
  readonly length: number;
  /** The operation of this name fails, whatever it does: for the test of this itself. */
  readonly fault?: string;
}

export interface Found {
  readonly operations: number;
  readonly reach: Reach;
  /** MiB in use after a collection, after each tenth of the sequences. */
  readonly memory: readonly number[];
  readonly slowestMs: number;
  readonly failure?: { readonly why: string; readonly sequence: Sequence };
}

/** How long a failing sequence is made smaller. */
const SHRINK_MS = 60_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function usedMiB(): number {
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

/** @param begin is told of each sequence before it runs. @param progress counts operations */
export function explore({ seed, sequences, length, fault }: Exploration, progress: Int32Array, begin: (sequence: Sequence) => void): Found {
  const reach = noReach();
  const memory: number[] = [];
  let count = 0;
  let runs = 0;
  let failedAt = 0;
  let slowestMs = 0;
  const every = Math.max(1, Math.floor(sequences / 10));
  const property = fc.property(fc.constantFrom(...LEVELS), fc.constantFrom(...CONNECTORS), operations(length), (level, connector, list) => {
    if (failedAt > 0 && performance.now() - failedAt > SHRINK_MS) return;
    const sequence = { level, connector, operations: list };
    begin(sequence);
    const began = performance.now();
    try {
      runSequence(sequence, progress, reach, fault);
    } catch (error) {
      failedAt ||= performance.now();
      throw error;
    }
    slowestMs = Math.max(slowestMs, performance.now() - began);
    count += list.length;
    if (failedAt === 0 && ++runs % every === 0) memory.push(usedMiB());
  });
  const result = fc.check(property, { seed, numRuns: sequences, verbose: 0 });
  const found = { operations: count, reach, memory, slowestMs };
  if (!result.failed) return found;
  const [level, connector, list] = result.counterexample as [Sequence['level'], Connector, Sequence['operations']];
  const why = (result.errorInstance as Error | undefined)?.message ?? String(result.errorInstance);
  return { ...found, failure: { why, sequence: { level, connector, operations: list } } };
}
