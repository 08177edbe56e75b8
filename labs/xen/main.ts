/** `npm run lab:xen [-- [OPTIONS] [COMMAND...]]`: a command, or the plan, in dom0 of a real Xen. README.md here. */
import { printJson } from '../../src/cli/terminal.js';
import { CHECKOUT, labMain, tellResults } from '../common/main.js';
import { outputFolder } from '../common/options.js';
import { boot } from './boot.js';
import { checkInDom0 } from './folders.js';
import { type Options, parse } from './options.js';
import { PLAN } from './plan.js';
import { jsonOf, reportOf, runPlan } from './plan-run.js';
import { tell } from './progress.js';
import { cache, trees } from './trees.js';

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

async function runJobs(options: Options, out: string): Promise<number> {
  const { job: names, timeout } = options;
  const jobs = PLAN.filter(({ name, onlyByName }) => (names.length === 0 ? onlyByName !== true : names.includes(name)));
  const limited = jobs.map((job) => ({ ...job, timeoutS: timeout ?? job.timeoutS }));
  const results = await runPlan(await trees(), limited, CHECKOUT, out);
  return tellResults(
    results.flatMap((result) => result.points),
    options,
    jsonOf(results),
    reportOf(results),
  );
}

await labMain('lab:xen', parse, async (options) => {
  checkInDom0('the checkout', CHECKOUT);
  checkInDom0('the cache folder', cache.folder);
  if (options.out !== undefined) checkInDom0('the output folder', options.out);
  const out = outputFolder(CHECKOUT, 'lab-xen', options.out);
  return options.command.length > 0 ? runCommand(options, out) : runJobs(options, out);
});
