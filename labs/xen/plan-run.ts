/** Runs jobs of the plan, two boots at a time, and sums up what they found. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, join } from 'node:path';
import { boot, type Result } from './boot.js';
import type { PlanJob } from './plan.js';
import { seconds, tellOf } from './progress.js';
import { type Point, readTap, STATUSES, type Totals, totalsOf } from './tap.js';
import type { Trees } from './trees.js';

/** Each emulated machine keeps one core busy. */
const AT_A_TIME = 2;
/** Lines of a failed job's console, and failures, that are shown. */
const CONSOLE_LINES = 30;
const FAILURES_SHOWN = 50;

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

export function reportOf(results: readonly JobResult[]): string {
  const points = results.flatMap((result) => result.points);
  return [...failures(results, points), ...skips(points), '', ...table(results), '', totalsLine(totalsOf(points))].join('\n');
}

export const totalsLine = (totals: Totals): string => STATUSES.map((status) => `${totals[status]} ${status}`).join(', ');

function table(results: readonly JobResult[]): string[] {
  const rows = results.map(({ job, seconds: took, points, reason = '' }) => {
    const totals = totalsOf(points);
    return [job.name.padEnd(16), ...[took.toFixed(1), ...STATUSES.map((status) => totals[status])].map(cell), `  ${reason}`].join('');
  });
  return [['job'.padEnd(16), ...['seconds', ...STATUSES].map(cell)].join(''), ...rows.map((row) => row.trimEnd())];
}

const cell = (value: string | number): string => String(value).padStart(9);

function failures(results: readonly JobResult[], points: readonly Point[]): string[] {
  const failed = points.filter(({ status }) => status === 'failed').map(({ name }) => `failed: ${name}`);
  const shown = failed.slice(0, FAILURES_SHOWN);
  if (failed.length > shown.length) shown.push(`failed: ${failed.length - shown.length} more`);
  const consoles = results
    .filter((result) => result.points.some(({ status }) => status === 'failed'))
    .flatMap(({ job, out }) => {
      const path = join(out, 'console.log');
      const text = existsSync(path) ? readFileSync(path, 'utf8').trimEnd() : '';
      const lines = text === '' ? ['(empty)'] : text.split('\n').slice(-CONSOLE_LINES);
      return [`-- ${job.name}: files in ${out}, end of console.log:`, ...lines, ''];
    });
  return [...consoles, ...shown];
}

function skips(points: readonly Point[]): string[] {
  const byReason = new Map<string, string[]>();
  for (const { name, status, reason = '' } of points)
    if (status === 'skipped') byReason.set(reason, [...(byReason.get(reason) ?? []), name]);
  return [...byReason].map(([reason, [first, ...others]]) => {
    const more = others.length > 0 ? ` and ${others.length} more` : '';
    return `skipped: ${reason} [${first}${more}]`;
  });
}

/** The results as one JSON document. */
export function jsonOf(results: readonly JobResult[]): unknown {
  const jobs = results.map(({ job, rc, verdict, reason, out, seconds: took, points }) => {
    const skipped = points.filter(({ status }) => status === 'skipped');
    return { name: job.name, command: [job.command], rc, verdict, reason, seconds: took, out, ...totalsOf(points), skips: skipped };
  });
  return { jobs, ...totalsOf(results.flatMap(({ points }) => points)), seconds: seconds() };
}
