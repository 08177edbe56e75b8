/**
 * Stopping a thread that blocks in a system call, and timed kicks of it.
 *
 * The kick signal is blocked in the device thread and unblocked by the kernel only inside KVM_RUN (KVM_SET_SIGNAL_MASK).
 * A signal sent at any moment therefore either ends the KVM_RUN in progress or makes the next one return at once: there
 * is no window in which it is lost, and no handler ever runs.
 */
import { MptError } from '../core/errors.js';
import type { StopToken } from '../core/machine.js';
import { OwnedFd } from './fd.js';
import { libcSyscalls } from './libc.js';
import { SFD, SIG_BLOCK, SIG_SETMASK, SIGUSR2, type Syscalls, signalSet } from './syscalls.js';

export const KICK_SIGNAL = SIGUSR2;

/** Asks the thread behind `token` to stop. Callable from any thread, any number of times, also at process exit. */
export function stopThread(token: StopToken, sys: Syscalls = libcSyscalls): void {
  Atomics.store(new Int32Array(token.flag), 0, 1);
  Atomics.notify(new Int32Array(token.flag), 0);
  if (token.tid !== 0) sys.tgkill(token.pid, token.tid, KICK_SIGNAL);
}

/** Throws the MptError of a failed call. */
function required(result: number, what: string): void {
  if (result < 0) throw new MptError('HYPERVISOR', `${what} failed`, { errno: -result });
}

/** Threads may hold several kicks (several VMs); the mask is restored when the last one goes. */
let holders = 0;
const savedMask = new Uint8Array(128);

/**
 * Blocks the kick signal in the calling thread until the thread ends: for a thread that others may kick while it has no
 * machine. It has no timer, which would outlive the thread. @returns the kernel thread id
 */
export function holdKickSignal(sys: Syscalls): number {
  if (holders === 0) required(sys.sigmask(SIG_BLOCK, signalSet(KICK_SIGNAL), savedMask), 'blocking the kick signal');
  holders++;
  return sys.gettid();
}

/** The calling thread's kick signal, blocked while this object lives: for a wait that looks for it by a signalfd. */
export class KickSignal {
  readonly tid: number;
  readonly pid: number;
  protected readonly sys: Syscalls;
  protected readonly set = signalSet(KICK_SIGNAL);
  #closed = false;

  /** @throws MptError HYPERVISOR when the signal cannot be blocked */
  constructor(sys: Syscalls) {
    this.sys = sys;
    this.tid = sys.gettid();
    this.pid = sys.getpid();
    if (holders === 0) required(sys.sigmask(SIG_BLOCK, this.set, savedMask), 'blocking the kick signal');
    holders++;
  }

  /** The thread's signal mask from before the first kick object: what runs with the signal unblocked uses it. */
  get outerMask(): Uint8Array {
    return savedMask;
  }

  /** A descriptor that is readable while a kick is pending. @throws MptError HYPERVISOR */
  openSignalfd(): OwnedFd {
    return new OwnedFd(this.sys, this.sys.signalfd(this.set, SFD.CLOEXEC | SFD.NONBLOCK), 'signalfd');
  }

  /** Takes pending kicks, so that the next wait waits. */
  drain(): void {
    while (this.sys.sigtake(this.set) > 0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.drain();
    if (--holders === 0) this.sys.sigmask(SIG_SETMASK, savedMask, new Uint8Array(128));
  }
}

/** The same with a timer that raises the signal: for KVM_RUN, inside which the kernel unblocks it. */
export class ThreadKick extends KickSignal {
  readonly #timer: number;
  #armed = false;
  #deleted = false;

  /** @throws MptError HYPERVISOR when the signal cannot be blocked or the process has no timer left */
  constructor(sys: Syscalls) {
    super(sys);
    this.#timer = sys.timerCreate(KICK_SIGNAL, this.tid);
    if (this.#timer >= 0) return;
    this.#deleted = true;
    this.close();
    required(this.#timer, 'timer_create');
  }

  /** Kicks the thread after `ms`, then every `ms` until `disarm()`: a kick between two waits is never the last. */
  arm(ms: number): void {
    const ns = Math.max(1000, Math.round(ms * 1e6));
    required(this.sys.timerSet(this.#timer, ns, ns), 'timer_settime');
    this.#armed = true;
  }

  disarm(): void {
    if (!this.#armed) return;
    this.sys.timerSet(this.#timer, 0, 0);
    this.#armed = false;
  }

  override close(): void {
    if (!this.#deleted) this.sys.timerDelete(this.#timer);
    this.#deleted = true;
    super.close();
  }
}
