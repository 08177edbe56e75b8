/** The QEMU lab without booting: module order, verdicts, pictures, text in pictures, usage. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encode } from 'fast-png';
import t from 'tap';
import { readTap } from '../../labs/common/tap.js';
import { type Font, fontOf, readText, UNREADABLE } from '../../labs/qemu/font.js';
import { quoted } from '../../labs/qemu/job.js';
import { dependsOf, loadOrder, parseModulesDep } from '../../labs/qemu/modules.js';
import { mustShow, type Picture, patternPixel, pictureOf } from '../../labs/qemu/picture.js';
import { JOBS, jobsOf } from '../../labs/qemu/plan.js';
import { KEY, readTerminal } from '../../labs/qemu/terminal.js';
import { failureOf, faultIn } from '../../labs/qemu/verdict.js';

const LAB = fileURLToPath(new URL('../../labs/qemu/main.js', import.meta.url));
const GUEST = fileURLToPath(new URL('../../labs/qemu/guest/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mpt-lab-qemu-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const env = { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name))), MPT_LAB_CACHE: folder };
const lab = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, [LAB, ...args], { encoding: 'utf8', timeout: 60_000, env: { ...env, ...more } });

t.test('modules: what a module needs is loaded before it, once', (t) => {
  const modules = parseModulesDep('b-1.ko: a.ko\na.ko:\nc.ko: b-1.ko a.ko\nd.ko: d2.ko\nd2.ko: d.ko\ne.ko: gone.ko\n');
  t.same(loadOrder(modules, ['c']), ['a.ko', 'b-1.ko', 'c.ko']);
  t.same(loadOrder(modules, ['b_1', 'c', 'a']), ['a.ko', 'b-1.ko', 'c.ko'], 'either spelling, none twice');
  t.same(loadOrder(modules, []), []);
  t.throws(() => loadOrder(modules, ['d']), { message: 'kernel modules need each other: d -> d2 -> d' });
  t.throws(() => loadOrder(modules, ['e']), { message: 'no kernel module e -> gone in modules.dep' });
  t.throws(() => parseModulesDep('a.ko b.ko'), { message: "modules.dep: 'a.ko b.ko' is not 'FILE: FILE...'" });
  t.end();
});

t.test('modules: depends= is read from the module itself', (t) => {
  const ko = (info: string): Buffer => Buffer.from(`\x7fELF\0xdepends=no\0${info}`, 'latin1');
  t.same(dependsOf(ko('license=GPL\0depends=drm,rc-core\0name=x\0')), ['drm', 'rc_core']);
  t.same(dependsOf(ko('depends=\0name=x\0')), []);
  t.same(dependsOf(ko('name=x\0')), []);
  t.end();
});

t.test('verdict: each thing that must not happen fails the boot, with its reason', (t) => {
  const good = { console: '[    2.2] Run /init as init process\n', qemu: { status: 0, signal: null, stderr: '', complaint: '' }, exit: 0 };
  t.equal(failureOf(good), undefined);
  const warned = 'qemu: warning: vfio /tmp/x: Could not enable error recovery for the device\n';
  t.equal(failureOf({ ...good, qemu: { ...good.qemu, stderr: warned } }), undefined, 'a warning is no failure');
  const { exit: _, ...unknown } = good;
  const rows: [Parameters<typeof failureOf>[0], string][] = [
    [{ ...good, exit: 3 }, 'the job ended with 3'],
    [{ ...good, exit: 3, said: 'no fb0' }, 'the job ended with 3: no fb0'],
    [unknown, 'the guest ended before its job did'],
    [{ ...unknown, console: '' }, 'the guest did not come up'],
    [{ ...good, late: 60 }, 'the guest did not end within 60 s'],
    [{ ...good, qemu: { status: 1, signal: null, stderr: '', complaint: 'no such device' } }, 'QEMU ended with 1: no such device'],
    [{ ...good, qemu: { status: null, signal: 'SIGSEGV', stderr: '', complaint: '' } }, 'QEMU was killed by SIGSEGV'],
    [
      { ...good, qemu: { ...good.qemu, stderr: 'x\nqemu: vfio_container_dma_map(1) = -17\n' } },
      'QEMU: qemu: vfio_container_dma_map(1) = -17',
    ],
    [{ ...good, server: 'mpt serve ended with 1: x' }, 'mpt serve ended with 1: x'],
    [{ ...good, console: `${good.console}[    3.0] Oops: 0002 [#1]\r\n` }, "the guest's kernel: Oops: 0002 [#1]"],
  ];
  for (const [ending, reason] of rows) t.equal(failureOf(ending), reason);
  t.end();
});

t.test('verdict: lines of the kernel that are faults, and lines that only look so', (t) => {
  for (const fault of [
    'Kernel panic - not syncing: VFS',
    'BUG: kernel NULL pointer dereference, address: 0000000000000008',
    'kernel BUG at mm/slub.c:1!',
    'watchdog: BUG: soft lockup - CPU#0 stuck for 22s!',
    'general protection fault, probably for non-canonical address',
    'WARNING: CPU: 0 PID: 1 at drivers/gpu/drm/drm_file.c:1',
    'rcu: INFO: rcu_preempt self-detected stall on CPU',
    'INFO: task sh:1 blocked for more than 120 seconds.',
  ])
    t.equal(faultIn(`[    0.1] fine\n[    1.5] ${fault}\n[    2.0] fine\n`), fault);
  t.equal(faultIn('AMD-Vi: not available - This is not a bug.\nMDS: Vulnerable\nDEBUG: x\nWARNING: Spectre v2\n'), undefined);
  t.end();
});

const noGcc = spawnSync('gcc', ['--version']).error === undefined ? false : 'no gcc here';

t.test('the pattern: host and guest have the same formula, and each channel takes all values', { skip: noGcc }, (t) => {
  const program = join(folder, 'pattern');
  writeFileSync(
    `${program}.c`,
    '#include <stdio.h>\n#include "pattern.h"\nint main(void) { for (unsigned y = 0; y < 800; y += 7) for (unsigned x = 0; x < 1920; x += 5) printf("%u\\n", pattern_pixel(x, y)); }\n',
  );
  const gcc = spawnSync('gcc', ['-I', GUEST, '-o', program, `${program}.c`], { encoding: 'utf8' });
  t.equal(gcc.stderr, '');
  const wanted: number[] = [];
  for (let y = 0; y < 800; y += 7) for (let x = 0; x < 1920; x += 5) wanted.push(patternPixel(x, y));
  t.equal(spawnSync(program, { encoding: 'utf8', maxBuffer: 1 << 24 }).stdout, `${wanted.join('\n')}\n`);
  for (const shift of [0, 8, 16]) t.equal(new Set(wanted.map((pixel) => (pixel >> shift) & 0xff)).size, 256);
  t.end();
});

t.test('pictures: one wrong pixel, or another size, is told', (t) => {
  const png = (width: number, height: number, channels: 3 | 4): Uint8Array => {
    const data = new Uint8Array(width * height * channels).fill(255);
    for (let i = 0; i < width * height; i++) {
      const pixel = patternPixel(i % width, Math.floor(i / width));
      data.set([pixel >> 16, (pixel >> 8) & 0xff, pixel & 0xff], i * channels);
    }
    return encode({ width, height, channels, data });
  };
  const size = { width: 40, height: 30 };
  for (const channels of [3, 4] as const) t.doesNotThrow(() => mustShow(pictureOf(png(40, 30, channels)), size, patternPixel));
  const picture = pictureOf(png(40, 30, 3));
  for (const [x, y, bit] of [
    [0, 0, 1],
    [39, 29, 0x100],
    [7, 3, 0x80_0000],
  ] as const) {
    const spoiled = { ...picture, pixels: picture.pixels.slice() };
    spoiled.pixels[y * 40 + x] = patternPixel(x, y) ^ bit;
    t.throws(() => mustShow(spoiled, size, patternPixel), {
      message: new RegExp(`^1 of 1200 pixels are wrong; the first at ${x},${y} is #`),
    });
  }
  t.throws(() => mustShow(picture, { width: 30, height: 40 }, patternPixel), { message: 'the picture is 40x30; the guest drew 30x40' });
  t.throws(() => pictureOf(encode({ width: 1, height: 1, channels: 1, data: new Uint8Array(1) })), { message: /1 channels of 8 bits/ });
  t.end();
});

t.test('text is read out of a picture, and nothing that is not there', (t) => {
  // A font of 8x4 whose glyph is the code itself: rows 0, code, ~code, 0.
  const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
  const lines = Array.from({ length: 256 }, (_, code) => `00${hex(code)}${hex(~code & 0xff)}00`);
  lines[0x20] = '00000000';
  const font = fontOf('font 8 4 256', lines);
  const draw = (rows: readonly string[], columns: number): Picture => {
    const [width, height] = [columns * 8, rows.length * 4];
    const pixels = new Uint32Array(width * height);
    for (const [row, text] of rows.entries())
      for (const [column, character] of [...text].entries())
        for (let y = 0; y < 4; y++)
          for (let x = 0; x < 8; x++) {
            const bits = parseInt((font.glyphs[character.charCodeAt(0)] as string).slice(2 * y, 2 * y + 2), 16);
            pixels[(row * 4 + y) * width + column * 8 + x] = (bits & (0x80 >> x)) !== 0 ? 0xaaaaaa : 0;
          }
    return { width, height, pixels };
  };
  const picture = draw(['Hello, "world" ~', '', 'x y'], 20);
  t.same(readText(picture, font), ['Hello, "world" ~', '', 'x y']);
  const spoiled = { ...picture, pixels: picture.pixels.slice() };
  spoiled.pixels[160] = 0xaaaaaa ^ (spoiled.pixels[160] as number);
  t.same(readText(spoiled, font)[0], `${UNREADABLE}ello, "world" ~`, 'one pixel of a glyph');
  spoiled.pixels[160] = 0xaaaaab;
  t.throws(() => readText(spoiled, font), { message: 'no text: at 0,1 is #aaaaab' });
  const twins: Font = { ...font, glyphs: font.glyphs.with(0x41, font.glyphs[0x42] as string) };
  t.throws(() => readText(picture, twins), { message: "in this font 'A' and 'B' look the same" });
  t.throws(() => readText(picture, { ...font, glyphs: font.glyphs.slice(0, 100) }), { message: /100 glyphs, none for character 100/ });
  t.throws(() => fontOf('font 8 4 256', lines.slice(1)), { message: /255 glyphs/ });
  t.throws(() => fontOf('font 8 4 256', lines.with(3, '00')), { message: /among them '00'/ });
  t.throws(() => fontOf('font 9 4 256', lines), { message: /not 8 pixels wide/ });
  t.end();
});

t.test('the text of a terminal is read by the glyphs that the terminal itself shows', (t) => {
  // What a shell's printf makes of the key, on a terminal with cells of 5x7 at 30,20 of a desktop.
  const printed = spawnSync('printf', [KEY], { encoding: 'latin1' }).stdout;
  const draw = (text: string, glyph: (code: number) => number = (code) => code): Picture => {
    const [width, height] = [400, 120];
    const pixels = new Uint32Array(width * height).fill(0x123456);
    for (let y = 16; y < height; y++) pixels.fill(0, y * width + 28, y * width + 280);
    let [row, column, background] = [0, 0, 0];
    const fill = (value: (x: number, y: number) => number): void => {
      for (let y = 0; y < 7; y++) for (let x = 0; x < 5; x++) pixels[(20 + row * 7 + y) * width + 30 + column * 5 + x] = value(x, y);
    };
    const words = text.replaceAll('\x1b[', '\r').matchAll(/\r(\d+)m|([^\r])/gs);
    for (const [, colour, character] of words) {
      if (colour !== undefined) background = ({ 41: 0xa80000, 42: 0x00a800 } as Record<string, number>)[colour] ?? 0;
      else if (character === '\n') [row, column] = [row + 1, 0];
      else {
        const code = glyph((character as string).charCodeAt(0));
        fill((x, y) => (code !== 0x20 && (y === 1 || y === 2) ? ((code >> (x + 5 * (y - 1))) & 1) * 0xcccccc + 1 : background));
        column++;
      }
    }
    return { width, height, pixels };
  };
  const text = ['as it is, "quoted" ~', '', 'x'];
  t.same(readTerminal(draw(`${printed}${text.join('\n')}`), 3), text);
  const spoiled = draw(`${printed}${text.join('\n')}`);
  spoiled.pixels[(20 + 3 * 7 + 4) * 400 + 31] = 1;
  t.same(readTerminal(spoiled, 1), [`\ufffd${text[0]?.slice(1)}`], 'one pixel of a glyph');
  t.throws(() => readTerminal(draw('no key'), 1), { message: /no ruler/ });
  t.throws(() => readTerminal(draw(`\x1b[41m \x1b[42m \x1b[0m rest`), 1), { message: /cell 2 of the ruler is 0 pixels wide/ });
  t.throws(
    () =>
      readTerminal(
        draw(printed, (code) => (code === 0x42 ? 0x41 : code)),
        1,
      ),
    { message: "in the terminal 'A' and 'B' look the same" },
  );
  t.throws(() => readTerminal(draw(printed), 20), { message: /off the screen/ });
  t.end();
});

t.test("words reach the guest's shell as they are", (t) => {
  const words = ["it's", '$HOME `id` "x"', '', String.fromCharCode(...Array.from({ length: 95 }, (_, i) => 32 + i))];
  const { stdout } = spawnSync('sh', ['-c', `printf '%s|' ${words.map(quoted).join(' ')}`], { encoding: 'utf8' });
  t.equal(stdout, words.map((word) => `${word}|`).join(''));
  t.end();
});

t.test('wrong usage is one line and exit code 2', (t) => {
  for (const args of [
    ['--nope'],
    ['--timeout', '0'],
    ['--job', 'nope'],
    ['--job', 'bochs', 'true'],
    ['--tap', 'x', 'true'],
    ['--module', 'nope', 'true'],
    ['--module', 'bochs'],
    ['--attach', '/tmp/x'],
    ['--print-qemu', '--keep'],
    [' '],
  ]) {
    const { status, stdout, stderr } = lab(args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, /^lab:qemu: .*\n$/);
  }
  const help = lab(['--help']);
  t.equal(help.status, 0);
  for (const { name } of JOBS) t.ok(help.stdout.includes(name), name);
  t.same(
    jobsOf([]).map(({ name }) => name),
    ['bochs', 'mdpy', 'tree', 'gvt', 'gvt-share', 'i915', 'i915-display', 'i915-state', 'i915-weston', 'i915-boots', 'conformance'],
    'the plan has no benchmark',
  );
  t.end();
});

t.test('where Debian has no such packages the lab is skipped, with the reason', (t) => {
  const config = join(folder, 'apt.conf');
  writeFileSync(config, 'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n');
  const tap = join(folder, 'skipped.tap');
  const { status, stderr } = lab(['--tap', tap], { APT_CONFIG: config });
  t.equal(status, 77);
  const reason = /^lab:qemu: skipped: (.*)$/m.exec(stderr)?.[1];
  t.same(readTap(readFileSync(tap, 'utf8')), [{ name: 'lab:qemu', status: 'skipped', reason }]);
  const qemu = lab(['--print-qemu'], { APT_CONFIG: config });
  t.equal(qemu.status, 77);
  t.equal(qemu.stdout, '', '--print-qemu prints nothing else on stdout');
  t.end();
});
