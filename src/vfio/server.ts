/**
 * A device on a socket: waits for a client, serves it, and is ready for the next one when it goes. One client at a time; a second
 * one is sent away, so that it fails at once and does not hang.
 */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { errnoText, MptError } from '../core/errors.js';
import type { Errno, VfioDevice } from '../core/vfio/device.js';
import { EventFd } from '../native/eventfd.js';
import { OwnedFd } from '../native/fd.js';
import { libcSyscalls } from '../native/libc.js';
import { Poller } from '../native/poll.js';
import { libcSockets, SOCK, type SocketCalls, setBuffers, UNIX_PATH_MAX, unixAddress } from '../native/sockets.js';
import { EAGAIN, EINTR, type Syscalls } from '../native/syscalls.js';
import { DmaMaps } from './dma-maps.js';
import { type RegionAccess, Session } from './session.js';
import { type SocketTransport, socketTransport } from './transport.js';

export interface ServerCalls {
  readonly sys: Syscalls;
  readonly sockets: SocketCalls;
}

/** The real ones. */
export const realServerCalls: ServerCalls = { sys: libcSyscalls, sockets: libcSockets };

export interface ServerEvents {
  /** A client connected, or went; `why` in one clause. */
  readonly onConnect?: () => void;
  readonly onDisconnect?: (why: string) => void;
  /** A client did something wrong; at a limited rate. */
  readonly onComplaint?: (what: string) => void;
}

/** How long one wait lasts at most: a stop is noticed within this time. */
const WAIT_SLICE_MS = 100;
/** What the kernel may hold for us in each direction: a burst of posted writes, or a large reply. */
const SOCKET_BUFFER = 1 << 20;
const EADDRINUSE = 98;
const ECONNABORTED = 103;
const ECONNREFUSED = 111;
const ENOENT = 2;

export class VfioUserServer {
  readonly path: string;
  readonly device: VfioDevice;
  /** The client's memory: for the device, or for whoever does its DMA. */
  readonly memory: DmaMaps;
  readonly #calls: ServerCalls;
  readonly #events: ServerEvents;
  readonly #listener: OwnedFd;
  readonly #waiter: Poller;
  #session: Session | undefined;
  #transport: SocketTransport | undefined;
  #inode: number;
  /** Clients served so far. */
  clients = 0;

  /**
   * Binds the socket. A file that a dead server left is replaced.
   * @throws MptError IO: the path is too long, in use by a living server, no socket, or cannot be made
   */
  constructor(
    calls: ServerCalls,
    path: string,
    device: VfioDevice,
    options: ServerEvents & { readonly memory?: DmaMaps; readonly trustFiles?: boolean } = {},
  ) {
    this.path = path;
    this.device = device;
    this.#calls = calls;
    this.#events = options;
    this.memory = options.memory ?? new DmaMaps(calls.sys, { trustFiles: options.trustFiles === true });
    this.#listener = listen(calls, path);
    this.#inode = lstatSync(path).ino;
    this.#waiter = new Poller(calls.sys, [this.#listener.fd]);
  }

  /** What becomes readable when there is something for `receive`. */
  get fd(): number {
    return this.#transport?.fd ?? this.#listener.fd;
  }

  /** There is something for `receive` that the descriptor does not tell of. */
  get buffered(): boolean {
    return this.#session?.stream.buffered === true;
  }

  /** The client's connection, while there is one. */
  get session(): Session | undefined {
    return this.#session;
  }

  /**
   * Waits for the next access, and meanwhile for clients.
   * @param timeoutMs at most about 100 ms are waited in one call
   * @returns the access, to be given to `complete`; undefined when there was none
   */
  receive(timeoutMs: number): RegionAccess | undefined {
    const session = this.#session;
    if (session === undefined) {
      this.#accept(Math.min(timeoutMs, WAIT_SLICE_MS));
      return undefined;
    }
    this.#prepareWait(session);
    const access = session.receive(timeoutMs);
    if (access !== undefined) return access;
    if (session.open) this.#turnAway();
    else this.disconnect();
    return undefined;
  }

  /** Ends the access. @param status 0 or a negative errno */
  complete(status: Errno): void {
    this.#session?.complete(status);
  }

  /** Ends the connection; the device goes back to reset and waits for the next client. */
  disconnect(): void {
    const session = this.#session;
    if (session === undefined) return;
    const why = session.stream.end ?? 'disconnected by the server';
    this.#session = undefined;
    this.#transport = undefined;
    session.close();
    this.#events.onDisconnect?.(why);
  }

  /** Ends the connection and removes the socket, unless another server has replaced it. Idempotent. */
  close(): void {
    this.disconnect();
    if (!this.#listener.open) return;
    this.#listener.close();
    try {
      if (lstatSync(this.path).ino === this.#inode) unlinkSync(this.path);
    } catch {
      // Somebody removed it before.
    }
  }

  #prepareWait(session: Session): void {
    const { irqs } = session.device;
    const transport = this.#transport as SocketTransport;
    if (!irqs.polls && transport.wakeFds.length === 0) return;
    irqs.pollEvents();
    transport.wakeFds = irqs
      .polled()
      .filter((event) => event instanceof EventFd)
      .map(({ fd }) => fd);
  }

  #accept(timeoutMs: number): void {
    if (this.#waiter.wait(Math.ceil(timeoutMs)) === 0) return;
    const { onComplaint } = this.#events;
    const { sys, sockets } = this.#calls;
    const fd = sockets.accept(this.#listener.fd, 0);
    if (fd < 0) {
      // The client is gone again; anything else (EMFILE) stays until something is closed: no loop that asks again at once.
      if (fd === -ECONNABORTED || fd === -EINTR || fd === -EAGAIN) return;
      onComplaint?.(`${this.device.name}: a client cannot be accepted, errno ${errnoText(-fd)}`);
      sys.poll(new Uint8Array(0), 0, WAIT_SLICE_MS);
      return;
    }
    setBuffers(sockets, fd, SOCKET_BUFFER);
    try {
      this.#transport = socketTransport(sys, sockets, fd);
    } catch (error) {
      sys.close(fd);
      if (!MptError.is(error)) throw error;
      onComplaint?.(`${this.device.name}: a client was sent away: ${error.message}`);
      return;
    }
    this.#session = new Session(this.#transport, {
      device: this.device,
      memory: this.memory,
      openEvent: (eventfd) => EventFd.adopt(sys, eventfd),
      ...(onComplaint === undefined ? {} : { onComplaint }),
    });
    this.clients++;
    this.#events.onConnect?.();
  }

  /** A second client is accepted and closed at once. */
  #turnAway(): void {
    if (this.#waiter.wait(0) === 0) return;
    const fd = this.#calls.sockets.accept(this.#listener.fd, SOCK.NONBLOCK);
    if (fd < 0) return;
    this.#calls.sys.close(fd);
    this.#events.onComplaint?.(`${this.device.name}: a second client was sent away: one is connected`);
  }
}

function listen({ sys, sockets }: ServerCalls, path: string): OwnedFd {
  const address = unixAddress(path);
  if (address === undefined)
    throw new MptError('IO', `the socket path has ${Buffer.byteLength(path)} bytes`, {
      op: 'serve',
      limit: UNIX_PATH_MAX,
      hint: 'choose a shorter path',
    });
  if (existsSync(path)) removeStale({ sys, sockets }, path, address);
  const socket = new OwnedFd(sys, sockets.socket(0), 'socket');
  try {
    const bound = sockets.bind(socket.fd, address);
    if (bound < 0) throw failure(path, -bound);
    // Nobody can connect before listen: the mode is right in time. Nobody but the owner shall.
    chmodSync(path, 0o600);
    const listening = sockets.listen(socket.fd, 8);
    if (listening < 0) throw failure(path, -listening);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Removes a socket on which nobody listens. @throws MptError IO for anything else */
function removeStale({ sys, sockets }: Pick<ServerCalls, 'sys' | 'sockets'>, path: string, address: Uint8Array): void {
  if (!lstatSync(path).isSocket())
    throw new MptError('IO', `${path} exists and is no socket`, { op: 'serve', hint: 'choose another path or remove it' });
  const probe = new OwnedFd(sys, sockets.socket(SOCK.NONBLOCK), 'socket');
  try {
    const result = sockets.connect(probe.fd, address);
    // EAGAIN: its backlog is full, so somebody is there.
    if (result >= 0 || result === -EAGAIN) throw failure(path, EADDRINUSE);
    if (result === -ECONNREFUSED) unlinkSync(path);
    else if (result !== -ENOENT) throw failure(path, -result);
  } finally {
    probe.close();
  }
}

const failure = (path: string, errno: number): MptError =>
  new MptError('IO', `the socket ${path} cannot be made, errno ${errnoText(errno)}`, {
    op: 'serve',
    errno,
    ...(errno === EADDRINUSE ? { hint: 'another server listens there: stop it or choose another path' } : {}),
  });
