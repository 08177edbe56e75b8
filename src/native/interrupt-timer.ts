/**
 * A time limit for a system call that has none: a timer that signals the thread until it is told to stop. The signal is not blocked
 * and its handler does nothing, so a signal that comes before the call is entered is lost; the next one is not. It ends calls that
 * never ask to be made again (ATTACH_IOREQ_CLIENT, poll); reads and writes of the thread go on.
 *
 * Setting a timer costs more than a microsecond, so it runs on from one call to the next: who calls often sets it twice in a limit.
 */
import { MptError } from '../core/errors.js';
import { SIG_UNBLOCK, SIGRTMIN, type Syscalls, signalSet } from './syscalls.js';

/** Between the first signal and those after it. */
const AGAIN_NS = 5_000_000;
const NS_PER_MS = 1_000_000;

export class InterruptTimer {
  readonly #sys: Syscalls;
  readonly #timer: number;
  /** When the first signal comes, as `performance.now()` tells it; 0: none will. */
  #fires = 0;
  #open = true;

  /** For the calling thread. @throws MptError HYPERVISOR when the process has no timer left */
  constructor(sys: Syscalls) {
    this.#sys = sys;
    required(sys.interruptOn(SIGRTMIN), 'sigaction');
    required(sys.sigmask(SIG_UNBLOCK, signalSet(SIGRTMIN), new Uint8Array(128)), 'unblocking a signal');
    this.#timer = sys.timerCreate(SIGRTMIN, sys.gettid());
    required(this.#timer, 'timer_create');
  }

  /**
   * Runs a call that a signal ends after `ms` at the latest, or half of it at the earliest.
   * @param now of `performance.now()`
   */
  limit(ms: number, now: number, call: () => number): number {
    if (this.#fires < now + ms / 2 || this.#fires > now + ms) {
      required(this.#sys.timerSet(this.#timer, Math.max(1, Math.round(ms * NS_PER_MS)), AGAIN_NS), 'timer_settime');
      this.#fires = now + ms;
    }
    return call();
  }

  /** No more signals until the next call. */
  rest(): void {
    if (this.#fires === 0) return;
    this.#fires = 0;
    this.#sys.timerSet(this.#timer, 0, 0);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#sys.timerDelete(this.#timer);
  }
}

function required(result: number, what: string): void {
  if (result < 0) throw new MptError('HYPERVISOR', `${what} failed`, { errno: -result });
}
