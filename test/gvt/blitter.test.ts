/** The blitter against a reference that goes pixel by pixel, bit by bit; its limits and its budget. */

import t, { type Test } from 'tap';
import type { BlitJob } from '../../src/core/gvt/engine/blit-job.js';
import { isDone, runBlit } from '../../src/core/gvt/engine/blit-rows.js';
import { colorBlit, copyBlit } from '../../src/core/gvt/engine/blitter.js';
import { INLINE_BUDGET } from '../../src/core/gvt/submission/submission.js';
import { BCS, DATA, PAGE, PlainMemory, type Rig, rig, storeDword } from './engine-rig.js';
import { random } from './memory-backend.js';
import { view } from './page-bytes.js';

const [SRCCOPY, PATCOPY] = [0xcc, 0xf0];
const DEPTHS = [1, 2, 2, 4] as const;
const COLOR = 0x5400_0005;
const COPY = 0x54c0_0008;
/** Write enables of 32-bit pixels: alpha and colour. */
const WRITE_ALL = 3 << 20;

interface Blit {
  /** Header bits besides the opcode. */
  readonly bits: number;
  /** Colour depth's code, 0 to 3. */
  readonly depth: number;
  readonly rop: number;
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
  readonly pitch: number;
  readonly base: number;
  readonly color: number;
  readonly source?: { readonly x: number; readonly y: number; readonly pitch: number; readonly base: number };
}

const pair = (x: number, y: number): number => (((y & 0xffff) << 16) | (x & 0xffff)) >>> 0;
const split = (address: number): [number, number] => [address % 2 ** 32, Math.floor(address / 2 ** 32)];

function encode({ bits, depth, rop, x1, y1, x2, y2, pitch, base, color, source }: Blit): number[] {
  const br13 = ((depth << 24) | (rop << 16) | (pitch & 0xffff)) >>> 0;
  const head = [(((source === undefined ? COLOR : COPY) | bits) >>> 0) as number, br13, pair(x1, y1), pair(x2, y2), ...split(base)];
  return source === undefined ? [...head, color] : [...head, pair(source.x, source.y), source.pitch & 0xffff, ...split(source.base)];
}

function parse(commands: readonly number[]): BlitJob | string {
  const words = new Uint32Array(16).fill(0xdead_beef);
  words.set(commands);
  return commands.length === 7 ? colorBlit(words, 7) : copyBlit(words, commands.length);
}

function job(blit: Blit): BlitJob {
  const found = parse(encode(blit));
  if (typeof found === 'string') throw new Error(found);
  return found;
}

/** One byte of the result, bit by bit out of the operation's truth table. */
function ropByte(rop: number, pattern: number, source: number, old: number): number {
  let result = 0;
  for (let bit = 0; bit < 8; bit++) {
    const index = (((pattern >> bit) & 1) << 2) | (((source >> bit) & 1) << 1) | ((old >> bit) & 1);
    result |= ((rop >> index) & 1) << bit;
  }
  return result;
}

/** What the blit should leave in the arena, which lies at `origin`. Everything is read before anything is written. */
function reference(arena: Uint8Array, origin: number, blit: Blit): Uint8Array {
  const { bits, depth, rop, x1, y1, x2, y2, pitch, base, color, source } = blit;
  const bytes = DEPTHS[depth] as number;
  const result = arena.slice();
  for (let y = Math.max(0, y1); y < y2; y++)
    for (let x = Math.max(0, x1); x < x2; x++)
      for (let byte = 0; byte < bytes; byte++) {
        if (bytes === 4 && (bits & (1 << (byte === 3 ? 21 : 20))) === 0) continue;
        const to = base + y * pitch + x * bytes + byte - origin;
        const from = source && source.base + (source.y + y - y1) * source.pitch + (source.x + x - x1) * bytes + byte - origin;
        const pattern = source === undefined ? (color >>> (byte * 8)) & 0xff : 0;
        result[to] = ropByte(rop, pattern, from === undefined ? 0 : (arena[from] as number), arena[to] as number);
      }
  return result;
}

/** A window of contiguous pages in a plain memory, with holes around it. */
class Arena {
  readonly memory = new PlainMemory();
  readonly bytes: Uint8Array;
  readonly origin: number;

  constructor(origin: number, pages: number) {
    this.origin = origin;
    this.bytes = new Uint8Array(pages * PAGE);
    for (let i = 0; i < pages; i++) this.memory.put(origin + i * PAGE, this.bytes.subarray(i * PAGE, (i + 1) * PAGE));
  }

  scramble(next: () => number): void {
    const words = new Uint32Array(this.bytes.buffer);
    for (let i = 0; i < words.length; i++) words[i] = next();
  }

  /** Runs the blit in slices of random size and compares. */
  check(t: Test, blit: Blit, slice: () => number): boolean {
    const expected = reference(this.bytes, this.origin, blit);
    const work = job(blit);
    for (let slices = 0; !isDone(work); slices++) {
      const used = runBlit(work, this.memory, slice());
      if (used <= 0 || slices > 10_000) {
        t.fail(`no progress: ${used} ${JSON.stringify(blit)}`);
        return false;
      }
    }
    // Buffer.compare is a memcmp; looking for the place is only worth it once they differ.
    if (Buffer.compare(this.bytes, expected) === 0) return true;
    const at = this.bytes.findIndex((byte, i) => byte !== expected[i]);
    t.fail(`byte 0x${at.toString(16)} is ${this.bytes[at]}, not ${expected[at]}: ${JSON.stringify(blit)}`);
    return false;
  }
}

t.test('random rectangles: depths, operations, masks, signs, pitches, bases', async (t) => {
  const next = random(0x00b1_17e5);
  const below = (n: number): number => next() % n;
  const arena = new Arena(0x1234_0000_0000, 40);
  arena.scramble(next);
  // Rectangles reach less than eight pages up or down from their bases: source and destination never meet.
  const [sourceBase, base] = [arena.origin + 10 * PAGE, arena.origin + 30 * PAGE];
  let good = 0;
  const rounds = 2500;
  for (let round = 0; round < rounds; round++) {
    const depth = below(4);
    const bytes = DEPTHS[depth] as number;
    const width = below(3) === 0 ? below(200) : below(12);
    const rows = 1 + below(12);
    const [x1, y1] = [below(24) - 8, below(16) - 6];
    const pitch = (): number => ((width + 32) * bytes + below(400)) * (below(4) === 0 ? -1 : 1);
    const copy = below(2) === 0;
    const apart = { x: below(8), y: below(8), pitch: pitch(), base: sourceBase + below(64) };
    const blit: Blit = {
      bits: below(4) === 0 ? below(4) << 20 : WRITE_ALL,
      depth,
      rop: copy ? (below(3) === 0 ? SRCCOPY : below(256)) : below(3) === 0 ? PATCOPY : sourceless(below(16)),
      x1,
      y1,
      x2: x1 + width,
      y2: y1 + rows,
      pitch: pitch(),
      base: base + below(64),
      color: next(),
      ...(copy ? { source: apart } : {}),
    };
    if (arena.check(t, blit, () => 1 + below(4))) good++;
    if (round % 50 === 0) arena.scramble(next);
  }
  t.equal(good, rounds);
});

/** The operations that do not depend on a source: a table of pattern and destination alone. */
function sourceless(table: number): number {
  let rop = 0;
  for (let index = 0; index < 8; index++) {
    const [p, d] = [(index >> 2) & 1, index & 1];
    rop |= ((table >> ((p << 1) | d)) & 1) << index;
  }
  return rop;
}

t.test('every raster operation at every depth', async (t) => {
  const next = random(0x0000_0256);
  const arena = new Arena(0x10_0000, 4);
  arena.scramble(next);
  const needSource: number[] = [];
  let good = 0;
  for (let rop = 0; rop < 256; rop++) {
    for (let depth = 0; depth < 4; depth++) {
      const shape = { bits: WRITE_ALL, depth, rop, x1: 1, y1: 1, x2: 8, y2: 3, pitch: 67, base: arena.origin + PAGE + 1, color: next() };
      if (arena.check(t, { ...shape, source: { x: 2, y: 1, pitch: 51, base: arena.origin + 2 * PAGE + 3 } }, () => 1)) good++;
      const fill = parse(encode(shape));
      if (typeof fill !== 'string') {
        if (arena.check(t, shape, () => 1)) good++;
        continue;
      }
      t.match(fill, /^raster operation 0x[0-9a-f]+ needs a source$/);
      if (depth === 0) needSource.push(rop);
    }
  }
  const sourceFree = Array.from({ length: 16 }, (_, table) => sourceless(table));
  t.strictSame(
    needSource,
    Array.from({ length: 256 }, (_, rop) => rop).filter((rop) => !sourceFree.includes(rop)),
  );
  t.equal(good, 256 * 4 + 16 * 4);
});

t.test('byte write enables', async (t) => {
  for (const [bits, expected] of [
    [0, [0x1111_1111, 0x1111_1111]],
    [1 << 20, [0x11dd_eeff, 0x11dd_eeff]],
    [1 << 21, [0xcc11_1111, 0xcc11_1111]],
    [3 << 20, [0xccdd_eeff, 0xccdd_eeff]],
  ] as const) {
    const arena = new Arena(DATA, 1);
    new Uint32Array(arena.bytes.buffer).fill(0x1111_1111);
    const blit = { depth: 3, rop: PATCOPY, x1: 0, y1: 0, x2: 2, y2: 1, pitch: 64, base: DATA, color: 0xccdd_eeff };
    runBlit(job({ ...blit, bits }), arena.memory, 10);
    t.strictSame(arena.memory.read64(DATA), expected);
    // Pixels of other depths have no such bits.
    runBlit(job({ ...blit, bits, depth: 1 }), arena.memory, 10);
    t.equal(arena.memory.read(DATA), 0xeeff_eeff);
    runBlit(job({ ...blit, bits, depth: 0, x2: 4 }), arena.memory, 10);
    t.equal(arena.memory.read(DATA), 0xffff_ffff);
  }
  // Nothing enabled: memory is not even looked at.
  const job0 = job({ bits: 0, depth: 3, rop: PATCOPY, x1: 0, y1: 0, x2: 9, y2: 9, pitch: 64, base: 0x7000_0000, color: 0 });
  t.ok(isDone(job0));
});

t.test('copies onto themselves, in every direction', async (t) => {
  const next = random(0x00c0_b1e5);
  const below = (n: number): number => next() % n;
  const arena = new Arena(0x50_0000, 16);
  arena.scramble(next);
  let good = 0;
  let tried = 0;
  for (const depth of [0, 1, 3])
    for (const sign of [1, -1])
      for (const dy of [-3, -1, 0, 1, 3])
        for (const dx of [-5, -1, 0, 1, 5])
          for (const rop of [SRCCOPY, 0x66, 0x88]) {
            const base = arena.origin + 8 * PAGE + 4;
            const [x1, y1] = [10 + dx, 8 + dy];
            const surface = { pitch: 301 * sign, base };
            const blit = { bits: WRITE_ALL, depth, rop, x1, y1, x2: x1 + 40, y2: y1 + 12, ...surface, color: 0 };
            if (arena.check(t, { ...blit, source: { x: 10, y: 8, ...surface } }, () => 1 + below(3))) good++;
            tried++;
          }
  // Different pitches: somewhere on the way the destination overtakes the source, or falls behind.
  const turns = { up: 0, down: 0, both: 0 };
  for (let round = 0; round < 1500; round++) {
    const depth = [0, 1, 3][below(3)] as number;
    const width = 1 + below(40);
    const rows = 2 + below(20);
    const wide = width * (DEPTHS[depth] as number);
    const sign = below(4) === 0 ? -1 : 1;
    const pitches = [wide + below(wide), wide + below(wide)].map((pitch) => pitch * sign) as [number, number];
    const apart = below(rows * wide + 1) - (rows >> 1) * wide;
    const base = arena.origin + 8 * PAGE;
    const blit = { bits: WRITE_ALL, depth, rop: SRCCOPY, x1: 0, y1: 0, x2: width, y2: rows, color: 0 };
    const whole = { ...blit, pitch: pitches[0], base, source: { x: 0, y: 0, pitch: pitches[1], base: base + apart } };
    const { down } = job(whole).order;
    turns[down === 0 ? 'up' : down === rows ? 'down' : 'both']++;
    if (arena.check(t, whole, () => 1 + below(3))) good++;
    tried++;
  }
  t.equal(good, tried);
  t.ok(turns.up > 50 && turns.down > 50 && turns.both > 200, JSON.stringify(turns));
});

t.test('rectangles without pixels, and those that negative coordinates cut', async (t) => {
  const arena = new Arena(0x70_0000, 2);
  const blit = { bits: WRITE_ALL, depth: 3, rop: PATCOPY, pitch: 64, base: 0x70_0000 + PAGE, color: 0x5555_5555 };
  for (const [x1, y1, x2, y2] of [
    [0, 0, 0, 5],
    [0, 0, 5, 0],
    [5, 5, 5, 5],
    [6, 0, 5, 5],
    [0, 6, 5, 5],
    [-9, -9, 0, 0],
    [-32768, 0, -1, 9],
    [0, -32768, 9, -1],
    [32767, 32767, -32768, -32768],
  ] as const) {
    const none = job({ ...blit, base: 0x7f00_0000, x1, y1, x2, y2 });
    t.ok(isDone(none), `${x1} ${y1} ${x2} ${y2}`);
    t.equal(runBlit(none, arena.memory, 100), 0);
  }
  runBlit(job({ ...blit, x1: -32768, y1: -32768, x2: 2, y2: 2 }), arena.memory, 100);
  const words = new Uint32Array(arena.bytes.buffer);
  const written = [...words.keys()].filter((i) => words[i] !== 0);
  t.strictSame(written, [1024, 1025, 1040, 1041]);
});

t.test('memory that is not mapped', async (t) => {
  const arena = new Arena(0x70_0000, 2);
  const blit = { bits: WRITE_ALL, depth: 3, x1: 0, y1: 0, x2: 4, y2: 1, pitch: 64, color: 1 };
  const end = arena.origin + 2 * PAGE;
  const inside = { x: 0, y: 0, pitch: 64, base: arena.origin };
  const result = (what: Blit): number => runBlit(job(what), arena.memory, 10);
  for (const rop of [PATCOPY, 0x5a]) {
    t.equal(result({ ...blit, rop, base: end - 16 }), 1, 'up to the last byte');
    t.equal(result({ ...blit, rop, base: end - 15 }), -1, 'one past it');
    t.equal(result({ ...blit, rop, base: arena.origin - 1 }), -1, 'one before the first');
    t.equal(result({ ...blit, rop, base: 0xffff_ffff_fffc }), -1, 'at the end of all');
    t.equal(result({ ...blit, rop, base: 0, y1: 1, y2: 2, pitch: -64 }), -1, 'below 0');
  }
  for (const rop of [SRCCOPY, 0x66]) {
    const base = arena.origin + PAGE;
    t.equal(result({ ...blit, rop, base, source: { ...inside, base: end - 16 } }), 1);
    t.equal(result({ ...blit, rop, base, source: { ...inside, base: end - 15 } }), -1);
    t.equal(result({ ...blit, rop, base, source: { ...inside, x: -1 } }), -1, 'a source left of its base');
    t.equal(result({ ...blit, rop, base, source: { ...inside, base: 8, y: -1 } }), -1, 'a source below 0');
    t.equal(result({ ...blit, rop, base: end - 15, source: inside }), -1);
  }
  // A source that the operation does not use may lie anywhere.
  t.equal(result({ ...blit, rop: 0x55, base: arena.origin, source: { ...inside, base: 0x7f00_0000 } }), 1);
  // In the ring it is a guest error that names the place.
  const r = rig();
  r.memory.map(DATA);
  const context = r.context(1);
  r.emit(1, ...encode({ ...blit, rop: PATCOPY, base: DATA + PAGE }), ...storeDword(DATA, 1));
  r.submit(BCS, context);
  t.strictSame([r.hung(), r.log], [['bcs'], ['bcs: a blit reaches memory that is not mapped (ring, 0x8110000)']]);
  t.equal(r.memory.read(DATA), 0);
});

t.test('commands that are refused', async (t) => {
  const fill = { bits: WRITE_ALL, depth: 3, rop: PATCOPY, x1: 0, y1: 0, x2: 4, y2: 4, pitch: 64, base: DATA, color: 7 };
  const copy = { ...fill, rop: SRCCOPY, source: { x: 0, y: 0, pitch: 64, base: DATA + 1024 } };
  const cases: [what: string, commands: number[], why: RegExp][] = [
    ['tiled destination inside a page', encode({ ...fill, base: DATA + 64, bits: 1 << 11, pitch: 128 }), /does not start at a page/],
    ['tiled destination of no whole tiles', encode({ ...copy, bits: 1 << 11, pitch: 100 }), /XY_SRC_COPY_BLT: .* a pitch of 400 bytes/],
    ['tiled source of no pitch', encode({ ...copy, bits: 1 << 15, source: { x: 0, y: 0, pitch: 0, base: DATA } }), /a pitch of 0 bytes/],
    [
      'tiled source before its first pixel',
      encode({ ...copy, bits: 1 << 15, source: { x: -1, y: 0, pitch: 128, base: DATA } }),
      /before its first/,
    ],
    ['operation with a source', encode({ ...fill, rop: 0x88 }), /raster operation 0x88 needs a source/],
  ];
  for (const change of [-5, -1, 1, 250])
    for (const [name, blit] of [
      ['XY_COLOR_BLT', fill],
      ['XY_SRC_COPY_BLT', copy],
    ] as const) {
      const commands = encode(blit);
      const length = commands.length + change;
      if (length < 2 || length > 257) continue;
      commands[0] = (commands[0] as number) + change;
      const padded = [...commands, ...new Array(256).fill(0)].slice(0, length);
      cases.push([`${name}, ${length} dwords`, padded, new RegExp(`${name}: the length is ${length} `)]);
    }
  for (const [what, commands, why] of cases) {
    const r = rig();
    r.memory.map(DATA);
    const context = r.context(1);
    r.emit(1, ...commands.map((dword) => dword >>> 0));
    r.submit(BCS, context);
    t.strictSame(r.hung(), ['bcs'], what);
    t.match(r.log, [why], what);
    t.ok(
      view(r.memory.page(DATA))?.bytes.every((byte) => byte === 0),
      `${what}: nothing was drawn`,
    );
  }
});

/** A ring with one blit and a store behind it; both surfaces are one row over and over (pitch 0). */
function huge(copy: boolean): Rig {
  const r = rig();
  r.memory.map(DATA, 64);
  const context = r.context(1);
  const shape = { bits: WRITE_ALL, depth: 3, x1: 0, y1: 0, x2: 32_767, y2: 32_767, pitch: 0, base: DATA + PAGE, color: 0x0102_0304 };
  const blit = copy ? { ...shape, rop: 0x66, source: { x: 0, y: 0, pitch: 0, base: DATA + PAGE } } : { ...shape, rop: PATCOPY };
  r.emit(1, ...encode(blit), ...storeDword(DATA, 1));
  r.submit(BCS, context);
  return r;
}

t.test('the largest blit is done in slices, and can be stopped', async (t) => {
  for (const copy of [false, true]) {
    const r = huge(copy);
    t.ok(r.submission.hasWork, 'not done inline');
    const { statistics } = r.parts;
    t.strictSame([statistics.commands, r.memory.read(DATA)], [1, 0]);
    // 32,767 rows of 128 KiB: 128 units each.
    const copies = (): number => r.memory.copies.get(DATA + 2 * PAGE) ?? 0;
    const before = copies();
    for (let i = 0; i < 20; i++) r.submission.runSlice(1000);
    if (copy) t.equal(copies() - before, 20 * 8 * 2, 'eight rows a slice, each read as source and as destination');
    t.ok(r.submission.hasWork);
    r.submission.reset(1 << BCS);
    t.notOk(r.submission.hasWork);
    t.equal(r.memory.read(DATA), 0);
  }
});

t.test('a blit that is stopped in the middle goes on where it was, within its budget', async (t) => {
  const r = rig();
  const [width, rows, pitch] = [256, 8000, 1024];
  r.memory.map(DATA, (rows * pitch) / PAGE);
  const context = r.context(1);
  const shape = { bits: WRITE_ALL, depth: 3, rop: PATCOPY, x1: 0, y1: 0, x2: width, y2: rows, pitch, base: DATA, color: 0x0102_0304 };
  r.emit(1, ...encode(shape), 0);
  r.submit(BCS, context);
  const rowsDone = (): number => {
    let done = 0;
    while (done < rows && r.memory.read(DATA + done * pitch) !== 0) done++;
    return done;
  };
  const inline = rowsDone();
  t.ok(inline > INLINE_BUDGET - 20 && inline <= INLINE_BUDGET, `${inline} rows of one KiB inline`);
  t.equal(r.memory.read(DATA + inline * pitch), 0);
  r.submission.runSlice(1000);
  t.equal(rowsDone(), inline + 1000);
  while (r.submission.hasWork) r.submission.runSlice(1000);
  t.equal(rowsDone(), rows);
  t.equal(r.memory.read(DATA + (rows - 1) * pitch + pitch - 4), 0x0102_0304);
  // A row counts at least one unit, however narrow.
  const narrow = job({ ...shape, x2: 1 });
  t.equal(runBlit(narrow, r.memory, 100), 100);
  t.equal(narrow.done, 100);
});
