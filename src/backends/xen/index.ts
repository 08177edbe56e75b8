/** Xen: what the registry needs. */
import { libcSyscalls } from '../../native/libc.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { BackendModule } from '../module.js';
import { CREATED_VCPUS_MAX, XenBackend, type XenOptions } from './backend.js';
import { probeXen } from './probe.js';

/** The module over any `Syscalls`; tests inject failures here. */
export const xenModule = (sys: Syscalls): BackendModule<XenOptions> => ({
  name: 'xen',
  kind: 'hypervisor',
  description: 'Xen from its control domain: HVM and PVH domains of our own, or ones that xl created',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      pageTrack: { enum: ['trap', 'sync'], description: 'trap: by memory type; sync: dirty log', default: 'trap' },
      pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' },
      guest: { enum: ['hvm', 'pvh'], description: 'kind of guest that is created', default: 'hvm' },
      vcpus: { type: 'integer', minimum: 1, maximum: CREATED_VCPUS_MAX, description: 'vCPUs of a guest that is created', default: 1 },
      mapPciDevices: {
        type: 'array',
        items: { type: 'string', pattern: '^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$' },
        description: 'PCI functions of dom0 whose memory BARs guests may be given',
      },
      calls: {
        enum: ['libraries', 'ioctl'],
        description: "ioctl: the kernel's interface instead of Xen's libraries, libxenctrl apart",
        default: 'libraries',
      },
    },
  },
  probe: (options = {}) => probeXen(sys, options.pageTrack, options.calls === 'ioctl'),
  open: (options = {}) => new XenBackend(sys, options),
});

export const xen = xenModule(libcSyscalls);
export type { XenOptions };
