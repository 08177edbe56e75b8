/** Simulation: what the registry needs. */
import type { BackendModule } from '../module.js';
import { pageTrackLevel, SimBackend, type SimOptions } from './backend.js';
import { probeSim } from './probe.js';

export const sim: BackendModule<SimOptions> = {
  name: 'sim',
  kind: 'simulation',
  description: 'in-memory hypervisor: VMs and an x86 interpreter in this process, no privileges or hardware needed',
  optionsSchema: {
    type: 'object',
    additionalProperties: false,
    properties: {
      pageTrack: {
        enum: ['trap', 'sync', 'none'],
        description: 'trap: each guest write is reported; sync: written pages are found later; none: no page tracking',
        default: 'trap',
      },
      pinLimitPages: { type: 'integer', minimum: 1, description: 'pages that one vGPU may pin for DMA; default no limit' },
      instructionBudget: {
        type: 'integer',
        minimum: 1,
        description: 'guest instructions after which a timed wait for an access ends, whatever the clock says; default no limit',
      },
    },
  },
  probe: (options = {}) => probeSim(pageTrackLevel(options)),
  open: (options = {}) => new SimBackend(options),
};

export type { SimBackend, SimEvents, SimHostPages, SimOptions } from './backend.js';
export type { FaultableOperation, FaultSpec, SimFaults } from './faults.js';
export type { Msi, SimHandle } from './handle.js';
export type { SimMachine } from './machine.js';
