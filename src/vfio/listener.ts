/** A socket that clients come to: bound with care for what lies at its path, removed at the end unless another has replaced it. */
import { chmodSync, chownSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { errnoText, MptError } from '../core/errors.js';
import { OwnedFd } from '../native/fd.js';
import { SOCK, type SocketCalls, UNIX_PATH_MAX, unixAddress } from '../native/sockets.js';
import { EAGAIN, type Syscalls } from '../native/syscalls.js';

export interface ServerCalls {
  readonly sys: Syscalls;
  readonly sockets: SocketCalls;
}

export interface SocketOwner {
  /** Permission bits. */
  readonly mode: number;
  /** Absent: the process's. */
  readonly uid?: number;
  readonly gid?: number;
}

const ONLY_OWNER: SocketOwner = { mode: 0o600 };
const EADDRINUSE = 98;
const ECONNREFUSED = 111;
const ENOENT = 2;
/** Clients that may wait for accept. */
const BACKLOG = 8;

export class SocketListener {
  readonly path: string;
  readonly #calls: ServerCalls;
  readonly #socket: OwnedFd;
  readonly #inode: number;

  /**
   * Binds the socket. A file that a dead server left is replaced.
   * @throws MptError IO: the path is too long, in use by a living server, no socket, or cannot be made
   */
  constructor(calls: ServerCalls, path: string, owner = ONLY_OWNER) {
    this.path = path;
    this.#calls = calls;
    this.#socket = listen(calls, path, owner);
    this.#inode = lstatSync(path).ino;
  }

  get fd(): number {
    return this.#socket.fd;
  }

  /** The next client's connection, or minus the errno. @param flags SOCK.NONBLOCK or 0 */
  accept(flags: number): number {
    return this.#calls.sockets.accept(this.#socket.fd, flags);
  }

  /** Idempotent. */
  close(): void {
    if (!this.#socket.open) return;
    this.#socket.close();
    try {
      if (lstatSync(this.path).ino === this.#inode) unlinkSync(this.path);
    } catch {
      // Somebody removed it before.
    }
  }
}

function listen(calls: ServerCalls, path: string, owner: SocketOwner): OwnedFd {
  const { sys, sockets } = calls;
  const address = unixAddress(path);
  if (address === undefined)
    throw new MptError('IO', `the socket path has ${Buffer.byteLength(path)} bytes`, {
      op: 'serve',
      limit: UNIX_PATH_MAX,
      hint: 'choose a shorter path',
    });
  if (existsSync(path)) removeDeadSocket(calls, path);
  const socket = new OwnedFd(sys, sockets.socket(0), 'socket');
  try {
    const bound = sockets.bind(socket.fd, address);
    if (bound < 0) throw failure(path, -bound);
    try {
      // Nobody can connect before listen: the mode is right in time.
      if (owner.uid !== undefined || owner.gid !== undefined) chownSync(path, owner.uid ?? -1, owner.gid ?? -1);
      chmodSync(path, owner.mode);
      const listening = sockets.listen(socket.fd, BACKLOG);
      if (listening < 0) throw failure(path, -listening);
    } catch (error) {
      unlinkSync(path);
      throw MptError.is(error) ? error : failure(path, Math.abs((error as NodeJS.ErrnoException).errno ?? 5));
    }
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Removes a socket on which nobody listens. @throws MptError IO for anything else */
export function removeDeadSocket({ sys, sockets }: ServerCalls, path: string): void {
  if (!lstatSync(path).isSocket())
    throw new MptError('IO', `${path} exists and is no socket`, { op: 'serve', hint: 'choose another path or remove it' });
  const address = unixAddress(path);
  if (address === undefined) return;
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
