/** An interrupt message that a hypervisor raises when an eventfd is written (KVM_IRQFD, ACRN's IRQFD). */
import { MptError } from '../core/errors.js';
import type { OwnedFd } from './fd.js';
import type { Syscalls } from './syscalls.js';

/** A message bound to an eventfd. */
export class ArmedMsi {
  readonly address: number;
  readonly data: number;
  readonly #sys: Syscalls;
  readonly #event: OwnedFd;
  readonly #disarm: () => void;
  readonly #one = new Uint8Array(new BigUint64Array([1n]).buffer);

  constructor(sys: Syscalls, event: OwnedFd, address: number, data: number, disarm: () => void) {
    this.#sys = sys;
    this.#event = event;
    this.address = address;
    this.data = data;
    this.#disarm = disarm;
  }

  get fd(): number {
    return this.#event.fd;
  }

  raise(): void {
    const result = this.#sys.write(this.#event.fd, this.#one);
    if (result < 0) throw new MptError('HYPERVISOR', 'writing the irqfd failed', { errno: -result, address: this.address });
  }

  close(): void {
    if (!this.#event.open) return;
    try {
      this.#disarm();
    } finally {
      this.#event.close();
    }
  }
}
