// The interpreter against KVM, which runs guest code on the processor (on some hosts through the kernel's own
// interpreter): thousands of instructions with operands at the edges must leave the same registers, flags and memory.
import t from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import { sim } from '../../src/backends/sim/index.js';
import { CORPUS } from './corpus.js';
import { runCases, type State } from './guest-code.js';

/** Cases in one image, which must end below 1 MiB. */
const BATCH = 3000;

const probe = kvm.probe();

t.test('the simulation computes what KVM computes', { skip: probe.available ? false : `no KVM: ${probe.reason}` }, async (t) => {
  const simulated = sim.open();
  const real = kvm.open();
  const differences: string[] = [];
  for (let i = 0; i < CORPUS.length; i += BATCH) {
    const batch = CORPUS.slice(i, i + BATCH);
    const ours = runCases(simulated, batch);
    const theirs = runCases(real, batch);
    batch.forEach(({ name, undefinedFlags }, n) => {
      for (const field of Object.keys(ours[n] as State) as (keyof State)[]) {
        const ignore = field === 'flags' ? undefinedFlags : 0;
        const a = (ours[n] as State)[field] & ~ignore;
        const b = (theirs[n] as State)[field] & ~ignore;
        if (a !== b) differences.push(`${name}: ${field} is 0x${(a >>> 0).toString(16)}, KVM says 0x${(b >>> 0).toString(16)}`);
      }
    });
  }
  t.same(differences.slice(0, 10), []);
  t.ok(CORPUS.length > 7000, `${CORPUS.length} cases`);
  simulated.close();
  real.close();
});
