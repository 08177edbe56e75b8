/** The command line of the daemon and of those who talk to it. */
import { Argument, type Command, Option } from 'commander';
import type { DaemonOptions } from './commands/daemon.js';
import type { AskOptions, CreateOptions } from './commands/vgpus.js';
import { completionScript, completions, SHELLS } from './completion.js';
import { EXIT } from './exit-codes.js';
import { print } from './terminal.js';

type Act = (json: boolean, body: () => number | Promise<number>) => Promise<void>;

const RUNTIME = ['--runtime <folder>', "the daemon's folder (default: MPT_RUNTIME, /run/mpt for root, else $XDG_RUNTIME_DIR/mpt)"] as const;
const JSON_OPTION = ['--json', 'print one JSON document'] as const;

const collect = (word: string, before: string[] = []): string[] => [...before, word];

export function addDaemonCommands(program: Command, act: Act): void {
  // Loaded when they are used: most commands need no server.
  const daemon = () => import('./commands/daemon.js');
  const vgpus = () => import('./commands/vgpus.js');

  program
    .command('daemon')
    .description('own the vGPUs of this host, until a signal: GPUs, types, sockets for QEMU, the management tree')
    .option('--config <file>', 'JSON configuration: GPUs, vGPUs, sockets, tree, metrics (default: one GPU of each driver)')
    .option('--mount <dir>', 'mount the management tree on this folder')
    .option(...RUNTIME)
    .addOption(new Option('--log <format>', 'form of the log on stderr (default: text)').choices(['text', 'json']))
    .option('--json', 'print one JSON document when it is ready')
    .addHelpText('after', '\nExample:\n  mpt daemon --config /etc/mpt.json --mount /run/mpt/sys')
    .action((options: DaemonOptions) => act(options.json === true, async () => (await daemon()).daemonCommand(options)));

  program
    .command('types')
    .description('vGPU types of the daemon, and how many more of each there can be')
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt types')
    .action((options: AskOptions) => act(options.json === true, async () => (await vgpus()).typesCommand(options)));

  program
    .command('list')
    .description('vGPUs of the daemon')
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt list --json')
    .action((options: AskOptions) => act(options.json === true, async () => (await vgpus()).listCommand(options)));

  program
    .command('create')
    .description('create a vGPU; prints its UUID')
    .argument('<type>', 'as mpt types lists it')
    .option('--uuid <uuid>', 'its UUID (default: a new one)')
    .option('--gpu <name>', 'GPU (default: the first with room)')
    .option(
      '--set <name=value>',
      'a setting: weight, priority, group, vm, online, foreground; of i915: aperture, hidden, fences, resolution, display, trace, trace-limit',
      collect,
    )
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt create i915-GVTg_V4_8 --set weight=4 --set group=vm1')
    .action((type: string, options: CreateOptions) => act(options.json === true, async () => (await vgpus()).createCommand(type, options)));

  program
    .command('remove')
    .description('remove a vGPU; refused while a VM uses it, unless its GPU can unplug')
    .argument('<uuid>')
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt remove 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001')
    .action((uuid: string, options: AskOptions) => act(options.json === true, async () => (await vgpus()).removeCommand(uuid, options)));

  program
    .command('show')
    .description('everything about one vGPU: state, socket, resources, statistics')
    .argument('<uuid>')
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt show 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 --json')
    .action((uuid: string, options: AskOptions) => act(options.json === true, async () => (await vgpus()).showCommand(uuid, options)));

  program
    .command('set')
    .description('change settings of a vGPU: weight, priority, group, online, foreground')
    .argument('<uuid>')
    .argument('<name=value...>')
    .option(...RUNTIME)
    .option(...JSON_OPTION)
    .addHelpText('after', '\nExample:\n  mpt set 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 weight=8 priority=-5')
    .action((uuid: string, words: string[], options: AskOptions) =>
      act(options.json === true, async () => (await vgpus()).setCommand(uuid, words, options)),
    );

  program
    .command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .addHelpText('after', '\nExample:\n  mpt completion bash > /etc/bash_completion.d/mpt')
    .action((shell: string) => act(false, () => printed(completionScript(shell))));

  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .action((words: string[]) => act(false, async () => printed((await completions(program, words)).join('\n'))));
}

const printed = (text: string): number => {
  if (text !== '') print(text);
  return EXIT.OK;
};
