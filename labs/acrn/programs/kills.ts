/**
 * `kills ABI COUNT SEED`: starts the program of test/acrn that lets VMs come and go, kills it with SIGKILL at a random moment of its work, and
 * looks whether the stand-in is left with anything; COUNT times, as TAP.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { standInState } from '../../../test/acrn/support.js';
import { Random } from '../../../test/core/random.js';
import { type Point, totalsOf, writeTap } from '../../common/tap.js';
import { leftovers } from '../standin.js';

const PROGRAM = fileURLToPath(new URL('../../../test/acrn/cycles-program.js', import.meta.url));
/** A VM lives for some 20 ms there: each moment of its life is as likely as another. */
const LATEST_MS = 120;
const CLEAN_WITHIN_MS = 2000;

/** Returns when the child has had a VM. @throws Error when it ended before */
async function working(child: ChildProcess, created: number): Promise<void> {
  while (standInState().created === created) {
    if (child.exitCode !== null) throw new Error(`it ended by itself, with ${child.exitCode}`);
    await sleep(2);
  }
}

/** @returns whether it had a VM at that moment */
async function killOne(abi: string, afterMs: number): Promise<boolean> {
  const { created } = standInState();
  const child = spawn(process.execPath, [PROGRAM, abi, '0'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'close');
  await working(child, created);
  await sleep(afterMs);
  const inUse = standInState().files.length > 0;
  child.kill('SIGKILL');
  const [code] = await ended;
  if (code !== null) throw new Error(`it ended by itself, with ${code}`);
  return inUse;
}

async function clean(): Promise<string | undefined> {
  const until = performance.now() + CLEAN_WITHIN_MS;
  let left = leftovers(standInState());
  while (left !== undefined && performance.now() < until) {
    await sleep(5);
    left = leftovers(standInState());
  }
  return left;
}

const [abi = '', count = '', seed = ''] = process.argv.slice(2);
const random = new Random(Number(seed));
const points: Point[] = [];
let used = 0;
for (let i = 1; i <= Number(count); i++) {
  const afterMs = random.below(LATEST_MS);
  const name = `SIGKILL ${i}, ${afterMs} ms into its work, leaves nothing`;
  try {
    if (await killOne(abi, afterMs)) used++;
    const left = await clean();
    points.push(left === undefined ? { name, status: 'passed' } : { name: `${name}: ${left}`, status: 'failed' });
  } catch (error) {
    points.push({ name: `${name}: ${(error as Error).message}`, status: 'failed' });
  }
}
// Else the kills came between the VMs.
points.push({ name: `${used} of ${count} had a VM at that moment`, status: used > Number(count) / 4 ? 'passed' : 'failed' });
process.stdout.write(writeTap(points));
process.exitCode = totalsOf(points).failed === 0 ? 0 : 1;
