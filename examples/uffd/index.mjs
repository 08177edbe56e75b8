/** uffd: what the registry needs of the backend. */
import { UffdBackend } from './backend.mjs';
import { probe } from './probe.mjs';

export const uffd = {
  name: 'uffd',
  kind: 'simulation',
  description: 'VMs in memory of this process under userfaultfd write protection, their instructions interpreted',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: { pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' } },
  },
  probe,
  open: (options = {}) => new UffdBackend(options),
};
