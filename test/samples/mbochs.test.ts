/** mbochs: configuration space, every register on both sides of its limits, modes, planes and their buffers, the monitor. */
import t from 'tap';
import { PLANES_MAX } from '../../src/core/samples/planes.js';
import { type GfxPlane, NO_PLANE } from '../../src/core/vfio/device.js';
import { get, MIB, put, type Rig, readStatus, rig } from './support.js';

const [MEMORY, REGISTERS, CONFIG, EDID] = [0, 2, 7, 9];
const [EPERM, ENOENT, EINVAL] = [-1, -2, -22];
const [DMABUF, REGION] = [2, 4];
const PRIMARY = 1;
const XR24 = 0x3432_5258;
/** BAR2 offsets of the dispi registers. */
const R = { ID: 0x500, XRES: 0x502, YRES: 0x504, BPP: 0x506, ENABLE: 0x508, BANK: 0x50a, VIRT_W: 0x50c, VIRT_H: 0x50e };
const [X_OFF, Y_OFF, VMEM] = [0x510, 0x512, 0x514];

/** Type, bytes of memory, largest resolution. */
const TYPES = [
  ['mbochs-small', 4 * MIB, 800, 600],
  ['mbochs-medium', 16 * MIB, 1920, 1440],
  ['mbochs-large', 64 * MIB, 0, 0],
] as const;

interface Mode {
  readonly width?: number;
  readonly height?: number;
  readonly bpp?: number;
  readonly enable?: number;
  readonly virtual?: number;
  readonly x?: number;
  readonly y?: number;
}

function setMode({ device }: Rig, { width = 64, height = 64, bpp = 32, enable = 0x41, virtual = 0, x = 0, y = 0 }: Mode = {}): void {
  for (const [register, value] of [
    [R.XRES, width],
    [R.YRES, height],
    [R.BPP, bpp],
    [R.VIRT_W, virtual],
    [X_OFF, x],
    [Y_OFF, y],
    [R.ENABLE, enable],
  ] as const)
    put(device, REGISTERS, register, 2, value);
}

const plane = ({ device }: Rig): GfxPlane => device.queryGfxPlane(DMABUF, PRIMARY) as GfxPlane;

t.test('identity, regions and BARs of each type', async (t) => {
  for (const [type, size, maxWidth, maxHeight] of TYPES) {
    const { device, memories } = rig(type);
    t.equal(device.name, type);
    t.same(device.attributes, { memory: `${size / MIB} MB` });
    t.same(memories.open, [[type, size]]);
    t.equal(get(device, CONFIG, 0x00, 4), 0x1111_1234);
    t.equal(get(device, CONFIG, 0x2c, 4), 0x1100_1af4);
    t.equal(get(device, CONFIG, 0x04, 4), 0x0000_0003, 'IO and memory preset, no capabilities');
    t.equal(get(device, CONFIG, 0x08, 4), 0x0380_0001);
    t.equal(get(device, CONFIG, 0x34, 1), 0);
    t.equal(device.flags, 3);
    t.equal(device.regionCount, 10);
    t.same(
      [...device.regions.values()].sort((a, b) => a.index - b.index),
      [
        { index: 0, size, flags: 7, file: { fd: memories.fd, offset: 0 } },
        { index: 2, size: 4096, flags: 3 },
        { index: 7, size: 256, flags: 3 },
        { index: 9, size: 4096, flags: 3, type: { type: 1, subtype: 1 } },
      ],
    );
    t.ok(device.irqs.info.every(({ count }) => count === 0));
    for (const [offset, mask] of [
      [0x10, 2 ** 32 - size + 8],
      [0x18, 0xffff_f000],
    ] as const) {
      const initial = get(device, CONFIG, offset, 4);
      put(device, CONFIG, offset, 4, 0xffff_ffff);
      t.equal(get(device, CONFIG, offset, 4), mask, `size of the BAR at 0x${offset.toString(16)}`);
      t.equal(initial, mask % 16, 'type only');
    }
    put(device, CONFIG, 0x10, 4, 0xf000_0000);
    put(device, CONFIG, 0x18, 4, 0xfebd_0000);
    t.same(
      [0, 1, 2, 3].map((bar) => device.barAddress(bar)),
      [0xf000_0000, undefined, 0xfebd_0000, undefined],
    );
    t.equal(device.reset(), 0);
    t.same(
      [0, 2].map((bar) => device.barAddress(bar)),
      [undefined, undefined],
    );
    t.equal(get(device, REGISTERS, VMEM, 2), size / 65_536, 'memory in units of 64 KiB');
    t.same([get(device, EDID, 12, 4), get(device, EDID, 16, 4)], [maxWidth, maxHeight]);
    device.close();
  }
});

t.test('dispi registers: reset values, storage, and what does not take a write', async (t) => {
  const { device } = rig('mbochs-medium');
  const values = (): number[] => Array.from({ length: 11 }, (_, index) => get(device, REGISTERS, 0x500 + 2 * index, 2));
  const initial = [0xb0c5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 256];
  t.same(values(), initial);
  for (let index = 1; index < 10; index++)
    for (const value of [0xffff, 0x1234, 0]) {
      t.equal(put(device, REGISTERS, 0x500 + 2 * index, 2, value), 0);
      t.equal(get(device, REGISTERS, 0x500 + 2 * index, 2), value, `register ${index}`);
    }
  for (let id = 0xb0c0; id <= 0xb0c5; id++) {
    put(device, REGISTERS, R.ID, 2, id);
    t.equal(get(device, REGISTERS, R.ID, 2), id);
  }
  for (const id of [0, 0xb0bf, 0xb0c6, 0xffff]) {
    put(device, REGISTERS, R.ID, 2, id);
    t.equal(get(device, REGISTERS, R.ID, 2), 0xb0c5, `no version 0x${id.toString(16)}`);
  }
  put(device, REGISTERS, VMEM, 2, 0xffff);
  t.equal(get(device, REGISTERS, VMEM, 2), 256);
  for (let index = 0; index < 11; index++) put(device, REGISTERS, 0x500 + 2 * index, 2, 0xb0c1);
  t.equal(device.reset(), 0);
  t.same(values(), initial, 'after a reset');
});

t.test('BAR2 answers dispi only in words, the rest reads 0', async (t) => {
  const { device } = rig('mbochs-small');
  for (let index = 1; index < 10; index++) put(device, REGISTERS, 0x500 + 2 * index, 2, 0xabcd);
  t.equal(get(device, REGISTERS, 0x502, 1), 0, 'a byte');
  t.equal(get(device, REGISTERS, 0x503, 1), 0);
  t.equal(get(device, REGISTERS, 0x504, 4), 0, 'a dword');
  t.equal(get(device, REGISTERS, 0x500, 8), 0);
  t.equal(get(device, REGISTERS, 0x503, 2), 0, 'a word that is cut into bytes');
  for (const [offset, size] of [
    [0x502, 1],
    [0x503, 1],
    [0x504, 4],
    [0x503, 2],
  ] as const)
    t.equal(put(device, REGISTERS, offset, size, 0), 0, 'a write of another size is ignored');
  t.equal(get(device, REGISTERS, 0x502, 2), 0xabcd);
  t.equal(get(device, REGISTERS, 0x504, 2), 0xabcd);
  // An unaligned access is cut: 0x502 falls to a word of its own.
  t.equal(get(device, REGISTERS, 0x501, 3), 0xab_cd00);
  for (let offset = 0; offset < 4096; offset += 2) {
    if (offset >= 0x500 && offset < 0x516) continue;
    put(device, REGISTERS, offset, 2, 0xffff);
    if (get(device, REGISTERS, offset, 2) !== 0) t.fail(`0x${offset.toString(16)} is no register`);
  }
  const all = new Uint8Array(4096).fill(1);
  t.equal(device.read(REGISTERS, 0, all), 0);
  t.ok(all.every((byte) => byte === 0));
  t.equal(device.write(REGISTERS, 0, all.fill(0xff)), 0, 'a bulk write reaches nothing');
  t.equal(get(device, REGISTERS, 0x504, 2), 0xabcd);
  t.equal(get(device, REGISTERS, 0xffe, 2), 0);
  t.equal(readStatus(device, REGISTERS, 0xfff, 2), EINVAL);
  t.equal(readStatus(device, REGISTERS, 0x1000, 1), EINVAL);
});

t.test('video memory: accesses go where they say, and a reset leaves it', async (t) => {
  const { device } = rig('mbochs-small');
  const end = 4 * MIB;
  for (const [offset, size] of [
    [0, 4],
    [0x2000, 4],
    [0xfff, 8193],
    [end - 8, 8],
  ] as const) {
    const data = Uint8Array.from({ length: size }, (_, i) => 3 * i + offset / 4096 + 1);
    t.equal(device.write(MEMORY, offset, data), 0);
    const back = new Uint8Array(size);
    t.equal(device.read(MEMORY, offset, back), 0);
    t.same(back, data);
  }
  t.equal(get(device, MEMORY, end - 1, 1) > 0, true);
  t.equal(readStatus(device, MEMORY, end - 1, 2), EINVAL);
  t.equal(readStatus(device, MEMORY, 0, end), 0);
  t.equal(readStatus(device, MEMORY, 0, end + 1), EINVAL);
  const before = get(device, MEMORY, end - 8, 4);
  device.reset();
  t.equal(get(device, MEMORY, end - 8, 4), before);
});

t.test('a page read whole is the page as it is now', async (t) => {
  const { device } = rig('mbochs-small');
  const page = (offset: number): Uint8Array => {
    const bytes = new Uint8Array(4096);
    t.equal(device.read(MEMORY, offset, bytes), 0);
    return bytes;
  };
  for (const offset of [0, 4096, 4 * MIB - 4096]) {
    t.equal(page(offset)[5], 0);
    put(device, MEMORY, offset + 5, 1, 0x5a);
    put(device, MEMORY, offset + 4095, 1, 0xa5);
    // Twice: the view of the page is kept.
    for (const _ of [1, 2]) t.same([page(offset)[5], page(offset)[4095]], [0x5a, 0xa5]);
  }
  t.same([page(1)[4], page(1)[4094]], [0x5a, 0xa5], 'not at a page');
  t.equal(readStatus(device, MEMORY, 4 * MIB - 4095, 4096), EINVAL);
  for (const length of [15, 16, 17, 4095, 4097]) {
    const bytes = new Uint8Array(length);
    t.equal(device.read(MEMORY, 4096, bytes), 0);
    t.same([bytes[5], bytes[length - 1]], [0x5a, 0], `${length} bytes`);
  }
});

t.test('modes that show nothing', async (t) => {
  const cases: [string, Mode, boolean][] = [
    ['64x64', {}, true],
    ['63 wide', { width: 63 }, false],
    ['63 high', { height: 63 }, false],
    ['off', { enable: 0x40 }, false],
    ['enabled alone', { enable: 1 }, true],
    ['other bits do not matter', { enable: 0xffff }, true],
    ...[0, 8, 15, 16, 24, 31, 33, 32 + 256].map((bpp): [string, Mode, boolean] => [`${bpp} bits`, { bpp }, false]),
    ['all of 4 MiB', { width: 1024, height: 1024 }, true],
    ['a row more', { width: 1024, height: 1025 }, false],
    ['a pixel further', { width: 1024, height: 1024, x: 1 }, false],
    ['a row further', { width: 1024, height: 1024, y: 1 }, false],
    ['half, from the middle', { width: 1024, height: 512, y: 512 }, true],
    ['half, past the middle', { width: 1024, height: 512, y: 513 }, false],
    ['a wide surface', { width: 512, height: 1024, virtual: 1024 }, true],
    ['too wide a surface', { width: 512, height: 1024, virtual: 1025 }, false],
    ['a virtual width below the width counts for nothing', { width: 1024, height: 1024, virtual: 1 }, true],
    ['the largest', { width: 65_535, height: 65_535, virtual: 65_535, x: 65_535, y: 65_535 }, false],
  ];
  for (const [what, mode, shown] of cases) {
    const small = rig('mbochs-small');
    setMode(small, mode);
    const answer = plane(small);
    t.equal(answer.width !== 0, shown, what);
    if (!shown) t.same(answer, NO_PLANE);
    t.equal(small.device.picture() !== undefined, shown, `${what}: picture`);
  }
});

t.test('the plane and its picture', async (t) => {
  const small = rig('mbochs-small');
  t.same(plane(small), NO_PLANE, 'off at first');
  t.equal(small.device.picture(), undefined);
  setMode(small, { width: 100, height: 70, virtual: 128, x: 3, y: 5 });
  const stride = 512;
  t.same(plane(small), { ...NO_PLANE, drmFormat: XR24, width: 100, height: 70, stride, size: 70 * stride, source: 1 });
  const first = 3 * 4 + 5 * stride;
  put(small.device, MEMORY, first, 4, 0xff11_2233);
  put(small.device, MEMORY, first + 99 * 4, 4, 0x0044_5566);
  put(small.device, MEMORY, first + 100 * 4, 4, 0x00ff_ffff);
  put(small.device, MEMORY, first + 69 * stride + 99 * 4, 4, 0x0001_0203);
  const { width, height, rgba } = small.device.picture() as { width: number; height: number; rgba: Uint8Array };
  t.same([width, height, rgba.length], [100, 70, 28_000]);
  const pixel = (x: number, y: number): number[] => [...rgba.subarray((y * 100 + x) * 4, (y * 100 + x) * 4 + 4)];
  t.same(pixel(0, 0), [0x11, 0x22, 0x33, 255]);
  t.same(pixel(99, 0), [0x44, 0x55, 0x66, 255]);
  t.same(pixel(0, 1), [0, 0, 0, 255], 'what is right of the row is not shown');
  t.same(pixel(99, 69), [1, 2, 3, 255]);
  t.equal(
    rgba.reduce((sum, byte) => sum + byte, 0),
    255 * 7000 + 0x66 + 0xff + 6,
    'and nothing else',
  );
});

t.test('a picture in memory of the caller', async (t) => {
  const small = rig('mbochs-small');
  setMode(small, { width: 64, height: 70, virtual: 80 });
  put(small.device, MEMORY, 0, 4, 0x0011_2233);
  const asked: number[] = [];
  const given = new Uint8Array(100 + 64 * 70 * 4).fill(0xee).subarray(100);
  const picture = small.device.picture((bytes) => {
    asked.push(bytes);
    return given;
  });
  t.same(asked, [64 * 70 * 4]);
  t.equal(picture?.rgba, given);
  t.same(picture, small.device.picture(), 'each byte is written');
  setMode(small, { enable: 0 });
  t.equal(
    small.device.picture(() => t.fail('a display that is off needs none') as never),
    undefined,
  );
});

t.test('query flags', async (t) => {
  const { device } = rig('mbochs-small');
  t.same(device.queryGfxPlane(1 | DMABUF, 0), NO_PLANE, 'probe');
  for (const flags of [0, 1, REGION, 1 | REGION, 6, 7, 8, 10, 0xffff_ffff])
    t.equal(device.queryGfxPlane(flags, PRIMARY), EINVAL, `${flags}`);
  for (const type of [0, 2, 3, 0xffff_ffff]) t.equal(device.queryGfxPlane(DMABUF, type), EINVAL, `plane ${type}`);
});

t.test('buffers: one for each mode, exported by id', async (t) => {
  const small = rig('mbochs-small');
  const { device, memories } = small;
  for (const id of [0, 1, 2 ** 32 - 1]) t.equal(device.getGfxDmabuf(id), ENOENT, 'before any query');
  setMode(small);
  t.equal(plane(small).source, 1, 'the first query of a mode answers');
  t.equal(plane(small).source, 1, 'the same mode, the same buffer');
  setMode(small, { height: 65 });
  t.equal(plane(small).source, 2);
  setMode(small, { y: 16 });
  t.equal(plane(small).source, 3);
  setMode(small, { virtual: 128 });
  t.equal(plane(small).source, 4);
  setMode(small);
  t.equal(plane(small).source, 1, 'back to the first');
  setMode(small, { enable: 0 });
  t.equal(plane(small).source, 0);
  t.equal(device.getGfxDmabuf(1), 77);
  t.equal(device.getGfxDmabuf(2), 77);
  t.equal(device.getGfxDmabuf(3), 77, '16 rows of 256 bytes are a page');
  t.same(memories.exports, [
    [0, 64 * 256],
    [0, 65 * 256],
    [4096, 64 * 256],
  ]);
  setMode(small, { x: 1 });
  t.equal(device.getGfxDmabuf(plane(small).source), EINVAL, 'not at a page');
  setMode(small, { y: 1 });
  t.equal(device.getGfxDmabuf(plane(small).source), EINVAL);
  memories.exported = -24;
  t.equal(device.getGfxDmabuf(1), -24, 'what the export answers');
  t.equal(device.getGfxDmabuf(99), ENOENT);
  t.equal(memories.exports.length, 4);
});

t.test('a guest that changes its mode for ever costs no memory', async (t) => {
  const small = rig('mbochs-small');
  for (let i = 0; i < 3 * PLANES_MAX; i++) {
    setMode(small, { height: 64 + i });
    t.equal(plane(small).source, i + 1);
  }
  const { device } = small;
  t.equal(device.getGfxDmabuf(2 * PLANES_MAX), ENOENT, 'forgotten');
  t.equal(device.getGfxDmabuf(2 * PLANES_MAX + 1), 77, 'the oldest that is kept');
  setMode(small, { height: 64 + 2 * PLANES_MAX });
  t.equal(plane(small).source, 2 * PLANES_MAX + 1, 'asking for it makes it the youngest');
  setMode(small, { height: 1000 });
  plane(small);
  t.equal(device.getGfxDmabuf(2 * PLANES_MAX + 1), 77);
  t.equal(device.getGfxDmabuf(2 * PLANES_MAX + 2), ENOENT);
});

t.test('EDID region: fields', async (t) => {
  const { device } = rig('mbochs-medium');
  const fields = (): number[] => [0, 4, 8, 12, 16, 20].map((at) => get(device, EDID, at, 4));
  t.same(fields(), [0x800, 0x400, 0, 1920, 1440, 2], 'link down, no blob');
  for (const at of [0, 4, 12, 16]) t.equal(put(device, EDID, at, 4, 1), EPERM, `field at ${at} is read-only`);
  for (const [size, status] of [
    [128, 0],
    [0x400, 0],
    [0x401, EINVAL],
    [0xffff_ffff, EINVAL],
    [0, 0],
  ] as const)
    t.equal(put(device, EDID, 8, 4, size), status, `size ${size}`);
  for (const [state, status] of [
    [1, 0],
    [0, EINVAL],
    [3, EINVAL],
    [2, 0],
  ] as const)
    t.equal(put(device, EDID, 20, 4, state), status, `link ${state}`);
  put(device, EDID, 8, 4, 256);
  t.equal(put(device, EDID, 8, 4, 0x500), EINVAL);
  t.equal(get(device, EDID, 8, 4), 256, 'a refused value is not stored');
  for (const [at, size] of [
    [8, 1],
    [8, 2],
    [9, 4],
    [22, 4],
    [24, 1],
    [24, 4],
    [0x7fc, 4],
    [0x7fe, 4],
    [0xc00, 1],
    [0xbff, 2],
    [0xffc, 4],
  ] as const) {
    t.equal(readStatus(device, EDID, at, size), EINVAL, `read of ${size} at 0x${at.toString(16)}`);
    t.equal(put(device, EDID, at, size, 0), EINVAL, `write of ${size} at 0x${at.toString(16)}`);
  }
  t.equal(readStatus(device, EDID, 0, 24), 0, 'the whole header');
  t.equal(readStatus(device, EDID, 0x800, 0x400), 0, 'the whole blob');
});

t.test('EDID: the guest sees the blob while the link is up', async (t) => {
  const { device } = rig('mbochs-small');
  const blob = Uint8Array.from({ length: 256 }, (_, i) => (i * 7 + 1) & 0xff);
  t.equal(device.write(EDID, 0x800, blob), 0);
  put(device, EDID, 8, 4, 200);
  const seen = (offset: number, size: number): number[] => {
    const bytes = new Uint8Array(size).fill(0xee);
    t.equal(device.read(REGISTERS, offset, bytes), 0);
    return [...bytes];
  };
  t.same(seen(0, 256), new Array(256).fill(0), 'link down');
  put(device, EDID, 20, 4, 1);
  t.same(seen(0, 256), [...blob.subarray(0, 200), ...new Array(56).fill(0)], 'up: as many bytes as edid_size says');
  for (const [offset, size] of [
    [0, 1],
    [199, 1],
    [200, 1],
    [198, 2],
    [198, 4],
    [1, 5],
    [0x3ff, 1],
    [0x3fe, 2],
  ] as const)
    t.same(
      seen(offset, size),
      Array.from({ length: size }, (_, i) => (offset + i < 200 ? blob[offset + i] : 0)),
      `${size} at ${offset}`,
    );
  t.same(seen(0x3f8, 16), new Array(16).fill(0), 'across the end of the window');
  t.equal(put(device, REGISTERS, 0, 4, 0), 0, 'the guest cannot write it');
  t.equal(seen(0, 1)[0], blob[0]);
  device.reset();
  t.equal(seen(0, 1)[0], blob[0], 'a device reset leaves the monitor');
  t.equal(get(device, EDID, 20, 4), 1);
  put(device, EDID, 20, 4, 2);
  t.same(seen(0, 4), [0, 0, 0, 0], 'down again');
  const whole = new Uint8Array(0x400).fill(0x5a);
  device.write(EDID, 0x800, whole);
  put(device, EDID, 8, 4, 0x400);
  put(device, EDID, 20, 4, 1);
  t.same(seen(0, 0x400), [...whole]);
  t.same(seen(0x400, 0x20), new Array(0x20).fill(0), 'the VGA ports behind it');
});
