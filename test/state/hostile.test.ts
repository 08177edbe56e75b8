/** Whatever a hostile guest has made of its vGPU, its state is one that can be saved, restored and saved again. */
import fc from 'fast-check';
import t from 'tap';
import { operations } from '../hostile/operations.js';
import { LEVELS, World } from '../hostile/world.js';
import { sections } from './forge.js';

const SEQUENCES = 100;
const LENGTH = 120;

t.test('after any operations of a guest', { timeout: 200_000 }, async (t) => {
  let busy = 0;
  const property = fc.property(fc.constantFrom(...LEVELS), operations(LENGTH), (level, list) => {
    const world = new World(level);
    try {
      for (const operation of list) world.apply(operation);
      const { gvt, vgpu, vm } = world;
      if (vgpu.hasWork) busy++;
      const state = gvt.saveVgpu(vgpu);
      gvt.destroyVgpu(vgpu);
      const restored = gvt.restoreVgpu({ vmId: vm.vmId }, state);
      const again = gvt.saveVgpu(restored);
      if (Buffer.compare(state, again) !== 0) {
        const [before, after] = [sections(state), sections(again)];
        throw new Error(`saved again it differs in ${Object.keys(before).filter((name) => before[name] !== after[name])}`);
      }
      gvt.activate(restored);
      for (let slice = 0; slice < 4; slice++) gvt.runSlice(2000);
      if (gvt.defects > 0) throw gvt.lastDefect;
      gvt.destroyVgpu(restored);
      if (vm.pinnedPages !== 0) throw new Error(`${vm.pinnedPages} pages are pinned`);
    } finally {
      world.close();
    }
  });
  const { failed, counterexample, errorInstance } = fc.check(property, { seed: 0x5afe, numRuns: SEQUENCES });
  t.notOk(
    failed,
    failed ? `${(errorInstance as Error).message}: ${JSON.stringify(counterexample).slice(0, 2000)}` : 'each comes back as it was',
  );
  t.ok(busy > SEQUENCES / 10, `${busy} had work`);
});
