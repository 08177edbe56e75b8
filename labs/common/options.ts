/** What the command lines of the labs have in common. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, CommanderError, InvalidArgumentError } from 'commander';
import { makeFolder } from './folders.js';
import { EXIT, LabError } from './lab-error.js';

/** Wrong usage of a lab. @param lab its name, as in `npm run lab:NAME` */
export const usageOf =
  (lab: string) =>
  (what: string): LabError =>
    new LabError(EXIT.USAGE, `${what} (see npm run lab:${lab} -- --help)`);

/**
 * Parses the arguments of a program whose options are declared; errors are the caller's to print.
 * @returns false when the help was asked for and is printed. @throws LabError USAGE
 */
export function parsed(program: Command, lab: string, args: readonly string[]): boolean {
  program
    .helpOption('--help', 'print this')
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  try {
    program.parse(args, { from: 'user' });
    return true;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return false;
    throw usageOf(lab)(error.message.replace(/^error: /, ''));
  }
}

/** Parses a limit. @throws InvalidArgumentError */
export const secondsOption = (text: string): number => {
  if (!/^\d{1,5}$/.test(text) || Number(text) === 0) throw new InvalidArgumentError('it must be a whole number of seconds, 1 to 99999.');
  return Number(text);
};

/**
 * The folder of a run: the one that was asked for, made if it is new, or one in the build that is yet to be made.
 * @throws LabError USAGE when it cannot be made or is not empty
 */
export function outputFolder(checkout: string, lab: string, asked: string | undefined): string {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '-');
  if (asked === undefined) return join(checkout, 'build', lab, `${stamp}-${process.pid}`);
  makeFolder('the output folder', asked);
  if (readdirSync(asked).length > 0) throw new LabError(EXIT.USAGE, `${asked} is not empty`);
  return asked;
}

/** An error that no one thought of, as one line; with `MPT_DEBUG` set, its stack on stderr. */
export function unexpected(error: unknown): LabError {
  if (process.env['MPT_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return new LabError(EXIT.NO_VERDICT, error instanceof Error ? error.message : String(error));
}
