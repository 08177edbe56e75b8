/** The main job on each ABI: the test card that a guest's driver draws is the one that sim and kvm draw. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run as runProgram } from '../../common/children.js';
import type { Job, Lab } from '../job.js';
import { ABIS } from '../standin.js';

const TIMEOUT_S = 120;
const OTHERS = ['sim', 'kvm'] as const;

const command = (backend: string, picture: string): string[] => [
  process.execPath,
  'build/src/cli/mpt.js',
  'run',
  '--backend',
  backend,
  '--picture',
  picture,
  '--json',
];

const digest = (picture: string): string => createHash('sha256').update(readFileSync(picture)).digest('hex');

async function run(lab: Lab): Promise<void> {
  const { checkout: cwd } = lab;
  for (const abi of ABIS) {
    const picture = join(lab.out, `${abi}.png`);
    await lab.check(`${abi}: the test card is drawn, with workloads and interrupts`, async () => {
      const { status, stdout, stderr } = await lab.under(abi, abi, command('acrn', picture));
      if (status !== 0) throw new Error(stderr.trim());
      const { workloads, interrupts } = JSON.parse(stdout) as Record<'workloads' | 'interrupts', number>;
      if (!(workloads > 0 && interrupts > 0)) throw new Error(`${workloads} workloads, ${interrupts} interrupts`);
    });
  }
  for (const other of OTHERS) {
    const wanted = join(lab.out, `${other}.png`);
    const [program = '', ...args] = command(other, wanted);
    const { status, stderr } = await runProgram(program, args, { cwd, timeoutS: TIMEOUT_S });
    for (const abi of ABIS)
      await lab.check(`${abi}: it is the picture that ${other} draws`, () => {
        if (status !== 0) throw new Error(stderr.trim());
        const [ours, theirs] = [digest(join(lab.out, `${abi}.png`)), digest(wanted)];
        if (ours !== theirs) throw new Error(`sha256 ${ours}, on ${other} ${theirs}`);
      });
  }
}

export const PICTURE: Job = { name: 'picture', timeoutS: TIMEOUT_S, run };
