/** A vGPU that is saved in the middle of queued work, destroyed and restored: the guest's program goes on and its result is right. */
import t from 'tap';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { findBackend } from '../../src/index.js';
import { QueuedWork } from './queued-work.js';
import { undisturbed, World } from './world.js';

const NAMES = ['sim', 'kvm'] as const;
const missing = (name: string): string | false => {
  const probe = findBackend(name).probe();
  return probe.available ? false : probe.reason;
};
const open = (name: string): MptBackend => findBackend(name).open();

for (const name of NAMES)
  t.test(`${name}: restored into a new vGPU of the same VM`, { skip: missing(name) }, async (t) => {
    const expected = undisturbed(open(name));
    t.match(expected, QueuedWork.expected, 'the work without a save');
    const world = new World(open(name));
    world.create();
    const work = new QueuedWork(world.agent);
    work.queue();
    t.ok(work.rowsFilled() > 0 && work.rowsFilled() < QueuedWork.rows, `the blit stands at row ${work.rowsFilled()}`);
    t.equal(work.unfinished().length, 7, 'one store of eight is done');
    const state = world.take();
    world.restore(state);
    t.equal(work.unfinished().length, 7, 'restoring does none of the work');
    world.goOn();
    const outcome = work.finish();
    const { interrupts, ...found } = outcome;
    const { interrupts: _, ...wanted } = expected;
    t.strictSame(found, wanted, 'as if nothing had happened');
    t.ok(interrupts > 0, `${interrupts} interrupts arrived`);
    t.equal(world.gvt.defects, 0);
    t.equal(world.vgpu?.statistics.guestErrors, 0);
    world.close();
  });

for (const [from, to] of [
  ['sim', 'kvm'],
  ['kvm', 'sim'],
] as const)
  t.test(`saved on ${from}, restored on ${to} with the same RAM`, { skip: missing(from) || missing(to) }, async (t) => {
    const expected = undisturbed(open(from));
    const source = new World(open(from));
    source.create();
    const work = new QueuedWork(source.agent);
    work.queue();
    const memory = source.memory();
    const state = source.take();
    source.close();
    const target = new World(open(to));
    target.restore(state);
    target.setMemory(memory);
    work.continueOn(target.agent);
    t.equal(work.unfinished().length, 7);
    target.goOn();
    const { interrupts, ...found } = work.finish();
    const { interrupts: _, ...wanted } = expected;
    t.strictSame(found, wanted);
    t.ok(interrupts > 0);
    t.equal(target.gvt.defects, 0);
    target.close();
  });
