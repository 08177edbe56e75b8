/**
 * A vGPU that is saved in the middle of queued work and restored, on the backends of this machine and from each to each: the guest's program goes on and
 * its result is right. In Xen's dom0 test/xen/state.test.ts does the same, on ACRN test/acrn/state.test.ts; with a client that stays connected,
 * vfio-user.test.ts.
 */
import t from 'tap';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { findBackend } from '../../src/index.js';
import { movedTo, restoredInPlace } from './scenarios.js';

const NAMES = ['sim', 'kvm', 'vfio-user'] as const;
const missing = (name: string): string | false => {
  const probe = findBackend(name).probe();
  return probe.available ? false : probe.reason;
};
const open = (name: string) => (): MptBackend => findBackend(name).open();

for (const name of NAMES)
  t.test(`${name}: restored into a new vGPU of the same VM`, { skip: missing(name) }, async (t) => restoredInPlace(t, open(name)));

for (const from of NAMES)
  for (const to of NAMES)
    if (from !== to)
      t.test(`saved on ${from}, restored on ${to} with the same RAM`, { skip: missing(from) || missing(to) }, async (t) =>
        movedTo(t, open(from), open(to)),
      );
