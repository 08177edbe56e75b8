/**
 * What the 2D blitter's commands ask for: XY_COLOR_BLT and XY_SRC_COPY_BLT on linear surfaces of 8, 16 and 32 bits per
 * pixel, every raster operation, byte write enables (facts: gvt.md 8.6; Broadwell's command reference). A parsed command is
 * a `BlitJob`, which `runBlit` (blit-rows.ts) works off.
 */

import { type CompiledRop, compileRop, ROP, usesDestination, usesSource } from './rop.js';
import { type RowOrder, rowOrder } from './row-order.js';

/** Rows in GPU memory. */
export interface Surface {
  /** GPU address of the first row's first byte. May be negative or unmapped: whoever touches it finds out. */
  readonly start: number;
  /** Bytes from row to row, signed. */
  readonly pitch: number;
}

export interface BlitJob {
  readonly destination: Surface;
  /** Undefined when the result does not depend on a source. */
  readonly source: Surface | undefined;
  /** Bytes of a row, at most MAX_ROW_BYTES. */
  readonly rowBytes: number;
  readonly rows: number;
  readonly order: RowOrder;
  readonly rop: CompiledRop;
  /** Pattern repeated to 32 bits. */
  readonly pattern: number;
  /** Bits that may be written, the same in each dword of a row. */
  readonly mask: number;
  /** The destination has to be read: the operation or the mask needs it. */
  readonly keeps: boolean;
  /** Most blits: nothing but the pattern, or nothing but the source, goes to the destination. */
  readonly plain: 'fill' | 'copy' | undefined;
  /** Rows done. */
  done: number;
}

/** Coordinates are signed 16-bit numbers and pixels left of 0 do not exist: 32,767 pixels of 4 bytes. */
export const MAX_ROW_BYTES = 32_767 * 4;

/** Header bits. */
const TILED_DESTINATION = 1 << 11;
const TILED_SOURCE = 1 << 15;
const WRITE_COLOUR = 1 << 20;
const WRITE_ALPHA = 1 << 21;
/** BR13: pitch in bits 15:0, raster operation in 23:16, depth in 25:24. */
const CLIPPING = 1 << 30;
/** Bytes per pixel of each colour depth: 8, 16 (565), 16 (1555) and 32 bits. */
const DEPTHS: readonly number[] = [1, 2, 2, 4];

const COLOR_BLT_DWORDS = 7;
const SRC_COPY_BLT_DWORDS = 10;

const signed16 = (value: number): number => (value << 16) >> 16;
/** 48-bit GPU address, any alignment. */
const address = (low: number, high: number): number => low + (high & 0xffff) * 2 ** 32;

interface SourceRectangle {
  readonly x: number;
  readonly y: number;
  readonly pitch: number;
  readonly base: number;
}

/** XY_COLOR_BLT: header, BR13, top left, bottom right, base (2), colour. A text says what is wrong with the command. */
export function colorBlit(command: Uint32Array, length: number): BlitJob | string {
  if (length !== COLOR_BLT_DWORDS) return `the length is ${length}`;
  return parse(command, command[6] as number, undefined);
}

/** XY_SRC_COPY_BLT: header, BR13, top left, bottom right, base (2), source's top left, source's pitch, source's base (2). */
export function copyBlit(command: Uint32Array, length: number): BlitJob | string {
  if (length !== SRC_COPY_BLT_DWORDS) return `the length is ${length}`;
  if (((command[0] as number) & TILED_SOURCE) !== 0) return 'a tiled source is not supported';
  const origin = command[6] as number;
  return parse(command, 0, {
    x: signed16(origin),
    y: signed16(origin >>> 16),
    pitch: signed16(command[7] as number),
    base: address(command[8] as number, command[9] as number),
  });
}

function parse(command: Uint32Array, color: number, from: SourceRectangle | undefined): BlitJob | string {
  const [header, br13, topLeft, bottomRight, baseLow, baseHigh] = command as unknown as [number, number, number, number, number, number];
  if ((header & TILED_DESTINATION) !== 0) return 'a tiled destination is not supported';
  if ((br13 & CLIPPING) !== 0) return 'clipping needs XY_SETUP_CLIP_BLT, which is not supported';
  const code = (br13 >>> 16) & 0xff;
  if (usesSource(code) && from === undefined) return `raster operation 0x${code.toString(16)} needs a source`;
  const depth = DEPTHS[(br13 >>> 24) & 3] as number;
  const pitch = signed16(br13);
  const [x1, y1] = [signed16(topLeft), signed16(topLeft >>> 16)];
  // Pixels left of or above the surface's origin do not exist.
  const left = Math.max(x1, 0);
  const top = Math.max(y1, 0);
  const rowBytes = Math.max(0, signed16(bottomRight) - left) * depth;
  const rows = Math.max(0, signed16(bottomRight >>> 16) - top);
  const mask = depth === 4 ? writeMask(header) : ALL;
  let destination: Surface = { start: address(baseLow, baseHigh) + top * pitch + left * depth, pitch };
  let source: Surface | undefined;
  if (from !== undefined && usesSource(code)) {
    source = { start: from.base + (from.y + top - y1) * from.pitch + (from.x + left - x1) * depth, pitch: from.pitch };
    // Two surfaces that are stored bottom row first: the same rectangle, counted from its other end.
    if (pitch < 0 && from.pitch < 0) [destination, source] = [upended(destination, rows), upended(source, rows)];
  }
  const pattern = repeat(color, depth);
  return {
    destination,
    source,
    rowBytes,
    rows,
    order: rowOrder(destination, source, rows),
    rop: compileRop(code, pattern),
    pattern,
    mask,
    keeps: usesDestination(code) || mask !== ALL,
    plain: mask !== ALL ? undefined : code === ROP.PATCOPY ? 'fill' : code === ROP.SRCCOPY ? 'copy' : undefined,
    done: rowBytes === 0 || mask === 0 ? rows : 0,
  };
}

const ALL = 0xffff_ffff;

/** Byte write enables, which 32-bit pixels have. */
const writeMask = (header: number): number =>
  (((header & WRITE_ALPHA) !== 0 ? 0xff00_0000 : 0) | ((header & WRITE_COLOUR) !== 0 ? 0x00ff_ffff : 0)) >>> 0;

const upended = ({ start, pitch }: Surface, rows: number): Surface => ({ start: start + (rows - 1) * pitch, pitch: -pitch });

function repeat(color: number, depth: number): number {
  if (depth === 4) return color;
  return (depth === 2 ? (color & 0xffff) * 0x1_0001 : (color & 0xff) * 0x101_0101) >>> 0;
}
