/** mdpy: configuration space, the framebuffer by both of its regions, plane, reset. */
import t from 'tap';
import { NO_PLANE, RegionFlag } from '../../src/core/vfio/device.js';
import { get, MIB, put, readStatus, rig } from './support.js';

const [CONFIG, DISPLAY] = [7, 16];
const EINVAL = -22;
const [DMABUF, REGION] = [2, 4];
const PRIMARY = 1;

/** Type, width, height, bytes of the BAR. */
const TYPES = [
  ['mdpy-vga', 640, 480, 2 * MIB],
  ['mdpy-xga', 1024, 768, 4 * MIB],
  ['mdpy-hd', 1920, 1080, 8 * MIB],
] as const;

t.test('identity and vendor capability of each type', async (t) => {
  for (const [type, width, height, size] of TYPES) {
    const { device, memories } = rig(type);
    t.equal(device.name, type);
    t.same(device.attributes, { resolution: `${width}x${height}` });
    t.equal(get(device, CONFIG, 0x00, 4), 0x000f_1b36);
    t.equal(get(device, CONFIG, 0x2c, 4), 0x1100_1af4);
    t.equal(get(device, CONFIG, 0x04, 2), 0x0003, 'IO and memory are preset');
    t.equal(get(device, CONFIG, 0x06, 2), 0x0010, 'capability list');
    t.equal(get(device, CONFIG, 0x08, 4), 0x0380_0001, 'display controller, other; revision 1');
    t.equal(get(device, CONFIG, 0x0e, 1), 0);
    t.equal(get(device, CONFIG, 0x3d, 1), 0, 'no interrupt pin');
    t.equal(get(device, CONFIG, 0x34, 1), 0x40);
    t.equal(get(device, CONFIG, 0x40, 4), 0x0010_0009, 'vendor-specific, last, 16 bytes');
    t.equal(get(device, CONFIG, 0x44, 4), 0x3432_5258, 'XR24');
    t.equal(get(device, CONFIG, 0x48, 4), width);
    t.equal(get(device, CONFIG, 0x4c, 4), height);
    t.same(memories.open, [[type, size]]);
  }
});

t.test('regions', async (t) => {
  const { device, memories } = rig('mdpy-xga');
  t.equal(device.flags, 3);
  t.equal(device.regionCount, 17);
  t.same(
    [...device.regions.keys()].sort((a, b) => a - b),
    [0, CONFIG, DISPLAY],
  );
  t.same(device.regions.get(CONFIG), { index: 7, size: 256, flags: 3 });
  const memory = { size: 4 * MIB, flags: 7, file: { fd: memories.fd, offset: 0 } };
  t.same(device.regions.get(0), { index: 0, ...memory });
  t.same(device.regions.get(DISPLAY), { index: 16, ...memory });
  for (const { count, flags } of device.irqs.info) t.same([count, flags], [0, 0], 'no interrupts');
  t.equal(device.irqs.set({ flags: 0x21, index: 0, start: 0, count: 0 }), EINVAL);
  memories.fd = -1;
  const unmappable = rig('mdpy-xga', memories).device;
  t.equal((unmappable.regions.get(0)?.flags ?? 0) & RegionFlag.MMAP, 0, 'no file, no mapping');
});

t.test('BAR0 sizing, address and the command register', async (t) => {
  for (const [type, , , size] of TYPES) {
    const { device } = rig(type);
    t.equal(get(device, CONFIG, 0x10, 4), 8, '32 bits, prefetchable');
    t.equal(device.barAddress(0), undefined, 'no address yet');
    put(device, CONFIG, 0x10, 4, 0xffff_ffff);
    t.equal(get(device, CONFIG, 0x10, 4), 2 ** 32 - size + 8);
    t.equal(device.barAddress(0), undefined, 'the size mask is no address');
    put(device, CONFIG, 0x10, 4, 0xe000_0000 + size - 1);
    t.equal(get(device, CONFIG, 0x10, 4), 0xe000_0008, 'bits below the size are hardwired');
    t.equal(device.barAddress(0), 0xe000_0000);
    put(device, CONFIG, 0x13, 1, 0xd0);
    t.equal(device.barAddress(0), 0xd000_0000, 'a byte of a BAR');
    put(device, CONFIG, 0x04, 2, 1);
    t.equal(device.barAddress(0), undefined, 'memory is not decoded');
    put(device, CONFIG, 0x04, 2, 0xffff);
    t.equal(get(device, CONFIG, 0x04, 2), 0x0547);
    t.equal(device.barAddress(0), 0xd000_0000);
    for (let index = 1; index < 6; index++) {
      put(device, CONFIG, 0x10 + 4 * index, 4, 0xffff_ffff);
      t.equal(get(device, CONFIG, 0x10 + 4 * index, 4), 0, `no BAR${index}`);
      t.equal(device.barAddress(index), undefined);
    }
    for (const bar of [-1, 6, 7, 0.5]) t.equal(device.barAddress(bar), undefined);
  }
});

t.test('what of the configuration space can be written', async (t) => {
  const { device } = rig('mdpy-vga');
  const before = new Uint8Array(256);
  device.read(CONFIG, 0, before);
  const after = before.slice();
  t.equal(device.write(CONFIG, 0, new Uint8Array(256).fill(0xff)), 0);
  device.read(CONFIG, 0, after);
  const changed = [...after.keys()].filter((at) => after[at] !== before[at]);
  t.same(changed, [0x04, 0x05, 0x0c, 0x12, 0x13, 0x3c], 'command, cache line size, address bits, interrupt line');
  t.equal(device.write(CONFIG, 0, new Uint8Array(256)), 0);
  device.read(CONFIG, 0, after);
  before.fill(0, 0x04, 0x06);
  t.same(after, before, 'all zeros: only what can be written went');
});

t.test('reads and writes of the framebuffer go where they say', async (t) => {
  const { device } = rig('mdpy-vga');
  const last = 2 * MIB - 1;
  for (const [region, other] of [
    [0, DISPLAY],
    [DISPLAY, 0],
  ] as const)
    for (const [offset, size] of [
      [0, 1],
      [1, 2],
      [3, 4],
      [0x1234, 8],
      [0x2001, 4097],
      [last - 3, 4],
      [last, 1],
    ] as const) {
      const data = Uint8Array.from({ length: size }, (_, i) => offset + 7 * i + region);
      t.equal(device.write(region, offset, data), 0);
      const back = new Uint8Array(size);
      t.equal(device.read(other, offset, back), 0);
      t.same(back, data, `${size} bytes at ${offset}`);
    }
  for (const region of [0, DISPLAY]) {
    t.equal(readStatus(device, region, 0, 2 * MIB), 0, 'all of it');
    t.equal(readStatus(device, region, 0, 2 * MIB + 1), EINVAL);
    t.equal(readStatus(device, region, last, 2), EINVAL);
    t.equal(readStatus(device, region, last + 1, 0), 0, 'nothing, at the end');
    t.equal(readStatus(device, region, last + 2, 0), EINVAL);
    t.equal(put(device, region, last, 2, 0), EINVAL);
  }
});

t.test('plane', async (t) => {
  for (const [type, width, height, size] of TYPES) {
    const { device } = rig(type);
    t.same(device.queryGfxPlane(REGION, PRIMARY), {
      ...NO_PLANE,
      drmFormat: 0x3432_5258,
      width,
      height,
      stride: width * 4,
      size,
      source: DISPLAY,
    });
    t.same(device.queryGfxPlane(1 | REGION, 0), NO_PLANE, 'probe');
    for (const flags of [0, 1, DMABUF, 1 | DMABUF, 6, 7, 8, 12, 0xffff_ffff])
      t.equal(device.queryGfxPlane(flags, PRIMARY), EINVAL, `flags ${flags}`);
    for (const plane of [0, 2, 3, 0xffff_ffff]) t.equal(device.queryGfxPlane(REGION, plane), EINVAL, `plane ${plane}`);
    for (const id of [0, 1, 16]) t.equal(device.getGfxDmabuf(id), EINVAL);
  }
});

t.test('the picture is a grey gradient at first and after a reset, and what is drawn in between', async (t) => {
  for (const [type, width, height, size] of TYPES) {
    const { device } = rig(type);
    const isGradient = (what: string): void => {
      const picture = device.picture();
      t.same([picture?.width, picture?.height], [width, height]);
      const { rgba } = picture as { rgba: Uint8Array };
      const rows = [0, 1, height >> 1, height - 1].map((row) => [...rgba.subarray(row * width * 4, row * width * 4 + 4)]);
      const grey = (level: number): number[] => [level, level, level, 255];
      t.same(rows, [grey(0), grey(0), grey(Math.floor(((height >> 1) * 255) / (height - 1))), grey(255)], what);
      t.equal(rgba.length, width * height * 4);
    };
    isGradient('at first');
    put(device, 0, 0, 4, 0x7f11_2233);
    put(device, DISPLAY, (width * height - 1) * 4, 4, 0x0044_5566);
    put(device, 0, size - 4, 4, 0x1234_5678);
    put(device, CONFIG, 0x10, 4, 0xe000_0000);
    put(device, CONFIG, 0x04, 2, 0);
    const { rgba } = device.picture() as { rgba: Uint8Array };
    t.same([...rgba.subarray(0, 4), ...rgba.subarray(-4)], [0x11, 0x22, 0x33, 255, 0x44, 0x55, 0x66, 255]);
    t.equal(device.reset(), 0);
    isGradient('after a reset');
    t.equal(get(device, 0, size - 4, 4), 0, 'behind the framebuffer');
    t.equal(get(device, CONFIG, 0x10, 4), 8);
    t.equal(get(device, CONFIG, 0x04, 2), 3);
    device.close();
  }
});
