/**
 * `npm run hostile [-- OPTIONS]`: a hostile guest, out of other seeds than the tests', for as long as one likes; and what failed, again.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runSequence, type Sequence } from './sequence.js';
import { watch } from './watch.js';

const HELP = `npm run hostile [-- OPTIONS]

  --minutes M      goes on for so long with a new seed each time (default 1)
  --seed N         runs this seed, once
  --sequences N    sequences of each seed (default 100)
  --length N       operations of each sequence at most (default 2000)
  --replay FILE    runs the sequence of a file that a failure left

  npm run hostile -- --minutes 10
  npm run hostile -- --replay build/hostile/hostile-7.json
`;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string' },
    seed: { type: 'string' },
    sequences: { type: 'string' },
    length: { type: 'string' },
    replay: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function numberOf(name: 'minutes' | 'seed' | 'sequences' | 'length', fallback: number): number {
  const value = Number(values[name] ?? fallback);
  if (!Number.isFinite(value) || value < 0) throw new Error(`--${name} takes a number, not '${values[name]}'`);
  return value;
}

function replay(file: string): number {
  try {
    runSequence(JSON.parse(readFileSync(file, 'utf8')) as Sequence);
    say(`${file}: nothing fails`);
    return 0;
  } catch (error) {
    say(`${file}: ${(error as Error).message}`);
    return 1;
  }
}

async function main(): Promise<number> {
  if (values.help === true) {
    say(HELP);
    return 0;
  }
  if (values.replay !== undefined) return replay(values.replay);
  const end = performance.now() + numberOf('minutes', 1) * 60_000;
  let seed = numberOf('seed', Date.now() % 2 ** 31);
  do {
    const began = performance.now();
    const exploration = { seed, sequences: numberOf('sequences', 100), length: numberOf('length', 2000) };
    const { operations, reach, memory, slowestMs, failure, file } = await watch(exploration, 'build/hostile');
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    say(`seed ${seed}: ${operations} operations in ${seconds} s, slowest sequence ${slowestMs.toFixed(0)} ms; ${JSON.stringify(reach)}`);
    say(`  MiB in use: ${memory.map((mib) => mib.toFixed(1)).join(' ')}`);
    if (failure !== undefined) {
      say(`  failed: ${failure.why}\n  again: npm run hostile -- --replay ${file}`);
      return 1;
    }
    seed = (seed + 1) % 2 ** 31;
  } while (values.seed === undefined && performance.now() < end);
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`hostile: ${(error as Error).message}\n`);
  process.exitCode = 2;
}
