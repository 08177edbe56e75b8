/** `mpt conformance`: the suite against one backend. */
import { findBackend } from '../../backends/index.js';
import { type ConformanceReport, reportAsTap } from '../../conformance/index.js';
import { MptError } from '../../core/errors.js';
import { DeviceThread } from '../../device-thread/device-thread.js';
import type { ConformanceInput } from '../../jobs/conformance.js';
import { checkConfig, readConfig } from '../config.js';
import { EXIT } from '../exit-codes.js';
import { interruptible, Progress, print, printJson } from '../terminal.js';

export interface ConformanceOptions {
  backend: string;
  reporter: 'tap' | 'json';
  config?: string;
}

export async function conformanceCommand(filter: string | undefined, options: ConformanceOptions): Promise<number> {
  findBackend(options.backend);
  const config = options.config === undefined ? {} : await readConfig(options.config);
  if (config.options !== undefined && config.backend !== options.backend)
    await checkConfig({ backend: options.backend, options: config.options }, options.config ?? 'configuration');
  const input: ConformanceInput = { backend: options.backend, options: config.options ?? {}, filter: filter ?? '' };
  const progress = new Progress();
  const thread = new DeviceThread<ConformanceReport>(new URL('../../jobs/conformance.js', import.meta.url), input);
  thread.on('progress', (text) => progress.show(text));
  let report: ConformanceReport;
  try {
    report = await interruptible(
      () => void thread.stop(),
      () => thread.result,
    );
  } finally {
    progress.clear();
  }
  if (report.cases.length === 0) {
    const error = new MptError('INVALID_ARGUMENT', `no case id starts with '${filter ?? ''}'`, {
      op: 'conformance',
      hint: 'ids look like mpt/read-gpa/last-byte',
    });
    if (options.reporter === 'json') printJson(report);
    process.stderr.write(`mpt: NOTHING_RAN: ${error.message}\n`);
    return EXIT.NOTHING_RAN;
  }
  if (options.reporter === 'json') printJson(report);
  else print(reportAsTap(report));
  if (report.totals.fail > 0) return EXIT.FAILED;
  return report.totals.pass === 0 ? EXIT.NOTHING_RAN : EXIT.OK;
}
