/**
 * The one error class of the project. A message is one sentence that names what was asked, where, which limit stood
 * against it and what to do; `code` is stable and documented in docs/errors.md.
 */
import { hex } from './addresses.js';

/** Stable error codes, each with its meaning. docs/errors.md is checked against this table. */
export const ERROR_CODES = {
  INVALID_ARGUMENT: 'an argument has the wrong type, size or alignment',
  INVALID_ADDRESS: 'an address is not an integer below 2^52, or address + size passes that limit',
  NOT_RAM: 'the guest-physical range is not wholly backed by guest RAM',
  UNSUPPORTED: 'the backend declares this capability absent',
  NOT_INITIALIZED: 'host_init has not been called',
  ALREADY_INITIALIZED: 'host_init was called twice',
  ALREADY_ATTACHED: 'this vGPU is already attached',
  BUSY: 'the object is still in use',
  EXISTS: 'something with this name or number is there already',
  NOT_FOUND: 'no GPU or vGPU has this name',
  DETACHED: 'the vGPU handle was detached',
  CLOSED: 'the backend, machine or mapping was closed',
  VM_NOT_FOUND: 'no such VM on this hypervisor',
  VM_GONE: 'the VM was destroyed while the vGPU was attached',
  OVERLAP: 'the range overlaps one that is registered or backed by RAM',
  NOT_MAPPED: 'the range or address was never mapped, or was already unmapped',
  LIMIT: 'a bound was reached: pinned pages, memory slots, ranges or instances',
  NO_MEMORY: 'the host has no memory for the request',
  BAD_MSI: 'the MSI address is outside 0xfee00000-0xfeefffff or its data names no valid vector',
  HYPERVISOR: 'the hypervisor or kernel refused the call; errno tells why',
  UNAVAILABLE: 'the backend cannot be used on this machine',
  UNKNOWN_BACKEND: 'no backend has this name',
  BAD_CONFIG: 'the configuration document breaks a rule of its schema',
  BAD_TYPE: 'no vGPU type has this name, or the type does not fit this GPU',
  NO_SPACE: 'the GPU has not enough aperture, hidden memory, fences or ids left, or the devices of a kind not enough memory',
  BAD_STATE: 'a saved vGPU is damaged, of another format, or does not fit this GPU, VM or backend',
  TIMEOUT: 'the guest or a device thread did not answer within its deadline',
  STOPPED: 'the run was stopped by request',
  GUEST_FAULT: 'the guest did something that ends its run: an exception, a shutdown, a failed emulation',
  NO_PICTURE: 'the display shows nothing: it is off, or its mode is not decoded',
  IO: 'a file could not be read or written',
  BAD_RECORDING: 'the file is no recording of this format, or is damaged',
  INTERNAL: 'a defect in this project; please report it',
} as const satisfies Record<string, string>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface MptErrorDetails {
  /** Operation in progress, the table's name (`read_gpa`) or a function's. */
  readonly op?: string;
  /** Backend that reports. */
  readonly backend?: string;
  /** Positive errno of the system call that failed. */
  readonly errno?: number;
  /** Guest-physical, DMA or frame address concerned. */
  readonly address?: number;
  /** Size of the request in bytes or frames. */
  readonly size?: number;
  /** Bound that was hit. */
  readonly limit?: number;
  /** What the reader can do. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The error that every layer throws. `message` is one line without the cause's text; `cause` keeps the chain. */
export class MptError extends Error {
  override readonly name = 'MptError';
  readonly code: ErrorCode;
  /** The sentence without place, operation and backend. */
  readonly text: string;
  readonly op: string | undefined;
  readonly backend: string | undefined;
  readonly errno: number | undefined;
  readonly address: number | undefined;
  readonly size: number | undefined;
  readonly limit: number | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, what: string, details: MptErrorDetails = {}) {
    super(oneLine(what, details), details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.text = what;
    this.op = details.op;
    this.backend = details.backend;
    this.errno = details.errno;
    this.address = details.address;
    this.size = details.size;
    this.limit = details.limit;
    this.hint = details.hint;
  }

  /** Plain fields for `--json` and for crossing threads. */
  toJSON(): Record<string, unknown> {
    const { code, message, text, op, backend, errno, address, size, limit, hint } = this;
    return { code, message, text, op, backend, errno, address, size, limit, hint };
  }

  /** Rebuilds an error that crossed a thread as `toJSON()`. The message is kept as it was composed there. */
  static fromJSON(fields: Record<string, unknown>): MptError {
    const { code, message, text, ...details } = fields as unknown as MptErrorDetails & { code: ErrorCode; message: string; text: string };
    const error = new MptError(code, text, details);
    error.message = message;
    return error;
  }

  /** True when `error` is an MptError, of this code if one is given. */
  static is(error: unknown, code?: ErrorCode): error is MptError {
    return error instanceof MptError && (code === undefined || error.code === code);
  }
}

/** `[kvm] read_gpa: text (at 0x1000, size 16, limit 4096); errno 14 EFAULT; hint` */
function oneLine(what: string, d: MptErrorDetails): string {
  const place: string[] = [];
  if (d.address !== undefined) place.push(`at ${hex(d.address)}`);
  if (d.size !== undefined) place.push(`size ${d.size}`);
  if (d.limit !== undefined) place.push(`limit ${d.limit}`);
  return [
    d.backend === undefined ? '' : `[${d.backend}] `,
    d.op === undefined ? '' : `${d.op}: `,
    what,
    place.length > 0 ? ` (${place.join(', ')})` : '',
    d.errno === undefined ? '' : `; errno ${errnoText(d.errno)}`,
    d.hint === undefined ? '' : `; ${d.hint}`,
  ]
    .join('')
    .replace(/\s*[\r\n]+\s*/g, ' ')
    .replace(/\p{Cc}/gu, '?');
}

/** Errno numbers of Linux that our calls return (asm-generic/errno-base.h, errno.h). */
const ERRNO_NAMES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  3: 'ESRCH',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  7: 'E2BIG',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  14: 'EFAULT',
  16: 'EBUSY',
  17: 'EEXIST',
  19: 'ENODEV',
  20: 'ENOTDIR',
  21: 'EISDIR',
  22: 'EINVAL',
  23: 'ENFILE',
  24: 'EMFILE',
  25: 'ENOTTY',
  28: 'ENOSPC',
  30: 'EROFS',
  32: 'EPIPE',
  34: 'ERANGE',
  38: 'ENOSYS',
  52: 'EBADE',
  56: 'EBADRQC',
  87: 'EUSERS',
  95: 'EOPNOTSUPP',
  98: 'EADDRINUSE',
  104: 'ECONNRESET',
  110: 'ETIMEDOUT',
  111: 'ECONNREFUSED',
};

/** `14 EFAULT`. */
export const errnoText = (errno: number): string => (ERRNO_NAMES[errno] === undefined ? String(errno) : `${errno} ${ERRNO_NAMES[errno]}`);
