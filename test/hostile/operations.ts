/**
 * What a hostile guest does, as data that fast-check generates, shrinks and a file keeps: each operation is its name and numbers.
 * `World.apply` gives them their meaning. Values are mostly near what works, so that a guest gets far enough to do harm.
 */
import fc, { type Arbitrary } from 'fast-check';
import { broadwellRegisters } from '../../src/core/gvt/register-table.js';
import { COMMANDS } from './commands.js';
import { AREA, BAR0, BAR2, ENGINE_BASES, ENTRY_HIGH, entryLow, FRAMES } from './layout.js';

export type Operation = readonly [name: string, ...numbers: readonly number[]];

export const u32: Arbitrary<number> = fc.integer({ min: 0, max: 0xffff_ffff });
export const below = (n: number): Arbitrary<number> => fc.nat(n - 1);
export const one = (...values: readonly number[]): Arbitrary<number> => fc.constantFrom(...values);
/** Arbitraries with weights. */
export const some = (...choices: readonly (readonly [weight: number, arbitrary: Arbitrary<number>])[]): Arbitrary<number> =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })));

const in2 = ([first, count]: readonly [number, number]): Arbitrary<number> => fc.integer({ min: first, max: first + count - 1 });
const frame = some(
  [6, in2(AREA.TABLES)],
  [3, in2(AREA.DATA)],
  [2, in2(AREA.BATCHES)],
  [1, below(FRAMES)],
  [1, fc.integer({ min: FRAMES, max: FRAMES + 3 })],
);

/** What guests write to registers. */
const word = some(
  [3, one(0, 1, 2, 0xffff_ffff, 0x8000_0000, 0xffff_0000)],
  [2, below(256)],
  [2, fc.nat(31).map((bit) => (1 << bit) >>> 0)],
  // Masked registers: bits with their write enables.
  [3, below(0x1_0000).map((bits) => (bits * 0x1_0001) >>> 0)],
  [2, below(256).map((page) => page * 4096)],
  [2, u32],
);
const size = some([12, one(4)], [3, one(8)], [3, one(1, 2)], [1, one(0, 3, 5, 6, 7, 16)]);

/** Registers with an effect, by offset. */
const { index } = broadwellRegisters();
const REGISTERS: readonly number[] = [...index.keys()].filter((dword) => index[dword] !== 0).map((dword) => dword * 4);
const register = some(
  [6, fc.constantFrom(...REGISTERS)],
  [3, fc.tuple(fc.constantFrom(...ENGINE_BASES), below(0x400)).map(([base, offset]) => base + offset)],
  [2, fc.tuple(below(3), below(0x400)).map(([pipe, offset]) => 0x7_0000 + pipe * 0x1000 + offset)],
  [1, fc.tuple(below(3), below(0x100)).map(([pipe, offset]) => 0x6_0000 + pipe * 0x1000 + offset)],
  [1, below(0x1000).map((offset) => 0x7_8000 + offset)],
  [1, below(0x20_0000)],
  [2, below(0x1000).map((offset) => 0x80_0000 + offset)],
  [1, below(0x100_0000)],
);

const bits = some([6, one(1, 3, 3, 3)], [1, one(0, 2)], [2, one(0x83, 0x803, 0x83, 0x1003)], [1, below(4096)]);
/** Low and high half of an entry, of a page table or of the GGTT. */
const entry: Arbitrary<[number, number]> = fc.oneof(
  { weight: 12, arbitrary: fc.tuple(frame, bits).map(([to, flags]): [number, number] => [entryLow(to, flags), ENTRY_HIGH]) },
  { weight: 1, arbitrary: fc.tuple(one(BAR0, BAR2, 0, 0xfee0_0000), bits).map(([at, flags]): [number, number] => [at + flags, 0]) },
  { weight: 1, arbitrary: fc.tuple(u32, u32) },
);
const tableIndex = some([8, below(10)], [1, one(511)], [1, below(512)]);

const context = below(AREA.CONTEXTS[1]);
const ringBytes = below(60).map((n) => n * 8);

const op = (name: string, ...numbers: readonly Arbitrary<number>[]): Arbitrary<Operation> =>
  fc.tuple(fc.constant(name), ...numbers) as unknown as Arbitrary<Operation>;

const CHOICES: readonly (readonly [weight: number, arbitrary: Arbitrary<Operation>])[] = [
  [4, op('read', register, size)],
  [12, op('write', register, size, word, word)],
  // Anywhere in the guest's address space, the edges of the BARs among them.
  [
    2,
    op(
      'access',
      one(0, 1),
      some(
        [3, below(64).map((n) => BAR0 - 32 + n)],
        [3, below(64).map((n) => BAR2 + 0x400_0000 - 32 + n)],
        [2, below(0x400).map((n) => BAR0 + 0xff_fe00 + n)],
        [1, u32],
      ),
      size,
      word,
    ),
  ],
  [3, op('aperture', one(0, 1), some([6, below(200 * 4096)], [1, below(0x1000_0000)]), size, word, word)],
  [2, op('config-read', some([6, below(256)], [1, below(4200)]), size)],
  [3, op('config-write', some([3, one(4, 0x10, 0x14, 0x18, 0x1c, 0x92, 0x94, 0x98, 0xfc)], [3, below(256)], [1, below(4200)]), size, word)],
  // BARs are moved, on top of RAM too.
  [1, op('move-bar', one(0, 2), one(BAR0, BAR2, 0xd000_0000, 0x4000_0000, 0, 0xffff_f000), one(0, 0, 0, ENTRY_HIGH, 0xffff_ffff))],
  [
    6,
    fc
      .tuple(some([8, below(200)], [1, below(0x2_0000)], [1, one(0x3fff, 0x4000, 0xffff, 0x1_0000)]), entry, below(4))
      .map(([page, [low, high], how]): Operation => ['ggtt', page, low, high, how]),
  ],
  [
    14,
    fc
      .tuple(some([9, in2(AREA.TABLES)], [1, frame]), tableIndex, entry, some([8, one(0)], [4, below(6)]))
      .map(([table, at, [low, high], how]): Operation => ['entry', table, at, low, high, how]),
  ],
  [
    6,
    op(
      'context',
      context,
      one(0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x64, 0x6c, 0x8c, 0x94, 0x9c, 0xcc, 0xc4),
      some([3, word], [2, below(160).map((page) => page * 4096)], [1, below(60).map((n) => n * 8)]),
    ),
  ],
  [4, op('root', context, frame, one(0, 0, 1, 2, 3))],
  ...COMMANDS.map((commands, engine): readonly [number, Arbitrary<Operation>] => [
    engine < 2 ? 9 : 3,
    fc
      .tuple(context, one(0, 1, 1), below(12), commands)
      .map(([which, space, batch, dwords]): Operation => ['run', engine, which, space, batch, ...dwords]),
  ]),
  [
    8,
    fc
      .tuple(fc.oneof(in2(AREA.BATCHES), in2(AREA.RINGS)), some([5, one(0)], [1, below(1024)]), fc.oneof(...COMMANDS))
      .map(([where, at, dwords]): Operation => ['commands', where, at, ...dwords]),
  ],
  [8, op('submit', below(4), context, one(1, 3, 3, 0, 2), ringBytes, ringBytes, some([3, one(-1)], [1, context]))],
  [2, op('elsp', below(4), word, word, word, word)],
  [3, op('notify', some([5, fc.integer({ min: 2, max: 7 })], [1, u32]), frame, frame, frame, frame)],
  [2, op('reset', some([6, one(0x1e, 2, 4, 8, 0x10)], [1, one(1)], [1, u32]))],
  [1, op('device-reset', one(0, 1, 1, 1))],
  [8, op('slice', some([3, below(2000)], [1, one(0, 1, 4096, 20_000)]))],
  [3, op('time', below(60))],
  [3, op('plane', below(3), below(8), below(64), fc.integer({ min: 0, max: 4200 }), fc.integer({ min: 0, max: 4200 }), below(200))],
  [1, op('picture')],
  [1, op('gmbus', word, word, below(512))],
  [
    8,
    fc
      .tuple(
        some([8, one(0)], [1, below(4)]),
        some([8, one(8, 9, 0, 1, 4, 5, 2, 6)], [1, below(16)]),
        some(
          [3, one(0, 0x100, 0x101, 0x102, 0x200, 0x202, 0x204, 0x300, 0x3f8, 0x600, 0x7f8)],
          [3, one(0x50, 0x30)],
          [1, below(0x10_0000)],
        ),
        some([6, below(17)], [1, below(256)]),
        some([6, one(-1)], [1, below(32)]),
        one(0, 0x2000_0000, 0x2000_0000, 0x0803_00e1),
        fc.array(word, { maxLength: 4 }),
      )
      .map(([port, code, address, length, size, flags, data]): Operation => {
        // Mostly as many bytes as the request needs: its data only where it writes.
        const right = length === 0 ? 3 : 4 + ((code & 3) === 0 ? Math.min(length, 16) : 0);
        return ['aux', port, code, address, length, size < 0 ? right : size, flags, ...data];
      }),
  ],
  [1, op('link', one(6, 10, 20, 20, 0, 255), one(1, 2, 4, 4, 0, 3, 31), below(4), below(5))],
  [1, op('monitor', one(0, 1, 1, 1, 2), below(256))],
  [
    2,
    op(
      'vfio',
      below(11),
      some([4, below(4096)], [2, below(0x100_0000)], [1, u32]),
      some([4, below(16)], [1, below(5000)]),
      one(0, 1),
      below(256),
    ),
  ],
  [1, op('active', one(0, 1, 1))],
  [1, op('unmapped')],
  [1, op('save')],
  [6, op('ready')],
];

export const operation: Arbitrary<Operation> = fc.oneof(...CHOICES.map(([weight, arbitrary]) => ({ weight, arbitrary })));

/** So many operations in a row. */
export const operations = (count: number): Arbitrary<Operation[]> => fc.array(operation, { maxLength: count, size: 'max' });
