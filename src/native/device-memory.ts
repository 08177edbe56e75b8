/**
 * Device memory on memfd: shared with clients by descriptor, sealed against shrinking and growing, so that no client can truncate the
 * file under our mapping (an access past the end of a file is a SIGBUS, which ends the process).
 *
 * Planes are exported as dmabufs of /dev/udmabuf (linux/udmabuf.h) where the kernel has it. Where it has not, a descriptor of the
 * whole memfd stands in: its file position is the plane's first byte, its seals and pages are those of the memory. `mmap(fd,
 * lseek(fd, 0, SEEK_CUR))` and `read` reach the plane; what only a dmabuf can do (importing it into a GPU) fails on it.
 */
import type { DeviceMemories, DeviceMemory } from '../core/device-memory.js';
import { MptError } from '../core/errors.js';
import { OwnedFd } from './fd.js';
import { OwnedMapping } from './mapping.js';
import { F, MFD, O, SEAL, SEEK, type Syscalls } from './syscalls.js';

const UDMABUF = '/dev/udmabuf';
/** struct udmabuf_create: memfd, flags, and offset and size of 8 bytes; UDMABUF_CREATE is _IOW('u', 0x42, it). */
export const UDMABUF_CREATE_SIZE = 24;
export const UDMABUF_CREATE = 0x4018_7542;
export const UDMABUF_FLAGS_CLOEXEC = 1;
const PAGE_SIZE = 4096;
const EINVAL = 22;
const DWORD = 2 ** 32;

class MemfdMemory implements DeviceMemory {
  readonly bytes: Uint8Array;
  readonly #fd: OwnedFd;
  readonly #mapping: OwnedMapping;

  constructor(fd: OwnedFd, mapping: OwnedMapping) {
    this.#fd = fd;
    this.#mapping = mapping;
    this.bytes = new Uint8Array(mapping.buffer);
  }

  get fd(): number {
    return this.#fd.open ? this.#fd.fd : -1;
  }

  close(): void {
    this.#mapping.close();
    this.#fd.close();
  }
}

export class MemfdMemories implements DeviceMemories {
  readonly #sys: Syscalls;

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /** Pages are allocated at first touch. @throws MptError INVALID_ARGUMENT, LIMIT, NO_MEMORY, HYPERVISOR; nothing is kept then */
  allocate(size: number, name: string): DeviceMemory {
    const sys = this.#sys;
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0)
      throw new MptError('INVALID_ARGUMENT', `device memory ${name} is not a number of whole pages`, { size, limit: PAGE_SIZE });
    const what = `device memory ${name}`;
    const fd = new OwnedFd(sys, sys.memfdCreate(name, MFD.CLOEXEC | MFD.ALLOW_SEALING), `memfd_create of ${what}`);
    try {
      const done = (step: string, result: number): void => {
        if (result < 0) throw new MptError('HYPERVISOR', `${step} of ${what} failed`, { errno: -result, size });
      };
      done('ftruncate', sys.ftruncate(fd.fd, size));
      done('sealing', sys.fcntl(fd.fd, F.ADD_SEALS, SEAL.SHRINK | SEAL.GROW | SEAL.SEAL));
      return new MemfdMemory(fd, OwnedMapping.file(sys, fd.fd, size, what));
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** @returns a descriptor, or -EINVAL for a range that is not whole pages of the memory, or what the kernel refused with */
  exportPlane(memory: DeviceMemory, offset: number, size: number): number {
    const sys = this.#sys;
    const whole = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    if (memory.fd < 0 || offset < 0 || offset % PAGE_SIZE !== 0 || size <= 0 || !(offset + whole <= memory.bytes.length)) return -EINVAL;
    const device = sys.open(UDMABUF, O.RDWR | O.CLOEXEC);
    if (device < 0) return this.#standIn(memory.fd, offset);
    const request = new DataView(new ArrayBuffer(UDMABUF_CREATE_SIZE));
    request.setUint32(0, memory.fd, true);
    request.setUint32(4, UDMABUF_FLAGS_CLOEXEC, true);
    for (const [at, value] of [
      [8, offset],
      [16, whole],
    ] as const) {
      request.setUint32(at, value % DWORD, true);
      request.setUint32(at + 4, Math.floor(value / DWORD), true);
    }
    const buffer = sys.ioctlBuffer(device, UDMABUF_CREATE, new Uint8Array(request.buffer));
    sys.close(device);
    return buffer;
  }

  /** Opened again, not dup'ed: the position is then this descriptor's own. */
  #standIn(memfd: number, offset: number): number {
    const sys = this.#sys;
    const fd = sys.open(`/proc/self/fd/${memfd}`, O.RDWR | O.CLOEXEC);
    if (fd < 0) return fd;
    const at = sys.lseek(fd, offset, SEEK.SET);
    if (at >= 0) return fd;
    sys.close(fd);
    return at;
  }
}
