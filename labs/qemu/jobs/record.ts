/**
 * Recordings of boots: what it costs to record one, that each replays to its last event in a fifth of its time, and the recordings that are
 * the regression tests in `test/recordings`.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { lastLine, run as runProgram } from '../../common/children.js';
import { type Job, type Lab, LINE_LIMIT_S } from '../job.js';
import type { Served } from '../server.js';

/** Boots of each kind with a recording, and as many without, in turns. */
const TIMES = 5;
const OVERHEAD_LIMIT = 0.1;
const REPLAY_LIMIT = 1 / 5;
const REPLAY_LIMIT_S = 60;

interface Kind {
  readonly name: string;
  readonly served: Served;
  readonly module: string;
  readonly script: string;
}

const CONSOLE = `for line in $(seq 1 50); do echo "line $line of text that scrolls the console of the guest" >/dev/tty0; done`;

const KINDS: readonly Kind[] = [
  {
    name: 'i915',
    served: { device: 'gvt', type: 'GVTg_V4_8', display: false },
    module: 'i915',
    script: 'ls /dev/dri\necho booted\n',
  },
  { name: 'bochs', served: { device: 'mbochs', type: 'medium' }, module: 'bochs', script: `${CONSOLE}\necho booted\n` },
  {
    name: 'i915-display',
    served: { device: 'gvt', type: 'GVTg_V4_8' },
    module: 'i915',
    script: `${CONSOLE}\necho booted\n`,
  },
];

/** How long a boot took, and how much processor time the server. */
interface Boot {
  readonly seconds: number;
  readonly processor: number;
}

/** Of an odd number of values. */
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[(values.length - 1) / 2] as number;

type Boots = (folder: string, record?: string) => Promise<Boot>;

/** How guests of the kind are booted. */
async function bootsOf(lab: Lab, { served, module, script }: Kind): Promise<Boots> {
  return async (folder, record) => {
    const server = await lab.serve(record === undefined ? served : { ...served, record });
    const guest = lab.boot({ modules: [module], script, devices: server.devices }, folder);
    await guest.line(/^booted$/, LINE_LIMIT_S);
    const seconds = guest.milliseconds / 1000;
    const processor = server.processorSeconds;
    const failure = await guest.ended;
    await server.stop();
    if (failure !== undefined) throw new Error(failure);
    return { seconds, processor };
  };
}

const fileOf = (lab: Lab, { name }: Kind): string => join(lab.out, `${name}.mptrec`);

async function measure(lab: Lab, kind: Kind): Promise<void> {
  const { name } = kind;
  const boot = await bootsOf(lab, kind);
  const file = fileOf(lab, kind);
  const plain: Boot[] = [];
  const recorded: Boot[] = [];
  await lab.check(`${name}: ${TIMES} boots each`, async () => {
    for (let i = 0; i < TIMES; i++) {
      plain.push(await boot(`${name}-plain-${i}`));
      recorded.push(await boot(`${name}-recorded-${i}`, file));
    }
  });
  if (recorded.length < TIMES) return;
  const seconds = [plain, recorded].map((boots) => median(boots.map((one) => one.seconds))) as [number, number];
  const processor = [plain, recorded].map((boots) => median(boots.map((one) => one.processor))) as [number, number];
  const ratio = seconds[1] / seconds[0];
  const part = (processor[1] - processor[0]) / seconds[0];
  lab.tell(`${name}: boot ${seconds[0].toFixed(2)} s, recorded ${seconds[1].toFixed(2)} s, ratio ${ratio.toFixed(3)}`);
  lab.tell(
    `${name}: server ${processor[0].toFixed(2)} s of processor time, recording ${processor[1].toFixed(2)} s: ${part.toFixed(3)} of the boot`,
  );
  lab.tell(`${name}: recording of ${Math.ceil(statSync(file).size / 1024)} KiB`);
  await lab.check(`${name}: recording takes less than a tenth of a boot`, () => {
    if (!(ratio < 1 + OVERHEAD_LIMIT)) throw new Error(`ratio ${ratio.toFixed(3)}`);
  });
  await lab.check(`${name}: recording takes less processor time than a tenth of a boot`, () => {
    if (!(part < OVERHEAD_LIMIT)) throw new Error(`${part.toFixed(3)}`);
  });
  const share = await replayed(lab, kind, (recorded.at(-1) as Boot).seconds);
  await lab.check(`${name}: the replay takes less than a fifth of the boot's time`, () => {
    if (!(share < REPLAY_LIMIT)) throw new Error(share.toFixed(3));
  });
}

/** @returns the replay's time as a part of the boot's */
async function replayed(lab: Lab, kind: Kind, bootSeconds: number): Promise<number> {
  const { name } = kind;
  let share = Number.POSITIVE_INFINITY;
  await lab.check(`${name}: the recording replays to its last event`, async () => {
    const { status, stdout, stderr } = await runProgram(process.execPath, ['build/src/cli/mpt.js', 'replay', fileOf(lab, kind), '--json'], {
      cwd: lab.checkout,
      timeoutS: REPLAY_LIMIT_S,
    });
    if (status !== 0) throw new Error(lastLine(stderr) || stdout);
    const { ms, steps, events, pages, unasked } = JSON.parse(stdout) as Record<'ms' | 'steps' | 'events' | 'pages' | 'unasked', number>;
    share = ms / 1000 / bootSeconds;
    lab.tell(`${name}: ${steps} steps, ${events} events, ${pages} pages replayed in ${ms} ms, ${share.toFixed(3)} of the boot`);
    if (unasked !== 0) throw new Error(`${unasked} looks were left over`);
  });
  return share;
}

/** One boot of each kind: the files of `test/recordings`. */
async function make(lab: Lab, kind: Kind): Promise<void> {
  const boot = await bootsOf(lab, kind);
  let seconds = Number.NaN;
  await lab.check(`${kind.name}: a boot is recorded`, async () => {
    seconds = (await boot(kind.name, fileOf(lab, kind))).seconds;
  });
  await replayed(lab, kind, seconds);
  lab.tell(`${kind.name}: ${fileOf(lab, kind)}`);
}

const eachKind =
  (work: (lab: Lab, kind: Kind) => Promise<void>) =>
  async (lab: Lab): Promise<void> => {
    for (const kind of KINDS) await work(lab, kind);
  };

export const RECORD: Job = { name: 'record', timeoutS: 180, onlyByName: true, run: eachKind(measure) };
export const RECORDINGS: Job = { name: 'recordings', timeoutS: 180, onlyByName: true, run: eachKind(make) };
