/** The command line. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parsed, secondsOption, usageOf } from '../common/options.js';
import { PLAN } from './plan.js';

export interface Options {
  /** Program and arguments; none: the plan. */
  readonly command: readonly string[];
  /** Jobs of the plan, by name; none: all. */
  readonly job: readonly string[];
  readonly out?: string;
  /** Limit of the command, or of each job instead of its own. */
  readonly timeout?: number;
  readonly tap?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

const named = (only: boolean): string =>
  PLAN.filter(({ onlyByName }) => (onlyByName === true) === only)
    .map(({ name }) => name)
    .join(', ');

const HELP = `
Boots Xen 4.17 in QEMU with a Debian dom0 whose root is this machine's file system, and runs COMMAND there, in this checkout.
Without COMMAND it runs the plan: ${named(false)}. By name only: ${named(true)}.
One argument is a command line for bash, several are a program and its arguments.

In dom0: MPT_LAB=xen, MPT_LAB_OUT (a folder that stays), MPT_LAB_TREE (the unpacked Xen packages: headers, libraries, tools).
Packages are kept in $MPT_LAB_CACHE, or in the user's cache folder.

Examples:
  npm run lab:xen
  npm run lab:xen -- --job picture
  npm run lab:xen -- xl list
  npm run lab:xen -- 'xl info && cp /proc/xen/capabilities $MPT_LAB_OUT'
  npm run lab:xen -- --timeout 60 node build/test/xen/abi.test.js

Exit codes:
  0-125  that of COMMAND (125 also stands for all above); the plan: 0, or 1 when anything failed
  2      wrong usage                    99   no verdict: Xen or dom0 died
  77     skipped: Debian cannot be      124  COMMAND did not end in time
         reached, nothing was tested    130  interrupted`;

/** @returns nothing when the help was asked for and is printed. @throws LabError USAGE */
export function parse(args: readonly string[]): Options | undefined {
  const program = new Command('npm run lab:xen --')
    .argument('[command...]', 'what to run in dom0')
    .addOption(new Option('--job <name>', 'run this job of the plan (may be repeated)').default([], 'all').argParser(job))
    .option('--out <dir>', 'folder for the files of the run: new or empty (default: a new one in build/lab-xen)')
    .addOption(new Option('--timeout <s>', 'limit in seconds (default: 600, in the plan that of each job)').argParser(secondsOption))
    .option('--tap <file>', "the plan: write all results as one TAP file, with tap's closing summary")
    .option('--quiet', 'do not print what COMMAND prints')
    .option('--json', 'print one JSON document at the end, and nothing else')
    .addHelpText('after', HELP)
    .passThroughOptions()
    .allowExcessArguments();
  if (!parsed(program, 'xen', args)) return undefined;
  const options: Options = { ...program.opts<Omit<Options, 'command'>>(), command: program.args };
  if (options.command.length > 0 && options.job.length > 0) throw usage('a job of the plan has its command already');
  if (options.command.length > 0 && options.tap !== undefined) throw usage('--tap is for the plan');
  if (options.command.length === 1 && options.command[0]?.trim() === '') throw usage('the command is empty');
  return { ...options, ...(options.out === undefined ? {} : { out: resolve(options.out) }) };
}

function job(name: string, earlier: readonly string[]): string[] {
  if (!PLAN.some((known) => known.name === name))
    throw new InvalidArgumentError(`the jobs are ${PLAN.map((known) => known.name).join(', ')}.`);
  return [...earlier, name];
}

const usage = usageOf('xen');
