/** An mdpy device, driven from user space in the guest: mode from its vendor capability, pixels through its BAR. */
import { join } from 'node:path';
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';
import { mustShow, patternPixel } from '../picture.js';

const SCRIPT = `${findDevice('0x1b36', '0x000f')}
echo "class $(cat $device/class)"
mdpy-pattern $device || exit
read answer
`;

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('mdpy-pattern');
  await lab.withGuest({ device: 'mdpy', type: 'xga' }, { modules: [], programs, script: SCRIPT }, async (guest, server) => {
    const line = async (pattern: RegExp): Promise<string> => (await guest.line(pattern, LINE_LIMIT_S))[1] as string;
    const pciClass = await line(/^class (.*)$/);
    await lab.check('it is a display controller 1b36:000f', () => mustEqual('its class', pciClass, '0x038000'));
    const mode = await line(/^mode (.*)$/);
    await lab.check('its vendor capability tells XR24, 1024x768', () =>
      mustEqual('the capability', mode, 'id=0x9 length=0x10 format=0x34325258 width=1024 height=768'),
    );
    const size = await line(/^bar0 (.*)$/);
    await lab.check('BAR0 has 4 MiB', () => mustEqual('its size', size, String(4 << 20)));
    await guest.line(/^drawn 1024 768$/, LINE_LIMIT_S);
    await lab.check('the pattern that the guest wrote to BAR0 is in the picture, pixel for pixel', () =>
      server.shows(join(lab.out, 'pattern.png'), (picture) => mustShow(picture, { width: 1024, height: 768 }, patternPixel)),
    );
    guest.answer('done');
  });
}

export const MDPY: Job = { name: 'mdpy', timeoutS: 180, run };
