/** Job of a device thread: a VM whose guest uses its blitter, on a GPU that other threads' vGPUs use too. */
import type { VgpuResources } from '../../src/core/gvt/resources.js';
import { findBackend, type Job } from '../../src/index.js';
import { busyGuest, FENCE } from './busy-guest.js';

export interface ShareInput {
  readonly backend: string;
  readonly share: VgpuResources;
  readonly weight: number;
  readonly schedule: SharedArrayBuffer;
  /** One endless batch, or submissions of next to nothing, one after the other. */
  readonly work: 'endless' | 'tiny';
  /** A double, which the thread writes: its nanoseconds on the engine. */
  readonly engineNs: SharedArrayBuffer;
}

export interface ShareOutput {
  /** Guest mistakes and defects: none. */
  readonly faults: number;
  readonly turns: number;
  readonly turnsWaited: number;
  readonly workloads: number;
  /** Times that the guest did something meanwhile. */
  readonly guestSteps: number;
}

export const job: Job<ShareInput, ShareOutput> = ({ backend, share, weight, schedule, work, engineNs }, context) => {
  const { opened, gvt, vgpu, agent, submitEndless, submitTiny } = busyGuest(
    findBackend(backend),
    { schedule, threadNs: context.threadNs },
    { share, resources: { weight } },
  );
  const shown = new Float64Array(engineNs);
  try {
    if (work === 'endless') submitEndless();
    context.notice('busy');
    let guestSteps = 0;
    while (!context.stopped()) {
      if (work === 'tiny' && !gvt.hasWork) submitTiny();
      const until = gvt.hasWork ? performance.now() + gvt.untilWorkMs : 0;
      do agent.write(FENCE, 4, ++guestSteps);
      while (performance.now() < until && gvt.hasWork);
      gvt.runSlice(4096);
      shown[0] = vgpu.statistics.bcsNs;
    }
    const { turns, turnsWaited, workloads, guestErrors } = vgpu.statistics;
    return { faults: guestErrors + gvt.defects, turns, turnsWaited, workloads, guestSteps };
  } finally {
    opened.close();
  }
};
