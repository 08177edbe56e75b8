/** The conformance suite with QEMU's guests as VMs: the same cases as everywhere, their code executed by QEMU. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run as runProgram } from '../../common/children.js';
import { readTap } from '../../common/tap.js';
import type { Job, Lab } from '../job.js';

const TIMEOUT_S = 900;
/** Far fewer would mean that cases were not run. */
const RUN_MINIMUM = 450;

async function run(lab: Lab): Promise<void> {
  const { command, env } = lab.qemu;
  const config = join(lab.out, 'config.json');
  // The environment goes with the words: they are all that the backend starts.
  const words = ['env', ...Object.entries(env).map(([name, value]) => `${name}=${value}`), ...command];
  writeFileSync(config, JSON.stringify({ backend: 'vfio-user', options: { qemu: words } }));
  const mpt = join(lab.checkout, 'build/src/cli/mpt.js');
  const args = [mpt, 'conformance', '--backend', 'vfio-user', '--config', config];
  const { stdout, stderr } = await runProgram(process.execPath, args, { timeoutS: TIMEOUT_S });
  writeFileSync(join(lab.out, 'suite.tap'), stdout);
  if (stderr !== '') writeFileSync(join(lab.out, 'stderr'), stderr);
  const points = readTap(stdout);
  lab.points.push(...points);
  await lab.check('the suite ran', () => {
    const passed = points.filter(({ status }) => status === 'passed').length;
    if (passed < RUN_MINIMUM) throw new Error(`${passed} cases passed, ${RUN_MINIMUM} or more were due ${stderr}`);
    const odd = points.find(({ status, reason }) => status === 'skipped' && !/^vfio-user declares /.test(reason ?? ''));
    if (odd !== undefined) throw new Error(`${odd.name} was skipped: ${odd.reason}`);
  });
}

export const CONFORMANCE: Job = { name: 'conformance', timeoutS: TIMEOUT_S, run };
