/**
 * `kills COUNT SEED`: starts `machines`, kills it with SIGKILL at a random moment of its work, and looks whether the stand-in is left
 * with anything; COUNT times, as TAP.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Point, totalsOf, writeTap } from '../../common/tap.js';
import { leftovers } from '../standin.js';
import { Control } from './control.js';

const MACHINES = fileURLToPath(new URL('./machines.js', import.meta.url));
/** A VM lives for some 20 ms here: each moment of its life is as likely as another. */
const LATEST_MS = 120;
const CLEAN_WITHIN_MS = 2000;

/** Mulberry32: the same moments for the same seed, as far as the machine lets them be. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @returns how many VMs it had finished */
async function killOne(afterMs: number): Promise<number> {
  const child = spawn(process.execPath, [MACHINES, '100000'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'close');
  await Promise.race([once(child.stdout, 'data'), ended]);
  await sleep(afterMs);
  child.kill('SIGKILL');
  const [code] = await ended;
  if (code !== null) throw new Error(`it ended by itself, with ${code}`);
  return said.trimEnd().split('\n').length - 1;
}

async function clean(control: Control): Promise<string | undefined> {
  const until = performance.now() + CLEAN_WITHIN_MS;
  let left = leftovers(control.state());
  while (left !== undefined && performance.now() < until) {
    await sleep(5);
    left = leftovers(control.state());
  }
  return left;
}

const [count, seed] = process.argv.slice(2).map(Number) as [number, number];
const next = random(seed);
const control = new Control();
const points: Point[] = [];
let finished = 0;
for (let i = 1; i <= count; i++) {
  const afterMs = next() * LATEST_MS;
  const name = `SIGKILL ${i}, ${afterMs.toFixed(1)} ms into its work, leaves nothing`;
  try {
    finished += await killOne(afterMs);
    const left = await clean(control);
    points.push(left === undefined ? { name, status: 'passed' } : { name: `${name}: ${left}`, status: 'failed' });
  } catch (error) {
    points.push({ name: `${name}: ${(error as Error).message}`, status: 'failed' });
  }
}
const { created } = control.state();
// Else the kills came before or between the VMs.
const during = created > finished;
points.push({ name: `${created - finished} of the ${created} VMs were killed in use`, status: during ? 'passed' : 'failed' });
process.stdout.write(writeTap(points));
process.exitCode = totalsOf(points).failed === 0 ? 0 : 1;
