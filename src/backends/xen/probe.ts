/** Whether this is a Xen control domain that can carry us, and with which capabilities. */
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { errnoText, MptError } from '../../core/errors.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenControl } from '../../native/xen-calls.js';
import { loadProblem, xenctrlPackage, xenctrlSoname } from '../../native/xen-libraries.js';
import type { ProbeResult } from '../module.js';
import { DOM0, XENCTRL, type XenctrlVersion } from './abi.js';
import { describeRaw, openXenCalls } from './calls.js';
import { ERRNO } from './failure.js';
import { PRIVCMD, xenVersion } from './raw-calls.js';

/** Versions that one finds installed beside another hypervisor, for the message. */
const KNOWN_VERSIONS = ['4.11', '4.14', '4.15', '4.16', '4.17', '4.18', '4.19', '4.20', '4.21'] as const;

/** What to do about an errno of open(2) on privcmd. */
const OPEN_HINTS: Readonly<Record<number, string>> = {
  [ERRNO.ENOENT]: 'this is no Xen domain, or the kernel module xen-privcmd is not loaded',
  13: 'run as root in dom0',
  [ERRNO.EPERM]: 'run as root in dom0',
  6: 'the kernel does not run on Xen',
  [ERRNO.ENODEV]: 'the kernel does not run on Xen',
};

export const xenCapabilities = (pageTrack: PageTrackLevel): Readonly<Capabilities> =>
  Object.freeze({
    pageTrack,
    mapGfnToMfn: true,
    setTrapArea: true,
    barAccess: false,
    wholeBus: true,
    setPvmmio: false,
    dom0Ready: false,
    setOpregion: false,
    setEdid: false,
    vfioDevice: false,
    isValidGfn: true,
    dmaPin: true,
    // A grant pins one page: 2 MiB would be 512 of them, which need not follow each other in the machine.
    dmaHugePage: false,
    hostPages: true,
    machine: true,
    foreignVm: true,
    // Xen has no descriptor that raises a message.
    msiEventfd: false,
  });

/** The version of a hypervisor that we can talk to. @throws MptError UNAVAILABLE with what is missing */
export function requireXen(sys: Syscalls): XenctrlVersion {
  const unavailable = (what: string, hint?: string): MptError =>
    new MptError('UNAVAILABLE', what, { backend: 'xen', op: 'open', ...(hint === undefined ? {} : { hint }) });
  const version = xenVersion(sys);
  if (typeof version === 'number') throw unavailable(`${PRIVCMD} cannot be opened, errno ${errnoText(-version)}`, OPEN_HINTS[-version]);
  const problem = loadProblem(xenctrlSoname(version));
  if (problem !== undefined) {
    const others = KNOWN_VERSIONS.filter((other) => other !== version && loadProblem(xenctrlSoname(other)) === undefined);
    const installed = others.length === 0 ? '' : ` (${others.map(xenctrlSoname).join(', ')} does not match the hypervisor)`;
    throw unavailable(
      `${xenctrlSoname(version)}, the control library of the running Xen ${version}, cannot be loaded${installed}: ${problem}`,
      `install ${xenctrlPackage(version)}, or name its folder in LD_LIBRARY_PATH`,
    );
  }
  if (!(version in XENCTRL))
    throw unavailable(
      `Xen ${version} is not supported: the structures of its libxenctrl are not known`,
      `known are ${Object.keys(XENCTRL).join(', ')}`,
    );
  return version as XenctrlVersion;
}

/** @throws MptError UNAVAILABLE unless this domain may control others, through a libxenctrl that speaks the hypervisor's interface */
export function requireControl(calls: XenControl, version: XenctrlVersion): void {
  const result = calls.domainInfo(DOM0, new Uint8Array(XENCTRL[version].xc_domaininfo_t.size));
  if (result === DOM0) return;
  const errno = result < 0 ? -result : ERRNO.ESRCH;
  // Xen checks the interface's version in each call before anything else.
  const [what, hint] =
    errno === ERRNO.EACCES
      ? [
          `${xenctrlSoname(version)} speaks another control interface than the running Xen ${version}`,
          `install the ${xenctrlPackage(version)} that belongs to the hypervisor`,
        ]
      : ['this domain may not control others', 'run as root in dom0'];
  throw new MptError('UNAVAILABLE', what, { backend: 'xen', op: 'open', errno, hint });
}

/** Opens everything, looks and closes it again. Never throws. */
export function probeXen(sys: Syscalls, pageTrack: PageTrackLevel = 'trap', rawOnly = false): ProbeResult {
  try {
    const version = requireXen(sys);
    const { calls, raw } = openXenCalls(sys, version, rawOnly);
    try {
      requireControl(calls, version);
      const parts = raw.length === 0 ? '' : `, by ioctl instead of ${describeRaw(raw)}`;
      return {
        available: true,
        reason: `the control domain of Xen ${version}${parts}`,
        version: `Xen ${version}`,
        capabilities: xenCapabilities(pageTrack),
      };
    } finally {
      calls.close();
    }
  } catch (error) {
    if (!MptError.is(error)) throw error;
    const errno = error.errno === undefined ? '' : `, errno ${errnoText(error.errno)}`;
    return { available: false, reason: `${error.text}${errno}${error.hint === undefined ? '' : `; ${error.hint}`}` };
  }
}
