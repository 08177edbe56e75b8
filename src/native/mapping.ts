/** A memory mapping with one owner. After `close()` its views are empty, never dangling. */
import { Hva } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import { detachArrayBuffer } from './detach.js';
import { OwnedFd } from './fd.js';
import { MAP, MFD, PROT, type Syscalls } from './syscalls.js';

const ENOMEM = 12;
/** Bytes that one ArrayBuffer over foreign memory may have: past it, koffi and Node 20 end the process. */
export const MAPPING_MAX = 2 ** 32;

/** @throws MptError LIMIT */
function checkLength(length: number, what: string): number {
  if (length > MAPPING_MAX) throw new MptError('LIMIT', `mapping ${what} failed: it is too large`, { size: length, limit: MAPPING_MAX });
  return length;
}

export class OwnedMapping {
  readonly #length: number;
  readonly #address: number;
  readonly #unmap: () => void;
  #buffer: ArrayBuffer | undefined;

  private constructor(sys: Syscalls, address: number, length: number, what: string, unmap?: () => void) {
    if (address < 0)
      throw new MptError(-address === ENOMEM ? 'NO_MEMORY' : 'HYPERVISOR', `mapping ${what} failed`, { errno: -address, size: length });
    this.#address = address;
    this.#length = length;
    this.#unmap = unmap ?? (() => void sys.munmap(address, length));
    this.#buffer = sys.view(address, length);
  }

  /** Zeroed shared anonymous memory; pages are allocated at first touch. */
  static anonymous(sys: Syscalls, length: number, what: string): OwnedMapping {
    const flags = MAP.SHARED | MAP.ANONYMOUS | MAP.NORESERVE;
    return new OwnedMapping(sys, sys.mmap(checkLength(length, what), PROT.READ | PROT.WRITE, flags, -1, 0), length, what);
  }

  /** Zeroed shared memory of an anonymous file, by whose name /proc shows it; pages are allocated at first touch. */
  static memfd(sys: Syscalls, length: number, what: string, name: string): OwnedMapping {
    const fd = new OwnedFd(sys, sys.memfdCreate(name, MFD.CLOEXEC), `memfd_create of ${what}`);
    try {
      const result = sys.ftruncate(fd.fd, checkLength(length, what));
      if (result < 0) throw new MptError('HYPERVISOR', `ftruncate of ${what} failed`, { errno: -result, size: length });
      return OwnedMapping.file(sys, fd.fd, length, what);
    } finally {
      fd.close();
    }
  }

  /** The first `length` bytes of a file or device. */
  static file(sys: Syscalls, fd: number, length: number, what: string): OwnedMapping {
    return new OwnedMapping(sys, sys.mmap(checkLength(length, what), PROT.READ | PROT.WRITE, MAP.SHARED, fd, 0), length, what);
  }

  /** `length` bytes of a file from `offset` on, shared. @param protection `PROT` bits; a store to a read-only mapping ends the process */
  static shared(sys: Syscalls, fd: number, length: number, offset: number, protection: number, what: string): OwnedMapping {
    return new OwnedMapping(sys, sys.mmap(checkLength(length, what), protection, MAP.SHARED, fd, offset), length, what);
  }

  /** Takes over what a library mapped at `address` (a negative number is the errno) and unmaps it by `unmap`. */
  static adopt(sys: Syscalls, address: number, length: number, what: string, unmap: () => void): OwnedMapping {
    return new OwnedMapping(sys, address, checkLength(length, what), what, unmap);
  }

  get hva(): Hva {
    return Hva(this.#address);
  }

  get length(): number {
    return this.#length;
  }

  get open(): boolean {
    return this.#buffer !== undefined;
  }

  /** The memory. @throws MptError CLOSED */
  get buffer(): ArrayBuffer {
    if (this.#buffer === undefined) throw new MptError('CLOSED', 'the mapping was closed', { size: this.#length });
    return this.#buffer;
  }

  /** Empties all views, then unmaps. Idempotent. */
  close(): void {
    if (this.#buffer === undefined) return;
    detachArrayBuffer(this.#buffer);
    this.#buffer = undefined;
    this.#unmap();
  }
}
