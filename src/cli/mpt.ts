#!/usr/bin/env node
/** The `mpt` command: parses the command line, calls a command, turns its outcome into an exit code. */
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { CONNECTORS } from '../core/gvt/display/connector.js';
import { SERVED_DEVICES } from '../jobs/served-devices.js';
import type { ConformanceOptions } from './commands/conformance.js';
import type { DiffOptions } from './commands/conformance-diff.js';
import type { DisplayOptions } from './commands/display.js';
import type { NewBackendOptions } from './commands/new-backend.js';
import type { ReplayOptions } from './commands/replay.js';
import type { RunOptions } from './commands/run.js';
import type { ServeOptions } from './commands/serve.js';
import type { StateOptions } from './commands/state.js';
import { EXIT } from './exit-codes.js';
import { addDaemonCommands } from './program-daemon.js';
import { guardOutput, printJson, report } from './terminal.js';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };

const EXIT_CODES = `
Exit codes:
  0  success                       3  the backend cannot be used on this machine
  1  the run or a case failed      4  no conformance case ran
  2  wrong usage or configuration  130  interrupted`;

/**
 * Runs a command's body, which loads what it needs: most of what there is. The process's exit code is set, never forced, so that output
 * is flushed.
 */
const act = async (json: boolean, body: () => number | Promise<number>): Promise<void> => {
  try {
    process.exitCode = await body();
  } catch (error) {
    process.exitCode = report(error, json);
  }
};

const mebibytes = (text: string): number => {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('it must be a whole number of MiB');
  return Number(text);
};

const mebibytesAsBytes = (text: string): number => {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('it must be a whole number of MiB from 1');
  return Number(text) * 1024 * 1024;
};

const count = (text: string): number => {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('it must be a whole number');
  return Number(text);
};

const resolution = (text: string): { width: number; height: number } => {
  const match = /^(\d{1,5})x(\d{1,5})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('it must be WIDTHxHEIGHT in pixels, as 1920x1080');
  return { width: Number(match[1]), height: Number(match[2]) };
};

const port = (text: string): number => {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new InvalidArgumentError('it must be a port, 0 to 65535');
  return Number(text);
};

const milliseconds = (text: string): number => {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('it must be a whole number of milliseconds from 1');
  return Number(text);
};

const program = new Command('mpt')
  .description('One virtual-GPU device model on every hypervisor: run it, list backends, check conformance.')
  .version(version)
  .exitOverride()
  .addHelpText('after', EXIT_CODES);

program
  .command('backends')
  .description('list the backends: available or why not, version, capabilities')
  .option('--json', 'print one JSON document')
  .addHelpText('after', '\nExample:\n  mpt backends --json')
  .action((options: { json?: boolean }) =>
    act(options.json === true, async () => (await import('./commands/backends.js')).backendsCommand(options)),
  );

program
  .command('run')
  .description('run the main job: a guest enumerates the vGPU, draws a test card and the picture is saved')
  .option('--backend <name>', 'backend, or auto for the first available hypervisor (default: auto)')
  .option('--fallback <name>', 'backend that auto may take when no hypervisor is available')
  .option('--picture <file>', 'write the display as a PNG file')
  .option('--domain <id>', 'VM that exists already and has not run, by number or name (xen: xl create -p)')
  .option('--config <file>', 'JSON configuration: backend, options, domain, ramMiB, type, picture')
  .addOption(new Option('--ram <mib>', 'guest RAM in MiB (default: 16)').argParser(mebibytes))
  .option('--type <name>', 'vGPU type (default: GVTg_V4_8)')
  .option('--record <file>', 'record what crosses the device model’s boundaries, for mpt replay; the file holds guest memory')
  .addOption(
    new Option(
      '--record-limit <mib>',
      'MiB that the recording has at most; then it ends, and the device goes on (default: 1024)',
    ).argParser(mebibytesAsBytes),
  )
  .option('--trace <file>', 'write what the engines do as a trace in Chrome’s trace-event format, for Perfetto or about:tracing')
  .addOption(
    new Option('--trace-limit <mib>', 'MiB that the trace has at most; then it ends, and the device goes on (default: 256)').argParser(
      mebibytesAsBytes,
    ),
  )
  .option('--json', 'print one JSON document')
  .addHelpText(
    'after',
    '\nExample:\n  mpt run --backend kvm --picture card.png --json\n  mpt run --backend xen --domain guest1 --picture card.png',
  )
  .action((options: RunOptions) => act(options.json === true, async () => (await import('./commands/run.js')).runCommand(options)));

const conformance = program
  .command('conformance')
  .description('run the conformance suite against a backend')
  .argument('[id-prefix]', 'only cases whose id starts with this')
  .option('--backend <name>', 'backend to test')
  .addOption(new Option('--reporter <name>', 'output format').choices(['tap', 'json']).default('tap'))
  .option('--config <file>', 'JSON configuration with the options of the backend')
  .option('--expect <file>', 'known failures: a JSON object of ids and reasons; an unexpected pass fails')
  .addOption(new Option('--case-timeout <ms>', 'what a case may take (default: 60000)').argParser(milliseconds))
  .option('--list', 'print the cases with their rules, run nothing')
  .option('--record <file>', 'record what crosses between suite and backend, for mpt replay; the file holds guest memory')
  .addHelpText('after', '\nExample:\n  mpt conformance --backend kvm mpt/page-track --reporter json')
  .action((filter: string | undefined, options: ConformanceOptions) => {
    if (options.backend === undefined && options.list !== true)
      conformance.error("error: required option '--backend <name>' not specified");
    return act(options.reporter === 'json', async () =>
      (await import('./commands/conformance.js')).conformanceCommand(filter, options, version),
    );
  });

conformance
  .command('diff')
  .description('compare two JSON results: regressions, fixed, new, gone; exit code 1 when a case fails that did not')
  .argument('<before>', 'result of mpt conformance --reporter json')
  .argument('<after>', 'later result')
  .option('--json', 'print one JSON document')
  .action((before: string, after: string, options: DiffOptions) =>
    act(options.json === true, async () => (await import('./commands/conformance-diff.js')).conformanceDiffCommand(before, after, options)),
  );

program
  .command('new-backend')
  .description('write a small complete backend, and its test, to start a port from')
  .argument('<name>', 'its name: lower-case words')
  .option('--dir <folder>', 'where to; new or empty (default: the name)')
  .option('--json', 'print one JSON document')
  .addHelpText('after', '\nExample:\n  mpt new-backend my-hv && node --test my-hv')
  .action((name: string, options: NewBackendOptions) =>
    act(options.json === true, async () => (await import('./commands/new-backend.js')).newBackendCommand(name, options)),
  );

program
  .command('serve')
  .description('serve a device to QEMU on a vfio-user socket, until a signal')
  .addOption(new Option('--device <kind>', 'device').choices(SERVED_DEVICES).makeOptionMandatory())
  .option('--type <name>', 'type of the device (default: gvt GVTg_V4_8, mbochs medium, mdpy xga)')
  .requiredOption('--socket <path>', 'socket to make; removed at the end')
  .addOption(new Option('--aperture <mib>', 'gvt: MiB of aperture (default: as the type, like the next three)').argParser(mebibytes))
  .addOption(new Option('--hidden <mib>', 'gvt: MiB of hidden memory').argParser(mebibytes))
  .addOption(new Option('--fences <n>', 'gvt: fence registers').argParser(count))
  .addOption(new Option('--resolution <wxh>', 'gvt: native resolution of the monitor').argParser(resolution))
  .option('--no-display', 'gvt: fuse the display off, so that the guest driver only renders (default: a monitor of the type)')
  .addOption(new Option('--connector <kind>', 'gvt: what the monitor is connected by (default: hdmi)').choices(CONNECTORS))
  .option('--record <file>', 'record what crosses the device model’s boundaries, for mpt replay; the file holds guest memory')
  .addOption(
    new Option(
      '--record-limit <mib>',
      'MiB that the recording has at most; then it ends, and the device goes on (default: 1024)',
    ).argParser(mebibytesAsBytes),
  )
  .option('--restore <file>', 'gvt: go on with the vGPU that mpt state saved there')
  .option('--trace <file>', 'gvt: write what the engines do as a trace in Chrome’s trace-event format, for Perfetto or about:tracing')
  .addOption(
    new Option('--trace-limit <mib>', 'MiB that the trace has at most; then it ends, and the device goes on (default: 256)').argParser(
      mebibytesAsBytes,
    ),
  )
  .option('--trust-client', 'use guest memory by mapping it even when its file can be shortened, which would end the server')
  .option('--json', 'print one JSON document a line: ready, connected, disconnected, complaint')
  .addHelpText(
    'after',
    '\nExample:\n  mpt serve --device mbochs --type medium --socket /run/mbochs.sock\n  mpt serve --device gvt --aperture 96 --resolution 1280x800 --socket /run/gvt.sock',
  )
  .action((options: ServeOptions) => act(options.json === true, async () => (await import('./commands/serve.js')).serveCommand(options)));

program
  .command('replay')
  .description('run the device model against a recording, with no hypervisor: the first difference is reported, with exit code 1')
  .argument('<file>', 'recording of mpt run, serve or conformance --record')
  .option('--json', 'print one JSON document')
  .addHelpText('after', '\nExample:\n  mpt run --backend kvm --record card.mptrec && mpt replay card.mptrec')
  .action((file: string, options: ReplayOptions) =>
    act(options.json === true, async () => (await import('./commands/replay.js')).replayCommand(file, options)),
  );

program
  .command('display')
  .description('the display of a device that mpt serve serves: save it, show it live on a page, or change its monitor')
  .argument('<socket>', 'socket of the server, as mpt serve --socket was given it')
  .option('--picture <file>', 'write what it shows now as a PNG file')
  .addOption(new Option('--listen <port>', 'serve the page on this port of 127.0.0.1, until a signal (0: any free port)').argParser(port))
  .option('--edid <file>', 'plug in the monitor with this EDID')
  .option('--plug', 'plug the monitor in')
  .option('--unplug', 'unplug it')
  .option('--json', 'print one JSON document')
  .addHelpText('after', '\nExample:\n  mpt display /run/mbochs.sock --picture screen.png\n  mpt display /run/mbochs.sock --listen 8080')
  .action((socket: string, options: DisplayOptions) =>
    act(options.json === true, async () => (await import('./commands/display.js')).displayCommand(socket, options)),
  );

program
  .command('state')
  .description('the state of a vGPU that is served: save it, put the vGPU away and bring it back, or exchange it for a saved one')
  .argument('<socket>', 'socket of the server, as mpt serve --socket was given it, or of a vGPU of mpt daemon')
  .option('--save <file>', 'write the state; the vGPU goes on')
  .option('--pause', 'with --save: the vGPU is destroyed afterwards; its guest waits at its next access')
  .option('--resume', 'go on with the vGPU that was put away')
  .option('--restore <file>', 'a new vGPU with the state of this file takes the place of the one that is there; the guest stays connected')
  .option('--json', 'print one JSON document')
  .addHelpText(
    'after',
    `
A state goes with the guest's memory as it was when it was saved: put the vGPU away, or stop the guest, before you save it for later. QEMU
lets go of a device that does not answer for 5 s: for a longer pause stop the guest first ('stop' in QEMU's monitor).

Example:
  mpt state /run/gvt.sock --save vgpu.state --pause
  mpt state /run/gvt.sock --restore vgpu.state`,
  )
  .action((socket: string, options: StateOptions) =>
    act(options.json === true, async () => (await import('./commands/state.js')).stateCommand(socket, options)),
  );

addDaemonCommands(program, act);

guardOutput();
try {
  await program.parseAsync();
} catch (error) {
  const json = process.argv.includes('--json');
  if (!(error instanceof CommanderError)) process.exitCode = report(error, json);
  // Help and version come as errors too.
  else if (error.exitCode === 0) process.exitCode = EXIT.OK;
  else {
    // Commander has written its message to stderr.
    if (json) printJson({ error: { code: 'INVALID_ARGUMENT', message: error.message } });
    process.exitCode = EXIT.USAGE;
  }
}
