/** How a lab ends that has no verdict: nothing could be tested, the usage was wrong, or it broke. */
import { writeFileSync } from 'node:fs';
import { printJson } from '../../src/cli/terminal.js';
import { EXIT, LabError } from './lab-error.js';
import { unexpected } from './options.js';
import { writeTap } from './tap.js';

export interface Asked {
  readonly json?: boolean | undefined;
  /** TAP file; gets one skip where nothing could be tested. */
  readonly tap?: string | undefined;
  /** Told in the document, unless it is empty. */
  readonly command?: readonly string[] | undefined;
}

/** Tells why, as it was asked for. @param lab as `lab:xen`. @returns the exit code */
export function noVerdict(lab: string, error: unknown, { json, tap, command = [] }: Asked): number {
  const { message, exitCode } = error instanceof LabError ? error : unexpected(error);
  const skipped = exitCode === EXIT.SKIPPED;
  if (skipped && tap !== undefined) writeFileSync(tap, writeTap([{ name: lab, status: 'skipped', reason: message }]));
  if (json)
    printJson({ ...(command.length === 0 ? {} : { command }), rc: exitCode, verdict: skipped ? 'skipped' : 'none', reason: message });
  process.stderr.write(`${lab}: ${skipped ? 'skipped: ' : ''}${message}\n`);
  return exitCode;
}
