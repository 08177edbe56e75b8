/** The command line. */
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parsed, secondsOption, usageOf } from '../common/options.js';
import { MODULES } from './packages.js';
import { JOBS } from './plan.js';

export interface Options {
  /** For the guest's shell; none: jobs. */
  readonly command: readonly string[];
  /** Jobs by name; none: the plan. */
  readonly job: readonly string[];
  /** Sockets of the servers whose devices the guest gets. */
  readonly attach: readonly string[];
  readonly module: readonly string[];
  readonly out?: string;
  /** Limit of the command's boot, or of each boot of a job instead of its own. */
  readonly timeout?: number;
  readonly tap?: string;
  readonly keep?: boolean;
  readonly json?: boolean;
  readonly printQemu?: boolean;
}

const HELP = `
Boots Debian's kernel 6.1 in QEMU 11.1 with devices that 'mpt serve' serves over vfio-user, and checks what the guest makes of them.
Without COMMAND it runs the plan: ${names(false)}. By name only: ${names(true)}.
With COMMAND it boots one guest, with the devices of --attach, and runs that in its shell (busybox; lspci is there).

Packages are kept in $MPT_LAB_CACHE, or in the user's cache folder.

Examples:
  npm run lab:qemu
  npm run lab:qemu -- --job bochs
  npm run lab:qemu -- lspci -nn
  npm run lab:qemu -- --attach /tmp/vgpu.sock --module i915 'dmesg | grep i915'
  npm run --silent lab:qemu -- --print-qemu

Exit codes:
  0-125  that of COMMAND; jobs: 0, or 1 when anything failed
  2      wrong usage                    99   no verdict: the guest died or did not come up
  77     skipped: Debian cannot be      124  COMMAND did not end in time
         reached, nothing was tested    130  interrupted`;

function names(onlyByName: boolean): string {
  return JOBS.filter((job) => (job.onlyByName ?? false) === onlyByName)
    .map(({ name }) => name)
    .join(', ');
}

/** @returns nothing when the help was asked for and is printed. @throws LabError USAGE */
export function parse(args: readonly string[]): Options | undefined {
  const several = (flags: string, text: string, one: (value: string) => string): Option =>
    new Option(flags, text).default([], 'none').argParser((value: string, earlier: readonly string[]) => [...earlier, one(value)]);
  const program = new Command('npm run lab:qemu --')
    .argument('[command...]', "what to run in the guest's shell")
    .addOption(several('--job <name>', 'run this job (may be repeated; default: the plan)', job))
    .addOption(several('--attach <socket>', 'COMMAND: a device whose server listens there (may be repeated)', (path) => resolve(path)))
    .addOption(several('--module <name>', `COMMAND: a kernel module to load first (${MODULES.join(', ')})`, kernelModule))
    .option('--out <dir>', 'folder for the files of the run: new or empty (default: a new one in build/lab-qemu)')
    .addOption(new Option('--timeout <s>', 'limit of a boot in seconds (default: 300, in a job its own)').argParser(secondsOption))
    .option('--tap <file>', "jobs: write all results as one TAP file, with tap's closing summary")
    .option('--keep', 'keep each initramfs, so that the line in qemu.txt boots the same again')
    .option('--json', 'print one JSON document at the end, and nothing else')
    .option('--print-qemu', 'print how to start the fetched QEMU, as one JSON document {command, env}, and do nothing else')
    .addHelpText('after', HELP)
    .passThroughOptions()
    .allowExcessArguments();
  if (!parsed(program, 'qemu', args)) return undefined;
  const options: Options = { ...program.opts<Omit<Options, 'command'>>(), command: program.args };
  const { command, tap, attach, module, printQemu } = options;
  if (command.length > 0 && options.job.length > 0) throw usage('a job has its command already');
  if (command.length > 0 && tap !== undefined) throw usage('--tap is for jobs');
  if (command.length === 0 && (attach.length > 0 || module.length > 0)) throw usage('--attach and --module are for a COMMAND');
  if (command.length === 1 && command[0]?.trim() === '') throw usage('the command is empty');
  if (printQemu && args.length > 1) throw usage('--print-qemu stands alone');
  return { ...options, ...(options.out === undefined ? {} : { out: resolve(options.out) }) };
}

function job(name: string): string {
  if (!JOBS.some((known) => known.name === name))
    throw new InvalidArgumentError(`the jobs are ${JOBS.map((known) => known.name).join(', ')}.`);
  return name;
}

function kernelModule(name: string): string {
  if (!MODULES.some((known) => known === name)) throw new InvalidArgumentError(`the modules are ${MODULES.join(', ')}.`);
  return name;
}

const usage = usageOf('qemu');
