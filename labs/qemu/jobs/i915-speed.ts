/**
 * What an empty execution costs a guest's driver on `mpt serve`, against the throw-away device in Python that first carried i915: the same
 * guest, in turns. It runs by name, where that program is: `MPT_PROTOTYPES` names its folder.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { takeTurnsFirst } from '../../../bench/pin.js';
import { kill, start, temporary } from '../../common/children.js';
import { deviceOf, type Guest } from '../guest.js';
import { type Job, type Lab, LINE_LIMIT_S } from '../job.js';
import { igt } from '../trees.js';

/** The short names: the long ones all mean rcs. */
const ENGINES = ['rcs', 'bcs', 'vcs', 'vecs'] as const;
type Engine = (typeof ENGINES)[number];
const ROUNDS = 7;
const LIMIT = 0.9;
/** What the benchmark calls repetitions, about three seconds each, and how often it runs in a boot. */
const SAMPLES = 1;
const REPEATS = 1;
const READY_LIMIT_S = 10;

const SCRIPT = `for turn in $(seq ${REPEATS}); do for engine in ${ENGINES.join(' ')}; do
  echo "exec $engine $(gem_exec_nop -e $engine -r ${SAMPLES} 2>&1 | tr '\\n' ' ')"
done; done
echo "complaints $(dmesg | grep -c Resetting)"
`;

type Times = Readonly<Record<Engine, number[]>>;
const noTimes = (): Times => ({ rcs: [], bcs: [], vcs: [], vecs: [] });

/** Microseconds of each run, by engine. @throws Error when the guest does not say them */
async function timesOf(guest: Guest, into: Times): Promise<void> {
  for (let i = 0; i < REPEATS * ENGINES.length; i++) {
    const [, engine, said] = await guest.line(/^exec (\w+) (.*)$/, LINE_LIMIT_S);
    const time = /^ *([\d.]+) *$/.exec(said as string)?.[1];
    if (time === undefined) throw new Error(`gem_exec_nop on ${engine} said ${said}`);
    into[engine as Engine].push(Number(time));
  }
  const [, resets] = await guest.line(/^complaints (\d+)$/, LINE_LIMIT_S);
  const failure = await guest.ended;
  if (failure !== undefined || resets !== '0') throw new Error(failure ?? `${resets} resets`);
}

/** Starts the prototype. @throws Error when it makes no socket */
async function prototype(program: string): Promise<{ socket: string; child: ChildProcess }> {
  const socket = join(temporary(mkdtempSync(join(tmpdir(), 'mpt-lab-'))), 'prototype.sock');
  const child = start('python3', [program, socket], { stdio: 'ignore' });
  const end = performance.now() + READY_LIMIT_S * 1000;
  while (!existsSync(socket)) {
    if (performance.now() > end || child.exitCode !== null) throw new Error(`${program} made no socket`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { socket, child };
}

async function run(lab: Lab): Promise<void> {
  const folder = process.env.MPT_PROTOTYPES;
  const program = folder === undefined ? undefined : join(folder, 'i915/bdw.py');
  if (program === undefined || !existsSync(program)) {
    lab.skip('gem_exec_nop against the prototype', 'MPT_PROTOTYPES names no folder with i915/bdw.py');
    return;
  }
  // A round trip is four wake-ups: other programs that get between them would be what is measured.
  lab.tell(takeTurnsFirst());
  const guestOptions = { modules: ['i915'], packaged: await igt(), script: SCRIPT };
  const [ours, theirs] = [noTimes(), noTimes()];
  await lab.check(`${ROUNDS} boots each`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const { socket, child } = await prototype(program);
      await timesOf(lab.boot({ ...guestOptions, devices: deviceOf(socket) }, `prototype-${round}`), theirs);
      kill(child);
      const server = await lab.serve({ device: 'gvt', type: 'GVTg_V4_8', display: false });
      await timesOf(lab.boot({ ...guestOptions, devices: server.devices }, `ours-${round}`), ours);
      await server.stop();
    }
  });
  for (const engine of ENGINES) {
    if (ours[engine].length === 0) continue;
    const [our, their] = [median(ours[engine]), median(theirs[engine])];
    const ratio = our / their;
    const list = (times: readonly number[]): string => times.map((time) => time.toFixed(1)).join(' ');
    lab.tell(`${engine}: ${our.toFixed(1)} us against ${their.toFixed(1)} us, ratio ${ratio.toFixed(3)}, limit ${LIMIT}`);
    lab.tell(`${engine}: ours ${list(ours[engine])}; the prototype ${list(theirs[engine])}`);
    await lab.check(`an empty execution on ${engine} takes up to ${LIMIT} of the prototype's time`, () => {
      if (!(ratio <= LIMIT)) throw new Error(`${our.toFixed(1)} us against ${their.toFixed(1)} us: ratio ${ratio.toFixed(3)}`);
    });
  }
}

const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
};

export const I915_SPEED: Job = { name: 'i915-speed', timeoutS: 180, onlyByName: true, run };
