/** Tiled surfaces, sprite and cursor, palettes, and what lies on what. The primary plane's own rules: display.test.ts. */
import t from 'tap';
import { composePicture } from '../../src/core/gvt/display/compose.js';
import { decodeCursorPlane } from '../../src/core/gvt/display/cursor-plane.js';
import { decodePrimaryPlane } from '../../src/core/gvt/display/primary-plane.js';
import { decodeSpritePlane } from '../../src/core/gvt/display/sprite-plane.js';
import { SurfaceReader, surfaceBytes, TILE_LAYOUTS } from '../../src/core/gvt/display/tiling.js';
import type { Picture } from '../../src/core/vfio/device.js';
import { PAGE, PlainMemory } from './engine-rig.js';
import { fixture } from './memory-backend.js';

const ENABLE = 0x8000_0000;
const [BASE, SPRITE, CURSOR] = [0x0801_0000, 0x0900_0000, 0x0a00_0000];
const [WIDTH, HEIGHT] = [300, 200];
const X_TILED = 1 << 10;
const ROTATED = 1 << 15;
const [PIPESRC, PIPECONF, DSPCNTR, DSPSTRIDE, DSPSURF] = [0x6_001c, 0x7_0008, 0x7_0180, 0x7_0188, 0x7_019c];
const [CURCNTR, CURBASE, CURPOS, CUR_FBC] = [0x7_0080, 0x7_0084, 0x7_0088, 0x7_00a0];
const [SPRCTL, SPRSTRIDE, SPRPOS, SPRSIZE, SPRSURF, SPROFFSET] = [0x7_0280, 0x7_0288, 0x7_028c, 0x7_0290, 0x7_029c, 0x7_02a4];
const [PALETTE, GAMMA_MODE] = [0x4_a000, 0x4_a480];

type Registers = Readonly<Record<number, number>>;

/** A pipe with a linear XRGB8888 primary plane of 300x200, and whatever `more` says. */
function store(more: Registers = {}) {
  const values: Registers = {
    [PIPESRC]: ((WIDTH - 1) << 16) | (HEIGHT - 1),
    [PIPECONF]: ENABLE,
    [DSPCNTR]: (ENABLE | (6 << 26)) >>> 0,
    [DSPSTRIDE]: WIDTH * 4,
    [DSPSURF]: BASE,
    ...more,
  };
  return { get: (offset: number) => values[offset] ?? 0, set: () => undefined };
}

/** The primary plane's pages, all of one colour, and pages of others. */
function memoryOf(colour = 0, ...others: readonly (readonly [address: number, pages: number])[]): PlainMemory {
  const memory = new PlainMemory();
  for (const [address, pages] of [[BASE, 64] as const, ...others]) memory.map(address, pages);
  for (let page = 0; page < 64; page++) memory.page(BASE + page * PAGE)?.fill32(0, PAGE, colour);
  return memory;
}

/** `RRGGBB` of a pixel. */
const at = ({ width, rgba }: Picture, x: number, y: number): string =>
  Buffer.from(rgba.subarray((y * width + x) * 4, (y * width + x) * 4 + 3)).toString('hex');

t.test('where a byte is in a tiled surface', async (t) => {
  // By the documents: X tiles are 512 bytes by 8 rows, Y tiles 16-byte columns of 32 rows, 8 to a tile.
  const addresses = {
    x: (x: number, y: number, stride: number) => (y >> 3) * 8 * stride + (x >> 9) * 4096 + (y & 7) * 512 + (x & 511),
    y: (x: number, y: number, stride: number) => (y >> 5) * 32 * stride + (x >> 7) * 4096 + ((x >> 4) & 7) * 512 + (y & 31) * 16 + (x & 15),
    linear: (x: number, y: number, stride: number) => y * stride + x,
  };
  for (const tiling of ['x', 'y', 'linear'] as const) {
    const stride = 2048;
    const [rows, address] = [70, addresses[tiling]];
    const size = surfaceBytes({ stride, tiling }, rows);
    t.equal(size, { x: 72, y: 96, linear: 70 }[tiling] * stride, 'whole rows of tiles');
    const memory = new PlainMemory();
    memory.map(BASE, Math.ceil(size / PAGE));
    const value = (x: number, y: number): number => (x * 7 + y * 13 + (x >> 8)) & 0xff;
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < stride; x++) {
        const place = BASE + address(x, y, stride);
        memory.page(place)?.store8(place % PAGE, value(x, y));
      }
    const reader = new SurfaceReader({ base: BASE, stride, tiling }, memory);
    for (const [first, length] of [
      [0, stride],
      [5, 1000],
      [510, 4],
      [2047, 1],
    ] as const)
      for (const y of [0, 1, 7, 8, 31, 32, 69]) {
        const row = new Uint8Array(length + 2).fill(0xee);
        reader.read(y, first, row, 1, length);
        const wanted = Uint8Array.from({ length: length + 2 }, (_, i) => (i === 0 || i === length + 1 ? 0xee : value(first + i - 1, y)));
        if (Buffer.compare(row, wanted) !== 0) t.fail(`${tiling}: row ${y} from ${first}`);
      }
    t.ok(memory.copies.size > 0, tiling);
  }
  t.equal(TILE_LAYOUTS.x.modifier, (1n << 56n) | 1n, 'I915_FORMAT_MOD_X_TILED');
  t.equal(TILE_LAYOUTS.y.modifier, (1n << 56n) | 2n, 'I915_FORMAT_MOD_Y_TILED');
});

t.test('an X-tiled primary plane', async (t) => {
  const stride = 1536;
  const registers = (more: Registers = {}) => store({ [DSPCNTR]: (ENABLE | (6 << 26) | X_TILED) >>> 0, [DSPSTRIDE]: stride, ...more });
  const memory = new PlainMemory();
  memory.map(BASE, (stride * HEIGHT) / PAGE);
  for (let y = 0; y < HEIGHT; y++)
    for (let x = 0; x < WIDTH; x++) {
      const place = BASE + (y >> 3) * 8 * stride + (x >> 7) * 4096 + (y & 7) * 512 + (x & 127) * 4;
      memory.write(place, (x << 8) | y);
    }
  const plane = decodePrimaryPlane(registers(), memory, 0);
  t.match(plane, { tiling: 'x', stride, size: stride * HEIGHT });
  const { width, height, rgba } = composePicture(registers(), memory) as Picture;
  t.strictSame([width, height], [WIDTH, HEIGHT]);
  const pixels = new Uint32Array(rgba.buffer);
  let wrong = 0;
  for (let y = 0; y < HEIGHT; y++)
    for (let x = 0; x < WIDTH; x++) if (pixels[y * WIDTH + x] !== (0xff00_0000 | (y << 16) | ((x & 0xff) << 8) | (x >> 8)) >>> 0) wrong++;
  t.equal(wrong, 0);
  t.equal(decodePrimaryPlane(registers({ [DSPSTRIDE]: 1280 }), memory, 0), undefined, 'no whole tiles in a row');
  t.equal(decodePrimaryPlane(registers({ [DSPSTRIDE]: 1024 }), memory, 0), undefined, 'too narrow');
  memory.unmap(BASE + PAGE);
  const holed = composePicture(registers(), memory) as Picture;
  t.equal(at(holed, 128, 3), '000000', 'a tile that is not mapped is black');
  t.equal(at(holed, 127, 3), '007f03', 'those beside it are there');
  t.equal(at(holed, 256, 3), '010003');
});

t.test('the sprite', async (t) => {
  const control = (format: number, more = 0): number => (ENABLE | (format << 25) | more) >>> 0;
  const sprite: Registers = {
    [SPRCTL]: control(2),
    [SPRSTRIDE]: 64,
    [SPRPOS]: (20 << 16) | 10,
    [SPRSIZE]: (3 << 16) | 15,
    [SPRSURF]: SPRITE,
  };
  const memory = memoryOf(0x11_2233, [SPRITE, 1]);
  for (let y = 0; y < 8; y++) for (let x = 0; x < 16; x++) memory.write(SPRITE + y * 64 + x * 4, 0xaa_0000 | (y << 8) | x);
  t.match(decodeSpritePlane(store(sprite), memory, 0), { width: 16, height: 4, left: 10, top: 20, format: 'XRGB8888' });
  const picture = composePicture(store(sprite), memory) as Picture;
  t.strictSame(
    [at(picture, 9, 20), at(picture, 10, 20), at(picture, 25, 23), at(picture, 26, 23), at(picture, 25, 24), at(picture, 10, 19)],
    ['112233', 'aa0000', 'aa030f', '112233', '112233', '112233'],
  );
  const shown = (more: Registers): Picture => composePicture(store({ ...sprite, ...more }), memory) as Picture;
  t.same(
    picture.planes,
    [
      { kind: 'primary', width: WIDTH, height: HEIGHT, left: 0, top: 0, format: 'XRGB8888', tiling: 'linear' },
      { kind: 'sprite', width: 16, height: 4, left: 10, top: 20, format: 'XRGB8888', tiling: 'linear' },
    ],
    'the picture tells what it is composed of',
  );
  t.equal(at(shown({ [SPROFFSET]: (2 << 16) | 0 }), 10, 20), 'aa0200');
  t.equal(decodeSpritePlane(store({ ...sprite, [SPROFFSET]: 1 }), memory, 0), undefined, 'past the stride');
  t.equal(at(shown({ [SPRCTL]: control(2, 1 << 20) }), 25, 23), '0f03aa', 'red lowest');
  t.equal(at(shown({ [SPRCTL]: control(2, ROTATED) }), 10, 20), 'aa030f', 'turned');
  t.equal(at(shown({ [SPRPOS]: (199 << 16) | 299 }), 299, 199), 'aa0000', 'on the last pixel');
  t.equal(at(shown({ [SPRPOS]: (300 << 16) | 400 }), 299, 199), '112233', 'off the screen');
  for (const format of [0, 3, 4, 5, 6, 7])
    t.equal(decodeSpritePlane(store({ ...sprite, [SPRCTL]: control(format) }), memory, 0), undefined, `format ${format}`);
  t.equal(decodeSpritePlane(store({ ...sprite, [SPRCTL]: control(1) }), memory, 0)?.format, 'XRGB2101010');
  t.equal(decodeSpritePlane(store({ ...sprite, [SPRCTL]: 2 << 25 }), memory, 0), undefined, 'off');
  t.equal(decodeSpritePlane(store({ ...sprite, [PIPECONF]: 0 }), memory, 0), undefined, 'pipe off');
  const alone = shown({ [DSPCNTR]: 0 });
  t.strictSame([alone.width, at(alone, 9, 20), at(alone, 10, 20)], [WIDTH, '000000', 'aa0000'], 'without a primary plane, on black');
  t.equal(composePicture(store({ ...sprite, [DSPCNTR]: 0, [PIPESRC]: 0xffff_ffff }), memory), undefined, 'not of any size');
});

t.test('the cursor', async (t) => {
  const cursor = (mode: number, position: number, more: Registers = {}): Registers => ({
    [CURCNTR]: mode,
    [CURBASE]: CURSOR,
    [CURPOS]: position,
    ...more,
  });
  const memory = memoryOf(0x64_c8ff, [CURSOR, 64]);
  const pixel = (x: number, y: number, value: number): void => memory.write(CURSOR + (y * 64 + x) * 4, value);
  pixel(0, 0, 0xff12_3456);
  pixel(1, 0, 0);
  pixel(2, 0, 0x8040_2010);
  pixel(3, 0, 0x80ff_ffff);
  pixel(63, 63, 0xffff_0000);
  const shown = (registers: Registers): Picture => composePicture(store(registers), memory) as Picture;
  const picture = shown(cursor(0x27, (50 << 16) | 100));
  t.equal(at(picture, 100, 50), '123456', 'opaque');
  t.equal(at(picture, 101, 50), '64c8ff', 'clear');
  // 0x64, 0xc8, 0xff times 127/255, rounded, and the colour, which is multiplied already.
  t.equal(at(picture, 102, 50), '72848f', 'half');
  t.equal(at(picture, 103, 50), 'ffffff', 'brighter than its alpha allows: at most white');
  t.equal(at(picture, 163, 113), 'ff0000', 'last');
  t.equal(at(picture, 99, 50), '64c8ff');
  const outside = shown(cursor(0x27, ((0x8000 | 63) << 16) | (0x8000 | 63)));
  t.equal(at(outside, 0, 0), 'ff0000', 'left of and above the screen');
  t.equal(at(shown(cursor(0x27, (0x8000 | 64) << 16)), 0, 0), '64c8ff', 'all of it');
  t.equal(at(shown(cursor(0x27, (50 << 16) | 100, { [CURCNTR]: 0x27 | ROTATED })), 100, 50), 'ff0000', 'turned');
  for (const [mode, side] of [
    [0x27, 64],
    [0x22, 128],
    [0x23, 256],
  ] as const)
    t.match(decodeCursorPlane(store(cursor(mode, 0)), memory, 0), { width: side, height: side, size: side * side * 4, format: 'ARGB8888' });
  for (let mode = 0; mode < 64; mode++)
    if (![0x22, 0x23, 0x27].includes(mode)) t.equal(decodeCursorPlane(store(cursor(mode, 0)), memory, 0), undefined, `mode ${mode}`);
  t.match(decodeCursorPlane(store(cursor(0x27, 0, { [CUR_FBC]: ENABLE | 31 })), memory, 0), { width: 64, height: 32 }, 'fewer rows');
  t.equal(decodeCursorPlane(store({ ...cursor(0x27, 0), [PIPECONF]: 0 }), memory, 0), undefined);
  memory.unmap(CURSOR + 3 * PAGE);
  t.equal(decodeCursorPlane(store(cursor(0x27, 0)), memory, 0), undefined, 'its last page is not mapped');
});

t.test('the cursor lies on the sprite, the sprite on the primary plane', async (t) => {
  const memory = memoryOf(0x00_00ff, [SPRITE, 4], [CURSOR, 4]);
  for (let page = 0; page < 4; page++) {
    memory.page(SPRITE + page * PAGE)?.fill32(0, PAGE, 0x00ff00);
    memory.page(CURSOR + page * PAGE)?.fill32(0, PAGE, 0xffff_0000);
  }
  const picture = composePicture(
    store({
      [SPRCTL]: (ENABLE | (2 << 25)) >>> 0,
      [SPRSTRIDE]: 256,
      [SPRSIZE]: (63 << 16) | 63,
      [SPRSURF]: SPRITE,
      [CURCNTR]: 0x27,
      [CURBASE]: CURSOR,
      [CURPOS]: (32 << 16) | 32,
    }),
    memory,
  ) as Picture;
  t.strictSame(
    [at(picture, 0, 0), at(picture, 40, 40), at(picture, 90, 90), at(picture, 100, 100)],
    ['00ff00', 'ff0000', 'ff0000', '0000ff'],
  );
});

t.test('palette and gamma', async (t) => {
  const palette = Object.fromEntries(Array.from({ length: 256 }, (_, i) => [PALETTE + 4 * i, ((255 - i) << 16) | (i << 8) | (i ^ 0x55)]));
  const memory = memoryOf(0x0302_0100);
  const indexed = composePicture(store({ ...palette, [DSPCNTR]: (ENABLE | (2 << 26)) >>> 0 }), memory) as Picture;
  t.strictSame([at(indexed, 0, 0), at(indexed, 1, 0), at(indexed, 3, 0)], ['ff0055', 'fe0154', 'fc0356']);
  const gamma = (more: Registers): string =>
    at(
      composePicture(store({ ...palette, [DSPCNTR]: (ENABLE | (6 << 26) | (1 << 30)) >>> 0, ...more }), memoryOf(0x10_2030)) as Picture,
      0,
      0,
    );
  t.equal(gamma({}), 'ef2065', 'each colour has its column');
  t.equal(gamma({ [GAMMA_MODE]: 1 }), '102030', 'other tables are not applied');
});

t.test('turned by 180 degrees', async (t) => {
  const memory = memoryOf(0);
  memory.write(BASE, 0x12_3456);
  const picture = composePicture(store({ [DSPCNTR]: (ENABLE | (6 << 26) | ROTATED) >>> 0 }), memory) as Picture;
  t.equal(at(picture, WIDTH - 1, HEIGHT - 1), '123456');
});

t.test('planes outside the vGPU show nothing of others', async (t) => {
  const f = fixture({ aperture: 512 << 20 });
  const { write, vgpu, map, backend } = f;
  const aperture = vgpu.resources.aperture.start;
  const hidden = vgpu.resources.hidden.start;
  map(aperture, 16, 64);
  backend.words.fill(0x00c0_ffee, (16 * PAGE) / 4, (80 * PAGE) / 4);
  write(PIPESRC, (63 << 16) | 63);
  write(PIPECONF, ENABLE);
  write(DSPCNTR, (ENABLE | (6 << 26)) >>> 0);
  write(DSPSTRIDE, 256);
  write(DSPSURF, aperture);
  t.ok(vgpu.queryPlane(), 'its own');
  t.equal(vgpu.ggtt.mappedPages, 0, 'nothing was mapped for who looks at it');
  /** Addresses that are another's, nobody's, or at an end of what is its own. */
  const foreign = [
    0,
    PAGE,
    aperture - PAGE,
    aperture - 4 * PAGE + 1,
    vgpu.resources.aperture.size + aperture,
    hidden - PAGE,
    0xffff_f000,
    0x8000_0000,
  ];
  for (const address of foreign) {
    write(DSPSURF, address);
    t.equal(vgpu.queryPlane(), undefined, `primary at 0x${address.toString(16)}`);
  }
  // Begins inside and ends outside: the surface is as high as it is shown.
  map(aperture + vgpu.resources.aperture.size - PAGE, 16);
  write(DSPSURF, aperture + vgpu.resources.aperture.size - PAGE);
  t.equal(vgpu.queryPlane(), undefined, 'leaves the aperture');
  write(DSPSURF, aperture);
  for (const address of foreign) {
    write(SPRCTL, (ENABLE | (2 << 25)) >>> 0);
    write(SPRSTRIDE, 256);
    write(SPRSIZE, (63 << 16) | 63);
    write(SPRSURF, address);
    write(CURCNTR, 0x27);
    write(CURBASE, address);
    t.equal(decodeSpritePlane(vgpu.registers, vgpu.scanout, 0), undefined, `sprite at 0x${address.toString(16)}`);
    t.equal(vgpu.cursorPlane(), undefined, `cursor at 0x${address.toString(16)}`);
    const { rgba } = vgpu.queryPlane() as Picture;
    t.ok(
      new Uint32Array(rgba.buffer).every((pixel) => pixel === 0xffee_ffc0),
      'the primary plane alone',
    );
  }
});

t.test('a picture larger than any mode of the hardware is not made', async (t) => {
  const memory = new PlainMemory();
  memory.map(BASE, 1);
  memory.map(BASE + 36 * 2 ** 20 - PAGE, 1);
  let asked = 0;
  const show = (width: number, height: number, stride = width): Picture | undefined => {
    const registers = store({
      [PIPESRC]: ((width - 1) * 2 ** 16 + height - 1) >>> 0,
      [DSPCNTR]: (ENABLE | (2 << 26)) >>> 0,
      [DSPSTRIDE]: stride,
    });
    t.ok(decodePrimaryPlane(registers, memory, 0), `${width}x${height} is a plane`);
    return composePicture(registers, memory, (bytes) => {
      asked = bytes;
      return new Uint8Array(bytes);
    });
  };
  t.equal(show(65_536, 576), undefined);
  t.equal(show(4608, 8192), undefined);
  t.equal(asked, 0, 'no memory is taken for it');
  t.match(show(4096, 64, 576 * 1024), { width: 4096, height: 64 });
});
