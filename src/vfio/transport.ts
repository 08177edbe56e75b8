/**
 * How bytes and descriptors travel between a client and a server: a socket, or memory (for tests and fuzzing). One owner, one
 * thread; the buffers are the transport's, so that a socket can receive into and send from memory at a fixed address.
 */
import { MptError } from '../core/errors.js';
import { MessageBuffer, MSG, type SocketCalls, setReceiveTimeout } from '../native/sockets.js';
import { EAGAIN, EINTR, POLL, type Syscalls } from '../native/syscalls.js';
import { BUFFER_SIZE, LIMITS } from './protocol.js';

export interface Transport {
  /** What was received. */
  readonly input: Uint8Array;
  /** What is to be sent is written here first. */
  readonly output: Uint8Array;
  /**
   * Receives into `input[start..end)`.
   * @param timeoutMs how long to wait at most; 0 does not wait. It may return earlier without anything
   * @param fds descriptors that came are appended, and are the caller's
   * @returns bytes; 0 when nothing came; -1 when the other side is gone
   */
  receive(start: number, end: number, timeoutMs: number, fds: number[]): number;
  /** Descriptors of the last receive were lost: more than fit, or this process has no room for them. */
  readonly lostFds: boolean;
  /** Sends `output[start..end)` whole. @returns false when the other side is gone or does not read */
  send(start: number, end: number, fds?: readonly number[]): boolean;
  /** Gives a descriptor back that came with a message. */
  closeFd(fd: number): void;
  close(): void;
}

/** How long one blocking receive lasts: a stop is noticed within this time. */
const RECEIVE_SLICE_MS = 100;
/** Waits below this are kept to the microsecond: a receive timeout is counted in ticks of the kernel, of up to 10 ms. */
const PRECISE_BELOW_MS = 10;
/** A client that does not read its replies for this long is given up: sooner than a thread that is to stop is ended by force. */
const SEND_DEADLINE_MS = 1500;

export class SocketTransport implements Transport {
  readonly fd: number;
  /** Descriptors, besides the socket, that end a wait when they become readable. */
  wakeFds: readonly number[] = [];
  readonly #sys: Syscalls;
  readonly #calls: SocketCalls;
  readonly #in: MessageBuffer;
  readonly #out: MessageBuffer;
  /** struct pollfd of the socket. */
  readonly #pollIn = new Uint8Array(8);
  #timeoutMs = -1;
  #open = true;

  /** Takes over the connected socket and the buffers. */
  constructor(sys: Syscalls, calls: SocketCalls, fd: number, buffers: { readonly input: MessageBuffer; readonly output: MessageBuffer }) {
    this.#sys = sys;
    this.#calls = calls;
    this.fd = fd;
    this.#in = buffers.input;
    this.#out = buffers.output;
    const pollfd = new DataView(this.#pollIn.buffer);
    pollfd.setInt32(0, fd, true);
    pollfd.setInt16(4, POLL.IN, true);
  }

  get input(): Uint8Array {
    return this.#in.bytes;
  }

  get output(): Uint8Array {
    return this.#out.bytes;
  }

  get lostFds(): boolean {
    return this.#in.lostFds;
  }

  receive(start: number, end: number, timeoutMs: number, fds: number[]): number {
    if (!this.#open) return -1;
    const flags = this.#prepareWait(timeoutMs);
    const got = this.#in.receive(this.fd, start, end, flags, fds);
    if (got > 0) return got;
    if (got === -EAGAIN || got === -EINTR) return 0;
    // End of the stream, ECONNRESET, or whatever else: nothing more will come.
    return -1;
  }

  send(start: number, end: number, fds?: readonly number[]): boolean {
    if (!this.#open) return false;
    let at = start;
    let deadline = 0;
    while (at < end) {
      const carries = fds !== undefined && fds.length > 0 && at === start;
      const sent = carries ? this.#out.sendFds(this.fd, at, end, MSG.DONTWAIT, fds) : this.#out.send(this.fd, at, end, MSG.DONTWAIT);
      if (sent > 0) at += sent;
      else if (sent === -EAGAIN) {
        deadline ||= performance.now() + SEND_DEADLINE_MS;
        if (performance.now() >= deadline) return false;
        this.#poll(POLL.OUT, RECEIVE_SLICE_MS);
      } else if (sent !== -EINTR) return false;
    }
    return true;
  }

  /** Waits for the other side to go, and takes nothing of what it sent. @returns true when it has */
  hungUp(timeoutMs: number): boolean {
    if (!this.#open) return true;
    const pollfd = new DataView(new ArrayBuffer(8));
    pollfd.setInt32(0, this.fd, true);
    pollfd.setInt16(4, POLL.RDHUP, true);
    this.#sys.poll(new Uint8Array(pollfd.buffer), 1, timeoutMs);
    return pollfd.getInt16(6, true) !== 0;
  }

  closeFd(fd: number): void {
    this.#sys.close(fd);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#sys.close(this.fd);
    this.#in.close();
    this.#out.close();
  }

  /** One blocking receive is cheapest; with more than the socket to wait for, poll comes first. @returns flags for the receive */
  #prepareWait(timeoutMs: number): number {
    if (timeoutMs <= 0) return MSG.DONTWAIT;
    const ms = Math.min(timeoutMs, RECEIVE_SLICE_MS);
    if (ms < PRECISE_BELOW_MS && this.wakeFds.length === 0) {
      this.#ppoll(ms);
      return MSG.DONTWAIT;
    }
    if (this.wakeFds.length > 0) {
      this.#poll(POLL.IN, ms);
      return MSG.DONTWAIT;
    }
    if (ms !== this.#timeoutMs) {
      const result = setReceiveTimeout(this.#calls, this.fd, ms);
      if (result < 0) throw new MptError('HYPERVISOR', 'setting the receive timeout failed', { errno: -result });
      this.#timeoutMs = ms;
    }
    return 0;
  }

  /** The same for the socket alone, precisely. */
  #ppoll(ms: number): void {
    this.#sys.ppoll(this.#pollIn, 1, Math.ceil(ms * 1e6));
  }

  /** struct pollfd: int fd, short events, short revents. */
  #poll(events: number, ms: number): void {
    const wake = events === POLL.IN ? this.wakeFds : [];
    const view = new DataView(new ArrayBuffer(8 * (1 + wake.length)));
    [this.fd, ...wake].forEach((fd, i) => {
      view.setInt32(8 * i, fd, true);
      view.setInt16(8 * i + 4, i === 0 ? events : POLL.IN, true);
    });
    this.#sys.poll(new Uint8Array(view.buffer), 1 + wake.length, Math.max(1, Math.ceil(ms)));
  }
}

/** Both ends of a connection, for a client and a server in one process. @throws MptError HYPERVISOR, NO_MEMORY */
export function socketTransportPair(sys: Syscalls, sockets: SocketCalls): [SocketTransport, SocketTransport] {
  const fds = new Int32Array(2);
  const paired = sockets.socketpair(fds);
  if (paired < 0) throw new MptError('HYPERVISOR', 'socketpair failed', { errno: -paired });
  const [first, second] = fds as unknown as [number, number];
  let open: SocketTransport | undefined;
  try {
    open = socketTransport(sys, sockets, first);
    return [open, socketTransport(sys, sockets, second)];
  } catch (error) {
    if (open === undefined) sys.close(first);
    else open.close();
    sys.close(second);
    throw error;
  }
}

/** A transport with buffers of its own over a connected socket, which it takes over. @throws MptError; the socket stays the caller's then */
export function socketTransport(sys: Syscalls, sockets: SocketCalls, fd: number): SocketTransport {
  const input = new MessageBuffer(sys, sockets, BUFFER_SIZE, LIMITS.maxMsgFds + 1);
  try {
    return new SocketTransport(sys, sockets, fd, { input, output: new MessageBuffer(sys, sockets, BUFFER_SIZE, LIMITS.maxMsgFds) });
  } catch (error) {
    input.close();
    throw error;
  }
}

/** One direction of a pair in memory: what was sent and not yet received, in pieces, each with the descriptors on its first byte. */
class Pipe {
  readonly pieces: { bytes: Uint8Array; fds: number[] }[] = [];
  closed = false;
}

/**
 * A pair of connected transports in memory, with a socket's rules: a receive stops behind the piece that carries descriptors, and
 * what is left of a piece comes with the next one. Descriptors are plain numbers that the receiver closes by `closeFd`.
 */
export function memoryPair(size: number, closeFd: (fd: number) => void): [MemoryTransport, MemoryTransport] {
  const [there, back] = [new Pipe(), new Pipe()];
  return [new MemoryTransport(size, there, back, closeFd), new MemoryTransport(size, back, there, closeFd)];
}

export class MemoryTransport implements Transport {
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  readonly closeFd: (fd: number) => void;
  readonly lostFds = false;
  readonly #in: Pipe;
  readonly #out: Pipe;

  constructor(size: number, incoming: Pipe, outgoing: Pipe, closeFd: (fd: number) => void) {
    this.input = new Uint8Array(size);
    this.output = new Uint8Array(size);
    this.#in = incoming;
    this.#out = outgoing;
    this.closeFd = closeFd;
  }

  receive(start: number, end: number, _timeoutMs: number, fds: number[]): number {
    let at = start;
    for (let piece = this.#in.pieces[0]; piece !== undefined && at < end; piece = this.#in.pieces[0]) {
      const n = Math.min(piece.bytes.length, end - at);
      this.input.set(piece.bytes.subarray(0, n), at);
      at += n;
      const carried = piece.fds.length > 0;
      fds.push(...piece.fds.splice(0));
      if (n < piece.bytes.length) piece.bytes = piece.bytes.subarray(n);
      else this.#in.pieces.shift();
      if (carried) break;
    }
    if (at > start) return at - start;
    return this.#in.closed ? -1 : 0;
  }

  send(start: number, end: number, fds: readonly number[] = []): boolean {
    return this.sendBytes(this.output.slice(start, end), fds);
  }

  /** Sends any bytes, as a hostile peer would. */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    if (this.#out.closed) return false;
    this.#out.pieces.push({ bytes, fds: [...fds] });
    return true;
  }

  /** Both directions end; descriptors that were not received are closed, as the kernel does. */
  close(): void {
    for (const pipe of [this.#in, this.#out]) pipe.closed = true;
    for (const { fds } of this.#in.pieces) for (const fd of fds) this.closeFd(fd);
    this.#in.pieces.length = 0;
  }
}
