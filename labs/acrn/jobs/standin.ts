/** The stand-in itself: a client in C checks that it does what ACRN does and refuses what ACRN refuses (labs/acrn/client). */
import { join } from 'node:path';
import type { Job, Lab } from '../job.js';
import { ABIS, compile } from '../standin.js';

/** Far fewer would mean that the client ended early. */
const POINTS_MINIMUM = 150;
const MODES = { '': [], '-polling': ['--polling'] } as const;

async function run(lab: Lab): Promise<void> {
  const client = await compile(join(lab.checkout, 'labs/acrn/client'), join(lab.out, 'client'));
  for (const abi of ABIS)
    for (const [mode, flags] of Object.entries(MODES)) {
      const step = `${abi}${mode}`;
      const points = lab.tap(step, await lab.under(step, abi, [client, abi], flags));
      await lab.check(`${step}: the client came to its end`, () => {
        if (points.length < POINTS_MINIMUM) throw new Error(`${points.length} points, ${POINTS_MINIMUM} or more were due`);
      });
    }
  const { status } = await lab.under('none', 'none', [client, 'hsm']);
  await lab.check('none: without the devices the client finds none', () => {
    if (status !== 1) throw new Error(`it ended with ${status}`);
  });
}

export const STANDIN: Job = { name: 'standin', timeoutS: 120, run };
