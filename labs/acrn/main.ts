/** `npm run lab:acrn [-- [OPTIONS] [COMMAND...]]`: our backend on a stand-in for ACRN. README.md here. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { guardOutput, print, printJson } from '../../src/cli/terminal.js';
import { EXIT } from '../common/lab-error.js';
import { type Asked, noVerdict } from '../common/no-verdict.js';
import { outputFolder } from '../common/options.js';
import { reportOf } from '../common/report.js';
import { totalsOf, writeTap } from '../common/tap.js';
import { runCommand } from './command.js';
import { type Options, parse } from './options.js';
import { jobsOf, runJobs } from './plan.js';
import { standin } from './standin.js';

/** Two folders above build/labs/acrn. */
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

async function runPlan({ job, timeout, tap, json }: Options, out: string): Promise<number> {
  const program = await standin(CHECKOUT);
  const limit = timeout === undefined ? {} : { timeoutS: timeout };
  const reports = await runJobs(jobsOf(job), { standin: program, checkout: CHECKOUT, out, ...limit });
  const points = reports.flatMap((report) => report.points);
  if (tap !== undefined) writeFileSync(tap, writeTap(points));
  if (json) printJson({ jobs: reports, ...totalsOf(points), out });
  else print(reportOf(reports));
  return totalsOf(points).failed > 0 ? EXIT.FAILED : 0;
}

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  let options: Options | undefined;
  try {
    options = parse(args);
    if (options === undefined) return 0;
    if (options.printStandin) {
      print(await standin(CHECKOUT));
      return 0;
    }
    const out = outputFolder(CHECKOUT, 'lab-acrn', options.out);
    return await (options.command.length > 0 ? runCommand(await standin(CHECKOUT), options, out) : runPlan(options, out));
  } catch (error) {
    const { json, tap }: Asked = options ?? { json: args.includes('--json') };
    return noVerdict('lab:acrn', error, { json, tap });
  }
}

// What was started is killed by the exit handler in common/children.ts.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(EXIT.INTERRUPTED));
guardOutput();
process.exitCode = await main(process.argv.slice(2));
