/**
 * Waiting for a request. ATTACH_IOREQ_CLIENT blocks until the kernel has one. It has no limit of time, so a signal ends it: for the
 * caller's time, and often enough that a stop is seen. Where a wait is too short for that, or ATTACH lies, the thread sleeps in short
 * pauses and looks at the page. It never spins: on a small machine the vCPU may need this very core.
 */
import { EAGAIN, EINTR } from '../../native/syscalls.js';
import { checkAcrn } from './calls.js';

/** A stop is seen after at most this. */
const SLICE_MS = 20;
/** Shorter waits do not attach: a signal is not that exact. */
const ATTACH_MS = 10;
/** Pauses between two looks when nothing wakes us: the first, and what it grows to. */
const FIRST_PAUSE_MS = 0.02;
const LAST_PAUSE_MS = 1;

export interface TimedAttach {
  /** ATTACH_IOREQ_CLIENT, ended by a signal after so many ms or somewhat before. @returns its result, minus the errno when it failed */
  attach(ms: number, now: number): number;
  /** Nobody waits any more: no signals. */
  rest(): void;
}

export class RequestWait {
  readonly #idle = new Int32Array(new SharedArrayBuffer(4));
  readonly #timed: TimedAttach | undefined;

  /** @param timed where ATTACH tells of the requests that are waited for */
  constructor(timed?: TimedAttach) {
    this.#timed = timed;
  }

  /** The caller goes away without a request. */
  rest(): void {
    this.#timed?.rest();
  }

  /**
   * Returns when a request is there, the time is over, or a slice of it.
   * @param now,until `performance.now()` times
   * @throws MptError HYPERVISOR
   */
  wait(ready: () => boolean, now: number, until: number): void {
    let end = Math.min(now + SLICE_MS, until);
    if (this.#timed !== undefined && end - now >= ATTACH_MS) {
      // 1 and up: the client is being destroyed (VHM), and its requests with it.
      const result = this.#timed.attach(end - now, now);
      if (result !== -EINTR && result !== -EAGAIN) checkAcrn(result, 'ATTACH_IOREQ_CLIENT');
      if (ready()) return;
      // What is left of its time is for an ATTACH that ended at once; a signal comes later than this.
      end = (now + end) / 2;
    }
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
      const left = end - performance.now();
      if (left <= 0 || ready()) return;
      Atomics.wait(this.#idle, 0, 0, Math.min(pause, left));
    }
  }
}
