/**
 * EDID blocks (VESA E-EDID standard, release A, revision 2: structure 1.4): made from what a monitor is, and checked when somebody
 * brings his own.
 */
import { MptError } from '../../errors.js';
import { type Connector, DEFAULT_CONNECTOR } from './connector.js';
import type { Timing } from './timings.js';

/** Bytes of a block. */
export const EDID_BLOCK = 128;
/** Blocks that DDC reaches with the segments 0 and 1. */
export const EDID_BLOCKS_MAX = 4;

/** A mode by size and whole refresh rate, as standard timings name it (E-EDID 3.9). */
export interface StandardTiming {
  readonly width: number;
  readonly height: number;
  readonly hertz: number;
}

export interface MonitorDescription {
  /** Three capital letters (ISA PNP id). */
  readonly manufacturer: string;
  readonly product: number;
  readonly year: number;
  /** Up to 13 characters. */
  readonly name: string;
  /** Physical size of a pixel: dots an inch. */
  readonly dpi: number;
  /** The first is preferred and native. One or two. */
  readonly detailed: readonly Timing[];
  /** Up to eight. */
  readonly standard: readonly StandardTiming[];
  /** Byte offset and bits of the established timings (E-EDID 3.8). */
  readonly established: readonly (readonly [offset: 35 | 36 | 37, bits: number])[];
  /** Lowest and highest vertical rate in Hz, horizontal in kHz, and the highest pixel clock in MHz. */
  readonly range: {
    readonly vertical: readonly [number, number];
    readonly horizontal: readonly [number, number];
    readonly clockMHz: number;
  };
}

/** Fixed first bytes, and where the parts of a block are (E-EDID 3). */
const HEADER = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00] as const;
const AT = { VENDOR: 8, PRODUCT: 10, WEEK: 16, YEAR: 17, VERSION: 18, INPUT: 20, STANDARD: 38, DESCRIPTORS: 54, EXTENSIONS: 126 } as const;
const STANDARD_SLOTS = 8;
const DESCRIPTOR = 18;
const CHECKSUM = EDID_BLOCK - 1;
/** Digital, 8 bits a colour, and the interface: DVI, as no HDMI block follows, or DisplayPort. */
const INPUT: Readonly<Record<Connector, number>> = { hdmi: 0x80 | (2 << 4) | 1, dp: 0x80 | (2 << 4) | 5 };
const GAMMA_2_2 = 2.2 * 100 - 100;
/** sRGB is the default colour space (2); the first detailed timing is the native one (1). */
const FEATURES = 0x06;
/** CIE x and y of red, green, blue and white (IEC 61966-2-1). */
const SRGB = [0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329] as const;
const TAG = { NAME: 0xfc, RANGE: 0xfd, NONE: 0x10 } as const;
/** Aspect ratios of standard timings, by their code. */
const ASPECTS = [16 / 10, 4 / 3, 5 / 4, 16 / 9] as const;

/** One block of structure 1.4, with its checksum. */
export function buildEdid(monitor: MonitorDescription, connector: Connector = DEFAULT_CONNECTOR): Uint8Array {
  const edid = new Uint8Array(EDID_BLOCK);
  const [native] = monitor.detailed as readonly [Timing];
  edid.set(HEADER);
  const [a, b, c] = [0, 1, 2].map((i) => monitor.manufacturer.charCodeAt(i) - 0x40) as [number, number, number];
  edid.set([(a << 2) | (b >> 3), ((b & 7) << 5) | c], AT.VENDOR);
  edid.set([monitor.product & 0xff, monitor.product >> 8], AT.PRODUCT);
  edid.set([0, monitor.year - 1990, 1, 4], AT.WEEK);
  const centimetres = (pixels: number): number => Math.round((pixels * 2.54) / monitor.dpi);
  edid.set([INPUT[connector], centimetres(native.width), centimetres(native.height), GAMMA_2_2, FEATURES], AT.INPUT);
  edid.set(chromaticity(), AT.INPUT + 5);
  for (const [offset, bits] of monitor.established) edid[offset] = bits;
  edid.fill(1, AT.STANDARD, AT.DESCRIPTORS);
  monitor.standard.slice(0, STANDARD_SLOTS).forEach(({ width, height, hertz }, i) => {
    const aspect = ASPECTS.findIndex((ratio) => Math.round(width / ratio) === height);
    edid.set([width / 8 - 31, (aspect << 6) | (hertz - 60)], AT.STANDARD + 2 * i);
  });
  const descriptors = [...monitor.detailed.map((timing) => detailed(timing, centimetres)), named(monitor.name), range(monitor.range)];
  while (descriptors.length < 4) descriptors.push([0, 0, 0, TAG.NONE]);
  descriptors.slice(0, 4).forEach((bytes, i) => {
    edid.set(bytes, AT.DESCRIPTORS + DESCRIPTOR * i);
  });
  edid[CHECKSUM] = -sum(edid);
  return edid;
}

/** Ten bits each: the low two of all first (E-EDID 3.7). */
function chromaticity(): number[] {
  const bits = SRGB.map((value) => Math.round(value * 1024));
  const low = (from: number): number => bits.slice(from, from + 4).reduce((all, value) => (all << 2) | (value & 3), 0);
  return [low(0), low(4), ...bits.map((value) => value >> 2)];
}

/** E-EDID 3.10.2. */
function detailed(timing: Timing, centimetres: (pixels: number) => number): number[] {
  const { width, height, horizontalFront: hf, horizontalSync: hs, verticalFront: vf, verticalSync: vs } = timing;
  const { horizontalBlank: hb, verticalBlank: vb, pixelClockKHz } = timing;
  const clock = pixelClockKHz / 10;
  const [mmWide, mmHigh] = [centimetres(width) * 10, centimetres(height) * 10];
  const pair = (x: number, y: number): number => ((x >> 8) << 4) | (y >> 8);
  return [
    ...[clock & 0xff, clock >> 8],
    ...[width & 0xff, hb & 0xff, pair(width, hb)],
    ...[height & 0xff, vb & 0xff, pair(height, vb)],
    ...[hf & 0xff, hs & 0xff, ((vf & 0xf) << 4) | (vs & 0xf), ((hf >> 8) << 6) | ((hs >> 8) << 4) | ((vf >> 4) << 2) | (vs >> 4)],
    ...[mmWide & 0xff, mmHigh & 0xff, pair(mmWide, mmHigh), 0, 0],
    // Separate digital sync, with its polarities.
    0x18 | (timing.verticalPositive ? 4 : 0) | (timing.horizontalPositive ? 2 : 0),
  ];
}

const NAME_LENGTH = 13;

/** A text ends with a line feed and is filled with blanks. */
const named = (name: string): number[] => {
  const text = name.length < NAME_LENGTH ? `${name}\n` : name;
  return [0, 0, 0, TAG.NAME, 0, ...Array.from(text.padEnd(NAME_LENGTH).slice(0, NAME_LENGTH), (letter) => letter.charCodeAt(0))];
};

/** Limits only, no formula for further timings (1). */
const range = ({ vertical, horizontal, clockMHz }: MonitorDescription['range']): number[] => [
  ...[0, 0, 0, TAG.RANGE, 0, ...vertical, ...horizontal, Math.ceil(clockMHz / 10), 1],
  ...[0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20],
];

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0);

/** What is wrong with an EDID, in a few words; undefined when it is whole: header, number of blocks, checksum of each. */
export function edidFault(edid: Uint8Array): string | undefined {
  const blocks = edid.length / EDID_BLOCK;
  if (!Number.isInteger(blocks) || blocks < 1 || blocks > EDID_BLOCKS_MAX)
    return `it has ${edid.length} bytes, not 1 to ${EDID_BLOCKS_MAX} blocks of ${EDID_BLOCK}`;
  if (HEADER.some((byte, i) => edid[i] !== byte)) return 'its first eight bytes are not those of an EDID';
  if (edid[AT.EXTENSIONS] !== blocks - 1) return `it tells of ${edid[AT.EXTENSIONS]} extensions and has ${blocks - 1}`;
  for (let block = 0; block < blocks; block++)
    if (sum(edid.subarray(block * EDID_BLOCK, (block + 1) * EDID_BLOCK)) % 256 !== 0) return `the checksum of block ${block} is wrong`;
  return undefined;
}

/** A copy of the EDID. @throws MptError INVALID_ARGUMENT with what is wrong with it */
export function checkedEdid(edid: Uint8Array): Uint8Array {
  const copy = edid.slice();
  const fault = edidFault(copy);
  if (fault !== undefined)
    throw new MptError('INVALID_ARGUMENT', `this is no EDID: ${fault}`, {
      op: 'set_edid',
      size: copy.length,
      limit: EDID_BLOCKS_MAX * EDID_BLOCK,
    });
  return copy;
}
