/**
 * AF_UNIX stream sockets that carry file descriptors, which Node's own sockets cannot: the calls as an injectable interface, the
 * real one through koffi, and one prepared `struct msghdr` for each direction of a connection.
 *
 * Convention as in `syscalls.ts`: a call returns its result, or minus the errno, and never throws.
 */
import koffi from 'koffi';
import { OwnedMapping } from './mapping.js';
import type { Syscalls } from './syscalls.js';

export interface SocketCalls {
  /** A new AF_UNIX stream socket, close-on-exec. @param flags SOCK.NONBLOCK or 0 */
  socket(flags: number): number;
  /** Two connected ones. `fds` receives them. */
  socketpair(fds: Int32Array): number;
  bind(fd: number, address: Uint8Array): number;
  listen(fd: number, backlog: number): number;
  /** The next connection, close-on-exec. @param flags SOCK.NONBLOCK or 0 */
  accept(fd: number, flags: number): number;
  connect(fd: number, address: Uint8Array): number;
  shutdown(fd: number, how: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number;
  /** `message` is the address of a `struct msghdr`. */
  recvmsg(fd: number, message: number, flags: number): number;
  sendmsg(fd: number, message: number, flags: number): number;
  /** Bytes at an address, without descriptors: cheaper than sendmsg. */
  send(fd: number, address: number, length: number, flags: number): number;
}

/** sys/socket.h on x86-64. */
export const SOCK = { NONBLOCK: 0x800, CLOEXEC: 0x8_0000 } as const;
export const MSG = { DONTWAIT: 0x40, CTRUNC: 0x8, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const;
export const SHUT_RDWR = 2;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_RCVTIMEO = 20;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

const libc = koffi.load('libc.so.6');
const cSocket = libc.func('socket', 'int', ['int', 'int', 'int']);
const cSocketpair = libc.func('socketpair', 'int', ['int', 'int', 'int', 'void *']);
const cBind = libc.func('bind', 'int', ['int', 'void *', 'uint']);
const cListen = libc.func('listen', 'int', ['int', 'int']);
const cAccept4 = libc.func('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);
const cConnect = libc.func('connect', 'int', ['int', 'void *', 'uint']);
const cShutdown = libc.func('shutdown', 'int', ['int', 'int']);
const cSetsockopt = libc.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint']);
// ssize_t is wider than int, but no buffer here is: an int costs less to return.
const cRecvmsg = libc.func('recvmsg', 'int', ['int', 'uintptr_t', 'int']);
const cSendmsg = libc.func('sendmsg', 'int', ['int', 'uintptr_t', 'int']);
const cSend = libc.func('send', 'int', ['int', 'uintptr_t', 'size_t', 'int']);

const failed = (result: number): number => (result < 0 ? -koffi.errno() : result);

export const libcSockets: SocketCalls = {
  socket: (flags) => failed(cSocket(AF_UNIX, SOCK_STREAM | SOCK.CLOEXEC | flags, 0)),
  socketpair: (fds) => failed(cSocketpair(AF_UNIX, SOCK_STREAM | SOCK.CLOEXEC, 0, fds)),
  bind: (fd, address) => failed(cBind(fd, address, address.length)),
  listen: (fd, backlog) => failed(cListen(fd, backlog)),
  accept: (fd, flags) => failed(cAccept4(fd, 0, 0, flags | SOCK.CLOEXEC)),
  connect: (fd, address) => failed(cConnect(fd, address, address.length)),
  shutdown: (fd, how) => failed(cShutdown(fd, how)),
  setsockopt: (fd, level, name, value) => failed(cSetsockopt(fd, level, name, value, value.length)),
  recvmsg: (fd, message, flags) => {
    const result: number = cRecvmsg(fd, message, flags);
    return result < 0 ? -koffi.errno() : result;
  },
  sendmsg: (fd, message, flags) => {
    const result: number = cSendmsg(fd, message, flags);
    return result < 0 ? -koffi.errno() : result;
  },
  send: (fd, address, length, flags) => {
    const result: number = cSend(fd, address, length, flags);
    return result < 0 ? -koffi.errno() : result;
  },
};

/** Bytes of a path that struct sockaddr_un holds, without its final zero (sys/un.h). */
export const UNIX_PATH_MAX = 107;

/** `struct sockaddr_un` of a path; undefined when the path is empty or too long. */
export function unixAddress(path: string): Uint8Array | undefined {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length > UNIX_PATH_MAX) return undefined;
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/** Limits how long a blocking receive waits; 0 means for ever. */
export function setReceiveTimeout(calls: SocketCalls, fd: number, ms: number): number {
  // Up, never down: what is left of a deadline is no 0.
  const us = Math.ceil(ms * 1000);
  const timeval = new Uint8Array(new BigInt64Array([BigInt(Math.floor(us / 1e6)), BigInt(us % 1e6)]).buffer);
  return calls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval);
}

/** Room in the kernel for what is on its way, bytes, in both directions. The kernel may give less. */
export function setBuffers(calls: SocketCalls, fd: number, bytes: number): void {
  const value = new Uint8Array(Uint32Array.of(bytes).buffer);
  calls.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, value);
  calls.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, value);
}

/** struct msghdr: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48; 56 bytes (bits/socket.h). */
const IOVEC = 56;
const CONTROL = 72;
/** struct cmsghdr: len 0 (u64), level 8, type 12, data 16. */
const CMSG_DATA = 16;

/**
 * A `struct msghdr` with one iovec, a control buffer and the data buffer, at a fixed address: prepared once, so that a receive or send
 * costs one call.
 */
export class MessageBuffer {
  /** The data. */
  readonly bytes: Uint8Array;
  /** The last receive lost descriptors: more came than there is room for, or than this process may have (MSG_CTRUNC). */
  lostFds = false;
  readonly #calls: SocketCalls;
  readonly #mapping: OwnedMapping;
  readonly #header: DataView;
  readonly #message: number;
  readonly #data: number;
  readonly #controlLength: number;
  /** What the iovec says. */
  #start = -1;
  #end = -1;

  /** @param fds descriptors that one message may carry */
  constructor(sys: Syscalls, calls: SocketCalls, dataLength: number, fds: number) {
    this.#calls = calls;
    this.#controlLength = CMSG_DATA + Math.ceil((fds * 4) / 8) * 8;
    const prefix = Math.ceil((CONTROL + this.#controlLength) / 64) * 64;
    this.#mapping = OwnedMapping.anonymous(sys, prefix + dataLength, 'a message buffer');
    const { buffer, hva } = this.#mapping;
    this.#header = new DataView(buffer, 0, prefix);
    this.bytes = new Uint8Array(buffer, prefix, dataLength);
    this.#message = hva;
    this.#data = hva + prefix;
    this.#pointer(16, hva + IOVEC);
    this.#header.setUint32(24, 1, true);
    this.#pointer(32, hva + CONTROL);
  }

  /**
   * Receives into `bytes[start..end)`; descriptors are appended to `fds`, the caller's from then on.
   * @returns bytes received, 0 at the end of the stream, or minus the errno
   */
  receive(fd: number, start: number, end: number, flags: number, fds: number[]): number {
    this.#aim(start, end);
    this.#header.setUint32(40, this.#controlLength, true);
    const got = this.#calls.recvmsg(fd, this.#message, flags | MSG.CMSG_CLOEXEC);
    this.lostFds = got > 0 && (this.#header.getUint32(48, true) & MSG.CTRUNC) !== 0;
    if (got >= 0 && this.#header.getUint32(40, true) >= CMSG_DATA) this.#takeFds(fds);
    return got;
  }

  /** Sends `bytes[start..end)`. @returns bytes sent, which may be fewer, or minus the errno */
  send(fd: number, start: number, end: number, flags: number): number {
    return this.#calls.send(fd, this.#data + start, end - start, flags | MSG.NOSIGNAL);
  }

  /** The same with descriptors, which ride on the first byte. They stay the caller's. */
  sendFds(fd: number, start: number, end: number, flags: number, fds: readonly number[]): number {
    this.#aim(start, end);
    this.#header.setUint32(40, CMSG_DATA + Math.ceil((fds.length * 4) / 8) * 8, true);
    this.#header.setUint32(CONTROL, CMSG_DATA + fds.length * 4, true);
    this.#header.setUint32(CONTROL + 4, 0, true);
    this.#header.setUint32(CONTROL + 8, SOL_SOCKET, true);
    this.#header.setUint32(CONTROL + 12, SCM_RIGHTS, true);
    fds.forEach((value, i) => {
      this.#header.setInt32(CONTROL + CMSG_DATA + 4 * i, value, true);
    });
    return this.#calls.sendmsg(fd, this.#message, flags | MSG.NOSIGNAL);
  }

  close(): void {
    this.#mapping.close();
  }

  /** Descriptors of every SCM_RIGHTS message in the control buffer: the kernel may give several. */
  #takeFds(fds: number[]): void {
    const end = this.#header.getUint32(40, true);
    for (let at = 0; at + CMSG_DATA <= end; ) {
      const length = this.#header.getUint32(CONTROL + at, true);
      if (length < CMSG_DATA || at + length > end) return;
      const rights =
        this.#header.getUint32(CONTROL + at + 8, true) === SOL_SOCKET && this.#header.getUint32(CONTROL + at + 12, true) === SCM_RIGHTS;
      if (rights) for (let i = CMSG_DATA; i + 4 <= length; i += 4) fds.push(this.#header.getInt32(CONTROL + at + i, true));
      at += Math.ceil(length / 8) * 8;
    }
  }

  /** Lets the iovec say `bytes[start..end)`; mostly it does already. */
  #aim(start: number, end: number): void {
    if (start === this.#start && end === this.#end) return;
    this.#start = start;
    this.#end = end;
    this.#pointer(IOVEC, this.#data + start);
    this.#header.setUint32(IOVEC + 8, end - start, true);
  }

  #pointer(offset: number, address: number): void {
    this.#header.setUint32(offset, address, true);
    this.#header.setUint32(offset + 4, address / 2 ** 32, true);
  }
}
