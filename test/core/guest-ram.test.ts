/** GuestRam: both ends, crossings, holes, whole stores, and a byte-by-byte model with a fixed seed. */
import t from 'tap';
import { GPA_LIMIT, PAGE_SIZE } from '../../src/core/addresses.js';
import { checkRamLayout, GuestRam, type MappedRegion, mapRegion } from '../../src/core/guest-ram.js';
import { refused } from './expect.js';
import { Random } from './random.js';

/** Two touching regions, a hole, one above 4 GiB. */
const LAYOUT = [
  { gpa: 0, size: 4 * PAGE_SIZE },
  { gpa: 4 * PAGE_SIZE, size: 2 * PAGE_SIZE },
  { gpa: 8 * PAGE_SIZE, size: PAGE_SIZE },
  { gpa: 0x1_0000_0000, size: 3 * PAGE_SIZE },
] as const;
const HIGH = LAYOUT[3].gpa;

const ram = (): GuestRam => new GuestRam(LAYOUT.map(({ gpa, size }) => mapRegion(gpa, new Uint8Array(size))));
const bytes = (length: number, seed: number): Uint8Array => {
  const random = new Random(seed);
  return Uint8Array.from({ length }, () => random.below(256));
};

t.test('a layout is aligned, non-empty, inside 52 bits and disjoint', async (t) => {
  t.same(
    checkRamLayout([LAYOUT[2], LAYOUT[0]]).map(({ gpa }) => gpa),
    [0, 8 * PAGE_SIZE],
    'sorted',
  );
  t.equal(checkRamLayout([{ gpa: GPA_LIMIT - PAGE_SIZE, size: PAGE_SIZE }]).length, 1, 'the last page');
  refused(t, 'INVALID_ARGUMENT', () => checkRamLayout([]), 'none');
  for (const [gpa, size] of [
    [1, PAGE_SIZE],
    [0, 0],
    [0, 1],
    [0, -PAGE_SIZE],
    [-PAGE_SIZE, PAGE_SIZE],
    [0.5, PAGE_SIZE],
    [Number.NaN, PAGE_SIZE],
    [0, Number.NaN],
    [0, Number.POSITIVE_INFINITY],
    [GPA_LIMIT, PAGE_SIZE],
    [GPA_LIMIT - PAGE_SIZE, 2 * PAGE_SIZE],
    [2 ** 64, PAGE_SIZE],
  ] as const)
    refused(t, 'INVALID_ARGUMENT', () => checkRamLayout([{ gpa, size }]), `${gpa}+${size}`);
  refused(t, 'OVERLAP', () =>
    checkRamLayout([
      { gpa: 0, size: 2 * PAGE_SIZE },
      { gpa: PAGE_SIZE, size: PAGE_SIZE },
    ]),
  );
  refused(t, 'OVERLAP', () =>
    checkRamLayout([
      { gpa: 0, size: PAGE_SIZE },
      { gpa: 0, size: PAGE_SIZE },
    ]),
  );
});

t.test('both ends of every region are RAM, the bytes beside are not', async (t) => {
  const memory = ram();
  const one = new Uint8Array(1);
  for (const { gpa, size } of LAYOUT)
    for (const at of [gpa, gpa + size - 1]) {
      memory.write(at, Uint8Array.of(0xa5), 0, 1);
      memory.read(at, one, 0, 1);
      t.equal(one[0], 0xa5, `0x${at.toString(16)}`);
      t.ok(memory.covers(at, 1) && memory.touches(at, at) && memory.find(at) !== undefined);
    }
  for (const at of [6 * PAGE_SIZE, 8 * PAGE_SIZE - 1, 9 * PAGE_SIZE, HIGH - 1, HIGH + 3 * PAGE_SIZE, GPA_LIMIT - 1, 2 ** 53 - 1]) {
    t.notOk(memory.covers(at, 1) || memory.touches(at, at), `0x${at.toString(16)}`);
    const read = refused(t, 'NOT_RAM', () => memory.read(at, one, 0, 1));
    t.equal(read.address, at, 'the hole is named');
    t.match(read.message, /0x0-0x3fff/, 'and the RAM');
    refused(t, 'NOT_RAM', () => memory.write(at, one, 0, 1));
    refused(t, 'NOT_RAM', () => memory.view(at, 1));
  }
});

t.test('a copy crosses touching regions; one byte of hole refuses all of it', async (t) => {
  const memory = ram();
  const data = bytes(6 * PAGE_SIZE, 1);
  memory.write(0, data, 0, data.length);
  const back = new Uint8Array(data.length);
  memory.read(0, back, 0, back.length);
  t.same(back, data, 'all of it');
  for (const length of [2, 4, 8, 16, 100]) {
    const at = 4 * PAGE_SIZE - length / 2;
    const piece = bytes(length, length);
    memory.write(at, piece, 0, length);
    const copy = new Uint8Array(length);
    memory.read(at, copy, 0, length);
    t.same(copy, piece, `${length} bytes over the border`);
  }
  memory.read(0, back, 0, back.length);
  for (const length of [2, 8, 16, PAGE_SIZE, 2 * PAGE_SIZE]) {
    const at = 6 * PAGE_SIZE - length + 1;
    const target = new Uint8Array(length).fill(0xee);
    const error = refused(t, 'NOT_RAM', () => memory.read(at, target, 0, length), `read ${length}`);
    t.equal(error.address, 6 * PAGE_SIZE, 'first byte that is not RAM');
    t.ok(
      target.every((byte) => byte === 0xee),
      'nothing was read',
    );
    refused(t, 'NOT_RAM', () => memory.write(at, target, 0, length), `write ${length}`);
  }
  refused(t, 'NOT_RAM', () => memory.write(8 * PAGE_SIZE - 8, new Uint8Array(16).fill(0xdd), 0, 16), 'starts in the hole');
  const after = new Uint8Array(6 * PAGE_SIZE);
  memory.read(0, after, 0, after.length);
  t.same(after, back, 'nothing was written');
  t.notOk(memory.covers(0, 6 * PAGE_SIZE + 1));
  t.ok(memory.covers(0, 6 * PAGE_SIZE));
  t.ok(memory.touches(5 * PAGE_SIZE, 7 * PAGE_SIZE) && memory.touches(0, GPA_LIMIT));
  t.notOk(memory.touches(6 * PAGE_SIZE, 8 * PAGE_SIZE - 1));
  refused(t, 'NOT_RAM', () => memory.view(4 * PAGE_SIZE - 1, 2), 'a view does not cross regions');
  t.equal(memory.view(4 * PAGE_SIZE, 2 * PAGE_SIZE).length, 2 * PAGE_SIZE);
});

/** A region whose typed arrays log each element store. */
function loggedRegion(stores: string[]): MappedRegion {
  const region = mapRegion(0, new Uint8Array(PAGE_SIZE));
  const logged = <T extends object>(name: string, array: T): T =>
    new Proxy(array, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target) as unknown;
        if (typeof value !== 'function') return value;
        return (...rest: unknown[]) => {
          if (key === 'set') stores.push(`${name}.set`);
          return (value as (...all: unknown[]) => unknown).apply(target, rest);
        };
      },
      set: (target, key, value) => {
        stores.push(`${name}[${String(key)}]`);
        return Reflect.set(target, key, value, target);
      },
    });
  return {
    ...region,
    bytes: logged('bytes', region.bytes),
    u16: logged('u16', region.u16),
    u32: logged('u32', region.u32),
    u64: logged('u64', region.u64),
  };
}

t.test('a naturally aligned write of 1, 2, 4 or 8 bytes is one store of the right value', async (t) => {
  const stores: string[] = [];
  const region = loggedRegion(stores);
  const memory = new GuestRam([region]);
  const source = Uint8Array.of(0xff, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xf7);
  for (const [length, view] of [
    [1, 'bytes'],
    [2, 'u16'],
    [4, 'u32'],
    [8, 'u64'],
  ] as const)
    for (const at of [0, 0x100, PAGE_SIZE - length]) {
      stores.length = 0;
      memory.write(at, source, 1, length);
      t.same(stores, [`${view}[${at / length}]`], `${length} bytes at ${at}`);
      const back = new Uint8Array(length);
      memory.read(at, back, 0, length);
      t.same(back, source.subarray(1, 1 + length));
    }
  for (const [at, length] of [
    [1, 2],
    [2, 4],
    [4, 8],
    [0, 3],
    [0, 7],
  ] as const) {
    stores.length = 0;
    memory.write(at, source, 0, length);
    t.same(stores, ['bytes.set'], `${length} bytes at ${at} are no single store`);
  }
});

t.test('random copies equal a byte-by-byte model', async (t) => {
  const memory = ram();
  const model = new Map<number, number>();
  const random = new Random(0xc0ffee);
  const lengths = [1, 2, 3, 4, 7, 8, 9, 16, 17, 100, PAGE_SIZE, PAGE_SIZE + 1];
  let refusals = 0;
  for (let step = 0; step < 1500; step++) {
    const base = random.pick([0, 3 * PAGE_SIZE, 7 * PAGE_SIZE, 8 * PAGE_SIZE, HIGH]);
    const length = random.pick(lengths);
    const at = base + (random.below(4) === 0 ? random.below(2) * PAGE_SIZE : random.below(2 * PAGE_SIZE));
    const offset = random.below(3);
    const isRam = (gpa: number): boolean => LAYOUT.some((region) => gpa >= region.gpa && gpa < region.gpa + region.size);
    const inside = Array.from({ length }, (_, i) => isRam(at + i)).every(Boolean);
    const buffer = bytes(length + offset + random.below(2), step + 1);
    const write = random.below(2) === 0;
    const before = buffer.slice();
    if (!inside) {
      refusals++;
      refused(t, 'NOT_RAM', () => (write ? memory.write(at, buffer, offset, length) : memory.read(at, buffer, offset, length)));
      if (Buffer.compare(before, buffer) !== 0) t.fail('a refused read changed the buffer');
    } else if (write) {
      memory.write(at, buffer, offset, length);
      for (let i = 0; i < length; i++) model.set(at + i, buffer[offset + i] as number);
    } else {
      memory.read(at, buffer, offset, length);
      for (let i = 0; i < buffer.length; i++) {
        const expected = i >= offset && i < offset + length ? (model.get(at + i - offset) ?? 0) : before[i];
        if (buffer[i] !== expected) {
          t.fail(`step ${step}: byte ${i} of ${length} at 0x${at.toString(16)}`);
          break;
        }
      }
    }
  }
  t.ok(refusals > 50, `${refusals} of them ran into holes`);
});

t.test('more 4 KiB copies than cached page views still find the right page', async (t) => {
  const pages = 4200;
  const memory = new GuestRam([mapRegion(0, new Uint8Array(pages * PAGE_SIZE))]);
  const page = new Uint8Array(PAGE_SIZE);
  for (let i = 0; i < pages; i++) {
    page[0] = i & 0xff;
    page[PAGE_SIZE - 1] = i >> 8;
    memory.write(i * PAGE_SIZE, page, 0, PAGE_SIZE);
  }
  let wrong = 0;
  for (let i = 0; i < pages; i++) {
    memory.read(i * PAGE_SIZE, page, 0, PAGE_SIZE);
    if (page[0] !== (i & 0xff) || page[PAGE_SIZE - 1] !== i >> 8) wrong++;
  }
  t.equal(wrong, 0);
});

t.test('a region of exactly 4 GiB has its whole-word views', async (t) => {
  // Not touched, so not backed: the buffer is address space only.
  const region = mapRegion(0, new Uint8Array(2 ** 32));
  t.equal(region.u16.length, 2 ** 31);
  t.equal(region.u32.length, 2 ** 30);
  t.equal(region.u64.length, 2 ** 29);
  const ram = new GuestRam([region]);
  const stored = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  for (const length of [1, 2, 4, 8]) {
    ram.write(2 ** 32 - 8, stored, 0, length);
    const loaded = new Uint8Array(length);
    ram.read(2 ** 32 - 8, loaded, 0, length);
    t.same(loaded, stored.subarray(0, length), `${length} bytes`);
  }
});
