/**
 * The conformance suite: the MPT contract as cases that any backend can be run against.
 *
 * ```ts
 * import { runConformance, reportAsTap } from 'mediated-passthrough/conformance';
 * process.stdout.write(reportAsTap(runConformance({ name: 'mine', open: () => new MyBackend() })));
 * ```
 */
export { type NodeTest, nodeTestSuite, type TapTest, tapSuite } from './adapters.js';
export { type CaseSpec, type ConformanceCase, type GroupDefaults, group } from './case.js';
export { CASES } from './cases/index.js';
export { type AttachOptions, type BackendFactory, CASE_TIMEOUT_MS, CaseContext, type OpenOptions } from './context.js';
export { type CaseChange, diffAsText, diffReports, type ReportDiff, readReport } from './diff.js';
export { CheckFailed, type ErrorFields, equal, ok, pattern, refuses, sameBytes } from './expect.js';
export { applyExpectations, type Expectations, readExpectations } from './expectations.js';
export { HOLE, RAM_HIGH, RAM_ISLAND, RAM_LAYOUT, RAM_LOW, RAM_NEXT } from './layout.js';
export { type Access, Recorder } from './recorder.js';
export { REPORTERS, type ReporterName, reportAsJson, reportAsTap, tapLine } from './reporters.js';
export {
  type BackendFacts,
  type CaseResult,
  type CaseStatus,
  type ConformanceOptions,
  type ConformanceReport,
  readFacts,
  runCase,
  runConformance,
  selectCases,
} from './run.js';
