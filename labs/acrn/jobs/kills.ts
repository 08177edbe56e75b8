/** Processes that die by SIGKILL in the middle of a VM's life: the stand-in is left with nothing. */
import { fileURLToPath } from 'node:url';
import type { Job, Lab } from '../job.js';
import { ABIS } from '../standin.js';

const TIMEOUT_S = 600;
const SEED = 20_261_201;
const KILLER = fileURLToPath(new URL('../programs/kills.js', import.meta.url));

const kills =
  (count: number) =>
  async (lab: Lab): Promise<void> => {
    for (const abi of ABIS) {
      const points = lab.tap(abi, await lab.under(abi, abi, [process.execPath, KILLER, abi, String(count), String(SEED)]));
      await lab.check(`${abi}: ${count} processes were killed`, () => {
        if (points.length !== count + 1) throw new Error(`${points.length - 1} were`);
      });
    }
  };

export const KILLS: readonly Job[] = [
  { name: 'kills', timeoutS: TIMEOUT_S, run: kills(25) },
  { name: 'many-kills', timeoutS: TIMEOUT_S, onlyByName: true, run: kills(200) },
];
