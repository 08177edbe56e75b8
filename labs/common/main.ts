/** How a lab begins and ends: its command line, signals, results as they were asked for, the exit code. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { guardOutput, print, printJson } from '../../src/cli/terminal.js';
import { EXIT } from './lab-error.js';
import { type Asked, noVerdict } from './no-verdict.js';
import { type Point, totalsOf, writeTap } from './tap.js';

/** Two folders above build/labs/common. */
export const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

/**
 * Runs a lab, and sets the exit code. What was started is killed, and what is temporary removed, by the exit handler in children.ts.
 * @param lab as `lab:xen`
 * @param parse gives nothing when the help was asked for
 * @param run gives the exit code
 */
export async function labMain<Options extends Asked>(
  lab: string,
  parse: (args: readonly string[]) => Options | undefined,
  run: (options: Options) => Promise<number>,
): Promise<void> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(EXIT.INTERRUPTED));
  guardOutput();
  const args = process.argv.slice(2);
  let options: Options | undefined;
  try {
    options = parse(args);
    process.exitCode = options === undefined ? 0 : await run(options);
  } catch (error) {
    process.exitCode = noVerdict(lab, error, options ?? { json: args.includes('--json') });
  }
}

/** @param document for --json. @param text for people. @returns the exit code */
export function tellResults(points: readonly Point[], { tap, json }: Asked, document: unknown, text: string): number {
  if (tap !== undefined) writeFileSync(tap, writeTap(points));
  if (json) printJson(document);
  else print(text);
  return totalsOf(points).failed > 0 ? EXIT.FAILED : 0;
}
