/** vfio-user: what the registry needs. */
import { realServerCalls, type ServerCalls } from '../../vfio/server.js';
import type { BackendModule } from '../module.js';
import { VfioUserBackend, type VfioUserOptions } from './backend.js';
import { probeVfioUser } from './probe.js';

export interface VfioUserModule extends BackendModule<VfioUserOptions> {
  open(options?: VfioUserOptions): VfioUserBackend;
}

/** The module over any calls; tests inject failures here. */
export const vfioUserModule = (calls: ServerCalls): VfioUserModule => ({
  name: 'vfio-user',
  kind: 'transport',
  description: 'VMs of another process over a vfio-user socket: QEMU 10.1 or later, or a test client of ours',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      trustClient: {
        type: 'boolean',
        description: 'map guest memory even when its file can be shortened, which would end this process',
        default: false,
      },
      pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' },
      qemu: {
        type: 'array',
        items: { type: 'string', minLength: 1 },
        minItems: 1,
        description: 'words that start a QEMU of version 10.1 or later, in which VMs are made instead of in our interpreter',
      },
    },
  },
  probe: (options = {}) => probeVfioUser(calls, options.qemu !== undefined),
  open: (options = {}) => new VfioUserBackend(calls, options),
});

export const vfioUser = vfioUserModule(realServerCalls);
export type { VfioUserOptions };
