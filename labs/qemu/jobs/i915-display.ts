/**
 * Debian's unmodified i915 on a GVT vGPU with its monitor: the connector has our EDID's modes, the console can be read, modetest sets
 * each mode, and the guest sees the monitor go and another one come.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Connector } from '../../../src/core/gvt/display/connector.js';
import { monitorEdid } from '../../../src/core/gvt/display/monitors.js';
import { fontOf, readText } from '../font.js';
import { i915Complaint } from '../i915-complaint.js';
import { findDevice, type Job, type Lab, LINE_LIMIT_S, mustEqual, quoted } from '../job.js';
import { mustShow, patternPixel } from '../picture.js';
import { smptePixel } from '../smpte.js';
import { drmTests } from '../trees.js';

const LINES = [
  'mediated pass-through: this line was written to /dev/tty0 in the guest',
  Array.from({ length: 95 }, (_, i) => String.fromCharCode(0x20 + i)).join(''),
];

/** Modes that the guest must find in the EDID of each monitor, in its order. */
const SMALL = ['1024x768', '800x600', '640x480'];
const LARGE = ['1920x1200', '1920x1080', '1600x1200', '1280x1024', '1280x720', '1024x768', '800x600', '640x480'];
const SIZE_LARGE = { width: 1920, height: 1200 };

/** Vertical blanks that are counted: two seconds of them. */
const BLANKS = 120;
const REFRESH_HZ = 60;

/** What vblank-rate says, as rates. i915 stamps a blank by the scan line; by the clock the guest may be late for the first or the last one. */
const blankRates = ([count, waits, stamps, clock]: readonly [number, number, number, number]) => [
  { how: 'by their stamps', hertz: (count * 1e9) / stamps, tolerance: 0.01 },
  { how: `by the clock, ${waits} waits for ${count}`, hertz: (count * 1e9) / clock, tolerance: 0.1 },
];

/** The variants: what the monitor is connected by, and what i915 calls that. */
interface Variant {
  readonly name: string;
  readonly connector: Connector;
  readonly called: string;
  readonly onlyByName?: true;
}

/** Tells the connected connector of modetest's list, and sets each mode on it until the lab has seen it. */
const setModes = (called: string): string => `
connector=$(modetest -M i915 -c | awk '$3 == "connected" { print $1 }')
echo "modetest connector $connector"
for mode in $(cat /sys/class/drm/card0-${called}/modes | uniq); do
  ( read answer; echo ) | modetest -M i915 -s $connector:$mode 2>&1
  echo "mode done $mode $?"
done
echo 'modes done'
`;

/** Waits until the connector's state is \`$1\`, which only an interrupt makes it. */
const awaitState = (called: string): string => `
await() {
  for i in $(seq 1 200); do
    [ "$(cat /sys/class/drm/card0-${called}/status)" = $1 ] && break
    usleep 100000
  done
  echo "state $(cat /sys/class/drm/card0-${called}/status)"
}
`;

const scriptOf = (called: string): string => `${findDevice('0x8086', '0x1616')}
${awaitState(called)}
echo "driver $(basename "$(readlink $device/driver)")"
for connector in /sys/class/drm/card0-*; do echo "connector $(basename $connector) $(cat $connector/status) $(echo $(cat $connector/modes))"; done
echo 'connectors done'
console-text ${LINES.map(quoted).join(' ')} || exit
read answer
vblank-rate ${BLANKS} || exit
kms-planes || exit
${setModes(called)}
echo unplug
await disconnected
echo replace
await connected
modetest -M i915 -c >/dev/null
echo "modes $(echo $(cat /sys/class/drm/card0-${called}/modes))"
${setModes(called)}
`;

/** What kms-planes draws, with its cursor at `left`, `top`. */
const planes =
  (left: number, top: number) =>
  (x: number, y: number): number => {
    const [cursorX, cursorY] = [x - left, y - top];
    // The first eight columns of the cursor are clear.
    if (cursorX >= 8 && cursorX < 64 && cursorY >= 0 && cursorY < 64) return patternPixel(4000 + cursorX, cursorY);
    if (x >= 100 && x < 300 && y >= 200 && y < 300) return patternPixel(2000 + x - 100, y - 200);
    return patternPixel(x, y);
  };

async function run(lab: Lab, { connector, called }: Variant): Promise<void> {
  const programs = await lab.programs('console-text', 'kms-planes', 'vblank-rate');
  const edid = join(lab.out, 'large.edid');
  writeFileSync(edid, monitorEdid(SIZE_LARGE, connector));
  const guestOptions = { modules: ['i915'], programs, packaged: await drmTests(), script: scriptOf(called) };
  await lab.withGuest({ device: 'gvt', type: 'GVTg_V4_8', connector }, guestOptions, async (guest, server) => {
    const line = async (pattern: RegExp): Promise<string> => (await guest.line(pattern, LINE_LIMIT_S))[1] as string;

    const driver = await line(/^driver (.*)$/);
    await lab.check("Debian's i915 binds to 8086:1616", () => mustEqual('its driver', driver, 'i915'));
    const connectors: string[] = [];
    for (let said = await line(/^(connector.*)$/); said !== 'connectors done'; said = await line(/^(connector.*)$/)) connectors.push(said);
    await lab.check(`the monitor is at ${called} alone, with our EDID's modes`, () => {
      const wanted = `connector card0-${called} connected ${SMALL.join(' ')}`;
      const connected = connectors.filter((said) => said.split(' ')[2] === 'connected');
      mustEqual('what is connected', connected.join(' | '), wanted);
    });

    const [heading, , , count] = await guest.line(/^font (\d+) (\d+) (\d+)$/, LINE_LIMIT_S);
    const glyphs: string[] = [];
    while (glyphs.length < Number(count)) glyphs.push((await guest.line(/^[0-9a-f]+$/, LINE_LIMIT_S))[0]);
    const font = fontOf(heading, glyphs);
    await lab.check('the text that the guest wrote to its console is read from the picture', () =>
      server.shows(join(lab.out, 'text.png'), (picture) => {
        mustEqual('the width', picture.width, 1024);
        const rows = readText(picture, font);
        for (const [row, text] of LINES.entries()) mustEqual(`row ${row} of the console`, rows[row], text.trimEnd());
      }),
    );
    guest.answer('go on');

    const blanks = await guest.line(/^vblank (\d+) (\d+) (\d+) (\d+)$/, LINE_LIMIT_S);
    const rates = blankRates(blanks.slice(1).map(Number) as [number, number, number, number]);
    lab.tell(`vertical blanks: ${rates.map(({ how, hertz }) => `${hertz.toFixed(2)} Hz ${how}`).join(', ')}`);
    await lab.check('vertical blanks come at 60 Hz', () => {
      const wrong = rates.find(({ hertz, tolerance }) => !(Math.abs(hertz / REFRESH_HZ - 1) <= tolerance));
      if (wrong !== undefined) throw new Error(`${wrong.how} they come at ${wrong.hertz.toFixed(2)} Hz`);
    });

    const [, width, height] = await guest.line(/^drawn (\d+) (\d+)$/, LINE_LIMIT_S);
    const size = { width: Number(width), height: Number(height) };
    await lab.check('an X-tiled primary plane, a sprite and a cursor are in the picture, pixel for pixel', () =>
      server.shows(join(lab.out, 'planes.png'), (picture) => mustShow(picture, size, planes(700, 500))),
    );
    await lab.check('mpt display tells of the three planes', async () =>
      mustEqual(
        'what it tells',
        (await server.planes(join(lab.out, 'planes.png'))).join(', '),
        `primary ${size.width}x${size.height} at 0,0 x, sprite 200x100 at 100,200 linear, cursor 64x64 at 700,500 linear`,
      ),
    );
    guest.answer('move');
    await guest.line(/^moved$/, LINE_LIMIT_S);
    await lab.check('the cursor moves, half off the screen', () =>
      server.shows(join(lab.out, 'moved.png'), (picture) => mustShow(picture, size, planes(-20, -30))),
    );
    guest.answer('done');

    /** Looks at each mode that the guest sets. */
    const modes = async (wanted: readonly string[]): Promise<void> => {
      const connector = await line(/^modetest connector (.*)$/);
      await lab.check(`modetest lists one connected connector (${wanted[0]})`, () => {
        if (!/^\d+$/.test(connector)) throw new Error(`it lists '${connector}'`);
      });
      for (const mode of wanted) {
        const set = await line(/^setting mode (\S+)-[\d.]+Hz on connectors/);
        const [width, height] = mode.split('x').map(Number) as [number, number];
        await lab.check(`modetest sets ${mode} of ${wanted[0]}, and each pixel of its colour bars is right`, () => {
          mustEqual('the mode', set, mode);
          return server.shows(join(lab.out, `${wanted[0]}-${mode}.png`), (picture) =>
            mustShow(picture, { width, height }, (x, y) => smptePixel(width, height, x, y)),
          );
        });
        guest.answer('seen');
      }
      await guest.line(/^modes done$/, LINE_LIMIT_S);
    };
    await modes(SMALL);

    await guest.line(/^unplug$/, LINE_LIMIT_S);
    await server.monitor('--unplug');
    const gone = await line(/^state (.*)$/);
    await lab.check('the guest sees the monitor go', () => mustEqual('the state', gone, 'disconnected'));
    await guest.line(/^replace$/, LINE_LIMIT_S);
    await server.monitor('--edid', edid);
    const back = await line(/^state (.*)$/);
    const found = await line(/^modes (.*)$/);
    await lab.check('it sees another one come, with the modes of that', () => {
      mustEqual('the state', back, 'connected');
      mustEqual('the modes', found, LARGE.join(' '));
    });
    await modes(LARGE);
    await lab.check('i915 has nothing to complain of', () => mustEqual('its first complaint', i915Complaint(guest.console), undefined));
  });
}

const job = (variant: Variant): Job => ({
  name: variant.name,
  timeoutS: 400,
  ...(variant.onlyByName ? { onlyByName: true } : {}),
  run: (lab) => run(lab, variant),
});

export const I915_DISPLAY: Job = job({ name: 'i915-display', connector: 'hdmi', called: 'HDMI-A-1' });
export const I915_DISPLAY_DP: Job = job({ name: 'i915-display-dp', connector: 'dp', called: 'DP-1', onlyByName: true });
