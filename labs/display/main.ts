/** `npm run lab:display [-- --tap FILE] [--json]`: the live display in a real browser. README.md here. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { guardOutput, print, printJson } from '../../src/cli/terminal.js';
import { EXIT } from '../common/lab-error.js';
import { noVerdict } from '../common/no-verdict.js';
import { parsed } from '../common/options.js';
import { type Point, STATUSES, totalsOf, writeTap } from '../common/tap.js';
import { chromium } from './chromium.js';
import { tell } from './progress.js';
import { scenario } from './scenario.js';

/** Two folders above build/labs/display. */
const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

const HELP = `
Fetches Debian's headless Chromium, lets it look at 'mpt display --listen', and compares its canvas with what is shown, pixel for pixel.

Packages are kept in $MPT_LAB_CACHE, or in the user's cache folder.

Exit codes:
  0   all is as it must be            77   skipped: Debian cannot be reached, nothing was tested
  1   something is not                99   no verdict: Chromium did not come up
  2   wrong usage                     130  interrupted`;

interface Options {
  readonly tap?: string;
  readonly json?: boolean;
}

/** @returns nothing when the help was asked for and is printed. @throws LabError USAGE */
function parse(args: readonly string[]): Options | undefined {
  const program = new Command('npm run lab:display --')
    .option('--tap <file>', "write the results as a TAP file, with tap's closing summary")
    .option('--json', 'print one JSON document at the end, and nothing else')
    .addHelpText('after', HELP);
  if (!parsed(program, 'display', args)) return undefined;
  return program.opts<Options>();
}

function tellResults(points: readonly Point[], { tap, json }: Options): number {
  const totals = totalsOf(points);
  if (tap !== undefined) writeFileSync(tap, writeTap(points));
  if (json) printJson({ points, ...totals });
  else {
    for (const { name, status } of points) print(`${status}: ${name}`);
    print(STATUSES.map((status) => `${totals[status]} ${status}`).join(', '));
  }
  return totals.failed > 0 ? EXIT.FAILED : 0;
}

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  let options: Options | undefined;
  try {
    options = parse(args);
    if (options === undefined) return 0;
    const browser = await chromium();
    tell('looking at mpt display in Chromium');
    return tellResults(await scenario(browser, CHECKOUT), options);
  } catch (error) {
    return noVerdict('lab:display', error, options ?? {});
  }
}

// What was started is killed, and what is temporary removed, by the exit handler in common/children.ts.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(EXIT.INTERRUPTED));
guardOutput();
process.exitCode = await main(process.argv.slice(2));
