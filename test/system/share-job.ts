/** Job of a device thread: a VM whose guest keeps its blitter busy, on a GPU that other threads' vGPUs use too. */
import type { VgpuResources } from '../../src/core/gvt/resources.js';
import { findBackend, type Job } from '../../src/index.js';
import { busyGuest, FENCE } from './busy-guest.js';

export interface ShareInput {
  readonly backend: string;
  readonly share: VgpuResources;
  readonly weight: number;
  readonly schedule: SharedArrayBuffer;
}

export interface ShareOutput {
  /** Guest mistakes and defects: none. */
  readonly faults: number;
  readonly turns: number;
  readonly turnsWaited: number;
  readonly ns: number;
  /** Times that the guest did something meanwhile. */
  readonly guestSteps: number;
}

/** How long the guest is looked after while the engine is another's. */
const WAIT_MS = 1;

export const job: Job<ShareInput, ShareOutput> = ({ backend, share, weight, schedule }, context) => {
  const { opened, gvt, vgpu, agent, submitEndless } = busyGuest(
    findBackend(backend),
    { schedule, threadNs: context.threadNs },
    { share, resources: { weight } },
  );
  try {
    submitEndless();
    context.notice('busy');
    let guestSteps = 0;
    while (!context.stopped()) {
      const until = gvt.canGoOn ? 0 : performance.now() + WAIT_MS;
      do agent.write(FENCE, 4, ++guestSteps);
      while (performance.now() < until);
      gvt.runSlice(4096);
    }
    const { turns, turnsWaited, bcsNs, guestErrors } = vgpu.statistics;
    return { faults: guestErrors + gvt.defects, turns, turnsWaited, ns: bcsNs, guestSteps };
  } finally {
    opened.close();
  }
};
