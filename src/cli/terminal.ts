/** What the command writes: results on stdout, progress and errors on stderr. */
import { MptError } from '../core/errors.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { ioError } from './files.js';

const DRAIN_LOOK_MS = 10;

/** Progress for a person: one line that is rewritten, only when stderr is a terminal. */
export class Progress {
  readonly #on = process.stderr.isTTY === true;

  show(text: string): void {
    if (this.#on) process.stderr.write(`\r\x1b[K${text.slice(0, (process.stderr.columns || 80) - 1)}`);
  }

  clear(): void {
    if (this.#on) process.stderr.write('\r\x1b[K');
  }
}

/**
 * Makes a failed write to stdout or stderr no crash. A reader that has seen enough (`| head -1`) is no error; a full disk is one
 * line and exit code 2.
 */
export function guardOutput(): void {
  let told = false;
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' || told) return;
    told = true;
    const code = report(ioError(error, 'output', 'stdout cannot be written'), false);
    process.once('exit', () => {
      process.exitCode = code;
    });
  });
}

export const print = (text: string): void => {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
};

/**
 * Waits until whoever reads stdout and stderr has all of it.
 * @returns false when that is not so after `limitMs`: then a pipe that nobody reads would keep the process from ending by itself
 */
export async function drained(limitMs: number): Promise<boolean> {
  const end = performance.now() + limitMs;
  while (process.stdout.writableLength + process.stderr.writableLength > 0) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
  }
  return true;
}

/** Rows in columns for people; numbers to the right. */
export function table(titles: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => String(row[i]).length)));
  const line = (cells: readonly (string | number)[]): string =>
    cells
      .map((cell, i) => (typeof cell === 'number' ? String(cell).padStart(widths[i] as number) : cell.padEnd(widths[i] as number)))
      .join('  ')
      .trimEnd();
  return [titles, ...rows].map(line).join('\n');
}

/** The one JSON document of a `--json` run. */
export const printJson = (value: unknown): void => print(JSON.stringify(value));

/** Writes the error as one line (or, with `--json`, also as a document on stdout) and returns the exit code. */
export function report(error: unknown, json: boolean): number {
  const typed = MptError.is(error) ? error : unexpected(error);
  if (json) printJson({ error: typed });
  process.stderr.write(`mpt: ${typed.code}: ${typed.message}\n`);
  return exitCodeOf(typed.code);
}

/** A defect of ours: one line too, with the stack on request. */
function unexpected(error: unknown): MptError {
  if (process.env['MPT_DEBUG'] !== undefined && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  const text = error instanceof Error ? error.message : String(error);
  return new MptError('INTERNAL', text.split('\n', 1)[0] as string, { hint: 'set MPT_DEBUG=1 for the stack and report it' });
}

/**
 * Runs `body` with SIGINT and SIGTERM leading to `stop`. The second signal ends the process at once.
 */
export async function interruptible<T>(stop: () => void, body: () => Promise<T>): Promise<T> {
  let signals = 0;
  const onSignal = (): void => {
    if (++signals > 1) process.exit(EXIT.INTERRUPTED);
    stop();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    return await body();
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
