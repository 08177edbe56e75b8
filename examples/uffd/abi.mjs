/**
 * uffd: the numbers of userfaultfd and of /proc/PID/pagemap, x86-64.
 *
 * linux/userfaultfd.h and linux/fs.h of Linux 6.7 or later; Documentation/admin-guide/mm/{userfaultfd,pagemap}.rst say what they do.
 */

export const SYS_USERFAULTFD = 323;
/** O_CLOEXEC | UFFD_USER_MODE_ONLY: faults of this process's own instructions are all that is wanted. */
export const UFFD_FLAGS = 0x8_0000 | 1;

export const UFFD_API = 0xaan;
/** _IOWR(0xAA, 0x3F, struct uffdio_api { u64 api, features, ioctls }) */
export const UFFDIO_API = 0xc018_aa3f;
/** _IOWR(0xAA, 0x00, struct uffdio_register { u64 start, len, mode, ioctls }) */
export const UFFDIO_REGISTER = 0xc020_aa00;
export const UFFDIO_REGISTER_MODE_WP = 2n;

export const UFFD_FEATURE = {
  /** Write protection of shared memory. */
  WP_HUGETLBFS_SHMEM: 1n << 12n,
  /** Pages that do not exist yet are protected too. */
  WP_UNPOPULATED: 1n << 13n,
  /** A write to a protected page goes on at once, and the page is then a written one. Nobody has to answer a fault. */
  WP_ASYNC: 1n << 15n,
};

/** _IOWR('f', 16, struct pm_scan_arg), of twelve u64. */
export const PAGEMAP_SCAN = 0xc060_6610;
/** Index of each field of struct pm_scan_arg. */
export const SCAN = {
  size: 0,
  flags: 1,
  start: 2,
  end: 3,
  walkEnd: 4,
  vec: 5,
  vecLen: 6,
  maxPages: 7,
  inverted: 8,
  mask: 9,
  anyOf: 10,
  returned: 11,
};
export const SCAN_WORDS = 12;
/** PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC: what is found is protected again, in one step. */
export const SCAN_FLAGS = 3n;
export const PAGE_IS_WRITTEN = 2n;

/** mmap and fallocate: asm-generic/mman-common.h, linux/falloc.h. */
export const PROT_READ_WRITE = 3;
export const MAP_SHARED = 1;
/** FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */
export const PUNCH_HOLE = 3;
export const MFD_CLOEXEC = 1;

/** Host frames: see machine.mjs. */
export const FIRST_FRAME = 0x10_0000;
export const GAP_FRAMES = 512;
