/** `mpt conformance diff`: what changed between two JSON results of the suite. */
import { diffAsText, diffReports, readReport } from '../../conformance/index.js';
import { readJson } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { print, printJson } from '../terminal.js';

export interface DiffOptions {
  json?: boolean;
}

/** A result has about 100 bytes a case. */
const MAX_BYTES = 16 << 20;

/** @returns FAILED when a case fails that did not */
export function conformanceDiffCommand(before: string, after: string, { json }: DiffOptions): number {
  const [a, b] = [readReport(readJson(before, MAX_BYTES), before), readReport(readJson(after, MAX_BYTES), after)];
  const diff = diffReports(a, b);
  if (json === true) printJson(diff);
  else print(diffAsText(diff));
  return diff.regressions.length > 0 ? EXIT.FAILED : EXIT.OK;
}
