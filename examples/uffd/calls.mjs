/** uffd: the system calls. */
import koffi from 'koffi';
import { MptError } from 'mediated-passthrough';
import { SYS_USERFAULTFD, UFFD_API, UFFD_FEATURE, UFFD_FLAGS, UFFDIO_API } from './abi.mjs';

const libc = koffi.load(null);
const calls = {
  syscall: libc.func('long syscall(long number, int flags)'),
  memfd_create: libc.func('int memfd_create(const char *name, uint flags)'),
  ftruncate: libc.func('int ftruncate(int fd, int64_t length)'),
  fallocate: libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
  mmap: libc.func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']),
  ioctl: libc.func('ioctl', 'int', ['int', 'ulong', 'void *']),
  close: libc.func('int close(int fd)'),
};

/** Makes a call. @returns its answer @throws MptError HYPERVISOR with the errno when that is -1 */
export function call(name, ...args) {
  const answer = calls[name](...args);
  // mmap's failure is all ones, which koffi gives as a bigint.
  if (answer === -1 || typeof answer === 'bigint') throw new MptError('HYPERVISOR', `${name} failed`, { errno: koffi.errno() });
  return answer;
}

/** The memory of a mapping. One view a mapping, kept as long as that. */
export const viewOf = (address, size) => new Uint8Array(koffi.view(address, size));

/** An address as a number, of an array that is given to the kernel. */
export const addressOf = (array) => koffi.address(array);

/** A userfaultfd with what this backend needs of it. @throws MptError HYPERVISOR */
export function openUserfaultfd() {
  const fd = call('syscall', SYS_USERFAULTFD, UFFD_FLAGS);
  const { WP_HUGETLBFS_SHMEM, WP_UNPOPULATED, WP_ASYNC } = UFFD_FEATURE;
  try {
    call('ioctl', fd, UFFDIO_API, BigUint64Array.of(UFFD_API, WP_HUGETLBFS_SHMEM | WP_UNPOPULATED | WP_ASYNC, 0n));
    return fd;
  } catch (error) {
    call('close', fd);
    throw error;
  }
}
