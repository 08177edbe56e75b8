/** Runs one command under the stand-in, in this terminal. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { printJson } from '../../src/cli/terminal.js';
import { start } from '../common/children.js';
import { seconds } from '../common/progress.js';
import type { Options } from './options.js';
import { tell } from './progress.js';
import { leftovers, readReport } from './standin.js';

/** @returns the command's exit code */
export async function runCommand(
  program: string,
  { command, abi, vcpus, polling, fault, verbose, json }: Options,
  out: string,
): Promise<number> {
  mkdirSync(out, { recursive: true });
  const report = join(out, 'standin.json');
  const began = performance.now();
  const flags = ['--abi', abi, '--report', report, ...fault.flatMap((line) => ['--fault', line])];
  if (vcpus !== undefined) flags.push('--vcpus', vcpus);
  if (polling === true) flags.push('--polling');
  if (verbose === true) flags.push('--verbose');
  const words = command.length === 1 ? ['sh', '-c', command[0] as string] : command;
  const child = start(program, [...flags, '--', ...words], { stdio: ['inherit', json === true ? 'ignore' : 'inherit', 'inherit'] });
  const rc = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => resolve(status ?? (signal === null ? 1 : 128)));
  });
  let left: string | undefined;
  let state: unknown;
  try {
    const read = readReport(report);
    left = leftovers(read);
    state = read;
  } catch {
    // It did not come to its end, and said why.
  }
  if (left !== undefined) tell(left);
  if (json) printJson({ command, rc, seconds: seconds(began), standin: state, out });
  return rc;
}
