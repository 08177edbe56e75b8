/** Debian's unmodified bochs driver on an mbochs device: it binds, its console is read, its framebuffer is compared. */
import { join } from 'node:path';
import { fontOf, readText } from '../font.js';
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual, quoted } from '../job.js';
import { mustShow, patternPixel } from '../picture.js';

/** Every printable ASCII character, and words. */
const LINES = [
  'mediated pass-through: this line was written to /dev/tty0 in the guest',
  Array.from({ length: 95 }, (_, i) => String.fromCharCode(0x20 + i)).join(''),
  '  The quick brown fox jumps over the lazy dog; 0123456789',
];

const SCRIPT = `${findDevice('0x1234', '0x1111')}
echo "driver $(basename "$(readlink $device/driver)")"
echo "cards $(cd /sys/class/drm && echo card*)"
echo "fb0 $(cat /sys/class/graphics/fb0/name)"
dmesg | grep -m 1 'Initialized bochs' || echo 'no such line'
console-text ${LINES.map(quoted).join(' ')} || exit
read answer
fb-pattern || exit
read answer
`;

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('console-text', 'fb-pattern');
  await lab.withGuest({ device: 'mbochs', type: 'medium' }, { modules: ['bochs'], programs, script: SCRIPT }, async (guest, server) => {
    const value = async (pattern: RegExp): Promise<string> => (await guest.line(pattern, LINE_LIMIT_S))[1] as string;
    const driver = await value(/^driver (.*)$/);
    const cards = await value(/^cards (.*)$/);
    const fb0 = await value(/^fb0 (.*)$/);
    const initialized = await value(/^(.*Initialized bochs.*|no such line)$/);
    await lab.check("Debian's bochs driver binds to 1234:1111", () => {
      mustEqual('the driver of 1234:1111', driver, 'bochs-drm');
      if (!initialized.includes('Initialized bochs-drm')) throw new Error(`dmesg has no line 'Initialized bochs-drm': ${initialized}`);
    });
    await lab.check('it makes a DRM card with a connector, and /dev/fb0', () => {
      if (!/^card0 card0-\S+$/.test(cards)) throw new Error(`/sys/class/drm has '${cards}', not card0 and one connector`);
      mustEqual('the name of fb0', fb0, 'bochs-drmdrmfb');
    });

    const [heading, , , count] = await guest.line(/^font (\d+) (\d+) (\d+)$/, LINE_LIMIT_S);
    const glyphs: string[] = [];
    while (glyphs.length < Number(count)) glyphs.push((await guest.line(/^[0-9a-f]+$/, LINE_LIMIT_S))[0]);
    const font = fontOf(heading, glyphs);
    const text = join(lab.out, 'text.png');
    await lab.check('the text that the guest wrote to its console is read from the picture', () =>
      server.shows(text, (picture) => {
        const rows = readText(picture, font);
        const wanted = [...LINES, ...Array<string>(rows.length - LINES.length).fill('')];
        for (const [row, line] of wanted.entries()) mustEqual(`row ${row} of the console`, rows[row], line.trimEnd());
      }),
    );
    guest.answer('draw');

    const [, width, height] = await guest.line(/^drawn (\d+) (\d+)$/, LINE_LIMIT_S);
    const pattern = join(lab.out, 'pattern.png');
    await lab.check('the pattern that the guest wrote to /dev/fb0 is in the picture, pixel for pixel', () =>
      server.shows(pattern, (picture) => mustShow(picture, { width: Number(width), height: Number(height) }, patternPixel)),
    );
    guest.answer('done');
  });
}

export const BOCHS: Job = { name: 'bochs', timeoutS: 180, run };
