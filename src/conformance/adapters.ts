/** The suite inside a test runner. The runner is an argument: nothing of it is imported here. */
import { type ConformanceOptions, type ConformanceReport, readFacts, runCase, runConformance, selectCases } from './run.js';

/** What is used of a tap test (`t` of `import t from 'tap'`). */
export interface TapTest {
  pass(...args: [message: string] | [message: string, extra: { skip: string }]): unknown;
  fail(...args: [message: string] | [message: string, extra: { rule?: string | undefined }]): unknown;
}

/** Runs the suite as assertions of a tap test, skips with their reason. */
export function tapSuite(t: TapTest, options: ConformanceOptions): ConformanceReport {
  const rules = new Map(selectCases(options.filter, options.cases).map((test) => [test.id, test.rule]));
  const { onResult } = options;
  const report = runConformance({
    ...options,
    open: (extra) => options.open(extra),
    onResult(result, done, total) {
      const { id, status, reason } = result;
      if (status === 'fail') t.fail(`${id}: ${reason}`, { rule: rules.get(id) });
      else if (status === 'skip') t.pass(id, { skip: reason });
      else t.pass(id);
      onResult?.(result, done, total);
    },
  });
  if (report.cases.length === 0) t.fail(`no conformance case has an id that begins with '${options.filter}'`);
  return report;
}

/** What is used of `test` of `node:test`. */
export type NodeTest = (name: string, run: (t: { skip(message?: string): void }) => void) => unknown;

/**
 * Registers each case as a test of `node:test`, skips with their reason.
 * @returns how many were registered
 */
export function nodeTestSuite(test: NodeTest, options: ConformanceOptions): number {
  const facts = readFacts(options);
  const cases = selectCases(options.filter, options.cases);
  cases.forEach((item, index) => {
    test(item.id, (t) => {
      const result = runCase(item, options, facts);
      options.onResult?.(result, index + 1, cases.length);
      if (result.status === 'skip') t.skip(result.reason);
      if (result.status === 'fail') throw new Error(`${result.reason} (rule: ${item.rule})`);
    });
  });
  return cases.length;
}
