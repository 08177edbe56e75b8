/**
 * Waiting for a request. The page is the truth: it is looked at for a short while, since an answered guest mostly asks again soon,
 * and then in pauses. `ATTACH_IOREQ_CLIENT` would block without a limit of time and without an end by a stop, so it never
 * blocks the device thread.
 */
/** How long the page is watched before the thread sleeps, ms. */
const WATCH_MS = 0.05;
/** Looks at the page between two looks at the clock. */
const LOOKS = 64;
/** A stop is seen, and the guest's death, after at most this. */
const SLICE_MS = 20;
/** Pauses between two looks when nothing wakes us: the first, and what it grows to. */
const FIRST_PAUSE_MS = 0.05;
const LAST_PAUSE_MS = 1;

export class RequestWait {
  readonly #idle = new Int32Array(new SharedArrayBuffer(4));

  /** Returns when a request is there, the time is over, or a slice of it. @param now,until `performance.now()` times */
  wait(ready: () => boolean, now: number, until: number): void {
    const watched = Math.min(now + WATCH_MS, until);
    do {
      for (let i = 0; i < LOOKS; i++) if (ready()) return;
    } while (performance.now() < watched);
    let pause = FIRST_PAUSE_MS;
    for (const end = Math.min(now + SLICE_MS, until); ; pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
      const left = end - performance.now();
      if (left <= 0 || ready()) return;
      Atomics.wait(this.#idle, 0, 0, Math.min(pause, left));
    }
  }
}
