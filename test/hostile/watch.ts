/** Runs an exploration in a worker, sees that it goes on, and keeps what failed in a file. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Exploration, Found } from './explore.js';
import { noReach, type Sequence } from './sequence.js';

/** One operation takes milliseconds at the most, on a machine that does nothing else. */
const STALLED_S = 60;

export interface Verdict extends Found {
  /** File that `--replay` takes, of a failure. */
  readonly file?: string;
}

/** @param folder where a failure is saved */
export function watch(exploration: Exploration, folder: string): Promise<Verdict> {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: { exploration, progress } });
  let current = '';
  return new Promise((resolve, reject) => {
    let last = -1;
    let since = performance.now();
    const failed = (why: string, sequence: Sequence, found: Found): void => {
      clearInterval(timer);
      resolve({ ...found, failure: { why, sequence }, file: save(folder, exploration.seed, why, sequence) });
    };
    const timer = setInterval(() => {
      const now = Atomics.load(progress, 0);
      if (now !== last) {
        last = now;
        since = performance.now();
      } else if (performance.now() - since > STALLED_S * 1000 && current !== '') {
        const found = { operations: now, reach: noReach(), memory: [], slowestMs: STALLED_S * 1000 };
        failed(`an operation did not end within ${STALLED_S} s`, JSON.parse(current) as Sequence, found);
        void worker.terminate();
      }
    }, 500);
    worker.on('message', ({ sequence, found }: { sequence?: string; found?: Found }) => {
      if (sequence !== undefined) current = sequence;
      if (found === undefined) return;
      clearInterval(timer);
      if (found.failure === undefined) resolve(found);
      else failed(found.failure.why, found.failure.sequence, found);
    });
    worker.once('error', (error) => {
      clearInterval(timer);
      reject(error);
    });
  });
}

function save(folder: string, seed: number, why: string, sequence: Sequence): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `hostile-${seed}.json`);
  writeFileSync(file, `${JSON.stringify({ why, seed, ...sequence })}\n`);
  return file;
}
