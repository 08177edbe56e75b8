/** What an attacker's batches try: every command that takes an address, as dwords for an address. */

export interface Address {
  readonly low: number;
  readonly high: number;
}

/** Written where an attack succeeds. */
export const POISON = 0xbad0_da7a;

export interface Attack {
  readonly name: string;
  /** Engine that executes it. */
  readonly engine: 0 | 1 | 2 | 3;
  /** @param ggtt the address is a GGTT address; a blit's is one of its batch's memory instead. @param own an address of the attacker's own, of the same kind */
  readonly dwords: (at: Address, ggtt: boolean, own: Address) => readonly number[];
}

const GGTT = 1 << 22;
const g = (ggtt: boolean): number => (ggtt ? GGTT : 0);
const [RCS, BCS, VCS, VECS] = [0, 1, 2, 3] as const;
/** CS_GPR of the blitter: what a register read leaves there, the attacker stores to its own memory. */
const BCS_GPR = 0x2_2600;
const BR13 = (3 << 24) | (0xcc << 16) | 256;
const FILL = (3 << 24) | (0xf0 << 16) | 256;
/** Eight by four pixels. */
const CORNER = (4 << 16) | 8;
const XY = 3 << 20;

export const ATTACKS: readonly Attack[] = [
  { name: 'MI_STORE_DATA_IMM', engine: BCS, dwords: ({ low, high }, ggtt) => [0x1000_0002 + g(ggtt), low, high, POISON] },
  {
    name: 'MI_STORE_DATA_IMM of a qword',
    engine: VCS,
    dwords: ({ low, high }, ggtt) => [0x1020_0003 + g(ggtt), low & ~7, high, POISON, POISON],
  },
  {
    name: 'MI_STORE_REGISTER_MEM',
    engine: BCS,
    dwords: ({ low, high }, ggtt) => [0x1100_0001, BCS_GPR, POISON, 0x1200_0002 + g(ggtt), BCS_GPR, low, high],
  },
  {
    name: 'MI_LOAD_REGISTER_MEM',
    engine: BCS,
    dwords: ({ low, high }, ggtt, own) => [0x1480_0002 + g(ggtt), BCS_GPR, low, high, 0x1200_0002 + g(ggtt), BCS_GPR, own.low, own.high],
  },
  {
    name: 'MI_COPY_MEM_MEM to it',
    engine: BCS,
    dwords: ({ low, high }, ggtt, own) => [0x1700_0003 + (ggtt ? 3 << 21 : 0), low, high, own.low, own.high],
  },
  {
    name: 'MI_COPY_MEM_MEM from it',
    engine: BCS,
    dwords: ({ low, high }, ggtt, own) => [0x1700_0003 + (ggtt ? 3 << 21 : 0), own.low, own.high, low, high],
  },
  { name: 'MI_FLUSH_DW', engine: BCS, dwords: ({ low, high }, ggtt) => [0x1300_4002, (low & ~7) | (ggtt ? 4 : 0), high, POISON] },
  {
    name: 'MI_FLUSH_DW of a qword',
    engine: VECS,
    dwords: ({ low, high }, ggtt) => [0x1300_4003, (low & ~7) | (ggtt ? 4 : 0), high, POISON, POISON],
  },
  {
    name: 'MI_FLUSH_DW of the timestamp',
    engine: VCS,
    dwords: ({ low, high }, ggtt) => [0x1300_c003, (low & ~7) | (ggtt ? 4 : 0), high, 0, 0],
  },
  {
    name: 'PIPE_CONTROL',
    engine: RCS,
    dwords: ({ low, high }, ggtt) => [0x7a00_0004, (1 << 14) | (ggtt ? 1 << 24 : 0), low & ~7, high, POISON, POISON],
  },
  {
    name: 'PIPE_CONTROL of the timestamp',
    engine: RCS,
    dwords: ({ low, high }, ggtt) => [0x7a00_0004, (3 << 14) | (ggtt ? 1 << 24 : 0), low & ~7, high, 0, 0],
  },
  { name: 'MI_UPDATE_GTT', engine: RCS, dwords: ({ low }) => [0x1180_0001, low, POISON] },
  { name: 'MI_REPORT_PERF_COUNT', engine: RCS, dwords: ({ low, high }, ggtt) => [0x1400_0002, low | (ggtt ? 1 : 0), high, POISON] },
  { name: 'MI_BATCH_BUFFER_START', engine: RCS, dwords: ({ low, high }, ggtt) => [0x1880_0001 + (ggtt ? 0 : 1 << 8), low, high] },
  { name: 'XY_COLOR_BLT', engine: BCS, dwords: ({ low, high }) => [0x5400_0005 | XY, FILL, 0, CORNER, low, high, POISON] },
  {
    name: 'XY_COLOR_BLT, tiled',
    engine: BCS,
    dwords: ({ low, high }) => [0x5400_0805 | XY, (3 << 24) | (0xf0 << 16) | 128, 0, CORNER, low & ~0xfff, high, POISON],
  },
  {
    name: 'XY_SRC_COPY_BLT to it',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x54c0_0008 | XY, BR13, 0, CORNER, low, high, 0, 256, own.low, own.high],
  },
  {
    name: 'XY_SRC_COPY_BLT from it',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x54c0_0008 | XY, BR13, 0, CORNER, own.low, own.high, 0, 256, low, high],
  },
  {
    name: 'XY_SRC_COPY_BLT upwards into it',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x54c0_0008 | XY, (BR13 & ~0xffff) | 0xff00, 0, CORNER, low, high, 0, 256, own.low, own.high],
  },
  {
    name: 'XY_FAST_COPY_BLT from it',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x5080_0008, (3 << 24) | 256, 0, CORNER, own.low, own.high, 0, 256, low, high],
  },
  {
    name: 'XY_PAT_BLT with its pattern',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x5440_0006 | XY, FILL, 0, CORNER, own.low, own.high, low & ~63, high],
  },
  { name: 'COLOR_BLT', engine: BCS, dwords: ({ low, high }) => [0x5000_0004 | XY, FILL, (4 << 16) | 32, low, high, POISON] },
  {
    name: 'SRC_COPY_BLT from it',
    engine: BCS,
    dwords: ({ low, high }, _, own) => [0x50c0_0006 | XY, BR13, (4 << 16) | 32, own.low, own.high, 256, low, high],
  },
];

/** Those that only look: nothing of what they saw may show. @param data what memory is compared with */
export const LOOKS: readonly { readonly name: string; readonly dwords: (at: Address, ggtt: boolean, data: number) => readonly number[] }[] =
  [
    { name: 'MI_SEMAPHORE_WAIT', dwords: ({ low, high }, ggtt, data) => [0x0e00_c002 + g(ggtt), data, low, high] },
    { name: 'MI_CONDITIONAL_BATCH_BUFFER_END', dwords: ({ low, high }, ggtt, data) => [0x1b00_0002 + g(ggtt), data, low, high] },
  ];
