/** read_gpa and write_gpa: both ends of every region, crossings, holes, bad ranges. */
import { Gpa, PAGE_SIZE } from '../../core/addresses.js';
import type { MptHandle } from '../../core/mpt-handle.js';
import { BAD_ADDRESSES, type CaseSpec, type ConformanceCase, group, SIZES } from '../case.js';
import { equal, ok, pattern, sameBytes } from '../expect.js';
import { HOLE, lastByte, NAMED_REGIONS, RAM_HIGH, RAM_ISLAND, RAM_LAYOUT, RAM_NEXT, SCRATCH } from '../layout.js';

/** The two operations differ only in direction: every range rule is stated for both. */
const DIRECTIONS = [
  {
    op: 'read_gpa',
    group: 'read-gpa',
    call: (handle: MptHandle, gpa: number, buffer: Uint8Array, offset?: number, length?: number): void =>
      handle.readGpa(Gpa(gpa), buffer, offset, length),
  },
  {
    op: 'write_gpa',
    group: 'write-gpa',
    call: (handle: MptHandle, gpa: number, buffer: Uint8Array, offset?: number, length?: number): void =>
      handle.writeGpa(Gpa(gpa), buffer, offset, length),
  },
] as const;
type Direction = (typeof DIRECTIONS)[number];

/** Ranges that run out of RAM: name, first byte, length, first byte that is not RAM. */
const HOLES: readonly (readonly [string, number, number, number])[] = [
  ['one-past-next', lastByte(RAM_NEXT) + 1, 1, lastByte(RAM_NEXT) + 1],
  ['one-past-island', lastByte(RAM_ISLAND) + 1, 1, lastByte(RAM_ISLAND) + 1],
  ['one-past-high', lastByte(RAM_HIGH) + 1, 1, lastByte(RAM_HIGH) + 1],
  ['one-before-island', RAM_ISLAND.gpa - 1, 1, RAM_ISLAND.gpa - 1],
  ['last-byte-and-one', lastByte(RAM_NEXT), 2, lastByte(RAM_NEXT) + 1],
  ['from-hole-into-island', RAM_ISLAND.gpa - 4, 8, RAM_ISLAND.gpa - 4],
  ['middle-of-hole', HOLE.gpa + HOLE.size / 2, 4, HOLE.gpa + HOLE.size / 2],
  ['page-into-hole', lastByte(RAM_NEXT) + 1 - 100, PAGE_SIZE, lastByte(RAM_NEXT) + 1],
  ['across-the-hole', lastByte(RAM_NEXT) + 1 - PAGE_SIZE, HOLE.size + 2 * PAGE_SIZE, lastByte(RAM_NEXT) + 1],
  ['above-all-ram', 2 ** 40, 8, 2 ** 40],
  ['last-byte-below-2-52', 2 ** 52 - 1, 1, 2 ** 52 - 1],
];

/** Ranges that are no address range at all. */
const BAD_RANGES: readonly (readonly [string, number, number])[] = [
  ...BAD_ADDRESSES.map(([name, gpa]) => [`address-${name}`, gpa, 4] as const),
  ['passes-2-52', 2 ** 52 - 4, 8],
  ['wraps-2-64', 2 ** 64 - PAGE_SIZE, 2 * PAGE_SIZE],
];

/** Buffer ranges that do not fit: name, offset, length, for a buffer of 16 bytes. */
const BAD_BUFFERS: readonly (readonly [string, number, number])[] = [
  ['zero-length', 0, 0],
  ['negative-length', 0, -4],
  ['nan-length', 0, Number.NaN],
  ['fraction-length', 0, 2.5],
  ['length-past-buffer', 0, 17],
  ['offset-plus-length-past-buffer', 9, 8],
  ['offset-past-buffer', 16, 1],
  ['negative-offset', -1, 4],
  ['fraction-offset', 0.5, 4],
];

const limits = (direction: Direction): CaseSpec[] => [
  ...HOLES.map(
    ([name, gpa, length, hole]): CaseSpec => ({
      name: `not-ram-${name}`,
      rule: `${direction.op} of a range that is not wholly RAM answers NOT_RAM, names the first missing byte and copies nothing.`,
      run(ctx) {
        const before = new Uint8Array(length).fill(0xee);
        const buffer = before.slice();
        const inRam = Math.min(length, hole - gpa);
        const guestBefore = inRam > 0 ? ctx.peek(gpa, inRam) : undefined;
        ctx.refuses('NOT_RAM', direction.op, () => direction.call(ctx.handle, gpa, buffer), { address: hole });
        sameBytes(buffer, before, 'the buffer after the refusal');
        if (guestBefore !== undefined) sameBytes(ctx.peek(gpa, inRam), guestBefore, 'guest memory after the refusal');
      },
    }),
  ),
  ...BAD_RANGES.map(
    ([name, gpa, length]): CaseSpec => ({
      name,
      rule: `${direction.op} refuses what is no range below 2^52 as INVALID_ADDRESS and names address and limit.`,
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', direction.op, () => direction.call(ctx.handle, gpa, new Uint8Array(length)), {
          address: gpa,
          size: length,
          limit: 2 ** 52,
        });
      },
    }),
  ),
  ...BAD_BUFFERS.map(
    ([name, offset, length]): CaseSpec => ({
      name,
      rule: `${direction.op} refuses an empty range or one outside the buffer as INVALID_ARGUMENT and copies nothing.`,
      run(ctx) {
        const before = pattern(16, 2);
        const buffer = before.slice();
        const guestBefore = ctx.peek(SCRATCH, 32);
        ctx.refuses('INVALID_ARGUMENT', direction.op, () => direction.call(ctx.handle, SCRATCH, buffer, offset, length));
        sameBytes(buffer, before, 'the buffer after the refusal');
        sameBytes(ctx.peek(SCRATCH, 32), guestBefore, 'guest memory after the refusal');
      },
    }),
  ),
  {
    name: 'empty-buffer',
    rule: `${direction.op} with an empty buffer answers INVALID_ARGUMENT.`,
    run(ctx) {
      ctx.refuses('INVALID_ARGUMENT', direction.op, () => direction.call(ctx.handle, SCRATCH, new Uint8Array(0)));
    },
  },
];

const read = group('read-gpa', { operations: ['read_gpa'] }, [
  {
    name: 'every-frame-again-and-again',
    rule: 'Reading every frame of RAM, and across every border of two, keeps nothing: it can go on for ever.',
    run(ctx) {
      const bytes = new Uint8Array(16);
      for (let round = 0; round < 2; round++)
        for (const { gpa, size } of RAM_LAYOUT)
          for (let at = gpa; at < gpa + size; at += PAGE_SIZE) ctx.handle.readGpa(Gpa(Math.max(at - round * 8, gpa)), bytes);
    },
  },
  ...NAMED_REGIONS.map(
    ([name, region]): CaseSpec => ({
      name: `ends-of-${name}`,
      rule: 'read_gpa reads the first and the last byte of every RAM region.',
      run(ctx) {
        ctx.poke(region.gpa, Uint8Array.of(0xa1));
        ctx.poke(lastByte(region), Uint8Array.of(0xb2));
        equal(ctx.peek(region.gpa, 1)[0], 0xa1, 'first byte');
        equal(ctx.peek(lastByte(region), 1)[0], 0xb2, 'last byte');
      },
    }),
  ),
  {
    name: 'fresh-ram-is-zero',
    rule: 'The RAM of a new VM reads zero.',
    run(ctx) {
      for (const [name, region] of NAMED_REGIONS)
        ok(
          ctx.peek(lastByte(region) + 1 - PAGE_SIZE, PAGE_SIZE).every((byte) => byte === 0),
          `the last page of ${name} is not zero`,
        );
    },
  },
  {
    name: 'buffer-part-only',
    rule: 'read_gpa fills exactly length bytes at offset and leaves the rest of the buffer alone.',
    run(ctx) {
      ctx.poke(SCRATCH, pattern(8, 3));
      const buffer = new Uint8Array(16).fill(0xee);
      ctx.handle.readGpa(Gpa(SCRATCH), buffer, 5, 3);
      const expected = new Uint8Array(16).fill(0xee);
      expected.set(pattern(8, 3).subarray(0, 3), 5);
      sameBytes(buffer, expected, 'the buffer');
    },
  },
  {
    name: 'rest-of-buffer',
    rule: 'read_gpa without a length fills the buffer from offset to its end.',
    run(ctx) {
      ctx.poke(SCRATCH, pattern(16, 4));
      const buffer = new Uint8Array(16);
      ctx.handle.readGpa(Gpa(SCRATCH), buffer, 10);
      sameBytes(buffer.subarray(10), pattern(16, 4).subarray(0, 6), 'the bytes from offset on');
      ok(
        buffer.subarray(0, 10).every((byte) => byte === 0),
        'a byte before offset was written',
      );
    },
  },
  {
    name: 'copies',
    rule: 'What read_gpa returned does not change when the guest memory changes later.',
    run(ctx) {
      ctx.poke(SCRATCH, pattern(64, 5));
      const taken = ctx.peek(SCRATCH, 64);
      ctx.poke(SCRATCH, pattern(64, 6));
      sameBytes(taken, pattern(64, 5), 'the copy');
    },
  },
  {
    name: 'sees-later-writes',
    rule: 'read_gpa of a range that was read before shows what was written since.',
    run(ctx) {
      for (const seed of [5, 6, 7]) {
        ctx.poke(SCRATCH, pattern(64, seed));
        sameBytes(ctx.peek(SCRATCH, 64), pattern(64, seed), 'guest memory');
      }
    },
  },
  {
    name: 'address-above-4-gib',
    rule: 'An address above 4 GiB is not truncated to 32 bits.',
    run(ctx) {
      ctx.poke(RAM_HIGH.gpa + SCRATCH, pattern(16, 7));
      ctx.poke(SCRATCH, pattern(16, 8));
      sameBytes(ctx.peek(RAM_HIGH.gpa + SCRATCH, 16), pattern(16, 7), 'bytes above 4 GiB');
      sameBytes(ctx.peek(SCRATCH, 16), pattern(16, 8), 'bytes below 4 GiB');
    },
  },
  ...limits(DIRECTIONS[0]),
]);

const write = group('write-gpa', { operations: ['write_gpa', 'read_gpa'] }, [
  ...SIZES.flatMap((size) =>
    ([0, 1, 3] as const).map(
      (skew): CaseSpec => ({
        name: `size-${size}-skew-${skew}`,
        rule: 'write_gpa of 1, 2, 4 and 8 bytes changes exactly these bytes, aligned or not.',
        run(ctx) {
          const around = pattern(32, 9);
          ctx.poke(SCRATCH, around);
          const value = pattern(size, 10);
          ctx.poke(SCRATCH + 8 + skew, value);
          around.set(value, 8 + skew);
          sameBytes(ctx.peek(SCRATCH, 32), around, 'guest memory');
        },
      }),
    ),
  ),
  ...([12, 13, 255, 4095, 4096, 4097, 65_536, 1_048_576] as const).map(
    (length): CaseSpec => ({
      name: `length-${length}`,
      rule: 'A block written by write_gpa reads back byte for byte and the bytes beside it keep their value.',
      run(ctx) {
        const gpa = SCRATCH + PAGE_SIZE;
        ctx.poke(gpa - 1, Uint8Array.of(0x77));
        ctx.poke(gpa + length, Uint8Array.of(0x78));
        ctx.poke(gpa, pattern(length, length));
        sameBytes(ctx.peek(gpa, length), pattern(length, length), 'the block');
        equal(ctx.peek(gpa - 1, 1)[0], 0x77, 'byte before');
        equal(ctx.peek(gpa + length, 1)[0], 0x78, 'byte after');
      },
    }),
  ),
  ...([2, 4, 8, 100, 8192] as const).map(
    (length): CaseSpec => ({
      name: `crosses-regions-length-${length}`,
      rule: 'A copy across two RAM regions that touch is one copy.',
      run(ctx) {
        const gpa = RAM_NEXT.gpa - length / 2;
        ctx.poke(gpa, pattern(length, 11));
        sameBytes(ctx.peek(gpa, length), pattern(length, 11), 'both parts');
        sameBytes(ctx.peek(RAM_NEXT.gpa, length / 2), pattern(length, 11).subarray(length / 2), 'the part in the second region');
      },
    }),
  ),
  {
    name: 'source-part-only',
    rule: 'write_gpa takes exactly length bytes at offset of the buffer and leaves the buffer alone.',
    run(ctx) {
      const source = pattern(16, 12);
      ctx.handle.writeGpa(Gpa(SCRATCH), source, 3, 5);
      sameBytes(source, pattern(16, 12), 'the buffer');
      const expected = new Uint8Array(8);
      expected.set(source.subarray(3, 8));
      sameBytes(ctx.peek(SCRATCH, 8), expected, 'guest memory');
    },
  },
  ...(
    [
      ['page-from-larger-buffer', SCRATCH, 100, PAGE_SIZE],
      ['part-of-page-sized-buffer', SCRATCH, 0, 100],
      ['end-of-page-sized-buffer', SCRATCH, PAGE_SIZE - 8, 8],
      ['crossing-from-offset', RAM_NEXT.gpa - 20, 7, 33],
      ['crossing-pages-from-offset', RAM_NEXT.gpa - PAGE_SIZE, 9, 2 * PAGE_SIZE],
    ] as const
  ).map(
    ([name, gpa, offset, length]): CaseSpec => ({
      name,
      rule: 'Exactly the asked part of a buffer is copied, both ways, whatever the size of buffer and copy.',
      run(ctx) {
        const size = length < PAGE_SIZE ? PAGE_SIZE : 3 * PAGE_SIZE;
        const source = pattern(size, 14);
        ctx.poke(gpa + length, Uint8Array.of(0x5e));
        ctx.handle.writeGpa(Gpa(gpa), source, offset, length);
        sameBytes(ctx.peek(gpa, length), source.slice(offset, offset + length), 'guest memory');
        equal(ctx.peek(gpa + length, 1)[0], 0x5e, 'guest byte behind the copy');
        const target = new Uint8Array(size).fill(0xee);
        ctx.handle.readGpa(Gpa(gpa), target, offset, length);
        const expected = new Uint8Array(size).fill(0xee);
        expected.set(source.subarray(offset, offset + length), offset);
        sameBytes(target, expected, 'the buffer that was read into');
      },
    }),
  ),
  {
    name: 'rest-of-source',
    rule: 'write_gpa without a length writes the buffer from offset to its end.',
    run(ctx) {
      ctx.handle.writeGpa(Gpa(SCRATCH), pattern(16, 13), 11);
      const expected = new Uint8Array(16);
      expected.set(pattern(16, 13).subarray(11));
      sameBytes(ctx.peek(SCRATCH, 16), expected, 'guest memory');
    },
  },
  {
    name: 'regions-do-not-alias',
    rule: 'The same offset in different regions is different memory.',
    run(ctx) {
      NAMED_REGIONS.forEach(([, region], i) => {
        ctx.poke(region.gpa + 0x1_1000, pattern(64, i));
      });
      NAMED_REGIONS.forEach(([name, region], i) => {
        sameBytes(ctx.peek(region.gpa + 0x1_1000, 64), pattern(64, i), name);
      });
    },
  },
  ...limits(DIRECTIONS[1]),
]);

export const GUEST_MEMORY_CASES: readonly ConformanceCase[] = [...read, ...write];
