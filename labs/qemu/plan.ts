/** The jobs of `npm run lab:qemu`, in the order in which they are run, and how they are run. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { seconds } from '../common/progress.js';
import type { JobReport } from '../common/report.js';
import { type Job, Lab } from './job.js';
import { BOCHS } from './jobs/bochs.js';
import { BOOTTIME } from './jobs/boottime.js';
import { CONFORMANCE } from './jobs/conformance.js';
import { GVT } from './jobs/gvt.js';
import { GVT_SHARE } from './jobs/gvt-share.js';
import { I915 } from './jobs/i915.js';
import { I915_BOOTS, I915_BOOTS_50 } from './jobs/i915-boots.js';
import { I915_DISPLAY, I915_DISPLAY_DP } from './jobs/i915-display.js';
import { I915_SPEED } from './jobs/i915-speed.js';
import { I915_STATE } from './jobs/i915-state.js';
import { I915_WESTON } from './jobs/i915-weston.js';
import { MDPY } from './jobs/mdpy.js';
import { RECORD, RECORDINGS } from './jobs/record.js';
import { TREE } from './jobs/tree.js';
import { tellOf } from './progress.js';
import type { Trees } from './trees.js';

export const JOBS: readonly Job[] = [
  BOCHS,
  MDPY,
  TREE,
  GVT,
  GVT_SHARE,
  I915,
  I915_DISPLAY,
  I915_STATE,
  I915_WESTON,
  I915_BOOTS,
  CONFORMANCE,
  I915_BOOTS_50,
  I915_DISPLAY_DP,
  BOOTTIME,
  I915_SPEED,
  RECORD,
  RECORDINGS,
];

/** The jobs that are meant: those named, or the plan. */
export const jobsOf = (names: readonly string[]): readonly Job[] =>
  JOBS.filter(({ name, onlyByName }) => (names.length === 0 ? !onlyByName : names.includes(name)));

export interface RunOptions {
  readonly checkout: string;
  /** Each job gets the folder `out/NAME`. */
  readonly out: string;
  /** Limit of each boot instead of the job's own. */
  readonly timeoutS?: number;
  readonly keep: boolean;
}

/** One after the other: QEMU and the device's server keep a core busy each. */
export async function runJobs(trees: Trees, jobs: readonly Job[], options: RunOptions): Promise<JobReport[]> {
  const reports: JobReport[] = [];
  for (const job of jobs) reports.push(await runJob(trees, job, options));
  return reports;
}

async function runJob(trees: Trees, { name, timeoutS, run }: Job, options: RunOptions): Promise<JobReport> {
  const out = join(options.out, name);
  mkdirSync(out, { recursive: true });
  const began = performance.now();
  const lab = new Lab({ timeoutS, ...options, trees, out, tell: tellOf(name) });
  await run(lab).catch((error: Error) => lab.check('the job ran to its end', () => Promise.reject(error)));
  const points = lab.points.map((point) => ({ ...point, name: `${name} > ${point.name}` }));
  const failed = points.filter(({ status }) => status === 'failed').length;
  lab.tell(failed === 0 ? `${points.length} points passed` : `${failed} of ${points.length} points failed`);
  return { name, seconds: seconds(began), points, out, log: 'console.log' };
}
