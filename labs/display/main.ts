/** `npm run lab:display [-- --tap FILE] [--json]`: the live display in a real browser. README.md here. */
import { Command } from 'commander';
import { CHECKOUT, labMain, tellResults } from '../common/main.js';
import { parsed } from '../common/options.js';
import { STATUSES, totalsOf } from '../common/tap.js';
import { chromium } from './chromium.js';
import { tell } from './progress.js';
import { scenario } from './scenario.js';

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

await labMain('lab:display', parse, async (options) => {
  const browser = await chromium();
  tell('looking at mpt display in Chromium');
  const points = await scenario(browser, CHECKOUT);
  const totals = totalsOf(points);
  const lines = points.map(({ name, status }) => `${status}: ${name}`);
  lines.push(STATUSES.map((status) => `${totals[status]} ${status}`).join(', '));
  return tellResults(points, options, { points, ...totals }, lines.join('\n'));
});
