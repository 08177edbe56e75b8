/** The command line. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parsed, secondsOption, usageOf } from '../common/options.js';
import { JOBS } from './plan.js';

export interface Options {
  /** To run under the stand-in; none: jobs. */
  readonly command: readonly string[];
  /** Jobs by name; none: the plan. */
  readonly job: readonly string[];
  /** Which devices COMMAND finds. */
  readonly abi: string;
  readonly vcpus?: string;
  readonly polling?: boolean;
  readonly fault: readonly string[];
  readonly verbose?: boolean;
  readonly out?: string;
  /** Limit of each job instead of its own. */
  readonly timeout?: number;
  readonly tap?: string;
  readonly json?: boolean;
  readonly printStandin?: boolean;
}

const names = (onlyByName: boolean): string =>
  JOBS.filter((job) => (job.onlyByName ?? false) === onlyByName)
    .map(({ name }) => name)
    .join(', ');

const HELP = `
Compiles a stand-in for ACRN (labs/acrn/standin, C) that answers the ioctls of /dev/acrn_hsm and /dev/acrn_vhm and runs guests with KVM,
and checks our backend under it. Without COMMAND it runs the plan: ${names(false)}. By name only: ${names(true) || 'none'}.
With COMMAND it runs that under the stand-in. One argument is a command line for sh, several are a program and its arguments.

Examples:
  npm run lab:acrn
  npm run lab:acrn -- --job standin
  npm run lab:acrn -- --abi vhm node build/src/cli/mpt.js backends
  npm run lab:acrn -- --fault 'fail inject_msi EINTR 3' 'node build/test/acrn/faults.test.js'
  npm run --silent lab:acrn -- --print-standin

Exit codes:
  0-125  that of COMMAND; jobs: 0, or 1 when anything failed
  2      wrong usage                    99   no verdict: the stand-in does not compile
  77     skipped: no /dev/kvm, gcc,     130  interrupted
         headers or root`;

/** @returns nothing when the help was asked for and is printed. @throws LabError USAGE */
export function parse(args: readonly string[]): Options | undefined {
  const several = (flags: string, text: string, one: (value: string) => string): Option =>
    new Option(flags, text).default([], 'none').argParser((value: string, earlier: readonly string[]) => [...earlier, one(value)]);
  const program = new Command('npm run lab:acrn --')
    .argument('[command...]', 'what to run under the stand-in')
    .addOption(several('--job <name>', 'run this job (may be repeated; default: the plan)', job))
    .addOption(new Option('--abi <which>', 'COMMAND: the devices that are there').choices(['hsm', 'vhm', 'both', 'none']).default('both'))
    .option('--vcpus <n>', 'COMMAND: vCPUs of a VM whose creator names no CPUs, 1 to 16')
    .option('--polling', 'COMMAND: requests ask for completion by polling')
    .addOption(several('--fault <line>', 'COMMAND: a fault from the start (may be repeated; labs/acrn/README.md)', (line) => line))
    .option('--verbose', 'COMMAND: tell each ioctl on stderr')
    .option('--out <dir>', 'folder for the files of the run: new or empty (default: a new one in build/lab-acrn)')
    .addOption(new Option('--timeout <s>', 'limit of each job in seconds (default: its own)').argParser(secondsOption))
    .option('--tap <file>', "jobs: write all results as one TAP file, with tap's closing summary")
    .option('--json', 'print one JSON document at the end, and nothing else')
    .option('--print-standin', 'compile the stand-in, print its path and do nothing else')
    .addHelpText('after', HELP)
    .passThroughOptions()
    .allowExcessArguments();
  if (!parsed(program, 'acrn', args)) return undefined;
  const options: Options = { ...program.opts<Omit<Options, 'command'>>(), command: program.args };
  const { command, tap } = options;
  if (command.length > 0 && options.job.length > 0) throw usage('a job has its command already');
  if (command.length > 0 && tap !== undefined) throw usage('--tap is for jobs');
  if (command.length === 1 && command[0]?.trim() === '') throw usage('the command is empty');
  if (options.printStandin && args.length > 1) throw usage('--print-standin stands alone');
  return { ...options, ...(options.out === undefined ? {} : { out: resolve(options.out) }) };
}

function job(name: string): string {
  if (!JOBS.some((known) => known.name === name))
    throw new InvalidArgumentError(`the jobs are ${JOBS.map((known) => known.name).join(', ')}.`);
  return name;
}

const usage = usageOf('acrn');
