/** What must hold on every backend, given by how it is opened. */
import type { Test } from 'tap';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import { findBackend } from '../../src/index.js';
import { type Outcome, QueuedWork } from './queued-work.js';
import { undisturbed, World } from './world.js';

type Open = () => MptBackend;

/** What a guest finds that is left alone: the same everywhere, so that it is asked of the simulation. */
const undisturbedGuest = (): Outcome => undisturbed(findBackend('sim').open());

/** Of eight stores, those that wait at the save. */
const WAITING = 7;

/** Everything but how often the guest was interrupted: that depends on what it slept through. */
function compare(t: Test, { interrupts, ...found }: Outcome, { interrupts: _, ...wanted }: Outcome): void {
  t.strictSame(found, wanted, 'as if nothing had happened');
  t.ok(interrupts > 0, `${interrupts} interrupts arrived`);
}

/** Saved in the middle of queued work, destroyed, restored into a new vGPU of the same VM. */
export function restoredInPlace(t: Test, open: Open): void {
  const expected = undisturbedGuest();
  t.match(expected, QueuedWork.expected, 'the work without a save');
  const world = new World(open());
  world.create();
  const work = new QueuedWork(world.agent);
  work.queue();
  const rows = work.rowsFilled();
  t.ok(rows > 0 && rows < QueuedWork.rows, `the blit stands at row ${rows}`);
  t.equal(work.unfinished().length, WAITING, 'one store of eight is done');
  world.restore(world.take());
  t.equal(work.unfinished().length, WAITING, 'restoring does none of the work');
  world.goOn();
  compare(t, work.finish(), expected);
  t.equal(world.gvt.defects, 0);
  t.equal(world.vgpu?.statistics.guestErrors, 0);
  world.close();
}

/** Saved on one backend, restored on another one, in a VM with the same content of RAM. */
export function movedTo(t: Test, from: Open, to: Open): void {
  const expected = undisturbedGuest();
  const source = new World(from());
  source.create();
  const work = new QueuedWork(source.agent);
  work.queue();
  const memory = source.memory();
  const state = source.take();
  source.close();
  const target = new World(to());
  target.restore(state);
  target.setMemory(memory);
  work.continueOn(target.agent);
  t.equal(work.unfinished().length, WAITING);
  target.goOn();
  compare(t, work.finish(), expected);
  t.equal(target.gvt.defects, 0);
  target.close();
}
