/**
 * What the 2D blitter's commands ask for (Broadwell's and Skylake's command references, "Blitter": facts: gvt.md 8.6): colour fills,
 * copies and patterns, linear and tiled, every raster operation on colours and sources, byte write enables, clipping. A parsed command
 * is a `BlitJob`; a text says what is wrong with the command.
 */
import { ALL, type BlitJob, MAX_ROW_BYTES, makeJob, type Origin, type Rectangle, type Target } from './blit-job.js';
import { ROP } from './rop.js';
import { Tiling } from './surface.js';

/** What stays between commands. */
export interface BlitState {
  /** BCS_SWCTRL: which tiled surfaces are tiled in Y. */
  readonly swctrl: number;
  /** Clipping rectangle, for commands that clip. */
  readonly clip: Rectangle;
}

const NO_STATE: BlitState = { swctrl: 0, clip: { x1: 0, y1: 0, x2: 0, y2: 0 } };

/** Header bits. */
const TILED_DESTINATION = 1 << 11;
const TILED_SOURCE = 1 << 15;
const WRITE_COLOUR = 1 << 20;
const WRITE_ALPHA = 1 << 21;
/** BR13: pitch in bits 15:0, raster operation in 23:16, depth in 25:24. */
const CLIPPING = 1 << 30;
/** Bytes per pixel of each colour depth: 8, 16 (565), 16 (1555) and 32 bits. */
const DEPTHS: readonly number[] = [1, 2, 2, 4];
/** BCS_SWCTRL bits. */
const SOURCE_Y = 1 << 0;
const DESTINATION_Y = 1 << 1;

const signed16 = (value: number): number => (value << 16) >> 16;
/** 48-bit GPU address, any alignment. */
const address = (low: number, high: number): number => low + (high & 0xffff) * 2 ** 32;
const dword = (command: Uint32Array, i: number): number => command[i] as number;

const rectangle = (topLeft: number, bottomRight: number): Rectangle => ({
  x1: signed16(topLeft),
  y1: signed16(topLeft >>> 16),
  x2: signed16(bottomRight),
  y2: signed16(bottomRight >>> 16),
});

/** Clipping rectangle of XY_SETUP_CLIP_BLT and XY_SETUP_BLT: left and top belong to it, right and bottom do not. */
export const clipOf = rectangle;

/** A tiled surface's pitch is counted in dwords. */
const bytesOf = (pitch: number, tiling: Tiling): number => (tiling === Tiling.LINEAR ? pitch : pitch * 4);

const tilingOf = (tiled: boolean, y: boolean): Tiling => (tiled ? (y ? Tiling.Y : Tiling.X) : Tiling.LINEAR);

function targetOf(command: Uint32Array, { swctrl }: BlitState): Target {
  const tiling = tilingOf((dword(command, 0) & TILED_DESTINATION) !== 0, (swctrl & DESTINATION_Y) !== 0);
  return {
    ...rectangle(dword(command, 2), dword(command, 3)),
    base: address(dword(command, 4), dword(command, 5)),
    pitch: bytesOf(signed16(dword(command, 1)), tiling),
    tiling,
  };
}

/** Byte write enables, which 32-bit pixels have. */
function maskOf(header: number, depth: number): number {
  if (depth !== 4) return ALL;
  return (((header & WRITE_ALPHA) !== 0 ? 0xff00_0000 : 0) | ((header & WRITE_COLOUR) !== 0 ? 0x00ff_ffff : 0)) >>> 0;
}

function legacy(command: Uint32Array, color: number, from: Origin | undefined, state: BlitState): BlitJob | string {
  const br13 = dword(command, 1);
  const depth = DEPTHS[(br13 >>> 24) & 3] as number;
  const operation = { rop: (br13 >>> 16) & 0xff, color, depth, mask: maskOf(dword(command, 0), depth) };
  return makeJob(targetOf(command, state), from, operation, (br13 & CLIPPING) !== 0 ? state.clip : undefined);
}

/** XY_COLOR_BLT: header, BR13, top left, bottom right, base (2), colour. */
export function colorBlit(command: Uint32Array, length: number, state: BlitState = NO_STATE): BlitJob | string {
  if (length !== 7) return `the length is ${length}`;
  return legacy(command, dword(command, 6), undefined, state);
}

/** XY_SRC_COPY_BLT: header, BR13, top left, bottom right, base (2), source's top left, source's pitch, source's base (2). */
export function copyBlit(command: Uint32Array, length: number, state: BlitState = NO_STATE): BlitJob | string {
  if (length !== 10) return `the length is ${length}`;
  const tiling = tilingOf((dword(command, 0) & TILED_SOURCE) !== 0, (state.swctrl & SOURCE_Y) !== 0);
  const origin = dword(command, 6);
  return legacy(
    command,
    0,
    {
      x: signed16(origin),
      y: signed16(origin >>> 16),
      pitch: bytesOf(signed16(dword(command, 7)), tiling),
      base: address(dword(command, 8), dword(command, 9)),
      tiling,
    },
    state,
  );
}

/** COLOR_BLT and SRC_COPY_BLT: rectangles of bytes. BR13, height and width, base (2), then colour, or the source's pitch and base (2). */
export function byteColorBlit(command: Uint32Array, length: number): BlitJob | string {
  return length === 6 ? bytes(command, dword(command, 5), undefined) : `the length is ${length}`;
}

export function byteCopyBlit(command: Uint32Array, length: number): BlitJob | string {
  if (length !== 8) return `the length is ${length}`;
  const base = address(dword(command, 6), dword(command, 7));
  return bytes(command, 0, { x: 0, y: 0, pitch: signed16(dword(command, 5)), base, tiling: Tiling.LINEAR });
}

function bytes(command: Uint32Array, color: number, from: Origin | undefined): BlitJob | string {
  const br13 = dword(command, 1);
  const depth = DEPTHS[(br13 >>> 24) & 3] as number;
  const size = dword(command, 2);
  const width = size & 0xffff;
  if (width % depth !== 0) return `a row of ${width} bytes is no whole number of pixels`;
  const base = address(dword(command, 3), dword(command, 4));
  const target = { x1: 0, y1: 0, x2: width / depth, y2: size >>> 16, base, pitch: signed16(br13), tiling: Tiling.LINEAR };
  return makeJob(target, from, { rop: (br13 >>> 16) & 0xff, color, depth, mask: maskOf(dword(command, 0), depth) });
}

/** XY_FAST_COPY_BLT's depths, in bits 26:24 of its second dword. */
const FAST_DEPTHS: readonly (number | undefined)[] = [1, 2, undefined, 4, 8, 16, undefined, undefined];
const FAST_TILINGS: readonly (Tiling | undefined)[] = [Tiling.LINEAR, Tiling.X, Tiling.Y, undefined];
/** Tiles of Yf instead of Y. */
const FAST_YF = 3 << 30;

/** XY_FAST_COPY_BLT (generation 9): as XY_SRC_COPY_BLT, its tilings in bits 21:20 and 14:13 of the header; no raster operation. */
export function fastCopyBlit(command: Uint32Array, length: number): BlitJob | string {
  if (length !== 10) return `the length is ${length}`;
  const header = dword(command, 0);
  const br13 = dword(command, 1);
  const depth = FAST_DEPTHS[(br13 >>> 24) & 7];
  const [to, of] = [FAST_TILINGS[(header >>> 13) & 3], FAST_TILINGS[(header >>> 20) & 3]];
  if (depth === undefined || to === undefined || of === undefined || (br13 & FAST_YF) !== 0) return 'depth or tiling does not exist here';
  const target = {
    ...rectangle(dword(command, 2), dword(command, 3)),
    base: address(dword(command, 4), dword(command, 5)),
    pitch: bytesOf(br13 & 0xffff, to),
    tiling: to,
  };
  const origin = dword(command, 6);
  const from = {
    x: signed16(origin),
    y: signed16(origin >>> 16),
    pitch: bytesOf(dword(command, 7) & 0xffff, of),
    base: address(dword(command, 8), dword(command, 9)),
    tiling: of,
  };
  const job = makeJob(target, from, { rop: ROP.SRCCOPY, color: 0, depth, mask: ALL });
  return typeof job !== 'string' && job.rowBytes > MAX_ROW_BYTES ? 'the rows are too long' : job;
}

/** XY_PAT_BLT's dwords before its pattern's address. */
const PATTERN_ADDRESS = 6;

/** Where XY_PAT_BLT's pattern is and how long. */
export const patternOf = (command: Uint32Array): { address: number; length: number } => ({
  address: address(dword(command, PATTERN_ADDRESS) & ~0x3f, dword(command, PATTERN_ADDRESS + 1)),
  length: 64 * (DEPTHS[(dword(command, 1) >>> 24) & 3] as number),
});

/**
 * XY_PAT_BLT: as XY_COLOR_BLT, with a pattern of eight by eight pixels at an address (2). Only its plain copy is done.
 * @returns undefined for the other raster operations
 */
export function patternBlit(command: Uint32Array, length: number, pattern: Uint8Array, state: BlitState): BlitJob | string | undefined {
  if (length !== 8) return `the length is ${length}`;
  const job = legacy(command, 0, undefined, state);
  if (typeof job === 'string') return job;
  if (job.plain !== 'fill') return undefined;
  const header = dword(command, 0);
  const depth = DEPTHS[(dword(command, 1) >>> 24) & 3] as number;
  const { x1, y1 } = rectangle(dword(command, 2), 0);
  const clip = (dword(command, 1) & CLIPPING) !== 0 ? state.clip : { x1: 0, y1: 0 };
  const left = Math.max(x1, 0, clip.x1) + ((header >>> 12) & 7);
  const top = Math.max(y1, 0, clip.y1) + ((header >>> 8) & 7);
  return { ...job, plain: 'pattern', tile: { bytes: pattern, width: 8 * depth, left: left * depth, top } };
}
