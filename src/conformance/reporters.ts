/** A report as text. */
import type { CaseResult, ConformanceReport } from './run.js';

/** `#` begins a directive in TAP and `\` escapes it. */
const escapeTap = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('#', '\\#');

/** One case as a TAP 14 test line, with the reason of a failure as diagnostics below it. */
export function tapLine({ id, status, reason, ms }: CaseResult, number: number): string {
  if (status === 'skip') return `ok ${number} - ${id} # SKIP ${escapeTap(reason)}\n`;
  if (status === 'known') return `not ok ${number} - ${id} # TODO ${escapeTap(reason)}\n`;
  const time = ` # time=${ms}ms`;
  if (status === 'pass') return `ok ${number} - ${id}${time}\n`;
  return `not ok ${number} - ${id}${time}\n  ---\n  message: ${JSON.stringify(reason)}\n  ...\n`;
}

/** The report as TAP 14. */
export function reportAsTap({ backend, version, capabilities, cases, totals }: ConformanceReport): string {
  const head = `TAP version 14\n# ${escapeTap(`${backend} ${version}`.trim())}\n# declares ${JSON.stringify(capabilities)}\n1..${cases.length}\n`;
  const lines = cases.map((result, index) => tapLine(result, index + 1)).join('');
  return `${head}${lines}# pass ${totals.pass}\n# fail ${totals.fail}\n# skip ${totals.skip}\n${totals.known === undefined ? '' : `# known ${totals.known}\n`}`;
}

/** The report as one JSON document. */
export const reportAsJson = ({ backend, version, capabilities, cases, totals }: ConformanceReport): string =>
  `${JSON.stringify({ backend, version, capabilities, cases, totals })}\n`;

/** The reporters by the name that the command line uses. */
export const REPORTERS = { tap: reportAsTap, json: reportAsJson } as const satisfies Record<string, (report: ConformanceReport) => string>;
export type ReporterName = keyof typeof REPORTERS;
