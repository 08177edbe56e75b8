/** The conformance suite of the backend acrn, on each ABI: the same cases as everywhere, their code executed by KVM. */
import type { Job, Lab } from '../job.js';
import { ABIS, type Abi } from '../standin.js';

const TIMEOUT_S = 300;
/** Far fewer would mean that cases were not run. */
const RUN_MINIMUM = 600;

const run =
  (abi: Abi) =>
  async (lab: Lab): Promise<void> => {
    const command = [process.execPath, 'build/src/cli/mpt.js', 'conformance', '--backend', 'acrn'];
    const points = lab.tap('suite', await lab.under('suite', abi, command));
    // The hypervisor may ask for completion by polling: it looks at the slot, and nobody notifies it.
    const polled = lab.tap('polling', await lab.under('polling', abi, [...command, 'mpt/access'], ['--polling']));
    await lab.check('the suite ran', () => {
      const passed = points.filter(({ status }) => status === 'passed').length;
      if (passed < RUN_MINIMUM) throw new Error(`${passed} cases passed, ${RUN_MINIMUM} or more were due`);
      const odd = points.find(({ status, reason }) => status === 'skipped' && !/^acrn declares /.test(reason ?? ''));
      if (odd !== undefined) throw new Error(`${odd.name} was skipped: ${odd.reason}`);
      if (!polled.some(({ status }) => status === 'passed')) throw new Error('no case passed with completion by polling');
    });
  };

export const CONFORMANCE: readonly Job[] = ABIS.map((abi) => ({ name: `conformance-${abi}`, timeoutS: TIMEOUT_S, run: run(abi) }));
