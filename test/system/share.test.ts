/** Two VMs on two device threads share the engines of one GPU by their weights. */
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import { DEFAULT_GPU } from '../../src/core/gvt/device-info.js';
import { ResourcePool } from '../../src/core/gvt/resources.js';
import { PRIORITY_NS } from '../../src/core/gvt/scheduler/policy.js';
import { sharedSchedule, unschedule, usedNs } from '../../src/core/gvt/scheduler/shared-state.js';
import { findType } from '../../src/core/gvt/types.js';
import { DeviceThread } from '../../src/index.js';
import type { ShareInput, ShareOutput } from './share-job.js';

const JOB = new URL('./share-job.js', import.meta.url);
const BCS = 1;
const MEASURED_MS = 1000;
const LONGEST_MS = 8000;

// With the real thing where there is one.
const name = kvm.probe().available ? 'kvm' : 'sim';

t.test(`${name}: engine time is 2:1 by weight`, async (t) => {
  const schedule = sharedSchedule();
  const pool = new ResourcePool(DEFAULT_GPU);
  const vgpus = [2, 1].map((weight) => {
    const share = pool.take(findType('GVTg_V4_8', DEFAULT_GPU));
    const input: ShareInput = { backend: name, share, weight, schedule };
    return { id: share.id, thread: new DeviceThread<ShareOutput>(JOB, input) };
  });
  const busy = vgpus.map(({ thread }) => new Promise<void>((resolve) => thread.once('notice', () => resolve())));
  await Promise.race([Promise.all(busy), Promise.all(vgpus.map(({ thread }) => thread.result))]);
  const used = (): number[] => vgpus.map(({ id }) => usedNs(schedule, id)[BCS] as number);
  const [a, b] = vgpus as [(typeof vgpus)[0], (typeof vgpus)[0]];
  // While one is fresh and the other no longer, weights do not count.
  await setTimeout(PRIORITY_NS / 1e6 + 100);
  const before = used();
  const since = performance.now();
  let first = 0;
  let second = 0;
  let wall = 0;
  // A busy machine keeps a thread from its processor for longer than a turn, with the engine in its hand: then it takes longer to even out.
  do {
    await setTimeout(MEASURED_MS);
    wall = (performance.now() - since) * 1e6;
    [first, second] = used().map((ns, i) => ns - (before[i] as number)) as [number, number];
  } while (Math.abs(first / second - 2) > 0.2 && wall < LONGEST_MS * 1e6);
  t.ok(Math.abs(first / second - 2) <= 0.2, `${first / second} of ${first + second} ns in ${wall}`);
  // One GPU: only one that gave no sign of life for a lease had its engine at the same time as another.
  t.ok(first + second < wall * 1.25, `the engine was used ${(first + second) / wall}`);
  await b.thread.stop();
  unschedule(schedule, b.id);
  const outcome = await a.thread.stop().then(() => a.thread.result);
  t.match(outcome, { faults: 0 });
  t.ok(outcome.turnsWaited > 0 && outcome.guestSteps > 100, JSON.stringify(outcome));
});
