/** Runs jobs of the plan, two boots at a time, and sums up what they found. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';
import { seconds } from '../common/progress.js';
import { reportOf as report } from '../common/report.js';
import { type Point, readTap, totalsOf } from '../common/tap.js';
import { boot, type Result } from './boot.js';
import type { PlanJob } from './plan.js';
import { tellOf } from './progress.js';
import type { Trees } from './trees.js';

/** Each emulated machine keeps one core busy. */
const AT_A_TIME = 2;

export interface JobResult extends Result {
  readonly job: PlanJob;
  readonly out: string;
  /** Of its TAP files, its checks and its end. */
  readonly points: readonly Point[];
}

/** @param out each job gets the folder `out/NAME` */
export async function runPlan(trees: Trees, jobs: readonly PlanJob[], checkout: string, out: string): Promise<JobResult[]> {
  const results = new Map<PlanJob, JobResult>();
  const waiting = [...jobs];
  const work = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift())
      results.set(job, await runJob(trees, job, checkout, join(out, job.name)));
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  return jobs.map((job) => results.get(job) as JobResult);
}

async function runJob(trees: Trees, job: PlanJob, checkout: string, out: string): Promise<JobResult> {
  const tell = tellOf(job.name);
  const { command, timeoutS, checks = {} } = job;
  const asked = { command: [command], folder: checkout, out, timeoutS, tell };
  let result = await boot(trees, asked);
  if (result.rc !== 0 && v8Aborted(out)) {
    tell(`V8's compiler aborted in the emulated machine; once more, its files are kept in ${out}-first`);
    renameSync(out, `${out}-first`);
    mkdirSync(out);
    result = await boot(trees, asked);
  }
  tell(result.reason ?? `ended after ${result.seconds} s`);
  const points = pointsOf(out);
  for (const [name, look] of Object.entries(checks)) {
    const problem = await look(out, checkout).catch((error: Error) => error);
    points.push(problem ? { name: `${name}: ${problem.message}`, status: 'failed' } : { name, status: 'passed' });
  }
  // Its end is a point of its own unless a failure in its TAP says why.
  if (points.length === 0 || (result.rc !== 0 && !points.some(({ status }) => status === 'failed')) || result.verdict !== 'exit')
    points.push({ name: result.reason ?? 'the command ended with 0', status: result.rc === 0 ? 'passed' : 'failed' });
  return { ...result, job, out, points: points.map((point) => ({ ...point, name: `${job.name} > ${point.name}` })) };
}

/**
 * V8 checks itself and now and then finds its own compiler at fault under software emulation, in code that has nothing to do
 * with what runs. Only that is run again: a crash of any other kind counts.
 */
function v8Aborted(out: string): boolean {
  const path = join(out, 'console.log');
  return existsSync(path) && /^# Fatal error in/m.test(readFileSync(path, 'utf8')) && /compiler::/.test(readFileSync(path, 'utf8'));
}

const pointsOf = (out: string): Point[] =>
  readdirSync(out)
    .filter((name) => name.endsWith('.tap'))
    .sort()
    .flatMap((name) => {
      const file = basename(name, '.tap');
      const points = readTap(readFileSync(join(out, name), 'utf8'));
      return file === 'result' ? points : points.map((point) => ({ ...point, name: `${file} > ${point.name}` }));
    });

export const reportOf = (results: readonly JobResult[]): string =>
  report(results.map(({ job, seconds: took, ...result }) => ({ ...result, name: job.name, seconds: took, log: 'console.log' })));

/** The results as one JSON document. */
export function jsonOf(results: readonly JobResult[]): unknown {
  const jobs = results.map(({ job, rc, verdict, reason, out, seconds: took, points }) => {
    const skipped = points.filter(({ status }) => status === 'skipped');
    return { name: job.name, command: [job.command], rc, verdict, reason, seconds: took, out, ...totalsOf(points), skips: skipped };
  });
  return { jobs, ...totalsOf(results.flatMap(({ points }) => points)), seconds: seconds() };
}
