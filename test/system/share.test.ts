/** Two VMs on two device threads share the engines of one GPU by their weights. */
import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import { DEFAULT_GPU } from '../../src/core/gvt/device-info.js';
import { ResourcePool } from '../../src/core/gvt/resources.js';
import { PRIORITY_NS } from '../../src/core/gvt/scheduler/policy.js';
import { sharedSchedule, unschedule } from '../../src/core/gvt/scheduler/shared-state.js';
import { findType } from '../../src/core/gvt/types.js';
import { DeviceThread } from '../../src/index.js';
import type { ShareInput, ShareOutput } from './share-job.js';

const JOB = new URL('./share-job.js', import.meta.url);
const MEASURED_MS = 1000;
const LONGEST_MS = 8000;
/** Part of the time for which a thread may wait for a processor: more, and the machine's scheduler decides, not ours. */
const DELAYED = 0.1;
/** Nanoseconds that a thread has waited for a processor (sched-stats: the second number). */
const delayNs = (tid: number): number => Number(readFileSync(`/proc/self/task/${tid}/schedstat`, 'latin1').split(' ')[1]);

// With the real thing where there is one.
const name = kvm.probe().available ? 'kvm' : 'sim';

/** VMs on one GPU, past the time that a fresh vGPU has priority. */
async function share(t: Test, guests: readonly Pick<ShareInput, 'weight' | 'work'>[]) {
  const schedule = sharedSchedule();
  const pool = new ResourcePool(DEFAULT_GPU);
  const vgpus = guests.map((guest) => {
    const given = pool.take(findType('GVTg_V4_8', DEFAULT_GPU));
    const engineNs = new SharedArrayBuffer(8);
    const input: ShareInput = { backend: name, share: given, schedule, engineNs, ...guest };
    return { id: given.id, engineNs: new Float64Array(engineNs), thread: new DeviceThread<ShareOutput>(JOB, input) };
  });
  t.teardown(() => Promise.all(vgpus.map(({ thread }) => thread.stop())));
  const busy = vgpus.map(({ thread }) => new Promise<void>((resolve) => thread.once('notice', () => resolve())));
  await Promise.race([Promise.all(busy), Promise.all(vgpus.map(({ thread }) => thread.result))]);
  // While one is fresh and the other no longer, weights do not count.
  await setTimeout(PRIORITY_NS / 1e6 + 100);
  const seen = (): { ns: number; delayNs: number }[] =>
    vgpus.map(({ engineNs, thread }) => ({ ns: engineNs[0] as number, delayNs: delayNs(thread.threadId) }));
  /**
   * What each used of the engine, as parts of the time, over seconds until it is `right`, or for as long as a busy machine does its worst.
   * @param undisturbed only of seconds in which no thread waited long for a processor; undefined when there was none
   */
  const measure = async (right: (parts: readonly number[]) => boolean, undisturbed = false): Promise<number[] | undefined> => {
    const first = performance.now();
    let [since, before] = [first, seen()];
    let parts: number[] | undefined;
    for (;;) {
      await setTimeout(MEASURED_MS);
      const [now, after] = [performance.now(), seen()];
      const of = (what: 'ns' | 'delayNs'): number[] =>
        after.map((count, i) => (count[what] - (before[i] as (typeof before)[0])[what]) / ((now - since) * 1e6));
      if (!undisturbed || of('delayNs').every((part) => part < DELAYED)) parts = of('ns');
      if ((parts !== undefined && right(parts)) || now - first > LONGEST_MS) return parts;
      // A part of a turn is much of a second, and little of several.
      if (undisturbed) [since, before] = [now, after];
    }
  };
  const stop = async (i: number): Promise<ShareOutput> => {
    const { id, thread } = vgpus[i] as (typeof vgpus)[0];
    await thread.stop();
    unschedule(schedule, id);
    return thread.result;
  };
  return { vgpus, measure, stop };
}

t.test(`${name}: engine time is 2:1 by weight`, async (t) => {
  const { measure, stop } = await share(t, [
    { weight: 2, work: 'endless' },
    { weight: 1, work: 'endless' },
  ]);
  // A busy machine keeps a thread from its processor for longer than a turn, with the engine in its hand: then it takes longer to even out.
  const right = ([a, b]: readonly number[]): boolean => Math.abs((a as number) / (b as number) - 2) <= 0.2;
  const parts = (await measure(right)) as number[];
  t.ok(right(parts), `${parts} of the time`);
  // One GPU: only one that gave no sign of life for a lease had its engine at the same time as another.
  t.ok((parts[0] as number) + (parts[1] as number) < 1.25, `${parts} of the time`);
  await stop(1);
  const outcome = await stop(0);
  t.match(outcome, { faults: 0 });
  t.ok(outcome.turnsWaited > 0 && outcome.guestSteps > 100, JSON.stringify(outcome));
});

t.test(`${name}: submissions of next to nothing do not keep the engine from others`, async (t) => {
  for (const [weight, other] of [
    [1, 1],
    [8, 1],
  ] as const) {
    const { measure, stop } = await share(t, [
      { weight, work: 'endless' },
      { weight: other, work: 'tiny' },
    ]);
    const least = (0.9 * weight) / (weight + other);
    // Where processors are short, the one is kept from its thread, and not from the engine.
    const parts = await measure(([busy]) => (busy as number) >= least, true);
    const tiny = await stop(1);
    t.match([tiny, await stop(0)], [{ faults: 0 }, { faults: 0 }]);
    t.ok(tiny.workloads > 100, JSON.stringify(tiny));
    if (parts === undefined)
      t.pass(`${weight}:${other}`, { skip: 'in each second a thread waited for a processor: what the schedule gave cannot be told' });
    else t.ok((parts[0] as number) >= least, `${parts} of the time at ${weight}:${other}, after ${tiny.workloads} submissions`);
  }
});
