/**
 * A run of the benchmarks: the arguments, the rows one after another, the table or the document.
 *
 * Exit codes as of `mpt`: 0 measured, 1 failed, 2 wrong usage, 3 gcc or the hypervisor is missing, 130 interrupted.
 */
import { cpus, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ProbeResult } from '../src/backends/module.js';
import { EXIT, exitCodeOf } from '../src/cli/exit-codes.js';
import { Progress } from '../src/cli/terminal.js';
import { MptError } from '../src/core/errors.js';
import { type Baseline, compileBaseline, type Sources } from './baseline.js';
import { type Comparison, compare, type Pace } from './compare.js';
import { pinToOneCore, raisePriority, takeTurnsFirst } from './pin.js';
import { type Result, resultOf, tableHead, tableLine } from './report.js';
import { IMAGE, type Row } from './rows.js';
import { type Command, endAll, longLived, started } from './subjects.js';

/** Our side of a row as a program: BACKEND SUBJECT ARGUMENT... */
export const OURS = fileURLToPath(new URL('./ours/main.js', import.meta.url));

/** The benchmarks of one backend. */
export interface Suite {
  /** Name of the backend. */
  readonly backend: string;
  /** How the run is started, for the usage. */
  readonly command: string;
  readonly probe: () => ProbeResult;
  readonly rows: readonly Row[];
  readonly sources: Sources;
  readonly pace: Pace;
  /** Keep other programs off the core: for what is made of wake-ups. */
  readonly realTime?: boolean;
  /** The command of our side; without it bench/ours/main.js with the backend and the row's arguments. */
  readonly ours?: (row: Row, baseline: Baseline) => Command;
}

/** Pairs of samples that one may ask for. */
const ROUNDS_MAX = 9999;

interface Options {
  readonly json: boolean;
  readonly rows: readonly Row[];
  readonly pace: Pace;
}

/** @throws MptError INVALID_ARGUMENT with what is valid */
function parse({ command, rows: all, pace }: Suite, args: readonly string[]): Options {
  const wrong = (what: string, hint: string): MptError => new MptError('INVALID_ARGUMENT', what, { hint });
  const usage = `usage: ${command} [--json] [--rounds N] [NAME-PREFIX]`;
  let parsed: { values: { json?: boolean; rounds?: string }; positionals: string[] };
  try {
    parsed = parseArgs({ args: [...args], options: { json: { type: 'boolean' }, rounds: { type: 'string' } }, allowPositionals: true });
  } catch (error) {
    throw wrong((error as Error).message.split('. ', 1)[0] as string, usage);
  }
  const { values, positionals } = parsed;
  const [prefix = '', ...rest] = positionals;
  if (rest.length > 0) throw wrong(`one prefix, not ${positionals.length}`, usage);
  const rows = all.filter((row) => row.name.startsWith(prefix));
  if (rows.length === 0) throw wrong(`no row starts with '${prefix}'`, `rows are ${all.map((row) => row.name).join(', ')}`);
  const { json = false, rounds } = values;
  if (rounds === undefined) return { json, rows, pace };
  const pairs = Number(rounds);
  if (!/^\d+$/.test(rounds) || pairs < 1 || pairs > ROUNDS_MAX) throw wrong(`rounds are 1 to ${ROUNDS_MAX}, not '${rounds}'`, usage);
  return { json, rows, pace: { ...pace, pairs } };
}

async function measure(
  { backend, ours = (row) => [process.execPath, OURS, backend, ...row.ours] }: Suite,
  row: Row,
  baseline: Baseline,
  pace: Pace,
  tell: (pair: number, pairs: number) => void,
): Promise<Comparison> {
  const [program, ...args] = row.baseline;
  const run = row.kind === 'start' ? started : longLived;
  const theirs: Command = [baseline.program(program), ...args.map((arg) => (arg === IMAGE ? baseline.image : arg))];
  const subjects = [run(ours(row, baseline)), run(theirs)] as const;
  try {
    return await compare(...subjects, pace, tell);
  } finally {
    for (const subject of subjects) await subject.close();
  }
}

async function run(suite: Suite, args: readonly string[], progress: Progress): Promise<void> {
  const { backend } = suite;
  const { json, rows, pace } = parse(suite, args);
  const probe = suite.probe();
  if (!probe.available) throw new MptError('UNAVAILABLE', `the benchmarks cannot run: ${probe.reason}`, { backend });
  progress.show('compiling the baselines');
  const baseline = compileBaseline(suite.sources);
  const place = `${pinToOneCore()}, ${suite.realTime === true ? takeTurnsFirst() : raisePriority()}`;
  progress.clear();
  const print = (text: string): void => void (json || process.stdout.write(`${text}\n`));
  print(`${probe.version}, Node ${process.versions.node}, ${baseline.compiler}, Linux ${release()}, ${cpus()[0]?.model.trim()}; ${place}`);
  print(tableHead());
  const results: Result[] = [];
  for (const row of rows) {
    const comparison = await measure(suite, row, baseline, pace, (pair, pairs) => progress.show(`${row.name}: ${pair}/${pairs}`));
    progress.clear();
    const result = resultOf(row, comparison);
    results.push(result);
    print(tableLine(row, result));
  }
  if (json) process.stdout.write(`${JSON.stringify({ results })}\n`);
}

/** Runs the suite and sets the exit code. */
export async function runSuite(suite: Suite, args: readonly string[]): Promise<void> {
  const progress = new Progress();
  const interrupt = (): void => {
    endAll();
    progress.clear();
    process.exit(EXIT.INTERRUPTED);
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    await run(suite, args, progress);
  } catch (error) {
    progress.clear();
    endAll();
    const typed = MptError.is(error) ? error : new MptError('INTERNAL', String(error), { cause: error });
    process.stderr.write(`bench: ${typed.code}: ${typed.message}\n`);
    process.exitCode = exitCodeOf(typed.code);
  }
}
