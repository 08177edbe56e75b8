/**
 * What an errno of one of Xen's calls means: the code of the MptError, and what the reader can do. The table holds what was
 * seen on Xen 4.17; a pair that is not in it is HYPERVISOR with the bare errno.
 */
import { hex } from '../../core/addresses.js';
import { type ErrorCode, MptError } from '../../core/errors.js';

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOSPC: 28,
  EOPNOTSUPP: 95,
} as const;
type ErrnoName = keyof typeof ERRNO;

type Meaning = readonly [code: ErrorCode, hint: string];

const GONE: Meaning = ['VM_GONE', 'the domain was destroyed; detach the vGPU'];
const RANGE_LIMIT: Meaning = ['LIMIT', 'an ioreq server holds 256 ranges of a kind; unmap some'];
const NO_HOST_MEMORY: Meaning = ['NO_MEMORY', 'Xen has no free memory: balloon dom0 down (xl mem-set 0) or end another domain'];
const NOT_TOOLSTACK: Meaning = ['HYPERVISOR', 'the process must run as root in dom0'];

/** By call, then errno. `*` is for every call. */
const MEANINGS: Readonly<Record<string, Partial<Record<ErrnoName, Meaning>>>> = {
  '*': {
    ESRCH: GONE,
    EPERM: NOT_TOOLSTACK,
    EACCES: ['UNAVAILABLE', 'libxenctrl speaks another control interface than the hypervisor: install the libxenmisc of its version'],
    ENOMEM: NO_HOST_MEMORY,
  },
  create_ioreq_server: {
    ENOSPC: ['LIMIT', 'a domain has room for 8 ioreq servers: end another device model'],
    EPERM: ['HYPERVISOR', 'the domain is not an HVM or PVH guest, or is our own'],
    EINVAL: ['HYPERVISOR', 'the domain is not an HVM or PVH guest'],
  },
  map_io_range_to_ioreq_server: {
    EEXIST: ['OVERLAP', 'the range overlaps one of the same ioreq server'],
    ENOMEM: RANGE_LIMIT,
    ENOENT: ['HYPERVISOR', 'the ioreq server is gone'],
  },
  unmap_io_range_from_ioreq_server: {
    ENOENT: ['NOT_MAPPED', 'no such range is registered with the ioreq server'],
  },
  destroy_ioreq_server: { ENOENT: ['NOT_MAPPED', 'the ioreq server is gone'] },
  set_ioreq_server_state: { ENOENT: ['NOT_MAPPED', 'the ioreq server is gone'] },
  map_mem_type_to_ioreq_server: {
    EBUSY: ['BUSY', 'another device model of the domain tracks pages by memory type: use the backend option pageTrack sync'],
    EINVAL: ['UNSUPPORTED', 'the domain has no hardware-assisted paging: set hap=1 in its configuration'],
    EOPNOTSUPP: ['UNSUPPORTED', 'the domain has no hardware-assisted paging: set hap=1 in its configuration'],
  },
  set_mem_type: {
    EINVAL: ['NOT_RAM', 'the frame is not plain RAM of the domain, or the memory type is not claimed'],
    EBUSY: ['BUSY', 'the page is shared, paged or being changed: try again'],
  },
  track_dirty_vram: {
    E2BIG: ['LIMIT', 'one window has at most 262144 frames'],
    EOPNOTSUPP: ['UNSUPPORTED', 'the domain has no hardware-assisted paging: set hap=1 in its configuration'],
  },
  inject_msi: { EINVAL: ['BAD_MSI', 'Xen knows no such delivery mode'] },
  memory_mapping: {
    EPERM: ['HYPERVISOR', 'the machine frames are not permitted to dom0 or to the domain (iomem_permission)'],
    EINVAL: ['OVERLAP', 'a guest frame of the range is in use'],
  },
  createdomain: {
    EOPNOTSUPP: ['UNSUPPORTED', 'Xen runs without hardware virtualization or without HAP: enable SVM/VT-x and nested paging'],
    EINVAL: ['UNAVAILABLE', 'libxenctrl and the hypervisor do not match, or HVM is not built in'],
  },
  populate_physmap: {
    ENOMEM: NO_HOST_MEMORY,
    EBUSY: NO_HOST_MEMORY,
  },
  foreign_map: { EINVAL: ['NOT_RAM', 'the frame is not RAM of the domain'], ENOENT: ['NOT_RAM', 'the frame is paged out'] },
  logdirty: {
    EINVAL: ['BUSY', 'the domain is being migrated, or another tool has its dirty log'],
  },
};

const ERRNO_BY_NUMBER = Object.fromEntries(Object.entries(ERRNO).map(([name, number]) => [number, name])) as Readonly<
  Record<number, ErrnoName>
>;

export interface FailurePlace {
  readonly domid?: number;
  /** Guest frame, or other frame number. */
  readonly gfn?: number;
  /** Byte address: a range's start. */
  readonly address?: number;
  readonly size?: number;
  readonly limit?: number;
}

/** The MptError of a call that answered `result`, a negative errno: names call, domain, frame and cure. */
export function xenFailure(call: string, result: number, { domid, gfn, ...place }: FailurePlace = {}): MptError {
  const errno = -result;
  const name = ERRNO_BY_NUMBER[errno];
  const meaning = name === undefined ? undefined : (MEANINGS[call]?.[name] ?? MEANINGS['*']?.[name]);
  const [code, hint] = meaning ?? (['HYPERVISOR', undefined] as const);
  const where = [domid === undefined ? '' : ` of domain ${domid}`, gfn === undefined ? '' : `, gfn ${hex(gfn)},`].join('');
  return new MptError(code, `${call}${where} failed`, { errno, ...place, ...(hint === undefined ? {} : { hint }) });
}

/** Throws unless the call succeeded. @returns its result */
export function checkXen(call: string, result: number, place?: FailurePlace): number {
  if (result < 0) throw xenFailure(call, result, place);
  return result;
}
