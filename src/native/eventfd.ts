/** An eventfd that somebody else gave us (eventfd(2)): raised, and looked at, without ever waiting. */
import { readlinkSync } from 'node:fs';
import { F, O, POLL, type Syscalls } from './syscalls.js';

const ONE = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

export class EventFd {
  readonly #sys: Syscalls;
  readonly #pollfd = new Uint8Array(8);
  readonly #count = new Uint8Array(8);
  #fd: number;

  private constructor(sys: Syscalls, fd: number) {
    this.#sys = sys;
    this.#fd = fd;
    new DataView(this.#pollfd.buffer).setInt32(0, fd, true);
  }

  /**
   * Takes over a descriptor.
   *
   * Anything else than an eventfd is refused and closed: a write to a full pipe would wait for ever. The descriptor is made
   * non-blocking, because a write to an eventfd whose counter is full waits too.
   */
  static adopt(sys: Syscalls, fd: number): EventFd | undefined {
    if (isEventfd(fd)) {
      const flags = sys.fcntl(fd, F.GETFL, 0);
      if (flags >= 0 && sys.fcntl(fd, F.SETFL, flags | O.NONBLOCK) === 0) return new EventFd(sys, fd);
    }
    sys.close(fd);
    return undefined;
  }

  get fd(): number {
    return this.#fd;
  }

  /** Adds one. Lost when the counter is full: whoever counts has been told often enough. */
  signal(): void {
    // The other side can make the descriptor blocking again: looked at first.
    if (this.#fd >= 0 && this.#ready(POLL.OUT)) this.#sys.write(this.#fd, ONE);
  }

  /** Takes the counter; true when it was not zero. */
  consume(): boolean {
    return this.#fd >= 0 && this.#ready(POLL.IN) && this.#sys.read(this.#fd, this.#count) === 8;
  }

  close(): void {
    if (this.#fd >= 0) this.#sys.close(this.#fd);
    this.#fd = -1;
  }

  /** struct pollfd: int fd, short events, short revents. */
  #ready(event: number): boolean {
    this.#pollfd[4] = event;
    this.#pollfd[6] = 0;
    return this.#sys.poll(this.#pollfd, 1, 0) === 1 && ((this.#pollfd[6] as number) & event) !== 0;
  }
}

function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}
