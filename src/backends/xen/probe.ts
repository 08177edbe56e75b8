/** Whether this is a Xen control domain that can carry us, and with which capabilities. */
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { errnoText, MptError } from '../../core/errors.js';
import type { Syscalls } from '../../native/syscalls.js';
import { hasLibrary, xenctrlPackage, xenctrlSoname } from '../../native/xen-libraries.js';
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
  if (!hasLibrary(xenctrlSoname(version))) {
    const others = KNOWN_VERSIONS.filter((other) => other !== version && hasLibrary(xenctrlSoname(other)));
    const installed = others.length === 0 ? '' : ` (${others.map(xenctrlSoname).join(', ')} does not match the hypervisor)`;
    throw unavailable(
      `${xenctrlSoname(version)}, the control library of the running Xen ${version}, cannot be loaded${installed}`,
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

/** Opens everything, looks and closes it again. Never throws. */
export function probeXen(sys: Syscalls, pageTrack: PageTrackLevel = 'trap', rawOnly = false): ProbeResult {
  try {
    const version = requireXen(sys);
    const { calls, raw } = openXenCalls(sys, version, rawOnly);
    try {
      const info = new Uint8Array(XENCTRL[version].xc_domaininfo_t.size);
      const result = calls.domainInfo(DOM0, info);
      if (result !== DOM0)
        return {
          available: false,
          reason: `this domain may not control others, errno ${errnoText(result < 0 ? -result : ERRNO.ESRCH)}; run as root in dom0`,
        };
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
