/** Descriptors that the main loop waits for: one, or a set of many behind a single epoll descriptor (epoll(7)). */
import koffi from 'koffi';
import { OwnedFd } from './fd.js';
import { libcSyscalls } from './libc.js';

/** A descriptor that is waited for. */
export interface Watch {
  close(): void;
}

/** Calls `ready` on the main loop as long as the descriptor is readable. It stays the caller's, and open until `close`. */
export function watchReadable(fd: number, ready: () => void): Watch {
  const handle = koffi.node.poll(fd, { readable: true, disconnect: true }, ready);
  return {
    close: () => {
      handle.stop();
      handle.close();
    },
  };
}

const EPOLL_CLOEXEC = 0x8_0000;
const EPOLL_CTL = { ADD: 1, DEL: 2 } as const;
const EPOLLIN = 1;
/** struct epoll_event on x86-64 is packed: u32 events, u64 data. */
const EVENT_SIZE = 12;
/** Events of one look. What is left makes the set readable again. */
const EVENTS = 64;

const libc = koffi.load('libc.so.6');
const cCreate = libc.func('epoll_create1', 'int', ['int']);
const cControl = libc.func('epoll_ctl', 'int', ['int', 'int', 'int', 'void *']);
const cWait = libc.func('epoll_wait', 'int', ['int', 'void *', 'int', 'int']);
const failed = (result: number): number => (result < 0 ? -koffi.errno() : result);

/** Any number of descriptors for the price of one handle of the main loop. */
export class WatchSet {
  readonly #epoll: OwnedFd;
  readonly #watch: Watch;
  readonly #ready = new Map<number, () => void>();
  readonly #events = new Uint8Array(EVENT_SIZE * EVENTS);
  readonly #view = new DataView(this.#events.buffer);

  /** @throws MptError HYPERVISOR when the process has no descriptor left */
  constructor() {
    this.#epoll = new OwnedFd(libcSyscalls, failed(cCreate(EPOLL_CLOEXEC)), 'epoll_create1');
    this.#watch = watchReadable(this.#epoll.fd, () => this.#look());
  }

  get size(): number {
    return this.#ready.size;
  }

  /** `ready` is called as long as the descriptor is readable. @returns 0 or minus the errno */
  add(fd: number, ready: () => void): number {
    const event = new DataView(new ArrayBuffer(EVENT_SIZE));
    event.setUint32(0, EPOLLIN, true);
    event.setInt32(4, fd, true);
    const result = failed(cControl(this.#epoll.fd, EPOLL_CTL.ADD, fd, new Uint8Array(event.buffer)));
    if (result === 0) this.#ready.set(fd, ready);
    return result;
  }

  /** Before the descriptor is closed. */
  remove(fd: number): void {
    if (this.#ready.delete(fd)) cControl(this.#epoll.fd, EPOLL_CTL.DEL, fd, new Uint8Array(EVENT_SIZE));
  }

  close(): void {
    this.#watch.close();
    this.#ready.clear();
    this.#epoll.close();
  }

  #look(): void {
    const count = cWait(this.#epoll.fd, this.#events, EVENTS, 0) as number;
    // A call may remove others of the list.
    for (let i = 0; i < count; i++) this.#ready.get(this.#view.getInt32(i * EVENT_SIZE + 4, true))?.();
  }
}
