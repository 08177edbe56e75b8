/**
 * A hostile guest of 200,000 operations on the whole device model: nothing is thrown, nothing goes on without end, memory does not grow, and neither
 * what lies beside the guest's RAM nor the other VM sees any of it. `npm run hostile` goes on with other seeds.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { CONNECTORS } from '../../src/core/gvt/display/connector.js';
import { BAR0 } from './layout.js';
import { runSequence, type Sequence } from './sequence.js';
import { watch } from './watch.js';
import { World } from './world.js';

t.setTimeout(600_000);

const OPERATIONS = 200_000;
/** Failures of the tests lie there, beside those of `npm run hostile`. */
const FOLDER = 'build/hostile';
/** Collected or not, worlds that are gone leave so much to the collector. */
const NOISE_MIB = 48;

t.test('200,000 operations', { timeout: 600_000 }, async (t) => {
  const { operations, reach, memory, failure, file } = await watch({ seed: 1, sequences: 100, length: 4200 }, FOLDER);
  if (failure !== undefined) t.fail(`${failure.why}; again: npm run hostile -- --replay ${file}`);
  t.ok(operations >= OPERATIONS, `${operations} operations`);
  t.ok(reach.commands > 1_000_000 && reach.workloads > 10_000 && reach.hangs > 5000, `they reached something: ${JSON.stringify(reach)}`);
  t.ok(reach.shadowTables > 5000 && reach.interrupts > 20_000 && reach.guestErrors > 20_000 && reach.skippedCommands > 5000);
  t.ok(reach.auxReplies > 200, `a DisplayPort monitor answered ${reach.auxReplies} messages`);
  const half = memory.length >> 1;
  const [before, after] = [Math.max(...memory.slice(0, half)), Math.max(...memory.slice(half))];
  t.ok(after <= before + NOISE_MIB, `${after.toFixed(0)} MiB in use in the second half, ${before.toFixed(0)} in the first`);
});

t.test('a failure is made small, and is the same when it runs again', async (t) => {
  // What fails here is the harness's own: an operation that does not exist.
  const folder = mkdtempSync(join(tmpdir(), 'mpt-hostile-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  t.throws(() => runSequence({ level: 'trap', operations: [['ready'], ['nothing', 1]] }), { message: /operation 'nothing'/ });
  const { failure, file = '' } = await watch({ seed: 1, sequences: 20, length: 40, fault: 'gmbus' }, folder);
  t.match(failure?.why, /operation \d+, \["gmbus",.*planted/);
  t.equal(failure?.sequence.operations.length, 1, 'nothing but the operation that fails is left');
  const saved = JSON.parse(readFileSync(file, 'utf8')) as Sequence & { why: string };
  t.strictSame([saved.operations, saved.level, saved.why], [failure?.sequence.operations, failure?.sequence.level, failure?.why]);
});

t.test('what was found before', async (t) => {
  const found: readonly Sequence[] = [
    // The OpRegion, and a BAR that is moved over it, which is refused: saved and restored.
    { level: 'trap', operations: [['config-write', 252, 4, 0xffff_0000], ['move-bar', 0, 0xffff_f000, 0], ['save']] },
    // The other way round.
    { level: 'trap', operations: [['move-bar', 0, 0xffff_f000, 0], ['config-write', 252, 4, 0xffff_0000], ['save']] },
  ];
  for (const sequence of found) t.doesNotThrow(() => runSequence(sequence), JSON.stringify(sequence));
});

t.test('a monitor that is trained and read over AUX', async (t) => {
  for (const connector of CONNECTORS) {
    const world = new World('trap', undefined, connector);
    for (const pattern of [1, 3]) world.apply(['link', 20, 4, pattern, pattern]);
    world.apply(['aux', 0, 9, 0x202, 3, 4, 0]);
    const dp = connector === 'dp';
    t.equal(world.auxReplies, dp ? 3 : 0, connector);
    const value = new Uint32Array(2);
    world.gvt.emulateMmioRead(world.vgpu.id, (BAR0 + 0xe_4114) as never, value, 4);
    if (dp) t.equal(value[0], 0x0077_7701, 'acknowledged; each lane and the whole are in order');
    world.close();
  }
});

t.test('the world sees harm', async (t) => {
  const harmed = (harm: (world: World) => void): string | undefined => {
    const world = new World('trap');
    harm(world);
    const seen = world.violation() ?? world.end();
    world.close();
    return seen;
  };
  t.equal(
    harmed(() => {}),
    undefined,
  );
  t.match(
    harmed((world) => world.vm.memory.view(0x0777_1a5c_3000, 0x1_0000).fill(0, 0xffff)),
    /0x7771a5d2fff was written/,
  );
  t.match(
    harmed((world) => world.victim.vm.memory.view(0x9000, 1).fill(1)),
    /byte 0x9000 of its RAM changed/,
  );
  t.match(
    harmed((world) =>
      world.gvt.emulateMmioWrite(
        world.victim.vgpu.id,
        (0xe080_0000 + (world.victim.vgpu.resources.aperture.start / 4096 + 20) * 8) as never,
        new Uint32Array([1, 0]),
        8,
      ),
    ),
    /its GGTT entries changed/,
  );
  t.match(
    harmed((world) => world.gvt.deactivate(world.victim.vgpu)),
    /its job stored/,
  );
  t.match(
    harmed((world) => {
      world.vgpu.registers.write = () => {
        throw new Error('a defect of the device model');
      };
      world.apply(['write', 0x2030, 4, 0, 0]);
    }),
    /a defect: Error: a defect of the device model/,
  );
});
