/** Whether this is an ACRN service VM that can carry us, by which ABI, and with which capabilities. */
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { errnoText, MptError } from '../../core/errors.js';
import { OwnedMapping } from '../../native/mapping.js';
import { PageFrames } from '../../native/page-frames.js';
import { EAGAIN, EINTR, O, type Syscalls } from '../../native/syscalls.js';
import type { ProbeResult } from '../module.js';
import { HSM_IOCTL, VHM_IOCTL, VHM_STRUCT } from './abi.js';
import { type AcrnDialect, repeatedly } from './calls.js';
import { DIALECTS, HSM } from './dialects.js';

export type AcrnAbi = 'auto' | AcrnDialect['name'];

/** What to do about an errno of open(2) on the device. */
const OPEN_HINTS: Readonly<Record<number, string>> = {
  2: 'this is no ACRN service VM, or its kernel lacks this module',
  13: 'run as root',
  1: 'run as root',
  6: 'the kernel does not run on ACRN',
  19: 'the kernel does not run on ACRN',
};

const EINVAL = 22;
const PAGE_SIZE = 4096;
/** A VHM answers this version; others than 1.x lay their structures out differently. */
const VHM_MAJOR = 1;

export const acrnCapabilities = (pageTrack: PageTrackLevel = 'sync'): Readonly<Capabilities> =>
  Object.freeze({
    // Neither device has a call for the right to write. Level trap takes frames away and maps them again, which uses up a table.
    pageTrack,
    mapGfnToMfn: true,
    setTrapArea: true,
    barAccess: false,
    wholeBus: true,
    setPvmmio: true,
    dom0Ready: true,
    setOpregion: false,
    setEdid: false,
    vfioDevice: false,
    isValidGfn: true,
    dmaPin: true,
    // Pages of a memory file need not follow each other in physical memory.
    dmaHugePage: false,
    hostPages: true,
    machine: true,
    // A VM belongs to the descriptor on which it was created.
    foreignVm: false,
    msiEventfd: true,
  });

export interface FoundAcrn {
  readonly dialect: AcrnDialect;
  readonly device: string;
  readonly version: string;
}

/** The version that a device tells, or what is wrong with it. */
function answer(sys: Syscalls, dialect: AcrnDialect, device: string): { readonly version: string } | string {
  const fd = sys.open(device, O.RDWR | O.CLOEXEC);
  if (fd < 0) {
    const hint = OPEN_HINTS[-fd];
    return `${device} cannot be opened, errno ${errnoText(-fd)}${hint === undefined ? '' : `; ${hint}`}`;
  }
  try {
    if (dialect === HSM) {
      // It tells no version. A request that needs a VM is refused by an HSM in its own way, and unknown to anything else.
      const result = repeatedly(sys, fd, HSM_IOCTL.CLEAR_VM_IOREQ, 0);
      return result === -EINVAL ? { version: 'ACRN HSM' } : `${device} is no ACRN HSM, errno ${errnoText(Math.max(-result, 0))}`;
    }
    const { api_version: VERSION } = VHM_STRUCT;
    const bytes = new Uint8Array(VERSION.size);
    let result = sys.ioctlBuffer(fd, VHM_IOCTL.GET_API_VERSION, bytes);
    if (result === -EINTR || result === -EAGAIN) result = sys.ioctlBuffer(fd, VHM_IOCTL.GET_API_VERSION, bytes);
    if (result < 0) return `${device} is no ACRN VHM, errno ${errnoText(-result)}`;
    const view = new DataView(bytes.buffer);
    const [major, minor] = [view.getUint32(VERSION.major_version, true), view.getUint32(VERSION.minor_version, true)];
    return major === VHM_MAJOR
      ? { version: `ACRN VHM API ${major}.${minor}` }
      : `${device} speaks VHM API ${major}.${minor}, not ${VHM_MAJOR}.x`;
  } finally {
    sys.close(fd);
  }
}

/** The first ABI that answers, or why none does. */
export function findAcrn(sys: Syscalls, abi: AcrnAbi = 'auto', device?: string): FoundAcrn | string {
  const problems: string[] = [];
  for (const dialect of DIALECTS) {
    if (abi !== 'auto' && abi !== dialect.name) continue;
    // A node of another name belongs to the ABI that was asked for; without one it is tried as each.
    const node = device ?? dialect.device;
    const found = answer(sys, dialect, node);
    if (typeof found !== 'string') return { dialect, device: node, ...found };
    problems.push(found);
  }
  return problems.join(', ');
}

/** What keeps the kernel from telling physical frames, or undefined. */
function frameProblem(sys: Syscalls): string | undefined {
  let page: OwnedMapping | undefined;
  let frames: PageFrames | undefined;
  try {
    page = OwnedMapping.anonymous(sys, PAGE_SIZE, 'a page');
    new Uint8Array(page.buffer)[0] = 1;
    frames = new PageFrames(sys);
    frames.frameOf(page.hva);
    return undefined;
  } catch (error) {
    if (!MptError.is(error)) throw error;
    const errno = error.errno === undefined ? '' : `, errno ${errnoText(error.errno)}`;
    return `${error.text}${errno}${error.hint === undefined ? '' : `; ${error.hint}`}`;
  } finally {
    frames?.close();
    page?.close();
  }
}

const SHMEM_ENABLED = '/sys/kernel/mm/transparent_hugepage/shmem_enabled';
/** Settings with which a memory file of ours may get huge pages. */
const HUGE = /\[(always|within_size|force)\]/;

/** A kernel module that maps a huge page maps all of it, whatever part was asked for. Where the kernel has no such setting there are none. */
function hugePageProblem(sys: Syscalls): string | undefined {
  const fd = sys.open(SHMEM_ENABLED, O.RDONLY | O.CLOEXEC);
  if (fd < 0) return undefined;
  const text = new Uint8Array(256);
  const length = sys.read(fd, text);
  sys.close(fd);
  const setting = HUGE.exec(new TextDecoder().decode(text.subarray(0, Math.max(length, 0))))?.[1];
  if (setting === undefined) return undefined;
  return `memory files get huge pages, of which ACRN would map more than was asked for: ${SHMEM_ENABLED} is '${setting}'; set 'never'`;
}

/** Opens the device, looks and closes it again. Never throws. */
export function probeAcrn(sys: Syscalls, abi?: AcrnAbi, device?: string, pageTrack?: PageTrackLevel): ProbeResult {
  const found = findAcrn(sys, abi, device);
  if (typeof found === 'string') return { available: false, reason: found };
  const problem = frameProblem(sys) ?? hugePageProblem(sys);
  if (problem !== undefined) return { available: false, reason: problem };
  const tracking =
    pageTrack === 'trap'
      ? 'page track by mapping frames without the right to write, for about 120 changes in the life of a VM'
      : 'no write-protect service for user space, so page track compares pages (sync)';
  return {
    available: true,
    reason: `${found.device} answers; ${tracking}`,
    version: found.version,
    capabilities: acrnCapabilities(pageTrack),
  };
}
