/** `mpt conformance`: the suite against one backend, or the list of its cases. */
import { resolve } from 'node:path';
import { findBackend } from '../../backends/index.js';
import {
  applyExpectations,
  CASE_TIMEOUT_MS,
  type ConformanceReport,
  readExpectations,
  reportAsTap,
  selectCases,
} from '../../conformance/index.js';
import { MptError } from '../../core/errors.js';
import { DeviceThread } from '../../device-thread/device-thread.js';
import type { ConformanceInput } from '../../jobs/conformance.js';
import { checkConfig, readConfig, readJson } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { checkWritable } from '../files.js';
import { interruptible, Progress, print, printJson } from '../terminal.js';

export interface ConformanceOptions {
  /** Absent only with `list`. */
  backend?: string;
  reporter: 'tap' | 'json';
  config?: string;
  /** File of known failures. */
  expect?: string;
  /** Milliseconds that a case may take. */
  caseTimeout?: number;
  list?: boolean;
  record?: string;
}

/** Milliseconds beyond its limit after which a case that does not come back is given up: the device thread is stopped. */
const GRACE_MS = 5000;

export async function conformanceCommand(filter: string | undefined, options: ConformanceOptions, version: string): Promise<number> {
  if (options.list === true) return listCases(filter, options.reporter);
  const { backend = '' } = options;
  findBackend(backend);
  const config = options.config === undefined ? {} : await readConfig(options.config);
  if (config.options !== undefined && config.backend !== backend)
    await checkConfig({ backend, options: config.options }, options.config ?? 'configuration');
  const expectations = options.expect === undefined ? undefined : readExpectations(readJson(options.expect));
  const limit = options.caseTimeout === undefined ? {} : { caseTimeoutMs: options.caseTimeout };
  if (options.record !== undefined) checkWritable(options.record, 'record');
  const record = options.record === undefined ? {} : { record: resolve(options.record) };
  const found = await run({ backend, options: config.options ?? {}, filter: filter ?? '', ...limit, ...record });
  const report = expectations === undefined ? found : applyExpectations(found, expectations);
  // The versions first: a result is compared with others long after it was made.
  if (options.reporter === 'json') printJson({ mpt: version, node: process.version, ...report });
  if (report.cases.length === 0) return nothingMatches(filter);
  if (options.reporter !== 'json') print(reportAsTap(report));
  if (report.totals.fail > 0) return EXIT.FAILED;
  return report.totals.pass === 0 ? EXIT.NOTHING_RAN : EXIT.OK;
}

function listCases(filter: string | undefined, reporter: ConformanceOptions['reporter']): number {
  const cases = selectCases(filter).map(({ id, rule, operations, needs = [], level }) => ({ id, rule, operations, needs, level }));
  if (reporter === 'json') printJson(cases);
  if (cases.length === 0) return nothingMatches(filter);
  if (reporter !== 'json') print(cases.map(({ id, rule }) => `${id}: ${rule}`).join('\n'));
  return EXIT.OK;
}

function nothingMatches(filter: string | undefined): number {
  const error = new MptError('INVALID_ARGUMENT', `no case id starts with '${filter ?? ''}'`, {
    op: 'conformance',
    hint: 'ids look like mpt/read-gpa/zero-length; see --list',
  });
  process.stderr.write(`mpt: NOTHING_RAN: ${error.message}\n`);
  return EXIT.NOTHING_RAN;
}

/** Runs the suite on a device thread, which is stopped when a case does not come back. */
async function run(input: ConformanceInput): Promise<ConformanceReport> {
  const ids = selectCases(input.filter).map(({ id }) => id);
  const limit = input.caseTimeoutMs ?? CASE_TIMEOUT_MS;
  const progress = new Progress();
  const thread = new DeviceThread<ConformanceReport>(new URL('../../jobs/conformance.js', import.meta.url), input);
  let done = 0;
  let late = false;
  const giveUp = (): void => {
    late = true;
    void thread.stop();
  };
  let timer = setTimeout(giveUp, limit + GRACE_MS);
  thread.on('progress', (text) => {
    done++;
    clearTimeout(timer);
    timer = setTimeout(giveUp, limit + GRACE_MS);
    progress.show(text);
  });
  try {
    return await interruptible(
      () => void thread.stop(),
      () => thread.result,
    );
  } catch (error) {
    if (!late) throw error;
    throw new MptError('TIMEOUT', `the case ${ids[done] ?? 'before the first'} did not come back`, {
      op: 'conformance',
      limit,
      hint: 'milliseconds; see --case-timeout',
      cause: error,
    });
  } finally {
    clearTimeout(timer);
    progress.clear();
  }
}
