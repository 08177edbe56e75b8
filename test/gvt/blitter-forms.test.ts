/** The blitter's other forms against a reference that places pixel by pixel: tilings, clipping, patterns, byte and fast copies. */

import t from 'tap';
import { BATCH, BATCH_END, BCS, batchStart, DATA, PAGE, type Rig, rig } from './engine-rig.js';
import { random } from './memory-backend.js';
import { view } from './page-bytes.js';

const [LINEAR, X, Y] = [0, 1, 2] as const;
type Tiling = 0 | 1 | 2;
const PAGES = 16;
const PITCH = 1024;
const [SOURCE, TARGET] = [DATA, DATA + 0x10_0000];
const COPY = 0x54c0_0008 | (3 << 20);
const FILL = 0x5400_0005 | (3 << 20);

/** Where a byte of a surface of 1024 bytes a row is, by the definition of tiles. */
function place(tiling: Tiling, x: number, y: number): number {
  if (tiling === LINEAR) return y * PITCH + x;
  const [width, height] = tiling === X ? [512, 8] : [128, 32];
  const tile = Math.floor(y / height) * (PITCH / width) + Math.floor(x / width);
  const [tx, ty] = [x % width, y % height];
  return tile * 4096 + (tiling === X ? ty * 512 + tx : Math.floor(tx / 16) * 512 + ty * 16 + (tx % 16));
}

/** Two surfaces of noise in per-process memory, and a batch there. */
function run(seed: number, ...commands: number[]): { r: Rig; source: Uint8Array; before: Uint8Array; after: () => Uint8Array } {
  const r = rig();
  const next = random(seed);
  const bytes = (base: number): Uint8Array => {
    const all = new Uint8Array(PAGES * PAGE);
    for (let i = 0; i < PAGES; i++) all.set(view(r.process.page(base + i * PAGE))?.bytes as Uint8Array, i * PAGE);
    return all;
  };
  for (const base of [SOURCE, TARGET]) {
    r.process.map(base, PAGES);
    for (let i = 0; i < PAGES; i++) for (let j = 0; j < 1024; j++) (view(r.process.page(base + i * PAGE))?.u32 as Uint32Array)[j] = next();
  }
  r.process.map(BATCH);
  r.process.write(BATCH, ...commands.map((dword) => dword >>> 0), BATCH_END);
  const [source, before] = [bytes(SOURCE), bytes(TARGET)];
  const context = r.context(1);
  r.emit(1, ...batchStart(BATCH, 1 << 8), 0);
  r.submit(BCS, context);
  while (r.submission.hasWork) r.submission.runSlice(50);
  return { r, source, before, after: () => bytes(TARGET) };
}

const pair = (x: number, y: number): number => (y << 16) | x;
/** LRI of BCS_SWCTRL. */
const swctrl = (from: Tiling, to: Tiling): number[] => [0x1100_0001, 0x2_2200, (3 << 16) | (from === Y ? 1 : 0) | (to === Y ? 2 : 0)];
const pitchOf = (tiling: Tiling): number => (tiling === LINEAR ? PITCH : PITCH / 4);

t.test('copies between linear, X and Y at each depth', async (t) => {
  const next = random(0x7117);
  let good = 0;
  for (const from of [LINEAR, X, Y])
    for (const to of [LINEAR, X, Y])
      for (const [depth, bytes] of [
        [0, 1],
        [1, 2],
        [3, 4],
      ] as const) {
        const [width, height] = [1 + (next() % 150), 1 + (next() % 40)];
        const [sx, sy, dx, dy] = [next() % 60, next() % 20, next() % 60, next() % 20];
        const copy = [
          COPY | (from !== LINEAR ? 1 << 15 : 0) | (to !== LINEAR ? 1 << 11 : 0),
          (depth << 24) | (0xcc << 16) | pitchOf(to),
          pair(dx, dy),
          pair(dx + width, dy + height),
          TARGET,
          0,
          pair(sx, sy),
          pitchOf(from),
          SOURCE,
          0,
        ];
        const { r, source, before, after } = run(next(), ...swctrl(from, to), ...copy);
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width * bytes; x++)
            before[place(to, dx * bytes + x, dy + y)] = source[place(from, sx * bytes + x, sy + y)] as number;
        t.strictSame(r.hung(), [], r.log[0]);
        if (Buffer.compare(before, after()) === 0) good++;
        else t.fail(`${from} to ${to}, ${bytes} bytes, ${width}x${height}`);
      }
  t.equal(good, 27);
});

t.test('fills and raster operations on tiled surfaces, clipped', async (t) => {
  const next = random(0xc11b);
  for (let round = 0; round < 60; round++) {
    const to = (next() % 3) as Tiling;
    const clipped = next() % 2 === 0;
    const clip = { x1: next() % 60, y1: next() % 20, x2: next() % 120, y2: next() % 40 };
    const [x1, y1, x2, y2] = [next() % 50, next() % 20, 50 + (next() % 50), 20 + (next() % 20)];
    const color = next();
    const rop = next() % 2 === 0 ? 0xf0 : 0x5a;
    const setup = clipped ? [0x40c0_0001, pair(clip.x1, clip.y1), pair(clip.x2, clip.y2)] : [];
    const fill = [
      FILL | (to !== LINEAR ? 1 << 11 : 0),
      (3 << 24) | (rop << 16) | (clipped ? 1 << 30 : 0) | pitchOf(to),
      pair(x1, y1),
      pair(x2, y2),
      TARGET,
      0,
      color,
    ];
    const { r, before, after } = run(next(), ...swctrl(LINEAR, to), ...setup, ...fill);
    for (let y = y1; y < y2; y++)
      for (let x = x1; x < x2; x++) {
        if (clipped && !(x >= clip.x1 && x < clip.x2 && y >= clip.y1 && y < clip.y2)) continue;
        for (let byte = 0; byte < 4; byte++) {
          const at = place(to, x * 4 + byte, y);
          const value = (color >>> (byte * 8)) & 0xff;
          before[at] = rop === 0xf0 ? value : (before[at] as number) ^ value;
        }
      }
    t.strictSame(r.hung(), [], r.log[0]);
    if (Buffer.compare(before, after()) !== 0) t.fail(`round ${round}: ${JSON.stringify({ to, clipped, clip, x1, y1, x2, y2, rop })}`);
  }
  // XY_SETUP_BLT sets the clipping rectangle as well.
  const { before, after } = run(
    1,
    0x4040_0008,
    0,
    pair(2, 1),
    pair(4, 2),
    0,
    0,
    0,
    0,
    0,
    0,
    FILL,
    (3 << 24) | (0xf0 << 16) | (1 << 30) | PITCH,
    0,
    pair(9, 9),
    TARGET,
    0,
    7,
  );
  for (const x of [2, 3]) before.set([7, 0, 0, 0], PITCH + x * 4);
  t.equal(Buffer.compare(before, after()), 0, 'XY_SETUP_BLT');
});

t.test('a tiled copy onto itself, down and up', async (t) => {
  for (const dy of [-3, 3])
    for (const tiling of [X, Y] as const) {
      const copy = [
        COPY | (1 << 15) | (1 << 11),
        (3 << 24) | (0xcc << 16) | (PITCH / 4),
        pair(10, 10 + dy),
        pair(60, 40 + dy),
        TARGET,
        0,
        pair(10, 10),
        PITCH / 4,
        TARGET,
        0,
      ];
      const { before, after } = run(5, ...swctrl(tiling, tiling), ...copy);
      const old = before.slice();
      for (let y = 10; y < 40; y++) for (let x = 40; x < 240; x++) before[place(tiling, x, y + dy)] = old[place(tiling, x, y)] as number;
      t.equal(Buffer.compare(before, after()), 0, `${tiling} by ${dy}`);
    }
});

t.test('XY_PAT_BLT: a pattern of eight by eight pixels', async (t) => {
  for (const [depth, bytes] of [
    [0, 1],
    [1, 2],
    [3, 4],
  ] as const)
    for (const seed of [0, 3]) {
      const header = 0x5440_0006 | (3 << 20) | (seed << 12) | (((seed + 1) & 7) << 8);
      const command = [header, (depth << 24) | (0xf0 << 16) | PITCH, pair(5, 3), pair(40, 30), TARGET, 0, SOURCE + 64, 0];
      const { r, source, before, after } = run(9, ...command);
      for (let y = 3; y < 30; y++)
        for (let x = 5; x < 40; x++)
          for (let byte = 0; byte < bytes; byte++)
            before[y * PITCH + x * bytes + byte] = source[
              64 + ((y + seed + 1) & 7) * 8 * bytes + ((x + seed) & 7) * bytes + byte
            ] as number;
      t.strictSame(r.hung(), [], r.log[0]);
      t.equal(Buffer.compare(before, after()), 0, `${bytes} bytes, seed ${seed}`);
    }
  // Another operation is not done, and is counted as skipped.
  const { r, before, after } = run(9, 0x5440_0006, (3 << 24) | (0x5a << 16) | PITCH, 0, pair(9, 9), TARGET, 0, SOURCE, 0);
  t.strictSame([r.hung(), r.parts.statistics.skippedCommands, Buffer.compare(before, after())], [[], 1, 0]);
});

t.test('COLOR_BLT and SRC_COPY_BLT: rectangles of bytes', async (t) => {
  const fill = run(3, 0x5000_0004 | (3 << 20), (3 << 24) | (0xf0 << 16) | PITCH, (5 << 16) | 40, TARGET + 64, 0, 0x0403_0201);
  for (let y = 0; y < 5; y++) for (let x = 0; x < 40; x++) fill.before[y * PITCH + 64 + x] = (x & 3) + 1;
  t.equal(Buffer.compare(fill.before, fill.after()), 0, 'fill');
  const copy = run(4, 0x50c0_0006 | (3 << 20), (0xcc << 16) | PITCH, (7 << 16) | 33, TARGET + 3, 0, 512, SOURCE + 9, 0);
  for (let y = 0; y < 7; y++) for (let x = 0; x < 33; x++) copy.before[y * PITCH + 3 + x] = copy.source[9 + y * 512 + x] as number;
  t.equal(Buffer.compare(copy.before, copy.after()), 0, 'copy');
  t.match(run(3, 0x5000_0004, (3 << 24) | (0xf0 << 16) | PITCH, (5 << 16) | 41, TARGET, 0, 0).r.log, [/no whole number of pixels/]);
});

t.test('XY_FAST_COPY_BLT', async (t) => {
  const next = random(0xfa57);
  for (const [code, bytes] of [
    [0, 1],
    [1, 2],
    [3, 4],
    [4, 8],
    [5, 16],
  ] as const)
    for (const from of [LINEAR, X, Y])
      for (const to of [LINEAR, X, Y]) {
        const [sx, sy, dx, dy] = [next() % 12, next() % 20, next() % 12, next() % 20];
        const [width, height] = [40, 30];
        const command = [
          0x5080_0008 | (from << 20) | (to << 13),
          (code << 24) | pitchOf(to),
          pair(dx, dy),
          pair(dx + width, dy + height),
          TARGET,
          0,
          pair(sx, sy),
          pitchOf(from),
          SOURCE,
          0,
        ];
        const { r, source, before, after } = run(next(), ...command);
        for (let y = 0; y < height; y++)
          for (let x = 0; x < width * bytes; x++)
            before[place(to, dx * bytes + x, dy + y)] = source[place(from, sx * bytes + x, sy + y)] as number;
        t.strictSame(r.hung(), [], r.log[0]);
        t.equal(Buffer.compare(before, after()), 0, `${bytes} bytes, ${from} to ${to}`);
      }
  for (const [bits, br13] of [
    [3 << 20, 0],
    [3 << 13, 0],
    [0, 2 << 24],
    [0, 1 << 31],
  ] as const)
    t.match(run(1, 0x5080_0008 | bits, br13 | PITCH, 0, pair(4, 4), TARGET, 0, 0, PITCH, SOURCE, 0).r.log, [
      /depth or tiling does not exist/,
    ]);
});
