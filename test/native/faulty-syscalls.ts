/**
 * `Syscalls` that count, keep accounts of what is open and mapped, and make one chosen call fail.
 *
 * A call that gives something back (close, munmap, timer_delete, restoring the signal mask) is carried out even when it
 * is to fail: Linux has released the descriptor when close(2) answers EINTR, and a test that kept it would look for a
 * leak of its own making.
 */
import { HSM_IOCTL, VHM_IOCTL } from '../../src/backends/acrn/abi.js';
import { KVM_IOCTL } from '../../src/backends/kvm/abi.js';
import { SIG_SETMASK, type Syscalls } from '../../src/native/syscalls.js';

/** ioctls whose result is a new descriptor. */
const CREATES_FD: readonly number[] = [KVM_IOCTL.KVM_CREATE_VM, KVM_IOCTL.KVM_CREATE_VCPU];

/** ACRN's two devices share names: a fault of one is told as a fault of the other. */
const REQUEST_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  [KVM_IOCTL, HSM_IOCTL, VHM_IOCTL].flatMap((table) => Object.entries(table).map(([name, request]) => [request, name])),
);

export interface Call {
  /** Number from 1. */
  readonly index: number;
  /** `mmap`, `close`, `ioctl KVM_RUN`, … */
  readonly name: string;
}

export class FaultySyscalls implements Syscalls {
  readonly #sys: Syscalls;
  /** Calls so far. `view`, `getpid` and `gettid` cannot fail and are not counted. */
  count = 0;
  /** Names of all counted calls, in order. */
  readonly names: string[] = [];
  /** Number of the call that fails; 0 for none. */
  failAt = 0;
  /** Positive errno that it fails with. */
  errno = 0;
  /** The call that failed. */
  failed: Call | undefined;
  /** Called before each counted call. */
  onCall: ((call: Call) => void) | undefined;
  readonly openFds = new Set<number>();
  /** Mapped lengths by address. */
  readonly mapped = new Map<number, number>();
  readonly timers = new Set<number>();

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /** The next call of this name fails. */
  failNext(name: string, errno: number): void {
    const until = this.onCall;
    this.onCall = (call) => {
      if (call.name !== name) return;
      this.failAt = call.index;
      this.errno = errno;
      this.onCall = until;
    };
  }

  open(path: string, flags: number): number {
    return this.#opened(this.#run('open', () => this.#sys.open(path, flags)));
  }

  close(fd: number): number {
    return this.#run(
      'close',
      () => {
        this.openFds.delete(fd);
        return this.#sys.close(fd);
      },
      true,
    );
  }

  ioctl(fd: number, request: number, value: number): number {
    const result = this.#run(`ioctl ${REQUEST_NAMES[request] ?? request}`, () => this.#sys.ioctl(fd, request, value));
    return CREATES_FD.includes(request) ? this.#opened(result) : result;
  }

  ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number {
    return this.#run(`ioctl ${REQUEST_NAMES[request] ?? request}`, () => this.#sys.ioctlBuffer(fd, request, buffer));
  }

  mmap(length: number, protection: number, flags: number, fd: number, offset: number): number {
    const address = this.#run('mmap', () => this.#sys.mmap(length, protection, flags, fd, offset));
    if (address >= 0) this.mapped.set(address, length);
    return address;
  }

  munmap(address: number, length: number): number {
    return this.#run(
      'munmap',
      () => {
        if (this.mapped.get(address) === length) this.mapped.delete(address);
        return this.#sys.munmap(address, length);
      },
      true,
    );
  }

  view(address: number, length: number): ArrayBuffer {
    return this.#sys.view(address, length);
  }

  eventfd(initial: number, flags: number): number {
    return this.#opened(this.#run('eventfd', () => this.#sys.eventfd(initial, flags)));
  }

  read(fd: number, buffer: Uint8Array): number {
    return this.#run('read', () => this.#sys.read(fd, buffer));
  }

  write(fd: number, buffer: Uint8Array): number {
    return this.#run('write', () => this.#sys.write(fd, buffer));
  }

  poll(fds: Uint8Array, count: number, timeoutMs: number): number {
    return this.#run('poll', () => this.#sys.poll(fds, count, timeoutMs));
  }

  ppoll(fds: Uint8Array, count: number, timeoutNs: number): number {
    return this.#run('ppoll', () => this.#sys.ppoll(fds, count, timeoutNs));
  }

  readAt(fd: number, address: number, length: number): number {
    return this.#run('readAt', () => this.#sys.readAt(fd, address, length));
  }

  writeAt(fd: number, address: number, length: number): number {
    return this.#run('writeAt', () => this.#sys.writeAt(fd, address, length));
  }

  pollAt(fds: number, count: number, timeoutMs: number): number {
    return this.#run('pollAt', () => this.#sys.pollAt(fds, count, timeoutMs));
  }

  signalfd(set: Uint8Array, flags: number): number {
    return this.#opened(this.#run('signalfd', () => this.#sys.signalfd(set, flags)));
  }

  flock(fd: number, operation: number): number {
    return this.#run('flock', () => this.#sys.flock(fd, operation));
  }

  ftruncate(fd: number, length: number): number {
    return this.#run('ftruncate', () => this.#sys.ftruncate(fd, length));
  }

  getpid(): number {
    return this.#sys.getpid();
  }

  gettid(): number {
    return this.#sys.gettid();
  }

  tgkill(pid: number, tid: number, signal: number): number {
    return this.#run('tgkill', () => this.#sys.tgkill(pid, tid, signal));
  }

  sigmask(how: number, set: Uint8Array, old: Uint8Array): number {
    return this.#run('sigmask', () => this.#sys.sigmask(how, set, old), how === SIG_SETMASK);
  }

  interruptOn(signal: number): number {
    return this.#run('interruptOn', () => this.#sys.interruptOn(signal));
  }

  sigtake(set: Uint8Array): number {
    return this.#run('sigtake', () => this.#sys.sigtake(set));
  }

  timerCreate(signal: number, tid: number): number {
    const timer = this.#run('timerCreate', () => this.#sys.timerCreate(signal, tid));
    if (timer >= 0) this.timers.add(timer);
    return timer;
  }

  timerSet(timer: number, firstNs: number, intervalNs: number): number {
    return this.#run(intervalNs === 0 ? 'timerSet off' : 'timerSet', () => this.#sys.timerSet(timer, firstNs, intervalNs));
  }

  timerDelete(timer: number): number {
    return this.#run(
      'timerDelete',
      () => {
        this.timers.delete(timer);
        return this.#sys.timerDelete(timer);
      },
      true,
    );
  }

  memfdCreate(name: string, flags: number): number {
    return this.#opened(this.#run('memfdCreate', () => this.#sys.memfdCreate(name, flags)));
  }

  fcntl(fd: number, command: number, value: number): number {
    return this.#run('fcntl', () => this.#sys.fcntl(fd, command, value));
  }

  lseek(fd: number, offset: number, whence: number): number {
    return this.#run('lseek', () => this.#sys.lseek(fd, offset, whence));
  }

  /** Makes the call, unless it is the one that fails. */
  #run(name: string, call: () => number, release = false): number {
    const index = ++this.count;
    this.names.push(name);
    this.onCall?.({ index, name });
    if (index !== this.failAt) return call();
    this.failed = { index, name };
    if (release) call();
    return -this.errno;
  }

  #opened(fd: number): number {
    if (fd >= 0) this.openFds.add(fd);
    return fd;
  }
}
