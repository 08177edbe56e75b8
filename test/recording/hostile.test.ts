/**
 * A guest that does anything (`test/hostile`), recorded, at each level of page track: tables that are shadowed, batches that hang, memory that changes at any
 * moment, states saved and restored. Each recording must replay to its last event.
 */
import fc from 'fast-check';
import t from 'tap';
import { CONNECTORS } from '../../src/core/gvt/display/connector.js';
import { openGvt } from '../../src/recording/index.js';
import { operations } from '../hostile/operations.js';
import { LEVELS, type makeGvt, World } from '../hostile/world.js';
import { newFile, same } from './rig.js';

const SEED = 20_261_201;
/** Sequences at each level, and operations in one. */
const SEQUENCES = 4;
const LENGTH = 400;

for (const level of LEVELS)
  t.test(`page track ${level}`, async (t) => {
    let events = 0;
    let shadowed = 0;
    for (const [i, sequence] of fc.sample(operations(LENGTH), { numRuns: SEQUENCES, seed: SEED }).entries()) {
      const path = newFile();
      let close = (): void => undefined;
      const make: typeof makeGvt = (backend, options) => {
        const onFailure = (error: Error): void => {
          throw error;
        };
        const recorded = openGvt(backend, options, { path, onFailure });
        close = recorded.close;
        return recorded.device;
      };
      const world = new World(level, make, CONNECTORS[i % CONNECTORS.length]);
      for (const operation of sequence) world.apply(operation);
      t.equal(world.gvt.defects, 0, String((world.gvt.lastDefect as Error | undefined)?.stack));
      shadowed += world.vgpu.statistics.shadowTables;
      world.close();
      close();
      events += same(t, path).events;
    }
    t.ok(events > 5_000 && shadowed > 0, `${events} events, ${shadowed} tables shadowed`);
  });
