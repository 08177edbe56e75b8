/** EDID: what the built-in blocks say, decoded here, and what is refused. */
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import { checkedEdid, edidFault } from '../../src/core/gvt/display/edid.js';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { VGPU_TYPES } from '../../src/core/gvt/types.js';

const byte = (edid: Uint8Array, at: number): number => edid[at] as number;
const word = (edid: Uint8Array, at: number): number => byte(edid, at) | (byte(edid, at + 1) << 8);

/** A detailed timing descriptor as `WIDTHxHEIGHT@HZ`, with its blanking. */
function timing(edid: Uint8Array, at: number) {
  const split = (low: number, high: number, shift: number): number =>
    byte(edid, at + low) | (((byte(edid, at + high) >> shift) & 0xf) << 8);
  const [width, height, hBlank, vBlank] = [split(2, 4, 4), split(5, 7, 4), split(3, 4, 0), split(6, 7, 0)];
  const high = byte(edid, at + 11);
  const clock = word(edid, at) * 10_000;
  return {
    mode: `${width}x${height}@${(clock / (width + hBlank) / (height + vBlank)).toFixed(2)}`,
    clock,
    horizontal: [byte(edid, at + 8) | ((high >> 6) << 8), byte(edid, at + 9) | (((high >> 4) & 3) << 8), hBlank],
    vertical: [(byte(edid, at + 10) >> 4) | (((high >> 2) & 3) << 4), (byte(edid, at + 10) & 0xf) | ((high & 3) << 4), vBlank],
    polarity: `${(byte(edid, at + 17) & 2) !== 0 ? '+' : '-'}${(byte(edid, at + 17) & 4) !== 0 ? '+' : '-'}`,
    millimetres: [split(12, 14, 4), split(13, 14, 0)],
  };
}

const text = (edid: Uint8Array, at: number): string =>
  Buffer.from(edid.subarray(at + 5, at + 18))
    .toString('latin1')
    .replace(/\n *$/, '');

function decode(edid: Uint8Array) {
  const aspects = [16 / 10, 4 / 3, 5 / 4, 16 / 9];
  const standard: string[] = [];
  for (let at = 38; at < 54; at += 2) {
    if (word(edid, at) === 0x0101) continue;
    const width = (byte(edid, at) + 31) * 8;
    standard.push(`${width}x${Math.round(width / (aspects[byte(edid, at + 1) >> 6] as number))}@${(byte(edid, at + 1) & 0x3f) + 60}`);
  }
  const descriptors = [54, 72, 90, 108].map((at) => (word(edid, at) === 0 ? byte(edid, at + 3) : timing(edid, at)));
  return {
    id: String.fromCharCode(...[10, 5, 0].map((shift) => 0x40 + ((((byte(edid, 8) << 8) | byte(edid, 9)) >> shift) & 0x1f))),
    version: `${byte(edid, 18)}.${byte(edid, 19)}`,
    digital: byte(edid, 20) >> 7,
    centimetres: [byte(edid, 21), byte(edid, 22)],
    established: [byte(edid, 35), byte(edid, 36), byte(edid, 37)],
    standard,
    descriptors,
  };
}

t.test('1024x768', async (t) => {
  const edid = monitorEdid({ width: 1024, height: 768 });
  t.equal(edid.length, 128);
  t.equal(edidFault(edid), undefined);
  t.strictSame(decode(edid), {
    id: 'MPT',
    version: '1.4',
    digital: 1,
    centimetres: [27, 20],
    established: [0x21, 0x08, 0],
    standard: [],
    descriptors: [
      // VESA DMT 0x10.
      { mode: '1024x768@60.00', clock: 65e6, horizontal: [24, 136, 320], vertical: [3, 6, 38], polarity: '--', millimetres: [270, 200] },
      0xfc,
      0xfd,
      0x10,
    ],
  });
  t.equal(text(edid, 72), 'vGPU 1024x768');
  t.strictSame([...edid.subarray(95, 101)], [59, 61, 31, 49, 7, 1], 'Hz, kHz, 10 MHz');
  t.strictSame(
    [...edid.subarray(25, 35)],
    [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54],
    'sRGB, as every sRGB monitor has it',
  );
});

t.test('1920x1200', async (t) => {
  const edid = monitorEdid({ width: 1920, height: 1200 });
  t.equal(edidFault(edid), undefined);
  const { standard, descriptors } = decode(edid);
  t.strictSame(standard, ['1600x1200@60', '1280x1024@60', '1280x720@60']);
  t.strictSame(descriptors, [
    // VESA DMT 0x45, reduced blanking; CEA-861 16.
    { mode: '1920x1200@59.95', clock: 154e6, horizontal: [48, 32, 160], vertical: [3, 6, 35], polarity: '+-', millimetres: [510, 320] },
    { mode: '1920x1080@60.00', clock: 148.5e6, horizontal: [88, 44, 280], vertical: [4, 5, 45], polarity: '++', millimetres: [510, 290] },
    0xfc,
    0xfd,
  ]);
  t.equal(text(edid, 90), 'vGPU1920x1200');
});

t.test('each type has a monitor of its resolution', async (t) => {
  for (const { name, resolution } of VGPU_TYPES[8]) {
    const [first] = decode(monitorEdid(resolution)).descriptors;
    t.match((first as { mode: string }).mode, `${resolution.width}x${resolution.height}@`, name);
  }
});

t.test('any other resolution has a monitor, timed by CVT with reduced blanking', async (t) => {
  // Clocks, totals and sync lines as VESA DMT 1.0 gives them: ids 0x1b, 0x2e, 0x39 and 0x29.
  for (const [width, height, clock, vertical] of [
    [1280, 800, 71e6, [3, 6, 23]],
    [1440, 900, 88.75e6, [3, 6, 26]],
    [1680, 1050, 119e6, [3, 6, 30]],
    [1400, 1050, 101e6, [3, 4, 30]],
  ] as const) {
    const edid = monitorEdid({ width, height });
    t.equal(edidFault(edid), undefined);
    const { descriptors } = decode(edid);
    t.match(descriptors[0], { clock, horizontal: [48, 32, 160], vertical, polarity: '+-' }, `${width}x${height}`);
    t.match((descriptors[0] as { mode: string }).mode, `${width}x${height}@59.`);
    t.match(text(edid, 72), new RegExp(`^vGPU ?${width}x${height}$`));
  }
  t.strictSame(decode(monitorEdid({ width: 1440, height: 1080 })).standard, ['1280x1024@60', '1280x720@60'], 'what fits');
  t.strictSame(decode(monitorEdid({ width: 640, height: 480 })).standard, []);
  t.same(
    [35, 36].map((at) => byte(monitorEdid({ width: 800, height: 600 }), at)),
    [0x21, 0],
  );
});

t.test('what is no EDID', async (t) => {
  const good = monitorEdid({ width: 1024, height: 768 });
  const refused = (edid: Uint8Array, why: RegExp): void => {
    t.match(edidFault(edid), why);
    t.throws(() => checkedEdid(edid), MptError);
  };
  for (const length of [0, 1, 127, 129, 640]) refused(new Uint8Array(length), /bytes, not 1 to 4 blocks of 128/);
  const changed = (at: number, value: number): Uint8Array => {
    const edid = good.slice();
    edid[at] = value;
    return edid;
  };
  refused(changed(0, 1), /first eight bytes/);
  refused(changed(7, 1), /first eight bytes/);
  refused(changed(127, byte(good, 127) ^ 1), /checksum of block 0/);
  refused(changed(126, 1), /1 extensions and has 0/);
  const two = new Uint8Array(256);
  two.set(good);
  refused(two, /0 extensions and has 1/);
  two[126] = 1;
  two[127] = byte(good, 127) - 1;
  t.equal(edidFault(two), undefined, 'a second block of zeros has a right checksum');
  two[200] = 1;
  refused(two, /checksum of block 1/);
  const kept = checkedEdid(good);
  good[8] = 0;
  t.not(kept[8], 0, 'a copy');
});
