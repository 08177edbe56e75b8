/** A file whose lock says that its owner lives: the kernel drops it with the process, however that ends (flock(2)). */
import { OwnedFd } from './fd.js';
import { O, type Syscalls } from './syscalls.js';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const EAGAIN = 11;

export class LockFile {
  readonly #fd: OwnedFd;

  /** @returns undefined when another process has it @throws MptError HYPERVISOR when the file cannot be made */
  static take(sys: Syscalls, path: string): LockFile | undefined {
    const fd = new OwnedFd(sys, sys.open(path, O.RDWR | O.CREAT | O.CLOEXEC), `opening the lock ${path}`);
    const locked = sys.flock(fd.fd, LOCK_EX | LOCK_NB);
    if (locked === 0) return new LockFile(fd);
    fd.close();
    if (locked === -EAGAIN) return undefined;
    return new LockFile(new OwnedFd(sys, locked, `locking ${path}`));
  }

  /** Somebody has it, this process included. False where there is no such file. */
  static held(sys: Syscalls, path: string): boolean {
    const fd = sys.open(path, O.RDONLY | O.NONBLOCK | O.CLOEXEC);
    if (fd < 0) return false;
    const locked = sys.flock(fd, LOCK_SH | LOCK_NB);
    sys.close(fd);
    return locked === -EAGAIN;
  }

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /** Gives it up. The file stays: removing it would let two have a lock. */
  close(): void {
    this.#fd.close();
  }
}
