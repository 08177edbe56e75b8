/** ACRN: what the registry needs, and what whoever embeds the VHM API needs (`mediated-passthrough/acrn`). */
import { libcSyscalls } from '../../native/libc.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { BackendModule } from '../module.js';
import { AcrnBackend, type AcrnOptions } from './backend.js';
import { IDENTITY_PATTERN } from './identities.js';
import { probeAcrn } from './probe.js';

/** The module over any `Syscalls`; tests inject failures here. */
export const acrnModule = (sys: Syscalls): BackendModule<AcrnOptions> => ({
  name: 'acrn',
  kind: 'hypervisor',
  description: 'ACRN through /dev/acrn_hsm or the older /dev/acrn_vhm: VMs of our own beside this service VM',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      abi: { enum: ['auto', 'hsm', 'vhm'], description: 'the device to speak to; auto takes the first that answers', default: 'auto' },
      device: { type: 'string', minLength: 1, description: "device node; default the ABI's own" },
      pageTrack: {
        enum: ['sync', 'trap'],
        description: 'sync: pages are compared; trap: frames without the right to write, a limited number of times',
        default: 'sync',
      },
      pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' },
      vms: {
        type: 'array',
        minItems: 1,
        uniqueItems: true,
        items: { type: 'string', pattern: IDENTITY_PATTERN },
        description: 'VMs as the hypervisor knows them, by UUID (ACRN 1.x, 2.x) or name (3.x); default names of our own',
      },
      cpus: {
        type: 'array',
        uniqueItems: true,
        items: { type: 'integer', minimum: 0, maximum: 63 },
        description: 'physical CPUs for the vCPUs, one vCPU each; default those of the scenario',
      },
    },
  },
  probe: ({ abi, device, pageTrack } = {}) => probeAcrn(sys, abi, device, pageTrack),
  open: (options = {}) => new AcrnBackend(sys, options),
});

export const acrn = acrnModule(libcSyscalls);
export type { AcrnHandle } from './handle.js';
export type { AcrnMachine } from './machine.js';
export * from './vhm-api.js';
export { AcrnBackend, type AcrnOptions };
