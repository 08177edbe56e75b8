/** The scenarios of test/state on real Xen: a vGPU saved in the middle of queued work goes on in its domain, and in a VM of another backend. */
import t from 'tap';
import { xen } from '../../src/backends/xen/index.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { findBackend } from '../../src/index.js';
import { movedTo, restoredInPlace } from '../state/scenarios.js';
import { skip } from './support.js';

/** The machine under Xen is emulated. */
const LIMIT = { skip, timeout: 240_000 };
const onXen = (): MptBackend => xen.open();
const onSim = (): MptBackend => findBackend('sim').open();

t.test('restored into a new vGPU of the same domain', LIMIT, async (t) => restoredInPlace(t, onXen));
t.test('saved in a domain, restored on sim with the same RAM', LIMIT, async (t) => movedTo(t, onXen, onSim));
t.test('saved on sim, restored in a domain with the same RAM', LIMIT, async (t) => movedTo(t, onSim, onXen));
