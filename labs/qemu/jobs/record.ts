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
const OVERHEAD_LIMIT = 1.1;
const REPLAY_LIMIT = 1 / 5;
const REPLAY_LIMIT_S = 60;

interface Kind {
  readonly name: string;
  readonly served: Served;
  readonly module: string;
  readonly programs: readonly string[];
  readonly script: string;
}

const CONSOLE = `for line in $(seq 1 50); do echo "line $line of text that scrolls the console of the guest" >/dev/tty0; done`;

const KINDS: readonly Kind[] = [
  {
    name: 'i915',
    served: { device: 'gvt', type: 'GVTg_V4_8', display: false },
    module: 'i915',
    programs: ['gem-check'],
    script: 'gem-check || exit\necho booted\n',
  },
  { name: 'bochs', served: { device: 'mbochs', type: 'medium' }, module: 'bochs', programs: [], script: `${CONSOLE}\necho booted\n` },
  {
    name: 'i915-display',
    served: { device: 'gvt', type: 'GVTg_V4_8' },
    module: 'i915',
    programs: [],
    script: `${CONSOLE}\necho booted\n`,
  },
];

/** Of an odd number of values. */
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[(values.length - 1) / 2] as number;

async function run(lab: Lab): Promise<void> {
  for (const kind of KINDS) await recordKind(lab, kind);
}

async function recordKind(lab: Lab, { name, served, module, programs, script }: Kind): Promise<void> {
  const compiled = await lab.programs(...programs);
  const file = join(lab.out, `${name}.mptrec`);
  const boot = async (folder: string, record?: string): Promise<number> => {
    const server = await lab.serve(record === undefined ? served : { ...served, record });
    const guest = lab.boot({ modules: [module], programs: compiled, script, devices: server.devices }, folder);
    await guest.line(/^booted$/, LINE_LIMIT_S);
    const took = guest.milliseconds / 1000;
    const failure = await guest.ended;
    await server.stop();
    if (failure !== undefined) throw new Error(failure);
    return took;
  };
  const plain: number[] = [];
  const recorded: number[] = [];
  await lab.check(`${name}: ${TIMES} boots each`, async () => {
    for (let i = 0; i < TIMES; i++) {
      plain.push(await boot(`${name}-plain-${i}`));
      recorded.push(await boot(`${name}-recorded-${i}`, file));
    }
  });
  if (recorded.length < TIMES) return;
  const ratio = median(recorded) / median(plain);
  lab.tell(`${name}: boot ${median(plain).toFixed(2)} s, recorded ${median(recorded).toFixed(2)} s, ratio ${ratio.toFixed(3)}`);
  lab.tell(`${name}: recording of ${Math.ceil(statSync(file).size / 1024)} KiB`);
  await lab.check(`${name}: recording takes less than a tenth of a boot`, () => {
    if (!(ratio < OVERHEAD_LIMIT)) throw new Error(`ratio ${ratio.toFixed(3)}`);
  });
  await lab.check(`${name}: the recording replays to its last event, in less than a fifth of the boot's time`, async () => {
    const { status, stdout, stderr } = await runProgram(process.execPath, ['build/src/cli/mpt.js', 'replay', file, '--json'], {
      cwd: lab.checkout,
      timeoutS: REPLAY_LIMIT_S,
    });
    if (status !== 0) throw new Error(lastLine(stderr) || stdout);
    const { ms, steps, events, pages, unasked } = JSON.parse(stdout) as Record<'ms' | 'steps' | 'events' | 'pages' | 'unasked', number>;
    const part = ms / 1000 / (recorded.at(-1) as number);
    lab.tell(`${name}: ${steps} steps, ${events} events, ${pages} pages replayed in ${ms} ms, ${part.toFixed(3)} of the boot`);
    if (unasked !== 0) throw new Error(`${unasked} looks were left over`);
    if (!(part < REPLAY_LIMIT)) throw new Error(`${part.toFixed(3)} of the boot's time`);
  });
}

export const RECORD: Job = { name: 'record', timeoutS: 180, onlyByName: true, run };
