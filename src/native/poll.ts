/** Waiting for file descriptors: a prepared `struct pollfd` array (poll.h: int fd, short events, short revents). */
import { MptError } from '../core/errors.js';
import { EINTR, POLL, type Syscalls } from './syscalls.js';

const ENTRY = 8;

export class Poller {
  readonly #sys: Syscalls;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #count: number;
  /** Where the array lies in memory at a fixed address, or 0. */
  readonly #address: number;

  /**
   * @param fds descriptors to wait on for input; they stay the caller's
   * @param at memory at a fixed address, 8 bytes a descriptor: a wait through it is cheaper
   */
  constructor(sys: Syscalls, fds: readonly number[], at?: { readonly bytes: Uint8Array; readonly address: number }) {
    this.#sys = sys;
    this.#count = fds.length;
    this.#bytes = at?.bytes.subarray(0, fds.length * ENTRY) ?? new Uint8Array(fds.length * ENTRY);
    this.#address = at?.address ?? 0;
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    fds.forEach((fd, i) => {
      this.#view.setInt32(i * ENTRY, fd, true);
      this.#view.setInt16(i * ENTRY + 4, POLL.IN, true);
    });
  }

  /**
   * Waits at most `timeoutMs` (-1: for ever).
   * @returns how many descriptors are ready; 0 after the time or a signal
   */
  wait(timeoutMs: number): number {
    const ready =
      this.#address === 0 ? this.#sys.poll(this.#bytes, this.#count, timeoutMs) : this.#sys.pollAt(this.#address, this.#count, timeoutMs);
    if (ready < 0 && ready !== -EINTR) throw new MptError('HYPERVISOR', 'poll failed', { errno: -ready });
    return Math.max(ready, 0);
  }

  /** True when the descriptor at `index` has input, an error or a hang-up. */
  ready(index: number): boolean {
    return this.#view.getInt16(index * ENTRY + 6, true) !== 0;
  }
}
