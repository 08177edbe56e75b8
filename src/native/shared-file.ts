/**
 * Files that another process gave us to map, and what can be done about its shortening them (fcntl(2), "File Sealing").
 *
 * A mapping of a file that the other side shortens is a trap: touching a page behind the new end raises SIGBUS, which ends the
 * process. A file with F_SEAL_SHRINK cannot be shortened any more.
 */
import { fstatSync, readSync, writeSync } from 'node:fs';
import { F, O, SEAL, type Syscalls } from './syscalls.js';

const EBADF = 9;
const EACCES = 13;
const EINVAL = 22;

export class SharedFiles {
  readonly #sys: Syscalls;

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /**
   * Which file it is and how many bytes it has, or minus the errno: EINVAL for what is no regular file, EACCES where the descriptor
   * does not allow to read it, and to write it if `writable`.
   */
  identify(fd: number, writable: boolean): { readonly dev: number; readonly ino: number; readonly size: number } | number {
    const flags = this.#sys.fcntl(fd, F.GETFL, 0);
    if (flags < 0) return flags;
    if ((flags & O.PATH) !== 0) return -EBADF;
    const access = flags & O.ACCMODE;
    if (access !== O.RDWR && (writable || access !== O.RDONLY)) return -EACCES;
    try {
      const stat = fstatSync(fd);
      const { dev, ino, size } = stat;
      return stat.isFile() ? { dev, ino, size } : -EINVAL;
    } catch (error) {
      const { errno } = error as NodeJS.ErrnoException;
      return typeof errno === 'number' && errno < 0 ? errno : -5;
    }
  }

  /** Makes sure that the file cannot shrink. @returns false when that is not possible */
  sealShrink(fd: number): boolean {
    const seals = this.#sys.fcntl(fd, F.GET_SEALS, 0);
    if (seals < 0) return false;
    return (seals & SEAL.SHRINK) !== 0 || this.#sys.fcntl(fd, F.ADD_SEALS, SEAL.SHRINK) === 0;
  }

  /** A descriptor of our own, or minus the errno. */
  dup(fd: number): number {
    return this.#sys.fcntl(fd, F.DUPFD_CLOEXEC, 0);
  }

  /** Reads `target.length` bytes; false when any is not there. */
  read(fd: number, target: Uint8Array, offset: number): boolean {
    return whole(target.length, (at) => readSync(fd, target, at, target.length - at, offset + at));
  }

  /** Writes all of `source`; false where the file ends before: it is not made longer. */
  write(fd: number, source: Uint8Array, offset: number): boolean {
    const file = this.identify(fd, true);
    if (typeof file === 'number' || offset + source.length > file.size) return false;
    return whole(source.length, (at) => writeSync(fd, source, at, source.length - at, offset + at));
  }
}

function whole(length: number, step: (at: number) => number): boolean {
  try {
    for (let at = 0; at < length; ) {
      const n = step(at);
      if (n <= 0) return false;
      at += n;
    }
    return true;
  } catch {
    return false;
  }
}
