/** VMs that come and go, in peace and by SIGKILL, on each ABI: the stand-in is left with nothing. */
import { fileURLToPath } from 'node:url';
import type { Job, Lab } from '../job.js';
import { ABIS } from '../standin.js';

const TIMEOUT_S = 400;
const CYCLES = 1000;
const KILLS = 25;
const KILLS_LONG = 300;
const SEED = 20_261_201;

const program = (name: string): string => fileURLToPath(new URL(`../programs/${name}.js`, import.meta.url));

async function cycles(lab: Lab): Promise<void> {
  for (const abi of ABIS)
    await lab.check(`${abi}: ${CYCLES} VMs were created, used and destroyed in one process`, async () => {
      const { status, stderr, report } = await lab.under(`${abi}-cycles`, abi, [process.execPath, program('machines'), String(CYCLES)]);
      if (status !== 0) throw new Error(`exit ${status}: ${stderr.trim().slice(-300)}`);
      const { created, destroyed } = report;
      if (created !== CYCLES || destroyed !== CYCLES) throw new Error(`${created} created, ${destroyed} destroyed`);
    });
}

const kills =
  (count: number) =>
  async (lab: Lab): Promise<void> => {
    for (const abi of ABIS) {
      const step = `${abi}-kills`;
      const points = lab.tap(step, await lab.under(step, abi, [process.execPath, program('kills'), String(count), String(SEED)]));
      await lab.check(`${abi}: ${count} processes were killed`, () => {
        if (points.length !== count + 1) throw new Error(`${points.length - 1} were`);
      });
    }
  };

export const CYCLES_JOB: Job = { name: 'cycles', timeoutS: TIMEOUT_S, run: cycles };
export const KILLS_JOB: Job = { name: 'kills', timeoutS: TIMEOUT_S, run: kills(KILLS) };
export const KILLS_LONG_JOB: Job = { name: `kills-${KILLS_LONG}`, timeoutS: TIMEOUT_S, onlyByName: true, run: kills(KILLS_LONG) };
