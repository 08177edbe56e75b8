/** KVM: what the registry needs. */
import { libcSyscalls } from '../../native/libc.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { BackendModule } from '../module.js';
import { KvmBackend, type KvmOptions } from './backend.js';
import { probeKvm } from './probe.js';

/** The module over any `Syscalls`; tests inject failures here. */
export const kvmModule = (sys: Syscalls): BackendModule<KvmOptions> => ({
  name: 'kvm',
  kind: 'hypervisor',
  description: 'Linux KVM through /dev/kvm: VMs of our own in this process',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      device: { type: 'string', minLength: 1, description: 'KVM device node', default: '/dev/kvm' },
      pageTrack: { enum: ['trap', 'sync'], description: 'trap: read-only memory slots; sync: dirty log', default: 'trap' },
      pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' },
    },
  },
  probe: (options = {}) => probeKvm(sys, options.device, options.pageTrack),
  open: (options = {}) => new KvmBackend(sys, options),
});

export const kvm = kvmModule(libcSyscalls);
export type { KvmOptions };
