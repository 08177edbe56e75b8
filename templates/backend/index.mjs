/** scaffold: what the registry needs of the backend. */
import { ScaffoldBackend } from './backend.mjs';
import { probe } from './probe.mjs';

export const scaffold = {
  name: 'scaffold',
  // Replace: 'hypervisor' when a hypervisor runs the VMs, 'transport' when something else creates them.
  kind: 'simulation',
  description: 'VMs in plain memory of this process, their instructions interpreted',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: { pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' } },
  },
  probe,
  open: (options = {}) => new ScaffoldBackend(options),
};
