/**
 * A device on a socket: waits for a client, serves it, and is ready for the next one when it goes. One client at a time; a second
 * one is sent away, so that it fails at once and does not hang. Or a device for one client that somebody else let in.
 */
import { errnoText, MptError } from '../core/errors.js';
import type { Errno, VfioDevice } from '../core/vfio/device.js';
import { EventFd } from '../native/eventfd.js';
import { libcSyscalls } from '../native/libc.js';
import { Poller } from '../native/poll.js';
import { libcSockets, SOCK, setBuffers } from '../native/sockets.js';
import { EAGAIN, EINTR, F } from '../native/syscalls.js';
import { DmaMaps } from './dma-maps.js';
import { type ServerCalls, SocketListener } from './listener.js';
import { type RegionAccess, Session } from './session.js';
import { type SocketTransport, socketTransport } from './transport.js';

export type { ServerCalls } from './listener.js';

/** A path to listen at, or a connected socket, of which a copy is taken: there will be no other client. */
export type ServerPlace = string | { readonly connection: number };

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
/** From a connection to VERSION, which every client sends at once. One that does not would hold the device for ever. */
const GREETING_LIMIT_MS = 5000;
/** What the kernel may hold for us in each direction: a burst of posted writes, or a large reply. */
const SOCKET_BUFFER = 1 << 20;
const ECONNABORTED = 103;

export class VfioUserServer {
  /** Of its socket; empty when it serves one connection. */
  readonly path: string;
  #device: VfioDevice;
  /** The client's memory: for the device, or for whoever does its DMA. */
  readonly memory: DmaMaps;
  readonly #calls: ServerCalls;
  readonly #events: ServerEvents;
  readonly #listener: SocketListener | undefined;
  readonly #waiter: Poller | undefined;
  readonly #greetingLimitMs: number;
  #session: Session | undefined;
  #transport: SocketTransport | undefined;
  /** Until when the session's client has to be past VERSION. */
  #greetingEnd = 0;
  /** Clients served so far. */
  clients = 0;
  /** Region accesses so far, and their bytes. */
  readonly traffic = { reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0 };

  /**
   * Listens at the path, or serves the client that is connected.
   * @param options greetingLimitMs: how long a client may take to VERSION; it is hung up on then. Default 5000
   * @throws MptError IO: the path is too long, in use by a living server, no socket, or cannot be made; HYPERVISOR, NO_MEMORY: the
   *   connection cannot be taken
   */
  constructor(
    calls: ServerCalls,
    place: ServerPlace,
    device: VfioDevice,
    options: ServerEvents & { readonly memory?: DmaMaps; readonly trustFiles?: boolean; readonly greetingLimitMs?: number } = {},
  ) {
    this.path = typeof place === 'string' ? place : '';
    this.#device = device;
    this.#calls = calls;
    this.#events = options;
    this.#greetingLimitMs = options.greetingLimitMs ?? GREETING_LIMIT_MS;
    this.memory = options.memory ?? new DmaMaps(calls.sys, { trustFiles: options.trustFiles === true });
    if (typeof place === 'string') {
      this.#listener = new SocketListener(calls, place);
      this.#waiter = new Poller(calls.sys, [this.#listener.fd]);
    } else {
      const fd = calls.sys.fcntl(place.connection, F.DUPFD_CLOEXEC, 0);
      if (fd < 0) throw new MptError('HYPERVISOR', 'the connection cannot be copied', { op: 'serve', errno: -fd });
      this.#connect(fd);
    }
  }

  get device(): VfioDevice {
    return this.#device;
  }

  /**
   * Another device takes the place of this one; a client that is connected does not notice. Between two accesses.
   * @throws MptError INVALID_ARGUMENT when it has other regions or interrupts than the client knows
   */
  replaceDevice(device: VfioDevice): void {
    if (!sameShape(device, this.#device))
      throw new MptError('INVALID_ARGUMENT', `${device.name} has other regions than the device that the client knows`, { op: 'serve' });
    device.irqs.adopt(this.#device.irqs);
    this.#device = device;
    if (this.#session !== undefined) this.#session.device = device;
  }

  /** What becomes readable when there is something for `receive`; -1 when nothing will. */
  get fd(): number {
    return this.#transport?.fd ?? this.#listener?.fd ?? -1;
  }

  /** There is something for `receive` that the descriptor does not tell of. */
  get buffered(): boolean {
    return this.#session?.stream.buffered === true;
  }

  /** The one client went, and there will be no other. */
  get ended(): boolean {
    return this.#session === undefined && this.#listener === undefined;
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
    if (access !== undefined) {
      this.#count(access);
      return access;
    }
    // Nothing of a client's is an access before VERSION: only here has anybody to look.
    if (!session.ready && performance.now() > this.#greetingEnd) session.stream.fail('VERSION did not come in time');
    if (session.open) this.#turnAway();
    else this.disconnect();
    return undefined;
  }

  /**
   * The same for whoever cannot answer now: what the client asks is left, and nobody is let in.
   * @returns true when the client went meanwhile
   */
  waitUnanswered(timeoutMs: number): boolean {
    const session = this.#session;
    const ms = Math.min(timeoutMs, WAIT_SLICE_MS);
    if (session === undefined) {
      this.#calls.sys.poll(new Uint8Array(0), 0, ms);
      return false;
    }
    if (!(this.#transport as SocketTransport).hungUp(ms)) return false;
    session.stream.fail('the client disconnected');
    this.disconnect();
    return true;
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
    this.#listener?.close();
  }

  #count({ write, bytes }: RegionAccess): void {
    const { traffic } = this;
    if (write) {
      traffic.writes++;
      traffic.bytesWritten += bytes.length;
    } else {
      traffic.reads++;
      traffic.bytesRead += bytes.length;
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
    const listener = this.#listener;
    if (listener === undefined || this.#waiter?.wait(Math.ceil(timeoutMs)) === 0) return;
    const { onComplaint } = this.#events;
    const fd = listener.accept(0);
    if (fd < 0) {
      // The client is gone again; anything else (EMFILE) stays until something is closed: no loop that asks again at once.
      if (fd === -ECONNABORTED || fd === -EINTR || fd === -EAGAIN) return;
      onComplaint?.(`${this.device.name}: a client cannot be accepted, errno ${errnoText(-fd)}`);
      this.#calls.sys.poll(new Uint8Array(0), 0, WAIT_SLICE_MS);
      return;
    }
    try {
      this.#connect(fd);
    } catch (error) {
      if (!MptError.is(error)) throw error;
      onComplaint?.(`${this.device.name}: a client was sent away: ${error.message}`);
    }
  }

  /** Takes the socket over, also when it throws. */
  #connect(fd: number): void {
    const { onComplaint } = this.#events;
    const { sys, sockets } = this.#calls;
    setBuffers(sockets, fd, SOCKET_BUFFER);
    try {
      this.#transport = socketTransport(sys, sockets, fd);
    } catch (error) {
      sys.close(fd);
      throw error;
    }
    this.#session = new Session(this.#transport, {
      device: this.device,
      memory: this.memory,
      openEvent: (eventfd) => EventFd.adopt(sys, eventfd),
      ...(onComplaint === undefined ? {} : { onComplaint }),
    });
    this.#greetingEnd = performance.now() + this.#greetingLimitMs;
    this.clients++;
    this.#events.onConnect?.();
  }

  /** A second client is accepted and closed at once. */
  #turnAway(): void {
    if (this.#listener === undefined || this.#waiter?.wait(0) === 0) return;
    const fd = this.#listener.accept(SOCK.NONBLOCK);
    if (fd < 0) return;
    this.#calls.sys.close(fd);
    this.#events.onComplaint?.(`${this.device.name}: a second client was sent away: one is connected`);
  }
}

/** A client of the one can go on with the other. */
function sameShape(a: VfioDevice, b: VfioDevice): boolean {
  const shape = ({ flags, regionCount, regions, irqs }: VfioDevice): string =>
    JSON.stringify([
      flags,
      regionCount,
      irqs.info,
      [...regions.values()].map(({ index, size, flags, type }) => [index, size, flags, type]),
    ]);
  return shape(a) === shape(b);
}
