/** `npm run lab:qemu [-- [OPTIONS] [COMMAND...]]`: real QEMU guests on our devices. README.md here. */
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
import { qemu, trees } from './trees.js';

/** Two folders above build/labs/qemu. */
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

async function runPlan(options: Options, out: string): Promise<number> {
  const { job, timeout, keep = false, tap, json } = options;
  const reports = await runJobs(await trees(), jobsOf(job), {
    checkout: CHECKOUT,
    out,
    keep,
    ...(timeout === undefined ? {} : { timeoutS: timeout }),
  });
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
    if (options.printQemu) {
      printJson(await qemu());
      return 0;
    }
    const out = outputFolder(CHECKOUT, 'lab-qemu', options.out);
    return await (options.command.length > 0 ? runCommand(await trees(), options, out) : runPlan(options, out));
  } catch (error) {
    const { json, tap }: Asked = options ?? { json: args.includes('--json') };
    return noVerdict('lab:qemu', error, { json, tap });
  }
}

// What was started is killed, and what is temporary removed, by the exit handler in common/children.ts.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(EXIT.INTERRUPTED));
guardOutput();
process.exitCode = await main(process.argv.slice(2));
