/** Batches of all commands that the engines know, their fields and lengths mostly right, with some that nobody knows. */
import fc, { type Arbitrary } from 'fast-check';
import { ENGINE_BASES, ENTRY_HIGH, entryLow, FRAMES, PAGE } from './layout.js';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const below = (n: number): Arbitrary<number> => fc.nat(n - 1);
const weighted = <T>(...choices: readonly (readonly [number, Arbitrary<T>])[]): Arbitrary<T> =>
  fc.oneof(...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })));

/**
 * A field of a command: a plain number, an address of two dwords (which decides with `ggtt` in which memory), or what the command says.
 */
type Field = 'data' | 'small' | 'address' | 'register' | 'coordinate' | 'corner' | 'br13' | 'alu' | 'flags' | 'table';

/** Header without its length, bits that a guest may set in it, and its fields. */
const KNOWN: readonly (readonly [name: string, header: number, bits: readonly number[], fields: readonly Field[]])[] = [
  ['STORE_DATA_IMM', 0x1000_0000, [1 << 22], ['address', 'table']],
  ['STORE_DATA_IMM qword', 0x1020_0000, [1 << 22], ['address', 'table', 'data']],
  ['STORE_DATA_INDEX', 0x1080_0000, [], ['small', 'data']],
  ['LOAD_REGISTER_IMM', 0x1100_0000, [], ['register', 'data']],
  ['LOAD_REGISTER_IMM 3', 0x1100_0000, [], ['register', 'data', 'register', 'data', 'register', 'data']],
  ['STORE_REGISTER_MEM', 0x1200_0000, [1 << 22], ['register', 'address']],
  ['LOAD_REGISTER_MEM', 0x1480_0000, [1 << 22], ['register', 'address']],
  ['LOAD_REGISTER_REG', 0x1500_0000, [], ['register', 'register']],
  ['FLUSH_DW', 0x1300_0000, [1 << 14, 3 << 14, 1 << 21, 1 << 8, 1 << 7], ['address', 'data']],
  ['FLUSH_DW qword', 0x1300_4000, [2 << 14, 1 << 21, 1 << 8], ['address', 'data', 'data']],
  ['COPY_MEM_MEM', 0x1700_0000, [1 << 21, 1 << 22], ['address', 'address']],
  ['MATH', 0x0d00_0000, [], ['alu', 'alu', 'alu', 'alu']],
  ['SEMAPHORE_SIGNAL', 0x0d80_0000, [], ['small']],
  ['SEMAPHORE_WAIT', 0x0e00_8000, [1 << 22, 1 << 12, 4 << 12, 5 << 12, 1 << 15], ['small', 'address']],
  ['CONDITIONAL_BATCH_BUFFER_END', 0x1b00_0000, [1 << 22], ['small', 'address']],
  ['BATCH_BUFFER_START', 0x1880_0000, [1 << 8, 1 << 8, 1 << 22], ['address']],
  ['UPDATE_GTT', 0x1180_0000, [1 << 22], ['address', 'data']],
  ['DISPLAY_FLIP', 0x0a00_0000, [], ['small', 'address']],
  ['REPORT_PERF_COUNT', 0x1400_0000, [], ['address', 'small']],
  ['PIPE_CONTROL', 0x7a00_0000, [], ['flags', 'address', 'data', 'data']],
  ['3DSTATE', 0x7800_0000, [1 << 16, 5 << 16], ['data', 'data']],
  ['MEDIA_OBJECT', 0x7100_0000, [1 << 16], ['data', 'small']],
  ['XY_SETUP_BLT', 0x4040_0000, [], ['br13', 'corner', 'corner', 'address', 'data', 'data', 'address']],
  ['XY_SETUP_CLIP_BLT', 0x40c0_0000, [], ['corner', 'corner']],
  ['COLOR_BLT', 0x5000_0000, [3 << 20], ['br13', 'corner', 'address', 'data']],
  ['SRC_COPY_BLT', 0x50c0_0000, [3 << 20], ['br13', 'corner', 'address', 'small', 'address']],
  ['XY_FAST_COPY_BLT', 0x5080_0000, [1 << 20, 1 << 13, 2 << 13], ['br13', 'corner', 'corner', 'address', 'corner', 'small', 'address']],
  ['XY_COLOR_BLT', 0x5400_0000, [3 << 20, 1 << 11], ['br13', 'corner', 'corner', 'address', 'data']],
  ['XY_PAT_BLT', 0x5440_0000, [3 << 20, 1 << 11, 7 << 8, 7 << 12], ['br13', 'corner', 'corner', 'address', 'address']],
  ['XY_SRC_COPY_BLT', 0x54c0_0000, [3 << 20, 1 << 11, 1 << 15], ['br13', 'corner', 'corner', 'address', 'corner', 'small', 'address']],
  ['XY_TEXT_BLT', 0x4980_0000, [], ['corner', 'corner', 'address', 'address']],
];

/** Commands of one dword. */
const SINGLE = [0, 0x0100_0000, 0x0280_0000, 0x0400_0000, 0x0400_0001, 0x0500_0000, 0x0500_0000, 0x0600_0000, 0x6904_0000, 0x0180_0000];

/** GPU addresses: of the per-process memory that `ready` builds, of the GGTT, past their ends, anywhere. */
const address: Arbitrary<[number, number]> = weighted<[number, number]>(
  [
    10,
    fc.tuple(below(8), below(12), below(1024)).map(([pd, page, dword]): [number, number] => [pd * 2 ** 21 + page * PAGE + dword * 4, 0]),
  ],
  [5, fc.tuple(below(170), below(512)).map(([page, qword]): [number, number] => [page * PAGE + qword * 8, 0])],
  [1, fc.tuple(below(4), below(4096)).map(([page, byte]): [number, number] => [0x3ff_e000 + page * PAGE + byte, 0])],
  [1, fc.tuple(u32, below(0x1_0000)).map(([low, high]): [number, number] => [low, high])],
);

const single = (arbitrary: Arbitrary<number>): Arbitrary<number[]> => arbitrary.map((value) => [value]);
const data = weighted([3, below(64)], [2, fc.constantFrom(0xffff_ffff, 0x8000_0000)], [2, u32]);
/** Small or wrong way round, mostly; all 16-bit numbers. */
const coordinate = weighted([8, below(200)], [1, fc.constantFrom(0x7fff, 0x8000, 0xffff, 2048)], [1, below(0x1_0000)]);

const FIELDS: Readonly<Record<Field, Arbitrary<number[]>>> = {
  data: single(data),
  small: single(weighted([8, below(64)], [1, below(4096)], [1, u32])),
  address,
  register: single(
    weighted(
      [5, fc.tuple(fc.constantFrom(...ENGINE_BASES), below(0x1a0)).map(([base, dword]) => base + dword * 4)],
      [3, fc.tuple(fc.constantFrom(...ENGINE_BASES), below(32)).map(([base, dword]) => base + 0x600 + dword * 4)],
      [1, fc.constantFrom(0x2270, 0x2_2270, 0x2_2200, 0x4_4200, 0x4_4050, 0x941c, 0x7_8818, 0x10_0000)],
      [1, u32],
    ),
  ),
  coordinate: single(coordinate),
  corner: single(fc.tuple(coordinate, coordinate).map(([x, y]) => x + y * 0x1_0000)),
  br13: single(
    fc
      .tuple(
        below(8),
        fc.constantFrom(0xf0, 0xcc, 0xaa, 0x5a, 0x66, 0, 0xff, 0x96),
        weighted([6, below(32).map((n) => n * 128)], [1, below(0x1_0000)]),
        below(4),
      )
      .map(([depth, rop, pitch, top]) => (depth * 2 ** 24 + rop * 2 ** 16 + pitch + top * 2 ** 30) % 2 ** 32),
  ),
  alu: single(
    weighted(
      [
        6,
        fc
          .tuple(
            fc.constantFrom(0x080, 0x480, 0x081, 0x481, 0x100, 0x101, 0x102, 0x103, 0x104, 0x180, 0x580),
            fc.constantFrom(0, 1, 15, 0x20, 0x21),
            fc.constantFrom(0, 3, 0x20, 0x31, 0x32, 0x33),
          )
          .map(([code, a, b]) => (code * 2 ** 20 + a * 1024 + b) % 2 ** 32),
      ],
      [1, u32],
    ),
  ),
  flags: single(
    fc
      .tuple(below(4), below(2), below(2), below(2))
      .map(([operation, notify, index, ggtt]) => (operation << 14) | (notify << 8) | (index << 21) | (ggtt << 24)),
  ),
  /** What a batch would write into a page table. */
  table: single(
    weighted(
      [2, data],
      [2, fc.tuple(below(FRAMES), fc.constantFrom(1, 3, 0x83)).map(([frame, bits]) => entryLow(frame, bits))],
      [1, fc.constant(ENTRY_HIGH)],
    ),
  ),
};

/** Dwords of a known command; its length is now and then one that it must not have. */
const known = ([, header, bits, fields]: (typeof KNOWN)[number]): Arbitrary<number[]> =>
  fc
    .tuple(
      fc.tuple(...fields.map((field) => FIELDS[field])),
      bits.length === 0 ? fc.constant(0) : weighted([2, fc.constant(0)], [3, fc.constantFrom(...bits)]),
      weighted([30, fc.constant(0)], [1, fc.integer({ min: -2, max: 250 })]),
    )
    .map(([values, extra, longer]) => {
      const body = values.flat();
      return [((header | extra) + ((body.length - 1 + longer) & 0xff)) >>> 0, ...body];
    });

/** Those that an engine executes; the others stop it. */
const isFor = (engine: number, header: number): boolean => header >>> 29 === 0 || (header >>> 29 === 2 ? engine === 1 : engine === 0);

function commandsOf(engine: number): Arbitrary<number[]> {
  const command = weighted<number[]>(
    [60, fc.oneof(...KNOWN.filter(([, header]) => isFor(engine, header)).map(known))],
    [12, single(fc.constantFrom(...SINGLE.filter((header) => isFor(engine, header))))],
    [1, fc.oneof(...KNOWN.map(known))],
    [1, single(u32)],
  );
  return fc
    .tuple(fc.array(command, { minLength: 1, maxLength: 12, size: 'max' }), weighted([5, fc.constant(true)], [1, fc.constant(false)]))
    .map(([list, ended]) => [...list.flat(), ...(ended ? [0x0500_0000, 0] : [])]);
}

/** Dwords of a batch, by engine. */
export const COMMANDS: readonly Arbitrary<number[]>[] = [0, 1, 2, 3].map(commandsOf);
