/** `npm run lab:xen [-- [OPTIONS] [COMMAND...]]`: a command, or the plan, in dom0 of a real Xen. README.md here. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { guardOutput, print, printJson } from '../../src/cli/terminal.js';
import { EXIT } from '../common/lab-error.js';
import { type Asked, noVerdict } from '../common/no-verdict.js';
import { outputFolder } from '../common/options.js';
import { totalsOf, writeTap } from '../common/tap.js';
import { boot } from './boot.js';
import { checkInDom0 } from './folders.js';
import { type Options, parse } from './options.js';
import { PLAN } from './plan.js';
import { jsonOf, reportOf, runPlan } from './plan-run.js';
import { tell } from './progress.js';
import { cache, trees } from './trees.js';

/** Two folders above build/labs/xen. */
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');
const TIMEOUT_S = 600;

async function runCommand({ command, timeout, quiet, json }: Options, out: string): Promise<number> {
  const live = quiet === true || json === true ? undefined : (bytes: Buffer) => void process.stdout.write(bytes);
  const result = await boot(await trees(), {
    command,
    folder: CHECKOUT,
    out,
    timeoutS: timeout ?? TIMEOUT_S,
    tell,
    ...(live === undefined ? {} : { print: live }),
  });
  tell(`verdict: ${result.reason ?? 'the command ended with 0'}`);
  if (json) printJson({ command, ...result, out });
  return result.rc;
}

async function runJobs({ job: names, timeout, tap, json }: Options, out: string): Promise<number> {
  const jobs = PLAN.filter(({ name, onlyByName }) => (names.length === 0 ? onlyByName !== true : names.includes(name)));
  const limited = jobs.map((job) => ({ ...job, timeoutS: timeout ?? job.timeoutS }));
  const results = await runPlan(await trees(), limited, CHECKOUT, out);
  const points = results.flatMap((result) => result.points);
  if (tap !== undefined) writeFileSync(tap, writeTap(points));
  if (json) printJson(jsonOf(results));
  else print(reportOf(results));
  return totalsOf(points).failed > 0 ? EXIT.FAILED : 0;
}

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  let options: Options | undefined;
  try {
    options = parse(args);
    if (options === undefined) return 0;
    checkInDom0('the checkout', CHECKOUT);
    checkInDom0('the cache folder', cache.folder);
    if (options.out !== undefined) checkInDom0('the output folder', options.out);
    const out = outputFolder(CHECKOUT, 'lab-xen', options.out);
    return await (options.command.length > 0 ? runCommand(options, out) : runJobs(options, out));
  } catch (error) {
    const { json, tap, command = [] }: Asked = options ?? { json: args.includes('--json') };
    return noVerdict('lab:xen', error, { json, tap, command });
  }
}

// What was started is killed, and what is temporary removed, by the exit handler in children.ts.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(EXIT.INTERRUPTED));
guardOutput();
process.exitCode = await main(process.argv.slice(2));
