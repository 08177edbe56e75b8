/** Where the hostile guest's things lie: frames are counted from the first of its RAM, GPU addresses from its aperture. */
import type { RamRegion } from '../../src/core/guest-ram.js';

export const PAGE = 4096;

/** Guest RAM; its first frame is the first of a 2 MiB page. The high half is no small number, so that half an address leads nowhere. */
export const RAM: RamRegion = { gpa: 0x1235_4000_0000, size: 0x40_0000 };
/**
 * RAM of the same VM that no operation names, in the same allocation directly before and behind the other: a write past an end changes
 * it, and nothing else can but an address that the guest would have to guess.
 */
export const CANARIES: readonly RamRegion[] = [
  { gpa: 0x0777_1a5c_3000, size: 0x1_0000 },
  { gpa: 0x2abc_d123_7000, size: 0x1_0000 },
];

export const FRAMES = RAM.size / PAGE;
/** Frames by use; the numbers are firsts and counts. */
export const AREA = {
  STATUS: [0, 4],
  /** Two frames a context. */
  CONTEXTS: [4, 8],
  RINGS: [20, 8],
  BATCHES: [28, 16],
  TABLES: [44, 40],
  DATA: [84, 80],
  /** The 2 MiB page behind a large entry. */
  HUGE: [512, 512],
} as const;
/** Frames that `ready` maps in the GGTT, from the aperture's start on. */
export const MAPPED_FRAMES = 164;

/** Page-table entry, or GGTT entry, of a frame: low half; the high half is the same for all. */
export const entryLow = (frame: number, bits: number): number => ((RAM.gpa % 2 ** 32) + frame * PAGE + bits) >>> 0;
export const ENTRY_HIGH = Math.floor(RAM.gpa / 2 ** 32);
export const gpaOf = (frame: number): number => RAM.gpa + frame * PAGE;

export const ENGINE_BASES = [0x2000, 0x2_2000, 0x1_2000, 0x1_a000] as const;
/** Where `ready` puts the BARs. */
export const BAR0 = 0xe000_0000;
export const BAR2 = 0xc000_0000;
