/** The tree on a folder: a FUSE mount of our own, served on the main loop. */
import { accessSync, constants, existsSync, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { MptError } from '../core/errors.js';
import { OwnedFd } from '../native/fd.js';
import { libcSyscalls } from '../native/libc.js';
import { MNT, MS, mount, mountedOn, unmount } from '../native/mount.js';
import { O } from '../native/syscalls.js';
import { type Watch, watchReadable } from '../native/watch.js';
import { NOTIFY_POLL, OUT, S } from './abi.js';
import { FileSystem, type FileSystemOptions } from './file-system.js';
import { Reply, Request, setU64 } from './message.js';

const DEVICE = '/dev/fuse';
const TYPE = 'fuse.mpt';
/** Begins the source of a mount of ours. */
const SOURCE = 'mpt:';
const ENODEV = 19;
const ENOENT = 2;
const EINTR = 4;
const EAGAIN = 11;
/** What a machine or a user lacks. */
const CURES: Readonly<Record<number, string>> = {
  1: 'it takes root, or a user and mount namespace',
  19: 'the kernel has no FUSE',
  22: '/dev/fuse is not that of FUSE',
};
/** Requests that are answered before the main loop gets its turn. */
const BURST = 256;

export interface MountOptions extends Omit<FileSystemOptions, 'onWake'> {
  /** Names whoever serves the tree, in the list of mounts: a mount whose server is dead can be told from one whose server is slow. */
  readonly server: string;
  /** Another server of that name lives. */
  readonly lives: (server: string) => boolean;
  /** Somebody else has unmounted it. */
  readonly onUnmounted: () => void;
}

/** Why no tree can be mounted here, as far as that can be told before; undefined when it can. */
export function noTree(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting the tree needs root';
  try {
    accessSync(DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return `there is no ${DEVICE}`;
  }
}

export class MountedTree {
  /** Where it is. */
  readonly folder: string;
  readonly files: FileSystem;
  readonly #fd: OwnedFd;
  #watch: Watch | undefined;
  readonly #onUnmounted: () => void;
  readonly #request = new Request();
  readonly #reply = new Reply();
  readonly #detach = (): void => void unmount(this.folder, MNT.FORCE | MNT.DETACH);
  #closed = false;

  /**
   * Mounts the tree; a mount there whose owner is dead is taken away first.
   * @throws MptError UNAVAILABLE where this machine or user cannot mount it, with the reason; BUSY when another daemon's tree is there;
   *   INVALID_ARGUMENT for a folder that is not empty; IO
   */
  static mount(folder: string, options: MountOptions): MountedTree {
    const place = makeRoom(folder, options.lives);
    const device = libcSyscalls.open(DEVICE, O.RDWR | O.NONBLOCK | O.CLOEXEC);
    if (device < 0)
      throw new MptError('UNAVAILABLE', `${DEVICE} cannot be opened`, { op: 'mount', errno: -device, hint: 'the tree needs FUSE' });
    const fd = new OwnedFd(libcSyscalls, device, DEVICE);
    const data = `fd=${fd.fd},rootmode=${(S.IFDIR | 0o755).toString(8)},user_id=${process.getuid?.() ?? 0},group_id=${process.getgid?.() ?? 0},allow_other,default_permissions`;
    const mounted = mount(`${SOURCE}${options.server}`, place, TYPE, MS.NOSUID | MS.NODEV | MS.NOEXEC, data);
    if (mounted < 0) {
      fd.close();
      const cure = CURES[-mounted];
      throw new MptError(cure === undefined ? 'IO' : 'UNAVAILABLE', `${place} cannot be mounted on`, {
        op: 'mount',
        errno: -mounted,
        ...(cure === undefined ? {} : { hint: cure }),
      });
    }
    return new MountedTree(place, fd, options);
  }

  private constructor(folder: string, fd: OwnedFd, options: MountOptions) {
    this.folder = folder;
    this.#fd = fd;
    this.#onUnmounted = options.onUnmounted;
    this.files = new FileSystem({ ...options, onWake: (handle) => this.#notify(handle) });
    this.#watch = watchReadable(fd.fd, () => this.#serve());
    process.on('exit', this.#detach);
  }

  /** Unmounts. Whoever has a file open gets ENODEV or ENOTCONN. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    process.off('exit', this.#detach);
    this.#unwatch();
    this.#detach();
    this.#fd.close();
  }

  #unwatch(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  #serve(): void {
    const { bytes } = this.#request;
    for (let i = 0; i < BURST && !this.#closed; i++) {
      const got = libcSyscalls.read(this.#fd.fd, bytes);
      if (got === -EAGAIN) return;
      // ENOENT: whoever asked has gone.
      if (got === -ENOENT || got === -EINTR) continue;
      // Somebody else unmounted it.
      if (got === -ENODEV || got <= 0) {
        this.#unwatch();
        this.#onUnmounted();
        return;
      }
      this.#request.length = got;
      this.files.answer(this.#request, this.#reply, this.#send);
    }
  }

  /** A reply that nobody waits for any more is refused with ENOENT. */
  readonly #send = (bytes: Uint8Array): void => {
    if (!this.#closed) libcSyscalls.write(this.#fd.fd, bytes);
  };

  #notify(handle: number): void {
    const message = new DataView(new ArrayBuffer(OUT.SIZE + 8));
    message.setUint32(OUT.LENGTH, message.byteLength, true);
    message.setInt32(OUT.ERROR, NOTIFY_POLL, true);
    setU64(message, OUT.SIZE, handle);
    this.#send(new Uint8Array(message.buffer));
  }
}

/** The folder, made if it is not there, with nothing of a dead daemon on it. @returns its real path */
function makeRoom(folder: string, lives: MountOptions['lives']): string {
  try {
    // The folder itself cannot be looked at while a dead mount is on it.
    mkdirSync(dirname(folder), { recursive: true });
    const place = join(realpathSync(dirname(folder)), basename(folder));
    for (let top = mountedOn(place).at(-1); top?.type.startsWith('fuse') === true; top = mountedOn(place).at(-1)) {
      const { type, source } = top;
      if (type !== TYPE)
        throw new MptError('BUSY', `a file system of type ${type} is on ${place}`, {
          op: 'mount',
          hint: 'unmount it, or name another folder',
        });
      const server = source.slice(SOURCE.length);
      if (lives(server))
        throw new MptError('BUSY', `the tree of the daemon in ${server} is on ${place}`, {
          op: 'mount',
          hint: 'stop it, or name another folder',
        });
      const gone = unmount(place, MNT.FORCE | MNT.DETACH);
      if (gone < 0) throw new MptError('IO', `the dead mount on ${place} cannot be taken away`, { op: 'mount', errno: -gone });
    }
    // Not `recursive`: in /proc Node would try for ever.
    if (!existsSync(place)) mkdirSync(place, { mode: 0o755 });
    // Our own sockets would be hidden, and whoever looks for one on the main thread would wait for itself.
    if (readdirSync(place).length > 0)
      throw new MptError('INVALID_ARGUMENT', `${place} is not empty, and a mount would hide what is in it`, {
        op: 'mount',
        hint: 'name an empty folder, or a new one',
      });
    return realpathSync(place);
  } catch (error) {
    if (MptError.is(error)) throw error;
    const { errno } = error as NodeJS.ErrnoException;
    throw new MptError('IO', `${folder} cannot be mounted on`, {
      op: 'mount',
      ...(errno === undefined ? { cause: error } : { errno: Math.abs(errno) }),
    });
  }
}
