/**
 * Weston, Debian's, on i915 on a GVT vGPU: its desktop, a terminal in it and the cursor are in the picture, and on the live page. Its pixman
 * renderer draws the cursor itself: Weston fills cursor planes from buffers of GBM, which it has with its OpenGL renderer only (Mesa's
 * software rasterizer here), so that is started afterwards.
 */
import { join } from 'node:path';
import { debianRoot, MOUNT_ROOT, ROOT_MODULES, START_UDEV } from '../debian-root.js';
import { i915Complaint } from '../i915-complaint.js';
import { type Job, type Lab, LINE_LIMIT_S, mustEqual, quoted } from '../job.js';
import { LivePage } from '../live-page.js';
import { mustShow, type Picture, pixelAt, readPicture, rgb } from '../picture.js';
import { POINTER_MODULES, Pointer } from '../pointer.js';
import type { DeviceServer } from '../server.js';
import { KEY, readTerminal } from '../terminal.js';
import { desktop } from '../trees.js';

const SIZE = { width: 1024, height: 768 } as const;
const BACKGROUND = 0x20_4060;
const PANEL = 0x80_8080;
/** Rows of the panel, which is at the top. */
const PANEL_HEIGHT = 32;
const LINES = ['mediated pass-through: a terminal of Weston', '~!@#$%^&*()_+ the quick brown fox 0123456789'];
/** Where there is nothing but the background, and where its launcher is not. */
const PLACES = [
  { x: 60, y: 700 },
  { x: 130, y: 120 },
] as const;
/** The same: over the terminal the cursor would be another one. */
const ELSEWHERE = { x: 30, y: 400 } as const;
/** Pixels left of and above the pointer, and to the right and below, in which the cursor is. */
const CURSOR = { before: 16, after: 32, pixelsLeast: 60 } as const;

/** An emulated CPU compiles Mesa's shaders first. */
const DESKTOP_LIMIT_S = 60;

const CONFIGURATION = `[core]
idle-time=0
[shell]
background-color=0xff${BACKGROUND.toString(16)}
panel-color=0xff${PANEL.toString(16)}
clock-format=none
locking=false
animation=none
startup-animation=none
close-animation=none
[terminal]
font=DejaVu Sans Mono
font-size=14
[output]
name=HDMI-A-1
mode=${SIZE.width}x${SIZE.height}
`;

const SCRIPT = `
${MOUNT_ROOT}
${START_UDEV}
mount -t debugfs debug /sys/kernel/debug
mkdir -m 700 /debian/run/weston
cat >/debian/tmp/weston.ini <<'END'
${CONFIGURATION}END
cat >/debian/tmp/shell <<'END'
#!/tmp/busybox sh
printf '${KEY}'
${LINES.map((line) => `printf '%s\\r\\n' ${quoted(line)}`).join('\n')}
exec /tmp/busybox sleep 1000
END
chmod +x /debian/tmp/shell
export XDG_RUNTIME_DIR=/run/weston HOME=/tmp

# The rest of the arguments is Weston's.
weston() {
  name=$1
  shift
  # Not by a function: the shell would be in between, and take the signal.
  chroot /debian /usr/bin/weston --backend=drm-backend.so --tty=1 --config=/tmp/weston.ini --log=/tmp/$name.log --socket=$name "$@" >/debian/tmp/$name.out 2>&1 &
  weston=$!
  for i in $(seq 1 600); do [ -S /debian/run/weston/$name ] && break; usleep 100000; done
  WAYLAND_DISPLAY=$name debian /usr/bin/weston-terminal --shell=/tmp/shell >/debian/tmp/terminal-$name.out 2>&1 &
  echo "$name started $(grep -o 'GL renderer: .*' /debian/tmp/$name.log || echo 'no GL')"
}
stop() {
  kill $weston
  wait
  echo "$name stopped"
}
# The plane as i915's own state has it: its pipe, and where it is.
cursor() {
  echo "cursor plane $(awk '/^plane/ { on = /cursor A/ } on && /crtc(-pos)?=/ { printf "%s ", $0 }' /sys/kernel/debug/dri/0/state | tr -d '\\t')"
}

weston pixman --use-pixman
read answer
stop
export LIBGL_ALWAYS_SOFTWARE=1 MESA_LOADER_DRIVER_OVERRIDE=kms_swrast GALLIUM_DRIVER=llvmpipe
weston gl
read answer
cursor
read answer
cursor
read answer
stop
`;

type Place = (typeof PLACES)[number];

/** Numbers of the pixels that are not of the background, around a place, counted from there. */
function cursorAt(picture: Picture, place: Place): Map<string, number> {
  const found = new Map<string, number>();
  for (let y = -CURSOR.before; y < CURSOR.after; y++)
    for (let x = -CURSOR.before; x < CURSOR.after; x++) {
      const pixel = pixelAt(picture, place.x + x, place.y + y);
      if (pixel !== BACKGROUND) found.set(`${x},${y}`, pixel);
    }
  return found;
}

/** The desktop with its terminal, and the cursor at `place`. @throws Error with what is missing */
function mustBeDesktop(picture: Picture, place: Place): void {
  mustEqual('the size', `${picture.width}x${picture.height}`, `${SIZE.width}x${SIZE.height}`);
  for (const [what, x, y, wanted] of [
    ['the panel', SIZE.width - 10, PANEL_HEIGHT - 2, PANEL],
    ['the background below the panel', SIZE.width - 10, PANEL_HEIGHT + 2, BACKGROUND],
    ['the background at the lower left', 1, SIZE.height - 2, BACKGROUND],
  ] as const)
    mustEqual(what, rgb(pixelAt(picture, x, y)), rgb(wanted));
  const rows = readTerminal(picture, LINES.length);
  for (const [row, text] of LINES.entries()) mustEqual(`row ${row} of the terminal`, rows[row], text);
  const cursor = cursorAt(picture, place);
  if (cursor.size < CURSOR.pixelsLeast)
    throw new Error(`${cursor.size} pixels at ${place.x},${place.y} differ from the background: there is no cursor`);
}

/** Both show the same but for the cursor, which is the same at both places. */
function mustHaveMoved(before: Picture, from: Place, now: Picture, to: Place): void {
  const [old, moved] = [cursorAt(before, from), cursorAt(now, to)];
  mustEqual('pixels of the cursor', moved.size, old.size);
  for (const [where, pixel] of old) mustEqual(`the cursor's pixel at ${where}`, rgb(moved.get(where) ?? BACKGROUND), rgb(pixel));
  mustShow(now, SIZE, (x, y) => {
    const near = ({ x: atX, y: atY }: Place): boolean =>
      x >= atX - CURSOR.before && x < atX + CURSOR.after && y >= atY - CURSOR.before && y < atY + CURSOR.after;
    if (near(from)) return BACKGROUND;
    return near(to) ? pixelAt(now, x, y) : pixelAt(before, x, y);
  });
}

/** What Weston's renderers are to do, both the same. @param plane looks at the plane that the cursor is in */
async function looks(
  lab: Lab,
  server: DeviceServer,
  pointer: Pointer,
  name: string,
  plane: (place: Place) => Promise<void>,
): Promise<void> {
  const [from, to] = PLACES;
  const file = (i: number): string => join(lab.out, `${name}-${i}.png`);
  // A pointer that is there already would not move.
  await pointer.moveTo(ELSEWHERE.x, ELSEWHERE.y, SIZE);
  for (const [i, place] of PLACES.entries()) {
    await pointer.moveTo(place.x, place.y, SIZE);
    await lab.check(`${name}: the desktop, the terminal's text and the cursor at ${place.x},${place.y} are in the picture`, () =>
      server.shows(file(i), (picture) => mustBeDesktop(picture, place), DESKTOP_LIMIT_S),
    );
    await plane(place);
  }
  const [before, now] = [readPicture(file(0)), readPicture(file(1))];
  await lab.check(`${name}: the cursor has moved, and nothing else`, () => mustHaveMoved(before, from, now, to));
  await lab.check(`${name}: the live page shows the same in Chromium, pixel for pixel, and the cursor move`, async () => {
    const page = await LivePage.open(lab.checkout, server.socket);
    try {
      await page.shows(now);
      await pointer.moveTo(from.x, from.y, SIZE);
      await page.shows(before);
    } finally {
      await page.close();
    }
  });
}

async function run(lab: Lab): Promise<void> {
  const pointer = new Pointer();
  const modules = ['i915', ...ROOT_MODULES, ...POINTER_MODULES];
  const machine = [...debianRoot(await desktop()), ...pointer.machine];
  await lab.withGuest({ device: 'gvt', type: 'GVTg_V4_8' }, { modules, machine, script: SCRIPT }, async (guest, server) => {
    await guest.line(/^pixman started no GL$/, LINE_LIMIT_S);
    await looks(lab, server, pointer, 'pixman', async () => {});
    guest.answer('stop');
    await guest.line(/^pixman stopped$/, LINE_LIMIT_S);

    const [, renderer] = await guest.line(/^gl started GL renderer: (.*)$/, LINE_LIMIT_S);
    await lab.check("gl: Mesa's software rasterizer renders", () => {
      if (!/^llvmpipe/.test(renderer as string)) throw new Error(`it is ${renderer}`);
    });
    await looks(lab, server, pointer, 'gl', async ({ x, y }) => {
      guest.answer('plane');
      const [, plane] = await guest.line(/^cursor plane (.*)$/, LINE_LIMIT_S);
      await lab.check(`gl: the cursor is a plane of its own, which covers ${x},${y}, to i915 and to mpt display`, async () => {
        const [, left, top] = /crtc=pipe A.*crtc-pos=\d+x\d+\+(\d+)\+(\d+)/.exec(plane as string) ?? [];
        const near = (at: number, edge: number): boolean => at >= edge && at < edge + CURSOR.before;
        if (!near(x, Number(left)) || !near(y, Number(top))) throw new Error(`i915 has it as '${plane}'`);
        const shown = await server.planes(join(lab.out, 'gl-planes.png'));
        if (!shown.some((words) => words.startsWith('cursor ') && words.includes(` at ${left},${top} `)))
          throw new Error(`mpt display has the planes ${shown.join(', ')}`);
      });
    });
    guest.answer('stop');
    await guest.line(/^gl stopped$/, LINE_LIMIT_S);
    pointer.close();
    await lab.check('i915 has nothing to complain of', () => mustEqual('its first complaint', i915Complaint(guest.console), undefined));
  });
}

export const I915_WESTON: Job = { name: 'i915-weston', timeoutS: 300, run };
