/** What a system call, or a write to an attribute, answers for an error (asm-generic/errno-base.h, errno.h). */
import { type ErrorCode, MptError } from '../errors.js';

/** Positive, as MptError has them. */
export const E = {
  PERM: 1,
  NOENT: 2,
  IO: 5,
  AGAIN: 11,
  NOMEM: 12,
  ACCES: 13,
  BUSY: 16,
  EXIST: 17,
  NODEV: 19,
  NOTDIR: 20,
  INVAL: 22,
  NOSPC: 28,
  RANGE: 34,
  NOSYS: 38,
  USERS: 87,
  OPNOTSUPP: 95,
  TIMEDOUT: 110,
} as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: E.INVAL,
  BAD_CONFIG: E.INVAL,
  BAD_TYPE: E.INVAL,
  EXISTS: E.EXIST,
  NOT_FOUND: E.NODEV,
  BUSY: E.BUSY,
  NO_SPACE: E.NOSPC,
  LIMIT: E.USERS,
  NO_MEMORY: E.NOMEM,
  UNSUPPORTED: E.OPNOTSUPP,
  CLOSED: E.NODEV,
  DETACHED: E.NODEV,
  STOPPED: E.NODEV,
  TIMEOUT: E.TIMEDOUT,
  OVERLAP: E.BUSY,
};

/** The error's own errno, or the one that its code stands for; EIO for what is no MptError. */
export const errnoOf = (error: unknown): number => (MptError.is(error) ? (error.errno ?? BY_CODE[error.code] ?? E.IO) : E.IO);
