/** Known failures: cases that a backend is known to fail, each with its reason, so that only surprises fail the run. */
import { MptError } from '../core/errors.js';
import { CASES } from './cases/index.js';
import type { CaseResult, ConformanceReport } from './run.js';

/** Reasons by the id of the case. */
export type Expectations = Readonly<Record<string, string>>;

const refuse = (what: string, hint: string): MptError => new MptError('BAD_CONFIG', what, { op: 'conformance', hint });

/**
 * Checks a document `{ "mpt/<group>/<name>": "<why it fails>" }`.
 * @throws MptError BAD_CONFIG: no such object, an id that no case has, a reason that is no text
 */
export function readExpectations(document: unknown, known: ReadonlySet<string> = new Set(CASES.map(({ id }) => id))): Expectations {
  if (document === null || typeof document !== 'object' || Array.isArray(document))
    throw refuse('the expectations are no JSON object', 'it maps ids of cases to reasons');
  for (const [id, reason] of Object.entries(document)) {
    if (!known.has(id)) throw refuse(`the expectations name '${id}', which is no case`, 'see: mpt conformance --list');
    if (typeof reason !== 'string' || reason.trim() === '') throw refuse(`the expectation of '${id}' has no reason`, 'say why it fails');
  }
  return document as Expectations;
}

/** A known failure becomes `known`; a case that passes although it is said to fail becomes a failure. Skips stay. */
export function expectedResult(result: CaseResult, expectations: Expectations): CaseResult {
  const why = Object.hasOwn(expectations, result.id) ? expectations[result.id] : undefined;
  if (why === undefined || result.status === 'skip') return result;
  if (result.status === 'fail') return { ...result, status: 'known', reason: `${why} (${result.reason})` };
  return { ...result, status: 'fail', reason: `it passes, but the expectations say that it fails: ${why}` };
}

/** The report with what was expected taken into account. */
export function applyExpectations(report: ConformanceReport, expectations: Expectations): ConformanceReport {
  const cases = report.cases.map((result) => expectedResult(result, expectations));
  const count = (status: string): number => cases.filter((result) => result.status === status).length;
  return { ...report, cases, totals: { pass: count('pass'), fail: count('fail'), skip: count('skip'), known: count('known') } };
}
