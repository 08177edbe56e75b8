/** The kernel's FUSE protocol, version 7.31 and later: what of it a tree of attributes needs (linux/fuse.h). Offsets in bytes. */

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  POLL: 40,
  BATCH_FORGET: 42,
  RENAME2: 45,
} as const;

/** struct fuse_in_header: u32 len, u32 opcode, u64 unique, u64 nodeid, u32 uid, u32 gid, u32 pid, … */
export const IN = { LENGTH: 0, OPCODE: 4, UNIQUE: 8, NODE: 16, UID: 24, GID: 28, PID: 32, SIZE: 40 } as const;
/** struct fuse_out_header: u32 len, s32 error, u64 unique. */
export const OUT = { LENGTH: 0, ERROR: 4, UNIQUE: 8, SIZE: 16 } as const;

export const VERSION = { MAJOR: 7, LEAST_MINOR: 31, MINOR: 38 } as const;
/** FUSE_INIT flags: `>` opens with O_TRUNC, without a SETATTR before. */
export const INIT_ATOMIC_O_TRUNC = 1 << 3;
/** Where a link leads is asked once. */
export const INIT_CACHE_SYMLINKS = 1 << 23;
/** struct fuse_init_in: u32 major, minor, max_readahead, flags. struct fuse_init_out: 64 bytes. */
export const INIT_IN = { MAJOR: 0, MINOR: 4, READAHEAD: 8, FLAGS: 12 } as const;
export const INIT_OUT = {
  MAJOR: 0,
  MINOR: 4,
  READAHEAD: 8,
  FLAGS: 12,
  BACKGROUND: 16,
  CONGESTION: 18,
  MAX_WRITE: 20,
  TIME_GRAN: 24,
  SIZE: 64,
} as const;

/** struct fuse_attr. */
export const ATTR = {
  INO: 0,
  BYTES: 8,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  BLOCK: 80,
  SIZE: 88,
} as const;
/** struct fuse_entry_out: the attr lies at 40. */
export const ENTRY = { NODE: 0, VALID: 16, ATTR_VALID: 24, ATTR: 40, SIZE: 128 } as const;
/** struct fuse_attr_out. */
export const ATTR_OUT = { VALID: 0, ATTR: 16, SIZE: 104 } as const;
/** struct fuse_setattr_in, and its `valid` bits. */
export const SETATTR_IN = { VALID: 0, MODE: 68, UID: 76, GID: 80 } as const;
export const FATTR = { MODE: 1, UID: 2, GID: 4 } as const;

/** struct fuse_open_in, fuse_open_out. */
export const OPEN_IN = { FLAGS: 0 } as const;
export const OPEN_OUT = { HANDLE: 0, FLAGS: 8, SIZE: 16 } as const;
export const FOPEN_DIRECT_IO = 1;
/** struct fuse_read_in and fuse_write_in begin alike; a write's data follow. */
export const IO_IN = { HANDLE: 0, OFFSET: 8, BYTES: 16, SIZE: 40 } as const;
export const WRITE_OUT_SIZE = 8;
/** struct fuse_release_in. */
export const RELEASE_IN = { HANDLE: 0 } as const;
/** struct fuse_poll_in, fuse_poll_out, and the notification that the kernel waits for when the flag is set. */
export const POLL_IN = { HANDLE: 0, KERNEL_HANDLE: 8, FLAGS: 16 } as const;
export const POLL_OUT_SIZE = 8;
export const POLL_SCHEDULE_NOTIFY = 1;
export const NOTIFY_POLL = 1;
/** struct fuse_dirent: u64 ino, u64 off, u32 namelen, u32 type, name, padded to 8 bytes. */
export const DIRENT = { INO: 0, NEXT: 8, NAME_LENGTH: 16, TYPE: 20, NAME: 24 } as const;
/** struct fuse_batch_forget_in: u32 count, then u64 nodeid, u64 nlookup each. */
export const BATCH_FORGET_IN = { COUNT: 0, LIST: 8, EACH: 16 } as const;
/** struct fuse_kstatfs. */
export const STATFS_OUT = { BLOCK: 40, NAME_MAX: 44, FRAGMENT: 48, SIZE: 80 } as const;

/** Of the root folder. */
export const ROOT_ID = 1;

/** sys/stat.h. */
export const S = { IFDIR: 0o040000, IFREG: 0o100000, IFLNK: 0o120000 } as const;
/** poll.h. */
export const EVENT = { IN: 1, PRI: 2, OUT: 4, ERR: 8 } as const;
export const O_ACCMODE = 3;
