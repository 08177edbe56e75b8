/** MSI delivery: INJECT_MSI for a call from the device thread, an irqfd for a message that any thread may raise. */
import { MptError } from '../../core/errors.js';
import { ArmedMsi } from '../../native/armed-msi.js';
import { OwnedFd } from '../../native/fd.js';
import { EFD, type Syscalls } from '../../native/syscalls.js';
import { type AcrnCalls, checkAcrn } from './calls.js';

export class AcrnIrq {
  readonly #sys: Syscalls;
  readonly #calls: AcrnCalls;
  #closed = false;

  constructor(sys: Syscalls, calls: AcrnCalls) {
    this.#sys = sys;
    this.#calls = calls;
  }

  /** The VM closes: what is armed only closes its eventfd later. */
  close(): void {
    this.#closed = true;
  }

  inject(address: number, data: number): void {
    const result = this.#calls.injectMsi(address, data);
    if (result < 0) checkAcrn(result, 'INJECT_MSI', { address });
  }

  /** Binds an eventfd to the message. @throws MptError UNSUPPORTED where the kernel has no irqfd */
  arm(address: number, data: number): ArmedMsi {
    this.#require();
    const event = new OwnedFd(this.#sys, this.#sys.eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK), 'eventfd');
    try {
      checkAcrn(this.#calls.irqfd(event.fd, address, data, true), 'IRQFD', { address });
    } catch (error) {
      event.close();
      throw error;
    }
    return new ArmedMsi(this.#sys, event, address, data, () => {
      if (!this.#closed) checkAcrn(this.#calls.irqfd(event.fd, address, data, false), 'IRQFD', { address });
    });
  }

  /** A VHM that has no irqfd answers 0, as to every request that it does not know; one that has it refuses descriptor -1. */
  #require(): void {
    if (this.#calls.dialect.name !== 'vhm') return;
    const result = this.#calls.irqfd(-1, 0, 0, true);
    if (result === 0)
      throw new MptError('UNSUPPORTED', 'this VHM has no irqfd', { hint: 'inject_msi works; a later ACRN kernel has irqfd' });
    if (!BAD_DESCRIPTOR.includes(result)) checkAcrn(result, 'IRQFD');
  }
}

/** -EBADF, -EINVAL */
const BAD_DESCRIPTOR: readonly number[] = [-9, -22];
