/**
 * `npm run bench [-- --json] [-- NAME-PREFIX]`: our side against C programs that do the same with the same guest. What each
 * row measures: README.md here.
 *
 * Exit codes as of `mpt`: 0 measured, 1 failed, 2 wrong usage, 3 gcc or KVM is missing, 130 interrupted.
 */
import { cpus, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { kvm } from '../src/backends/kvm/index.js';
import { EXIT, exitCodeOf } from '../src/cli/exit-codes.js';
import { Progress } from '../src/cli/terminal.js';
import { MptError } from '../src/core/errors.js';
import { type Baseline, compileBaseline } from './baseline.js';
import { type Comparison, compare } from './compare.js';
import { pinToOneCore, raisePriority } from './pin.js';
import { type Result, resultOf, tableHead, tableLine } from './report.js';
import { IMAGE, ROWS, type Row } from './rows.js';
import { type Command, endAll, longLived, started } from './subjects.js';

const OURS = fileURLToPath(new URL('./ours/main.js', import.meta.url));
const USAGE = 'usage: npm run bench [-- --json] [-- NAME-PREFIX]';

/** @throws MptError INVALID_ARGUMENT with what is valid */
function parse(args: readonly string[]): { json: boolean; rows: readonly Row[] } {
  const json = args.includes('--json');
  const [prefix = '', ...rest] = args.filter((arg) => arg !== '--json');
  if (rest.length > 0 || prefix.startsWith('-')) throw new MptError('INVALID_ARGUMENT', USAGE);
  const rows = ROWS.filter((row) => row.name.startsWith(prefix));
  if (rows.length === 0)
    throw new MptError('INVALID_ARGUMENT', `no row starts with '${prefix}'`, {
      hint: `rows are ${ROWS.map((row) => row.name).join(', ')}`,
    });
  return { json, rows };
}

async function measure(row: Row, baseline: Baseline, tell: (pair: number, pairs: number) => void): Promise<Comparison> {
  const [program, ...args] = row.baseline;
  const run = row.kind === 'start' ? started : longLived;
  const theirs: Command = [baseline.program(program), ...args.map((arg) => (arg === IMAGE ? baseline.image : arg))];
  const subjects = [run([process.execPath, OURS, ...row.ours]), run(theirs)] as const;
  try {
    return await compare(...subjects, tell);
  } finally {
    for (const subject of subjects) subject.close();
  }
}

async function main(args: readonly string[], progress: Progress): Promise<void> {
  const { json, rows } = parse(args);
  const probe = kvm.probe();
  if (!probe.available) throw new MptError('UNAVAILABLE', `the benchmarks run a guest on KVM: ${probe.reason}`, { backend: 'kvm' });
  progress.show('compiling the baselines');
  const baseline = compileBaseline();
  const place = `${pinToOneCore()}, ${raisePriority()}`;
  progress.clear();
  const print = (text: string): void => void (json || process.stdout.write(`${text}\n`));
  print(`Node ${process.versions.node}, ${baseline.compiler}, Linux ${release()}, ${cpus()[0]?.model.trim()}; ${place}`);
  print(tableHead());
  const results: Result[] = [];
  for (const row of rows) {
    const comparison = await measure(row, baseline, (pair, pairs) => progress.show(`${row.name}: ${pair}/${pairs}`));
    progress.clear();
    const result = resultOf(row, comparison);
    results.push(result);
    print(tableLine(row, result));
  }
  if (json) process.stdout.write(`${JSON.stringify({ results })}\n`);
}

const progress = new Progress();
const interrupt = (): void => {
  endAll();
  progress.clear();
  process.exit(EXIT.INTERRUPTED);
};
process.on('SIGINT', interrupt);
process.on('SIGTERM', interrupt);
try {
  await main(process.argv.slice(2), progress);
} catch (error) {
  progress.clear();
  endAll();
  const typed = MptError.is(error) ? error : new MptError('INTERNAL', String(error), { cause: error });
  process.stderr.write(`bench: ${typed.code}: ${typed.message}\n`);
  process.exitCode = exitCodeOf(typed.code);
}
