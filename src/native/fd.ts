/** A file descriptor with one owner. */
import { MptError } from '../core/errors.js';
import type { Syscalls } from './syscalls.js';

export class OwnedFd {
  readonly #sys: Syscalls;
  #fd: number;

  /** Takes ownership. `fd` is the result of a call: a negative value becomes an MptError that names `what`. */
  constructor(sys: Syscalls, fd: number, what: string) {
    if (fd < 0) throw new MptError(-fd === 12 ? 'NO_MEMORY' : 'HYPERVISOR', `${what} failed`, { errno: -fd });
    this.#sys = sys;
    this.#fd = fd;
  }

  /** The number. @throws MptError CLOSED */
  get fd(): number {
    if (this.#fd < 0) throw new MptError('CLOSED', 'the file descriptor was closed');
    return this.#fd;
  }

  get open(): boolean {
    return this.#fd >= 0;
  }

  /** Closes once. */
  close(): void {
    if (this.#fd < 0) return;
    this.#sys.close(this.#fd);
    this.#fd = -1;
  }
}
