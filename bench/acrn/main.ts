/**
 * `npm run bench:acrn [-- --json] [-- --rounds N] [-- NAME-PREFIX]`: ACRN against a C client of the same stand-in (labs/acrn), in one run. This
 * program starts itself once more, under the stand-in.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { standin } from '../../labs/acrn/standin.js';
import { LabError } from '../../labs/common/lab-error.js';
import { acrn } from '../../src/backends/acrn/index.js';
import { EXIT } from '../../src/cli/exit-codes.js';
import { PACE } from '../compare.js';
import { raisePriority } from '../pin.js';
import { OURS, runSuite } from '../suite.js';
import { ACRN_ROWS } from './rows.js';

const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url));
const args = process.argv.slice(2);

/** The stand-in is a part of what is measured, on both sides: it gets the priority that the measured programs have. @returns the exit code */
async function underStandin(): Promise<number> {
  raisePriority();
  try {
    const program = await standin(CHECKOUT);
    const { status } = spawnSync(program, ['--', process.execPath, fileURLToPath(import.meta.url), ...args], { stdio: 'inherit' });
    return status ?? EXIT.FAILED;
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    process.stderr.write(`bench: UNAVAILABLE: ${error.message}\n`);
    return EXIT.UNAVAILABLE;
  }
}

if (process.env['ACRN_STANDIN'] === undefined) process.exitCode = await underStandin();
else
  await runSuite(
    {
      backend: 'acrn',
      command: 'npm run bench:acrn --',
      probe: () => acrn.probe(),
      rows: ACRN_ROWS,
      sources: {
        programs: { acrn: ['acrn/main.c', 'acrn/agent.c', '../../labs/acrn/client/machine.c', 'subject.c'] },
        flags: [],
        hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
      },
      ours: (row) => [process.execPath, OURS, ...row.ours],
      pace: { ...PACE, sampleNs: 30e6, rowNs: 6e9 },
    },
    args,
  );
