/**
 * `npm run mutants [-- --json] [ID-PREFIX]`: runs the mutants whose id begins with the prefix and tells which were killed.
 * Exit code 1 when one was not, 2 when there is none.
 */
import { runMutant } from './mutant.js';
import { asTable, reportOf } from './report.js';
import { MUTANTS } from './table/index.js';

const args = process.argv.slice(2);
const json = args.includes('--json');
const prefix = args.find((arg) => !arg.startsWith('--')) ?? '';
const selected = MUTANTS.filter(({ id }) => id.startsWith(prefix));
const start = performance.now();
const report = reportOf(selected.map(runMutant), performance.now() - start);
const timed = { ...report, ms: Math.round(performance.now() - start) };
process.stdout.write(json ? `${JSON.stringify(timed)}\n` : asTable(timed));
if (selected.length === 0) process.stderr.write(`mutants: none has an id that begins with '${prefix}'\n`);
process.exitCode = selected.length === 0 ? 2 : report.killed === report.total ? 0 : 1;
