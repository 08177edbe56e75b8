/** The primary plane: what its registers decode to, the limits on both sides, and each format's pixels. */

import t from 'tap';
import { composePicture } from '../../src/core/gvt/display/compose.js';
import { MAX_SURFACE, type Plane } from '../../src/core/gvt/display/plane.js';
import { decodePrimaryPlane } from '../../src/core/gvt/display/primary-plane.js';
import type { Picture } from '../../src/core/vfio/device.js';
import { PAGE, PlainMemory } from './engine-rig.js';
import { view as pageOf } from './page-bytes.js';

const [PIPESRC, PIPECONF, DSPCNTR, DSPSTRIDE, DSPSURF, DSPOFFSET] = [0x6_001c, 0x7_0008, 0x7_0180, 0x7_0188, 0x7_019c, 0x7_01a4];
const ENABLE = 0x8000_0000;
const BASE = 0x0801_0000;
const XRGB = 6;

interface Setup {
  readonly pipe?: 0 | 1 | 2;
  readonly width?: number;
  readonly height?: number;
  readonly stride?: number;
  readonly format?: number;
  readonly surface?: number;
  /** Register values that replace the ones above. */
  readonly raw?: Readonly<Record<number, number>>;
}

/** Registers of one pipe with a plane. */
function registers({ pipe = 0, width = 64, height = 4, stride = 256, format = XRGB, surface = BASE, raw = {} }: Setup = {}) {
  const values = new Map<number, number>([
    [PIPESRC, ((width - 1) * 0x1_0000 + (height - 1)) >>> 0],
    [PIPECONF, ENABLE],
    [DSPCNTR, (ENABLE | (format << 26)) >>> 0],
    [DSPSTRIDE, stride],
    [DSPSURF, surface],
  ]);
  for (const [register, value] of Object.entries(raw)) values.set(Number(register), value);
  return { get: (offset: number) => values.get(offset - pipe * 0x1000) ?? 0, set: () => undefined };
}

function mapped(pages: number, at = BASE): PlainMemory {
  const memory = new PlainMemory();
  memory.map(at, pages);
  return memory;
}

t.test('a plane', async (t) => {
  for (const pipe of [0, 1, 2] as const) {
    const plane = decodePrimaryPlane(registers({ pipe }), mapped(1), pipe);
    const common = {
      width: 64,
      height: 4,
      x: 0,
      y: 0,
      left: 0,
      top: 0,
      rotated: false,
      stride: 256,
      tiling: 'linear',
      base: BASE,
      size: 1024,
    };
    t.same(plane, { pipe, format: 'XRGB8888', ...common });
    for (const other of [0, 1, 2] as const)
      if (other !== pipe) t.equal(decodePrimaryPlane(registers({ pipe }), mapped(1), other), undefined, `pipe ${other} is off`);
  }
});

t.test('formats', async (t) => {
  const names: Record<number, Plane['format']> = {
    2: 'C8',
    5: 'RGB565',
    6: 'XRGB8888',
    8: 'XBGR2101010',
    10: 'XRGB2101010',
    14: 'XBGR8888',
  };
  for (let format = 0; format < 16; format++)
    t.equal(decodePrimaryPlane(registers({ format }), mapped(1), 0)?.format, names[format], `format ${format}`);
});

t.test('off', async (t) => {
  const on = (ENABLE | (XRGB << 26)) >>> 0;
  for (const [what, raw] of [
    ['pipe', { [PIPECONF]: 0x7fff_ffff }],
    ['plane', { [DSPCNTR]: on & 0x7fff_ffff }],
    ['format', { [DSPCNTR]: (ENABLE | (4 << 26)) >>> 0 }],
  ] as const)
    t.equal(decodePrimaryPlane(registers({ raw }), mapped(1), 0), undefined, what);
  t.ok(
    decodePrimaryPlane(registers({ raw: { [DSPCNTR]: (on | 0x83ff_7bff) >>> 0, [PIPECONF]: 0xffff_ffff } }), mapped(1), 0),
    'other bits',
  );
});

t.test('stride and size, on both sides of their limits', async (t) => {
  const decodes = (setup: Setup, pages: number): boolean => decodePrimaryPlane(registers(setup), mapped(pages), 0) !== undefined;
  t.ok(decodes({ width: 1, height: 1, stride: 4 }, 1));
  t.notOk(decodes({ width: 1, height: 1, stride: 3 }, 1));
  t.notOk(decodes({ width: 1, height: 1, stride: 0 }, 1));
  t.notOk(decodes({ width: 65, stride: 256 }, 1), 'a row of 260 bytes');
  t.ok(decodes({ width: 65, stride: 256, format: 5 }, 1), 'of 130 bytes');
  t.ok(decodes({ width: 128, stride: 256, format: 5 }, 1));
  t.notOk(decodes({ width: 129, stride: 256, format: 5 }, 1));
  const pages = MAX_SURFACE / PAGE;
  t.equal(MAX_SURFACE, 36 * 1024 * 1024);
  t.ok(decodes({ width: 1024, height: pages, stride: PAGE }, pages));
  t.notOk(decodes({ width: 1024, height: pages + 1, stride: PAGE }, pages + 1), 'a row more than 36 MiB');
  t.ok(decodes({ width: 576, height: 65_536, stride: 576, format: 5 }, pages) === false, 'too narrow a stride for its width');
  t.ok(decodes({ width: 288, height: 65_536, stride: 576, format: 5 }, pages), 'the highest');
  for (const stride of [0x8000_0000, 0xffff_ffff]) t.notOk(decodes({ stride }, pages), `stride 0x${stride.toString(16)}`);
  t.notOk(decodes({ width: 65_536, height: 65_536, stride: 0xffff_ffff }, pages));
});

t.test('a surface whose ends are not mapped', async (t) => {
  const setup = { width: 1024, height: 3, stride: PAGE };
  t.ok(decodePrimaryPlane(registers(setup), mapped(3), 0));
  t.equal(decodePrimaryPlane(registers(setup), mapped(2), 0), undefined, 'last page');
  t.equal(decodePrimaryPlane(registers(setup), mapped(2, BASE + PAGE), 0), undefined, 'first page');
  t.equal(decodePrimaryPlane(registers({ surface: 0xffff_f000 }), mapped(3), 0), undefined);
  // The address is a page's: what stands below bit 12 are flags.
  t.equal(decodePrimaryPlane(registers({ surface: BASE | 0xfff }), mapped(1), 0)?.base, BASE);
  t.equal(decodePrimaryPlane(registers({ surface: 0xfff0_0000 }), mapped(1, 0xfff0_0000), 0)?.base, 0xfff0_0000, 'above 2 GiB');
  // The last byte of the last row counts, pixel or not.
  const tall = { width: 8, height: 2, stride: PAGE };
  t.equal(decodePrimaryPlane(registers(tall), mapped(1), 0), undefined);
  // A hole in the middle is black.
  const memory = mapped(3);
  for (let page = 0; page < 3; page++) memory.page(BASE + page * PAGE)?.fill32(0, PAGE, 0x00ff_ffff);
  memory.unmap(BASE + PAGE);
  const { rgba } = composePicture(registers(setup), memory) as Picture;
  const row = (y: number): number => rgba[y * PAGE] as number;
  t.strictSame([row(0), row(1), row(2)], [255, 0, 255]);
  t.equal(rgba[PAGE + 3], 255, 'and opaque');
});

t.test('pixels of each format', async (t) => {
  /** Stored value, and the red, green and blue that it shows. */
  const pixels: Record<number, readonly (readonly [number, readonly number[]])[]> = {
    5: [
      [0x0000, [0, 0, 0]],
      [0xffff, [255, 255, 255]],
      [0xf800, [255, 0, 0]],
      [0x07e0, [0, 255, 0]],
      [0x001f, [0, 0, 255]],
      [0x8410, [132, 130, 132]],
      [0x0821, [8, 4, 8]],
    ],
    6: [
      [0xff11_2233, [0x11, 0x22, 0x33]],
      [0x00ff_8001, [255, 128, 1]],
    ],
    14: [
      [0xff11_2233, [0x33, 0x22, 0x11]],
      [0x00ff_8001, [1, 128, 255]],
    ],
    10: [
      [0x3ff0_0000, [255, 0, 0]],
      [0x000f_fc00, [0, 255, 0]],
      [0xc000_03ff, [0, 0, 255]],
      [0x2008_0203, [128, 128, 128]],
    ],
    8: [
      [0x3ff0_0000, [0, 0, 255]],
      [0x000f_fc00, [0, 255, 0]],
      [0xc000_03ff, [255, 0, 0]],
      [0x2008_0203, [128, 128, 128]],
    ],
  };
  for (const [format, cases] of Object.entries(pixels)) {
    const memory = mapped(1);
    const plane = registers({ format: Number(format), width: cases.length, height: 2, stride: 64 });
    const bytes = pageOf(memory.page(BASE))?.bytes as Uint8Array;
    const view = new DataView(bytes.buffer);
    // In the second row: the stride is respected.
    cases.forEach(([value], i) => {
      if (format === '5') view.setUint16(64 + i * 2, value, true);
      else view.setUint32(64 + i * 4, value, true);
    });
    const { width, height, rgba } = composePicture(plane, memory) as Picture;
    t.strictSame([width, height, rgba.length], [cases.length, 2, cases.length * 8]);
    const shown = cases.map((_, i) => [...rgba.subarray((cases.length + i) * 4, (cases.length + i) * 4 + 4)]);
    t.strictSame(
      shown,
      cases.map(([, rgb]) => [...rgb, 255]),
      `format ${format}`,
    );
  }
});

t.test('DSPOFFSET: the surface is larger than what is shown', async (t) => {
  const memory = mapped(2);
  for (let y = 0; y < 32; y++) for (let x = 0; x < 64; x++) memory.write(BASE + y * 256 + x * 4, (y << 16) | x);
  const setup = { width: 4, height: 2, stride: 256 };
  const offset = (x: number, y: number): Setup => ({ ...setup, raw: { [DSPOFFSET]: (y << 16) | x } });
  const plane = decodePrimaryPlane(registers(offset(5, 7)), memory, 0) as Plane;
  t.strictSame([plane.x, plane.y, plane.size], [5, 7, 9 * 256]);
  const { rgba } = composePicture(registers(offset(5, 7)), memory) as Picture;
  t.strictSame(
    Array.from({ length: 8 }, (_, i) => [rgba[i * 4], rgba[i * 4 + 2]]),
    [0, 1].flatMap((y) => [0, 1, 2, 3].map((x) => [7 + y, 5 + x])),
  );
  t.ok(decodePrimaryPlane(registers(offset(60, 30)), memory, 0), 'the last pixels');
  t.equal(decodePrimaryPlane(registers(offset(61, 30)), memory, 0), undefined, 'past the stride');
  t.equal(decodePrimaryPlane(registers(offset(60, 31)), memory, 0), undefined, 'past the memory');
});
