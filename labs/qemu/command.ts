/** A command in a guest with the devices of servers that already run. */
import { print, printJson } from '../../src/cli/terminal.js';
import { EXIT } from '../common/lab-error.js';
import { deviceOf, Guest } from './guest.js';
import { quoted } from './job.js';
import type { Options } from './options.js';
import { tell } from './progress.js';
import type { Trees } from './trees.js';

const TIMEOUT_S = 300;

/** @param out folder of the run's files. @returns the exit code */
export async function runCommand(trees: Trees, options: Options, out: string): Promise<number> {
  const { command, attach, module, timeout, keep = false, json } = options;
  tell(`booting the guest, files in ${out}`);
  const guest = Guest.start(trees, {
    modules: module,
    lspci: true,
    script: command.length === 1 ? (command[0] as string) : command.map(quoted).join(' '),
    devices: attach.flatMap(deviceOf),
    out,
    timeoutS: timeout ?? TIMEOUT_S,
    tell,
    keep,
    ...(json ? {} : { print }),
  });
  const reason = await guest.ended;
  const rc = reason === undefined ? 0 : (guest.jobExit ?? (guest.late ? EXIT.TIMEOUT : EXIT.NO_VERDICT));
  tell(`verdict: ${reason ?? 'the command ended with 0'}`);
  if (json) printJson({ command, rc, ...(reason === undefined ? {} : { reason }), seconds: guest.seconds, out });
  return rc;
}
