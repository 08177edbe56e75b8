/**
 * Physical frames behind addresses of this process (Documentation/admin-guide/mm/pagemap.rst): 8 bytes a page, bits 54:0 the frame,
 * bit 63 set while the page is present. Without CAP_SYS_ADMIN the kernel shows frame 0.
 */
import { MptError } from '../core/errors.js';
import { OwnedFd } from './fd.js';
import { O, SEEK, type Syscalls } from './syscalls.js';

const PAGEMAP = '/proc/self/pagemap';
const PAGE_SIZE = 4096;
const ENTRY = 8;
const PRESENT = 0x8000_0000;
const HIGH_FRAME_BITS = 0x7f_ffff;

export class PageFrames {
  readonly #sys: Syscalls;
  readonly #fd: OwnedFd;
  readonly #entry = new Uint8Array(ENTRY);
  readonly #words = new Uint32Array(this.#entry.buffer);

  /** @throws MptError HYPERVISOR */
  constructor(sys: Syscalls) {
    this.#sys = sys;
    this.#fd = new OwnedFd(sys, sys.open(PAGEMAP, O.RDONLY | O.CLOEXEC), `opening ${PAGEMAP}`);
  }

  /**
   * The frame of a page, which the caller has touched, so that it is present. It stays the same while something holds the page (a
   * hypervisor's pin).
   * @throws MptError HYPERVISOR when the kernel does not tell
   */
  frameOf(address: number): number {
    const { fd } = this.#fd;
    const at = Math.floor(address / PAGE_SIZE) * ENTRY;
    const moved = this.#sys.lseek(fd, at, SEEK.SET);
    if (moved < 0) throw new MptError('HYPERVISOR', `seeking in ${PAGEMAP} failed`, { errno: -moved, address });
    const length = this.#sys.read(fd, this.#entry);
    if (length < 0) throw new MptError('HYPERVISOR', `reading ${PAGEMAP} failed`, { errno: -length, address });
    const [low = 0, high = 0] = this.#words;
    const frame = low + (high & HIGH_FRAME_BITS) * 2 ** 32;
    if (length !== ENTRY || (high & PRESENT) === 0) throw new MptError('HYPERVISOR', `${PAGEMAP} has no page there`, { address });
    if (frame === 0)
      throw new MptError('HYPERVISOR', `${PAGEMAP} hides frame numbers`, { address, hint: 'run as root, with CAP_SYS_ADMIN' });
    return frame;
  }

  close(): void {
    this.#fd.close();
  }
}
