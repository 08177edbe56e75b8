/** A device's counts where the main thread sees them: published now and then, not at each access. */
import type { VfioUserServer } from '../vfio/index.js';

const INTERVAL_MS = 50;

export class Counters {
  readonly #shared: Float64Array;
  readonly #counts: () => readonly number[];
  /** What earlier devices of the vGPU counted. */
  readonly #before: readonly number[];
  readonly #added: number[];
  #last = 0;

  constructor(shared: SharedArrayBuffer, counts: () => readonly number[]) {
    this.#shared = new Float64Array(shared);
    this.#before = [...this.#shared];
    this.#added = this.#before.map(() => 0);
    this.#counts = counts;
  }

  /** Counts something that the device does not. */
  add(index: number): void {
    this.#added[index] = (this.#added[index] as number) + 1;
  }

  publish(now = false): void {
    const time = performance.now();
    if (!now && time - this.#last < INTERVAL_MS) return;
    this.#last = time;
    const counts = this.#counts();
    for (let i = 0; i < this.#shared.length; i++)
      this.#shared[i] = (this.#before[i] as number) + (counts[i] ?? 0) + (this.#added[i] as number);
  }
}

/** In the order of DEVICE_COUNTERS; resets are counted where they are asked for. */
export const trafficCounts = (clients: number, traffic: VfioUserServer['traffic'] | undefined): number[] => [
  clients,
  traffic?.reads ?? 0,
  traffic?.writes ?? 0,
  traffic?.bytesRead ?? 0,
  traffic?.bytesWritten ?? 0,
  0,
];
