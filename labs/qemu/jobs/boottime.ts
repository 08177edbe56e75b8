/**
 * How long a guest takes to boot with the bochs driver on QEMU's own bochs-display, whose framebuffer is a mapped BAR too, and on an
 * mbochs device: the same guest, in turns.
 */
import type { Guest } from '../guest.js';
import { type Job, type Lab, LINE_LIMIT_S } from '../job.js';

const TIMES = 7;
const LIMIT = 1.3;
/** By then the driver has bound, and the console is drawn. */
const SCRIPT = `[ -e /dev/fb0 ] || { echo 'lab: there is no /dev/fb0'; exit 1; }
for line in $(seq 1 200); do echo "line $line of text that scrolls the console of the guest" >/dev/tty0; done
echo booted
`;
/** As mbochs of type medium. */
const BOCHS_DISPLAY = ['-device', 'bochs-display,vgamem=16M'];

async function run(lab: Lab): Promise<void> {
  const guestOptions = { modules: ['bochs'], script: SCRIPT };
  const timed = async (guest: Guest): Promise<number> => {
    await guest.line(/^booted$/, LINE_LIMIT_S);
    const took = guest.milliseconds / 1000;
    const failure = await guest.ended;
    if (failure !== undefined) throw new Error(failure);
    return took;
  };
  const theirs: number[] = [];
  const ours: number[] = [];
  await lab.check(`${TIMES} boots each`, async () => {
    for (let i = 0; i < TIMES; i++) {
      theirs.push(await timed(lab.boot({ ...guestOptions, devices: BOCHS_DISPLAY }, `bochs-display-${i}`)));
      const server = await lab.serve({ device: 'mbochs', type: 'medium' });
      ours.push(await timed(lab.boot({ ...guestOptions, devices: server.devices }, `mbochs-${i}`)));
      await server.stop();
    }
  });
  if (ours.length < TIMES) return;
  const ratio = median(ours) / median(theirs);
  const list = (times: readonly number[]): string => times.map((time) => time.toFixed(2)).join(' ');
  lab.tell(`bochs-display: median ${median(theirs).toFixed(2)} s of ${list(theirs)}`);
  lab.tell(`mbochs:        median ${median(ours).toFixed(2)} s of ${list(ours)}`);
  lab.tell(`ratio ${ratio.toFixed(2)}, limit ${LIMIT}`);
  await lab.check(`with mbochs the boot takes up to ${LIMIT} of the time with bochs-display`, () => {
    if (!(ratio <= LIMIT))
      throw new Error(`${median(ours).toFixed(2)} s against ${median(theirs).toFixed(2)} s: ratio ${ratio.toFixed(2)}`);
  });
}

/** Of an odd number of values. */
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[(values.length - 1) / 2] as number;

export const BOOTTIME: Job = { name: 'boottime', timeoutS: 180, onlyByName: true, run };
