/** What a plan's jobs found, for people to read. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Point, STATUSES, type Totals, totalsOf } from './tap.js';

/** Lines of a failed job's log, and failures, that are shown. */
const LOG_LINES = 30;
const FAILURES_SHOWN = 50;

export interface JobReport {
  readonly name: string;
  readonly seconds: number;
  readonly points: readonly Point[];
  /** How it ended, in one line, when that was not well. */
  readonly reason?: string;
  /** Folder of its files. */
  readonly out: string;
  /** The file there whose end tells most of a failure. */
  readonly log: string;
}

export function reportOf(jobs: readonly JobReport[]): string {
  const points = jobs.flatMap((job) => job.points);
  return [...failures(jobs, points), ...skips(points), '', ...table(jobs), '', totalsLine(totalsOf(points))].join('\n');
}

const totalsLine = (totals: Totals): string => STATUSES.map((status) => `${totals[status]} ${status}`).join(', ');

function table(jobs: readonly JobReport[]): string[] {
  const rows = jobs.map(({ name, seconds, points, reason = '' }) => {
    const totals = totalsOf(points);
    return [name.padEnd(16), ...[seconds.toFixed(1), ...STATUSES.map((status) => totals[status])].map(cell), `  ${reason}`].join('');
  });
  return [['job'.padEnd(16), ...['seconds', ...STATUSES].map(cell)].join(''), ...rows.map((row) => row.trimEnd())];
}

const cell = (value: string | number): string => String(value).padStart(9);

function failures(jobs: readonly JobReport[], points: readonly Point[]): string[] {
  const failed = points.filter(({ status }) => status === 'failed').map(({ name }) => `failed: ${name}`);
  const shown = failed.slice(0, FAILURES_SHOWN);
  if (failed.length > shown.length) shown.push(`failed: ${failed.length - shown.length} more`);
  const logs = jobs
    .filter((job) => job.points.some(({ status }) => status === 'failed'))
    .flatMap(({ name, out, log }) => {
      const path = join(out, log);
      const text = existsSync(path) ? readFileSync(path, 'utf8').trimEnd() : '';
      const lines = text === '' ? ['(empty)'] : text.split('\n').slice(-LOG_LINES);
      return [`-- ${name}: files in ${out}, end of ${log}:`, ...lines, ''];
    });
  return [...logs, ...shown];
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
