/** `npm run lab:qemu [-- [OPTIONS] [COMMAND...]]`: real QEMU guests on our devices. README.md here. */
import { printJson } from '../../src/cli/terminal.js';
import { CHECKOUT, labMain, tellResults } from '../common/main.js';
import { outputFolder } from '../common/options.js';
import { reportOf } from '../common/report.js';
import { totalsOf } from '../common/tap.js';
import { runCommand } from './command.js';
import { type Options, parse } from './options.js';
import { jobsOf, runJobs } from './plan.js';
import { qemu, trees } from './trees.js';

async function runPlan(options: Options, out: string): Promise<number> {
  const { job, timeout, keep = false } = options;
  const reports = await runJobs(await trees(), jobsOf(job), {
    checkout: CHECKOUT,
    out,
    keep,
    ...(timeout === undefined ? {} : { timeoutS: timeout }),
  });
  const points = reports.flatMap((report) => report.points);
  return tellResults(points, options, { jobs: reports, ...totalsOf(points), out }, reportOf(reports));
}

await labMain('lab:qemu', parse, async (options) => {
  if (options.printQemu) {
    printJson(await qemu());
    return 0;
  }
  const out = outputFolder(CHECKOUT, 'lab-qemu', options.out);
  return options.command.length > 0 ? runCommand(await trees(), options, out) : runPlan(options, out);
});
