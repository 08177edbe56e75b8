/** What changed between two results of the suite: of two versions, two machines or two backends. */
import { MptError } from '../core/errors.js';
import type { CaseResult, CaseStatus, ConformanceReport } from './run.js';

export interface CaseChange {
  readonly id: string;
  readonly from: CaseStatus | 'absent';
  readonly to: CaseStatus | 'absent';
  /** Reason in the result that is worse, or the newer one. */
  readonly reason: string;
}

export interface ReportDiff {
  /** Fail now, and did not: passed, were skipped, were known or did not exist. */
  readonly regressions: readonly CaseChange[];
  /** Pass now, and failed or were known failures. */
  readonly fixed: readonly CaseChange[];
  /** Did not exist, and do not fail. */
  readonly added: readonly CaseChange[];
  /** Do not exist any more. */
  readonly gone: readonly CaseChange[];
  /** Every other change, such as a case that is skipped now. */
  readonly changed: readonly CaseChange[];
}

type Kind = keyof ReportDiff;

const kindOf = (from: CaseChange['from'], to: CaseChange['to']): Kind | undefined => {
  if (from === to) return undefined;
  if (to === 'fail') return 'regressions';
  if (from === 'absent') return 'added';
  if (to === 'absent') return 'gone';
  return to === 'pass' && (from === 'fail' || from === 'known') ? 'fixed' : 'changed';
};

/** Compares by id; ids never change their meaning. */
export function diffReports(before: ConformanceReport, after: ConformanceReport): ReportDiff {
  const byId = (report: ConformanceReport): Map<string, CaseResult> => new Map(report.cases.map((result) => [result.id, result]));
  const [old, now] = [byId(before), byId(after)];
  const diff: Record<Kind, CaseChange[]> = { regressions: [], fixed: [], added: [], gone: [], changed: [] };
  for (const id of new Set([...old.keys(), ...now.keys()])) {
    const from = old.get(id)?.status ?? 'absent';
    const to = now.get(id)?.status ?? 'absent';
    const kind = kindOf(from, to);
    if (kind !== undefined) diff[kind].push({ id, from, to, reason: now.get(id)?.reason || old.get(id)?.reason || '' });
  }
  return diff;
}

const STATUSES: readonly unknown[] = ['pass', 'fail', 'skip', 'known'] satisfies CaseStatus[];

/** A result of `--reporter json`. @param name of the document, for the error. @throws MptError BAD_CONFIG */
export function readReport(document: unknown, name: string): ConformanceReport {
  const report = document as ConformanceReport | null;
  const ok =
    typeof report === 'object' &&
    report !== null &&
    Array.isArray(report.cases) &&
    report.cases.every((result: CaseResult | null) => typeof result?.id === 'string' && STATUSES.includes(result.status));
  if (!ok)
    throw new MptError('BAD_CONFIG', `${name} is no result of the conformance suite`, {
      op: 'conformance_diff',
      hint: 'make one with: mpt conformance --backend NAME --reporter json',
    });
  return report as ConformanceReport;
}

const HEADS: readonly (readonly [Kind, string])[] = [
  ['regressions', 'regressions'],
  ['fixed', 'fixed'],
  ['added', 'new'],
  ['gone', 'gone'],
  ['changed', 'changed'],
];

/** The changes for people: one line each, under a heading with their number. */
export const diffAsText = (diff: ReportDiff): string =>
  HEADS.map(([kind, head]) => {
    const lines = diff[kind].map(({ id, from, to, reason }) => `  ${id}: ${from} -> ${to}${reason === '' ? '' : `: ${reason}`}\n`);
    return `${head}: ${diff[kind].length}\n${lines.join('')}`;
  }).join('');
