/** The jobs of `npm run lab:acrn`, in the order in which they are run, and how they are run. */
import { join } from 'node:path';
import { seconds } from '../common/progress.js';
import type { JobReport } from '../common/report.js';
import { type Job, Lab } from './job.js';
import { CONFORMANCE } from './jobs/conformance.js';
import { KILLS } from './jobs/kills.js';
import { PICTURE } from './jobs/picture.js';
import { STANDIN } from './jobs/standin.js';
import { TESTS } from './jobs/tests.js';
import { tellOf } from './progress.js';

export const JOBS: readonly Job[] = [STANDIN, ...CONFORMANCE, PICTURE, TESTS, ...KILLS];

/** The jobs that are meant: those named, or the plan. */
export const jobsOf = (names: readonly string[]): readonly Job[] =>
  JOBS.filter(({ name, onlyByName }) => (names.length === 0 ? !onlyByName : names.includes(name)));

export interface RunOptions {
  readonly standin: string;
  readonly checkout: string;
  /** Each job gets the folder `out/NAME`. */
  readonly out: string;
  /** Limit of each program instead of the job's own. */
  readonly timeoutS?: number;
}

/** One after the other: guests and the stand-in keep both cores of a small machine busy. */
export async function runJobs(jobs: readonly Job[], options: RunOptions): Promise<JobReport[]> {
  const reports: JobReport[] = [];
  for (const job of jobs) reports.push(await runJob(job, options));
  return reports;
}

async function runJob({ name, timeoutS, run }: Job, options: RunOptions): Promise<JobReport> {
  const out = join(options.out, name);
  const began = performance.now();
  const lab = new Lab({ timeoutS, ...options, out, tell: tellOf(name) });
  await run(lab).catch((error: Error) => lab.check('the job ran to its end', () => Promise.reject(error)));
  const points = lab.points.map((point) => ({ ...point, name: `${name} > ${point.name}` }));
  const failed = points.filter(({ status }) => status === 'failed').length;
  lab.tell(failed === 0 ? `${points.length} points, none failed` : `${failed} of ${points.length} points failed`);
  return { name, seconds: seconds(began), points, out, log: 'console.log' };
}
