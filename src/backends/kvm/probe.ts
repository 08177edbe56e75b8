/** Whether this machine's KVM can carry us, and with which capabilities. */
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { errnoText } from '../../core/errors.js';
import { O, type Syscalls } from '../../native/syscalls.js';
import type { ProbeResult } from '../module.js';
import { KVM_CONST, KVM_IOCTL } from './abi.js';

export const DEFAULT_DEVICE = '/dev/kvm';

/** Extensions without which the backend cannot work. */
const REQUIRED = ['KVM_CAP_USER_MEMORY', 'KVM_CAP_IRQCHIP', 'KVM_CAP_SIGNAL_MSI', 'KVM_CAP_EXT_CPUID', 'KVM_CAP_SET_TSS_ADDR'] as const;

/** What to do about an errno of open(2) on the device. */
const OPEN_HINTS: Readonly<Record<number, string>> = {
  2: 'load the kvm_intel or kvm_amd module and enable virtualization in the firmware',
  13: 'join the kvm group or run as root',
  1: 'join the kvm group or run as root',
  19: 'the module is loaded but the CPU offers no virtualization',
  6: 'the module is loaded but the CPU offers no virtualization',
};

export interface KvmFeatures {
  readonly capabilities: Capabilities;
  readonly maxSlots: number;
}

/** What KVM offers, read from an open device. */
export function kvmFeatures(sys: Syscalls, kvmFd: number, pageTrack: PageTrackLevel | undefined): KvmFeatures {
  const extension = (name: keyof typeof KVM_CONST): number => Math.max(0, sys.ioctl(kvmFd, KVM_IOCTL.KVM_CHECK_EXTENSION, KVM_CONST[name]));
  const canTrap = extension('KVM_CAP_READONLY_MEM') > 0;
  return {
    maxSlots: extension('KVM_CAP_NR_MEMSLOTS') || 32,
    capabilities: Object.freeze({
      // The dirty log has no extension number of its own: every KVM has it.
      pageTrack: pageTrack ?? (canTrap ? 'trap' : 'sync'),
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
      dmaHugePage: true,
      hostPages: true,
      machine: true,
      foreignVm: false,
      msiEventfd: extension('KVM_CAP_IRQFD') > 0 && extension('KVM_CAP_IRQ_ROUTING') > 0,
    }),
  };
}

/** Opens the device, looks and closes it again. Never throws. */
export function probeKvm(sys: Syscalls, device = DEFAULT_DEVICE, pageTrack?: PageTrackLevel): ProbeResult {
  const fd = sys.open(device, O.RDWR | O.CLOEXEC);
  if (fd < 0) {
    const hint = OPEN_HINTS[-fd];
    return { available: false, reason: `${device} cannot be opened, errno ${errnoText(-fd)}${hint === undefined ? '' : `; ${hint}`}` };
  }
  try {
    const version = sys.ioctl(fd, KVM_IOCTL.KVM_GET_API_VERSION, 0);
    if (version !== KVM_CONST.KVM_API_VERSION)
      return {
        available: false,
        reason: version < 0 ? `${device} is not a KVM device, errno ${errnoText(-version)}` : `${device} speaks KVM API ${version}, not 12`,
      };
    for (const name of REQUIRED)
      if (sys.ioctl(fd, KVM_IOCTL.KVM_CHECK_EXTENSION, KVM_CONST[name]) <= 0)
        return { available: false, reason: `the kernel's KVM lacks ${name}` };
    if (pageTrack === 'trap' && sys.ioctl(fd, KVM_IOCTL.KVM_CHECK_EXTENSION, KVM_CONST.KVM_CAP_READONLY_MEM) <= 0)
      return { available: false, reason: "the kernel's KVM lacks KVM_CAP_READONLY_MEM, which page track by trap needs; use sync" };
    const { capabilities } = kvmFeatures(sys, fd, pageTrack);
    return { available: true, reason: `${device} answers`, version: `KVM API ${version}`, capabilities };
  } finally {
    sys.close(fd);
  }
}
