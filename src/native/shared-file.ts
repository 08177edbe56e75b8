/**
 * Files that two processes map: memfds and their seals (memfd_create(2), fcntl(2) "File Sealing").
 *
 * A mapping of a file that the other side shortens is a trap: touching a page behind the new end raises SIGBUS, which ends the
 * process. A file with F_SEAL_SHRINK cannot be shortened any more.
 */
import { fstatSync, readSync, writeSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const cFcntl = libc.func('fcntl', 'int', ['int', 'int', 'int']);
const cMemfd = libc.func('memfd_create', 'int', ['str', 'uint']);

const F_DUPFD_CLOEXEC = 1030;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const SEAL_SHRINK = 2;
const SEAL_GROW = 4;
const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2 } as const;

export interface SharedFileCalls {
  /** A new memory file of this size. @param sealed neither side can change its size any more */
  memfd(name: string, size: number, sealed: boolean): number;
  /** Bytes of the file, or minus the errno. */
  size(fd: number): number;
  /** Makes sure that the file cannot shrink. @returns false when that is not possible */
  sealShrink(fd: number): boolean;
  dup(fd: number): number;
  /** Reads whole; false when any byte is not there. */
  readAt(fd: number, target: Uint8Array, offset: number): boolean;
  writeAt(fd: number, source: Uint8Array, offset: number): boolean;
}

const failed = (result: number): number => (result < 0 ? -koffi.errno() : result);
const cClose = libc.func('close', 'int', ['int']);
const cFtruncate = libc.func('ftruncate', 'int', ['int', 'int64_t']);

/** Errno of a failed call of node:fs. */
const errnoOf = (error: unknown): number => {
  const { errno } = error as NodeJS.ErrnoException;
  return typeof errno === 'number' && errno < 0 ? errno : -5;
};

export const sharedFiles: SharedFileCalls = {
  memfd: (name, size, sealed) => {
    const fd = failed(cMemfd(name, MFD.CLOEXEC | MFD.ALLOW_SEALING));
    if (fd < 0) return fd;
    let result = failed(cFtruncate(fd, size));
    if (result >= 0 && sealed) result = failed(cFcntl(fd, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW));
    if (result >= 0) return fd;
    cClose(fd);
    return result;
  },
  size: (fd) => {
    try {
      return fstatSync(fd).size;
    } catch (error) {
      return errnoOf(error);
    }
  },
  sealShrink: (fd) => {
    const seals: number = cFcntl(fd, F_GET_SEALS, 0);
    if (seals >= 0 && (seals & SEAL_SHRINK) !== 0) return true;
    return seals >= 0 && cFcntl(fd, F_ADD_SEALS, SEAL_SHRINK) === 0;
  },
  dup: (fd) => failed(cFcntl(fd, F_DUPFD_CLOEXEC, 0)),
  readAt: (fd, target, offset) => whole(target, (at) => readSync(fd, target, at, target.length - at, offset + at)),
  writeAt: (fd, source, offset) => whole(source, (at) => writeSync(fd, source, at, source.length - at, offset + at)),
};

function whole(bytes: Uint8Array, step: (at: number) => number): boolean {
  try {
    for (let at = 0; at < bytes.length; ) {
      const n = step(at);
      if (n <= 0) return false;
      at += n;
    }
    return true;
  } catch {
    return false;
  }
}
