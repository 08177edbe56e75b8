/** `npm run lab:acrn [-- [OPTIONS] [COMMAND...]]`: our backend on a stand-in for ACRN. README.md here. */
import { print } from '../../src/cli/terminal.js';
import { CHECKOUT, labMain, tellResults } from '../common/main.js';
import { outputFolder } from '../common/options.js';
import { reportOf } from '../common/report.js';
import { totalsOf } from '../common/tap.js';
import { runCommand } from './command.js';
import { type Options, parse } from './options.js';
import { jobsOf, runJobs } from './plan.js';
import { standin } from './standin.js';

async function runPlan(options: Options, out: string): Promise<number> {
  const { job, timeout } = options;
  const program = await standin(CHECKOUT);
  const limit = timeout === undefined ? {} : { timeoutS: timeout };
  const reports = await runJobs(jobsOf(job), { standin: program, checkout: CHECKOUT, out, ...limit });
  const points = reports.flatMap((report) => report.points);
  return tellResults(points, options, { jobs: reports, ...totalsOf(points), out }, reportOf(reports));
}

await labMain('lab:acrn', parse, async (options) => {
  if (options.printStandin) {
    print(await standin(CHECKOUT));
    return 0;
  }
  const out = outputFolder(CHECKOUT, 'lab-acrn', options.out);
  return options.command.length > 0 ? runCommand(await standin(CHECKOUT), options, out) : runPlan(options, out);
});
