/**
 * The clock of one vGPU: what its guest sees of time (timestamps, frames) counts by it. It runs with the device model's clock, and goes on
 * where it stood when the vGPU's state is restored, on a machine whose clock stands elsewhere.
 */
import type { Saved, StateStream } from './state/stream.js';

/**
 * Nine years. Beyond 2^53 its steps are of several nanoseconds, which are less than a tick of what a guest can read. What is restored has at
 * least half of it ahead, so that it can be saved again.
 */
const SAVED_MAX = 2 ** 58;

export class VgpuClock implements Saved {
  readonly #source: () => number;
  #ahead = 0;

  /** @param source nanoseconds, never going back */
  constructor(source: () => number) {
    this.#source = source;
  }

  /** Nanoseconds, never going back. */
  readonly now = (): number => this.#source() + this.#ahead;

  exchange(state: StateStream): void {
    const at = state.number('time', this.now(), state.restoring ? SAVED_MAX / 2 : SAVED_MAX, 0);
    if (state.restoring) this.#ahead = at - this.#source();
  }
}
