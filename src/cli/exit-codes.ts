/** Exit codes of the `mpt` command, as README documents them. */
import type { ErrorCode } from '../core/errors.js';

export const EXIT = {
  OK: 0,
  /** The run failed, or a conformance case failed. */
  FAILED: 1,
  /** The command line or the configuration is wrong, or names something that cannot be used. */
  USAGE: 2,
  /** The backend cannot be used on this machine. */
  UNAVAILABLE: 3,
  /** No conformance case matched: nothing was tested. */
  NOTHING_RAN: 4,
  /** Ended by Ctrl-C or SIGTERM. */
  INTERRUPTED: 130,
} as const;

/** Error codes that do not mean "the run failed". */
const BY_CODE: Partial<Record<ErrorCode, number>> = {
  UNKNOWN_BACKEND: EXIT.USAGE,
  BAD_CONFIG: EXIT.USAGE,
  BAD_TYPE: EXIT.USAGE,
  NOT_FOUND: EXIT.USAGE,
  BAD_STATE: EXIT.USAGE,
  INVALID_ARGUMENT: EXIT.USAGE,
  IO: EXIT.USAGE,
  BAD_RECORDING: EXIT.USAGE,
  UNAVAILABLE: EXIT.UNAVAILABLE,
  STOPPED: EXIT.INTERRUPTED,
};

export const exitCodeOf = (code: ErrorCode): number => BY_CODE[code] ?? EXIT.FAILED;
