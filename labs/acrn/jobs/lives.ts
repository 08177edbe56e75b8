/** VMs that come and go, in peace and by SIGKILL, many more than the tests have: the stand-in is left with nothing. */
import { fileURLToPath } from 'node:url';
import type { Job, Lab } from '../job.js';
import { ABIS } from '../standin.js';

const TIMEOUT_S = 600;
const LIVES = 1000;
const KILLS = 200;
const SEED = 20_261_201;

const PROGRAM = 'build/test/acrn/cycles-program.js';
const KILLER = fileURLToPath(new URL('../programs/kills.js', import.meta.url));

async function cycles(lab: Lab): Promise<void> {
  for (const abi of ABIS)
    await lab.check(`${abi}: ${LIVES} VMs were created, used and destroyed in one process, which holds no more at the end`, async () => {
      const { status, stdout, stderr, report } = await lab.under(abi, abi, [process.execPath, PROGRAM, abi, String(LIVES)]);
      if (status !== 0) throw new Error(`exit ${status}: ${stderr.trim().slice(-300)}`);
      const { created, destroyed } = report;
      if (created !== LIVES || destroyed !== LIVES) throw new Error(`${created} created, ${destroyed} destroyed`);
      const { first, last } = JSON.parse(stdout) as Record<'first' | 'last', unknown>;
      if (JSON.stringify(first) !== JSON.stringify(last))
        throw new Error(`it held ${JSON.stringify(last)}, at first ${JSON.stringify(first)}`);
    });
}

async function kills(lab: Lab): Promise<void> {
  for (const abi of ABIS) {
    const points = lab.tap(abi, await lab.under(abi, abi, [process.execPath, KILLER, abi, String(KILLS), String(SEED)]));
    await lab.check(`${abi}: ${KILLS} processes were killed`, () => {
      if (points.length !== KILLS + 1) throw new Error(`${points.length - 1} were`);
    });
  }
}

export const LIVES_JOBS: readonly Job[] = [
  { name: 'cycles', timeoutS: TIMEOUT_S, onlyByName: true, run: cycles },
  { name: 'kills', timeoutS: TIMEOUT_S, onlyByName: true, run: kills },
];
