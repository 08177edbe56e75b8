/** The scenarios of test/state on ACRN: a vGPU saved in the middle of queued work goes on in its VM, and in a VM of another backend. */
import t from 'tap';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { findBackend } from '../../src/index.js';
import { movedTo, restoredInPlace } from '../state/scenarios.js';
import { ABIS, noAcrn, open } from './support.js';

const onSim = (): MptBackend => findBackend('sim').open();

t.test('there is an ACRN', { skip: noAcrn }, async (t) => {
  for (const abi of ABIS) {
    const onAcrn = (): MptBackend => open({ abi });
    t.test(`${abi}: restored into a new vGPU of the same VM`, async (t) => restoredInPlace(t, onAcrn));
    t.test(`saved on ${abi}, restored on sim with the same RAM`, async (t) => movedTo(t, onAcrn, onSim));
    t.test(`saved on sim, restored on ${abi} with the same RAM`, async (t) => movedTo(t, onSim, onAcrn));
  }
});
