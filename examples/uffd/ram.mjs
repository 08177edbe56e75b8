/**
 * uffd: guest RAM that is mapped twice. The guest's mapping is write-protected page by page, and the kernel notes which protected pages
 * were written; the host's mapping of the same memory is not, so what the host writes is no guest write.
 *
 * Mappings are never given back, since views of them may be kept: they wait, empty, for the next VM that asks for as much.
 */
import { openSync } from 'node:fs';
import {
  MAP_SHARED,
  MFD_CLOEXEC,
  PAGE_IS_WRITTEN,
  PAGEMAP_SCAN,
  PROT_READ_WRITE,
  PUNCH_HOLE,
  SCAN,
  SCAN_FLAGS,
  SCAN_WORDS,
  UFFDIO_REGISTER,
  UFFDIO_REGISTER_MODE_WP,
} from './abi.mjs';
import { addressOf, call, openUserfaultfd, viewOf } from './calls.mjs';

const PAGE_SIZE = 4096;
/** One for the process, opened when the first VM is made. */
let kernel;
const waiting = new Map();

class GuestPages {
  host;
  guest;
  #fd;
  #address;
  #scan = new BigUint64Array(SCAN_WORDS);
  /** Room for one struct page_region. */
  #found = new BigUint64Array(3);

  constructor(size) {
    kernel ??= { uffd: openUserfaultfd(), pagemap: openSync('/proc/self/pagemap', 'r') };
    this.#fd = call('memfd_create', 'uffd-ram', MFD_CLOEXEC);
    call('ftruncate', this.#fd, size);
    const map = () => call('mmap', 0, size, PROT_READ_WRITE, MAP_SHARED, this.#fd, 0);
    this.host = viewOf(map(), size);
    this.#address = map();
    this.guest = viewOf(this.#address, size);
    call('ioctl', kernel.uffd, UFFDIO_REGISTER, BigUint64Array.of(BigInt(this.#address), BigInt(size), UFFDIO_REGISTER_MODE_WP, 0n));
    this.#scan[SCAN.size] = BigInt(8 * SCAN_WORDS);
    this.#scan[SCAN.flags] = SCAN_FLAGS;
    this.#scan[SCAN.vec] = BigInt(addressOf(this.#found));
    this.#scan[SCAN.vecLen] = 1n;
    this.#scan[SCAN.mask] = PAGE_IS_WRITTEN;
    this.#scan[SCAN.returned] = PAGE_IS_WRITTEN;
  }

  /** True when the guest wrote the page since it was last asked, or since ever; from now on the page is protected. */
  takeWritten(offset) {
    this.#scan[SCAN.start] = BigInt(this.#address + offset);
    this.#scan[SCAN.end] = BigInt(this.#address + offset + PAGE_SIZE);
    return call('ioctl', kernel.pagemap, PAGEMAP_SCAN, this.#scan) > 0;
  }

  /** Empties the memory: the next VM finds zeros. */
  clear() {
    call('fallocate', this.#fd, PUNCH_HOLE, 0, this.host.length);
  }
}

/** @param size bytes, whole pages @throws MptError HYPERVISOR */
export const takePages = (size) => waiting.get(size)?.pop() ?? new GuestPages(size);

export function givePages(pages) {
  pages.clear();
  const size = pages.host.length;
  if (!waiting.has(size)) waiting.set(size, []);
  waiting.get(size).push(pages);
}
