/** Both kinds together: types, capacity, closing, and clients that try everything. */
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import { findSampleType, SAMPLE_KINDS, SAMPLE_TYPES, type SampleDevice, Samples } from '../../src/core/samples/index.js';
import { refused } from '../core/expect.js';
import { Random } from '../core/random.js';
import { ArrayMemories, MIB, rig } from './support.js';

const ENODEV = -19;

t.test('types', async (t) => {
  t.same(
    SAMPLE_KINDS.map(({ name }) => name),
    ['mdpy', 'mbochs'],
  );
  t.same(
    SAMPLE_TYPES.map(({ name }) => name),
    ['mdpy-vga', 'mdpy-xga', 'mdpy-hd', 'mbochs-small', 'mbochs-medium', 'mbochs-large'],
  );
  for (const type of SAMPLE_TYPES) {
    t.ok(type.name.startsWith(`${type.kind}-`) && type.description.length > 10, type.name);
    t.equal(findSampleType(type.name), type);
    t.equal(findSampleType(type.name.slice(type.kind.length + 1), type.kind), type);
    t.equal(findSampleType(type.name, type.kind), type);
  }
  t.match(refused(t, 'BAD_TYPE', () => findSampleType('mbochs-smal')).message, /did you mean mbochs-small\? types: mdpy-vga, /);
  t.match(refused(t, 'BAD_TYPE', () => findSampleType('xga')).hint, /types: /, 'a kind is needed');
  t.match(refused(t, 'BAD_TYPE', () => findSampleType('xga', 'mbochs')).hint, /mbochs-large$/);
  refused(t, 'BAD_TYPE', () => findSampleType('mdpy-xga', 'mbochs'));
});

t.test('four mdpy devices, whatever their type', async (t) => {
  const samples = new Samples(new ArrayMemories());
  const [vga, hd] = [findSampleType('mdpy-vga'), findSampleType('mdpy-hd')];
  t.equal(samples.available(vga), 4);
  const devices = [vga, hd, hd, vga].map((type) => samples.create(type));
  t.equal(samples.available(hd), 0);
  const error = refused(t, 'LIMIT', () => samples.create(vga));
  t.match(error, { errno: 87, size: 1, limit: 0 });
  t.equal(samples.available(findSampleType('mbochs-large')), 4, 'the other kind has its own');
  devices[1]?.close();
  t.equal(samples.available(vga), 1);
  devices[1]?.close();
  t.equal(samples.available(vga), 1, 'closed once');
  samples.create(vga);
});

t.test('256 MiB for all mbochs devices', async (t) => {
  const memories = new ArrayMemories();
  const samples = new Samples(memories);
  const [small, medium, large] = ['small', 'medium', 'large'].map((name) => findSampleType(name, 'mbochs')) as [never, never, never];
  t.same(
    [small, medium, large].map((type) => samples.available(type)),
    [64, 16, 4],
  );
  const devices: SampleDevice[] = [large, large, large, medium, medium, medium, small, small, small].map((type) => samples.create(type));
  t.same(
    [small, medium, large].map((type) => samples.available(type)),
    [1, 0, 0],
    '4 MiB are left',
  );
  t.match(
    refused(t, 'NO_SPACE', () => samples.create(medium)),
    { errno: 28, size: 16 * MIB, limit: 4 * MIB },
  );
  devices.push(samples.create(small));
  refused(t, 'NO_SPACE', () => samples.create(small));
  t.equal(memories.open.length, 10);
  devices[0]?.close();
  t.same(
    [small, medium, large].map((type) => samples.available(type)),
    [16, 4, 1],
  );
  for (const device of devices) device.close();
  t.equal(memories.open.length, 0);
  t.equal(samples.available(large), 4);
  t.equal(new Samples(memories, { mbochs: 63 * MIB }).available(large), 0, 'a smaller budget');
});

t.test('an allocation that fails takes nothing', async (t) => {
  const memories = new ArrayMemories();
  const samples = new Samples(memories);
  memories.broken = true;
  for (const type of SAMPLE_TYPES) {
    const before = samples.available(type);
    t.throws(() => samples.create(type), MptError);
    t.equal(samples.available(type), before);
  }
  t.equal(memories.open.length, 0);
});

t.test('a closed device answers ENODEV', async (t) => {
  for (const { name } of SAMPLE_TYPES) {
    const { device, memories } = rig(name);
    device.close();
    device.close();
    t.same(memories.open, []);
    t.equal(device.read(0, 0, new Uint8Array(4)), ENODEV);
    t.equal(device.write(7, 4, new Uint8Array(2)), ENODEV);
    t.equal(device.reset(), ENODEV);
    t.equal(device.queryGfxPlane(2, 1), ENODEV);
    t.equal(device.getGfxDmabuf(1), ENODEV);
    t.equal(device.picture(), undefined);
  }
});

t.test('regions that are not there, ranges that are none', async (t) => {
  for (const { name } of SAMPLE_TYPES) {
    const { device } = rig(name);
    for (const region of [-1, 1, 3, 6, 8, 10, 15, 17, 2 ** 31, 2 ** 32, Number.NaN])
      for (const size of [0, 1, 4]) {
        t.equal(device.read(region, 0, new Uint8Array(size)), -22, `${name}: read of region ${region}`);
        t.equal(device.write(region, 0, new Uint8Array(size)), -22, `${name}: write of region ${region}`);
      }
    for (const [region, { size }] of device.regions)
      for (const [offset, length] of [
        [-1, 1],
        [-1, 0],
        [size, 1],
        [size - 1, 2],
        [size + 1, 0],
        [2 ** 32, 4],
        [2 ** 52, 4],
        [2 ** 64, 4],
        [0.5, 1],
        [Number.NaN, 1],
        [Number.POSITIVE_INFINITY, 1],
        [0, size + 1],
      ] as const) {
        t.equal(device.read(region, offset, new Uint8Array(length)), -22, `${name}: read of ${length} at ${offset}`);
        t.equal(device.write(region, offset, new Uint8Array(length)), -22, `${name}: write of ${length} at ${offset}`);
      }
  }
});

t.test('anything at all: 60,000 random operations throw nothing and leave the device in its bounds', async (t) => {
  const random = new Random(0x5a3b_1e5d);
  const edges = [0, 1, 2, 3, 4, 8, 20, 24, 0x3c, 0x40, 0xff, 0x100, 0x3ff, 0x400, 0x500, 0x508, 0x515, 0x516, 0x800, 0xbff, 0xfff, 0x1000];
  const offset = (size: number): number => {
    if (random.below(3) === 0) return size - random.below(16);
    return random.below(2) === 0 ? random.pick(edges) : random.word() * (random.below(8) === 0 ? 2 ** 20 : 1);
  };
  for (const { name } of SAMPLE_TYPES) {
    const { device } = rig(name);
    const indices = [...device.regions.keys(), 1, 6, 8, 99];
    const statuses = new Set<number>();
    for (let i = 0; i < 10_000; i++) {
      const region = random.pick(indices);
      const bytes = new Uint8Array(random.below(50) === 0 ? random.below(70_000) : random.below(12)).fill(random.word());
      const at = offset(device.regions.get(region)?.size ?? 256);
      statuses.add(random.below(3) === 0 ? device.read(region, at, bytes) : device.write(region, at, bytes));
      if (i % 16 === 0) device.queryGfxPlane(random.below(9), random.below(4));
      if (i % 64 === 0) device.getGfxDmabuf(random.below(40));
      if (i % 128 === 0) {
        const picture = device.picture();
        if (picture !== undefined && picture.rgba.length !== picture.width * picture.height * 4) t.fail('a picture of another size');
      }
      if (i % 1000 === 0) device.reset();
    }
    t.same(
      [...statuses].filter((status) => ![0, -1, -22].includes(status)),
      [],
      name,
    );
    t.ok(statuses.has(0) && statuses.has(-22));
    device.reset();
    t.equal(device.regions.get(7)?.size, 256);
  }
});

t.test('a bulk access is one copy, not a loop over bytes', async (t) => {
  let copies = 0;
  class Counted extends Uint8Array {
    override set(source: ArrayLike<number>, offset?: number): void {
      copies++;
      super.set(source, offset);
    }
  }
  const memories = new ArrayMemories();
  const { allocate } = ArrayMemories.prototype;
  memories.allocate = (size, name) => ({ ...allocate.call(memories, size, name), bytes: new Counted(size) });
  const { device } = rig('mbochs-medium', memories);
  t.equal(device.write(0, 5, new Uint8Array(15 * MIB).fill(7)), 0);
  t.equal(copies, 1);
  const back = new Counted(15 * MIB);
  t.equal(device.read(0, 5, back), 0);
  t.equal(copies, 2);
  t.ok(back.every((byte) => byte === 7));
});
