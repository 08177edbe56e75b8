/** The tests of the backend acrn, on each ABI. They ask `ACRN_STANDIN` which one is there. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Job, Lab } from '../job.js';
import { ABIS } from '../standin.js';

const TIMEOUT_S = 300;
const FOLDER = 'build/test/acrn';

async function run(lab: Lab): Promise<void> {
  const folder = join(lab.checkout, FOLDER);
  const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.test.js')) : [];
  await lab.check(`there are tests in ${FOLDER}`, () => {
    if (files.length === 0) throw new Error('none');
  });
  for (const abi of ABIS)
    for (const file of files) {
      const step = `${abi}-${file.replace(/\.test\.js$/, '')}`;
      lab.tap(step, await lab.under(step, abi, [process.execPath, join(FOLDER, file)]));
    }
}

export const TESTS: Job = { name: 'tests', timeoutS: TIMEOUT_S, run };
