/**
 * Waiting for an event channel or a kick: one poll on the event descriptor and on a signalfd of the kick signal. What the calls
 * fill lies in memory at a fixed address, which costs less with each call than a buffer.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import type { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import { Poller } from '../../native/poll.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { KickSignal } from '../../native/thread.js';

/** Ports that are taken from the event descriptor at once, 4 bytes each. */
const PORTS_AT_ONCE = 64;
/** Where they go in the page, behind the poll's array. */
const PORTS = 64;

export class EventWait {
  readonly #sys: Syscalls;
  readonly #fd: number;
  readonly #kick: KickSignal;
  readonly #signal: OwnedFd;
  readonly #memory: OwnedMapping;
  readonly #poller: Poller;

  /** @param fd of the event channels; it stays the caller's */
  constructor(sys: Syscalls, fd: number, kick: KickSignal) {
    this.#sys = sys;
    this.#fd = fd;
    this.#kick = kick;
    this.#signal = kick.openSignalfd();
    try {
      this.#memory = OwnedMapping.anonymous(sys, PAGE_SIZE, 'the events');
    } catch (error) {
      this.#signal.close();
      throw error;
    }
    const at = { bytes: new Uint8Array(this.#memory.buffer), address: this.#memory.hva };
    this.#poller = new Poller(sys, [fd, this.#signal.fd], at);
  }

  /** Waits at most `ms`. @returns true when there was an event or a kick, false after the time */
  wait(ms: number): boolean {
    if (this.#poller.wait(ms) === 0) return false;
    if (this.#poller.ready(0)) this.#takeEvents();
    if (this.#poller.ready(1)) this.#kick.drain();
    return true;
  }

  close(): void {
    this.#signal.close();
    this.#memory.close();
  }

  /** Takes the ports that have an event and lets their next events through, by writing them back. */
  #takeEvents(): void {
    const at = this.#memory.hva + PORTS;
    const length = this.#sys.readAt(this.#fd, at, PORTS_AT_ONCE * 4);
    if (length > 0) this.#sys.writeAt(this.#fd, at, length);
  }
}
