/** Guest mistakes of one vGPU: each is counted, few are told. A guest that errs in a loop costs a counter, not a log. */
import { MptError } from '../errors.js';
import type { GuestErrorLog, VgpuStatistics } from './roles.js';

/** True when the VM or the attachment no longer exists: nothing that fails then is anybody's mistake. */
export const isGone = (error: unknown): boolean =>
  MptError.is(error) && (error.code === 'VM_GONE' || error.code === 'DETACHED' || error.code === 'CLOSED');

/** Tells of a hypervisor operation that failed on the guest's account. @param what before the error's own sentence */
export function refusedByHypervisor(log: GuestErrorLog, error: unknown, what = ''): void {
  if (isGone(error)) return;
  const reason = error instanceof Error ? error.message : String(error);
  log.guestError(what === '' ? reason : `${what}: ${reason}`);
}

/** Messages in one burst; then one each interval. */
const BURST = 10;
const INTERVAL_NS = 1e9;

export class GuestErrors implements GuestErrorLog {
  readonly #statistics: VgpuStatistics;
  readonly #now: () => number;
  readonly #tell: ((what: string) => void) | undefined;
  #allowance = BURST;
  #refilledAt: number;
  #untold = 0;

  /** @param tell receives the messages that pass the rate limit, with the number of those that did not */
  constructor(statistics: VgpuStatistics, now: () => number, tell?: (what: string) => void) {
    this.#statistics = statistics;
    this.#now = now;
    this.#tell = tell;
    this.#refilledAt = now();
  }

  guestError(what: string): void {
    this.#statistics.guestErrors++;
    if (this.#tell === undefined) return;
    const now = this.#now();
    const earned = Math.floor((now - this.#refilledAt) / INTERVAL_NS);
    if (earned > 0) {
      this.#allowance = Math.min(BURST, this.#allowance + earned);
      this.#refilledAt = now;
    }
    if (this.#allowance === 0) {
      this.#untold++;
      return;
    }
    this.#allowance--;
    this.#tell(this.#untold > 0 ? `${what} (${this.#untold} more not shown)` : what);
    this.#untold = 0;
  }
}
