/**
 * Boots of real drivers, recorded in QEMU (`npm run recordings`), against the device model as it is now: whatever it answers, calls and stores must be what
 * the guest met then.
 */
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Gvt } from '../../src/core/gvt/gvt.js';
import type { VfioDevice } from '../../src/core/vfio/device.js';
import { replay } from '../../src/recording/index.js';

const file = (name: string): string => fileURLToPath(new URL(`../../../test/recordings/${name}.mptrec`, import.meta.url));
const KIB = 1024;

/** Fewer steps would mean that the driver did not come up. */
for (const [name, steps, kib] of [
  ['i915', 2000, 100],
  ['i915-display', 500_000, 1000],
  ['bochs', 100, 100],
] as const)
  t.test(`a boot with ${name} is as it was recorded`, async (t) => {
    t.ok(statSync(file(name)).size < kib * KIB, 'small enough for the repository');
    const report = replay(file(name));
    t.equal(report.divergence, null, 'see CONTRIBUTING.md, recordings');
    t.type(report.recordedMs, 'number', 'whole');
    t.ok(report.steps > steps, `${report.steps} steps`);
    t.ok(report.pages < 1000, `${report.pages} pages of guest memory`);
  });

/** Registers that i915 reads while it starts. */
const ANSWERS = [
  [0x9120, /BAR0 \+ 0x9120$/],
  [0x4_2014, /BAR0 \+ 0x42014$/],
  [0x7_8000, /BAR0 \+ 0x78000$/],
] as const;

t.test('one register that answers otherwise is told at the access that read it', async (t) => {
  for (const [offset, place] of ANSWERS) {
    const { divergence } = replay(file('i915'), {
      // QEMU resets the device before the guest runs.
      onDevice: (gvt) => void (gvt as Gvt).on('reset', ({ registers }) => registers.set(offset, registers.get(offset) ^ 0x10)),
    });
    t.match(divergence, { what: place, expected: /^the answer 0x/, got: /^the answer 0x/ }, `0x${offset.toString(16)}`);
    t.match(divergence?.what, /^read of \d bytes of /);
  }
  const { divergence } = replay(file('bochs'), {
    onDevice: (device) => {
      const read = (device as VfioDevice).read.bind(device);
      (device as VfioDevice).read = (region, offset, bytes) => {
        const status = read(region, offset, bytes);
        if (region === 2 && offset === 0x500) bytes[0] = (bytes[0] as number) ^ 1;
        return status;
      };
    },
  });
  t.match(divergence, { what: 'read of 2 bytes of region 2 at 0x500' });
});
