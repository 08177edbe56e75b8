/** A blit that was parsed and is worked off by `runBlit` (blit-rows.ts), and how parsed rectangles become one. */
import type { StateStream } from '../state/stream.js';
import { type CompiledRop, compileRop, ROP, usesDestination, usesSource } from './rop.js';
import { type RowOrder, rowOrder } from './row-order.js';
import { type Surface, Tiling, tileWidth } from './surface.js';

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
  /** Most blits: nothing but the colour, the source, or a pattern goes to the destination. */
  readonly plain: 'fill' | 'copy' | 'pattern' | 'rop';
  /** The pattern of eight by eight pixels. */
  readonly tile: PatternTile | undefined;
  /** Rows done. */
  done: number;
}

export interface PatternTile {
  readonly bytes: Uint8Array;
  /** Bytes of eight pixels. */
  readonly width: number;
  /** Where in the pattern the rectangle's first pixel is: bytes and rows. */
  readonly left: number;
  readonly top: number;
}

/** Coordinates are signed 16-bit numbers and pixels left of 0 do not exist: 32,767 pixels of 16 bytes. */
export const MAX_ROW_BYTES = 32_767 * 16;
/** A row as silicon counts it; the byte blits count 16 bits. */
export const ALL = 0xffff_ffff;

/** Rectangle [x1, x2) by [y1, y2), in pixels. */
export interface Rectangle {
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

/** A rectangle of signed 16-bit coordinates as a part of a saved state. */
export function exchangeRectangle(state: StateStream, { x1, y1, x2, y2 }: Rectangle): Rectangle {
  const edge = (name: string, value: number): number => (state.u32(name, value & 0xffff, 0xffff) << 16) >> 16;
  return { x1: edge('x1', x1), y1: edge('y1', y1), x2: edge('x2', x2), y2: edge('y2', y2) };
}

export interface Target extends Rectangle {
  readonly base: number;
  readonly pitch: number;
  readonly tiling: Tiling;
}

export interface Origin {
  readonly x: number;
  readonly y: number;
  readonly base: number;
  readonly pitch: number;
  readonly tiling: Tiling;
}

/** What is between two surfaces. */
export interface Operation {
  readonly rop: number;
  readonly color: number;
  /** Bytes per pixel. */
  readonly depth: number;
  readonly mask: number;
}

/** Byte addresses modulo 2^48, as the hardware counts them. */
const ADDRESSES = 2 ** 48;

const surfaceAt = (from: Omit<Origin, 'x' | 'y'>, x: number, y: number): Surface =>
  from.tiling === Tiling.LINEAR
    ? { start: from.base + y * from.pitch + x, pitch: from.pitch, tiling: from.tiling, x: 0, y: 0 }
    : { start: from.base, pitch: from.pitch, tiling: from.tiling, x, y };

/** What is wrong with a tiled surface, or undefined. */
function badTiling({ base, pitch, tiling }: Omit<Origin, 'x' | 'y'>, x: number, y: number): string | undefined {
  if (tiling === Tiling.LINEAR) return undefined;
  if (base % 4096 !== 0 || base >= ADDRESSES) return 'a tiled surface does not start at a page';
  if (pitch <= 0 || pitch % tileWidth(tiling) !== 0) return `a tiled surface has a pitch of ${pitch} bytes`;
  return x < 0 || y < 0 ? 'a tiled surface has no pixels before its first' : undefined;
}

/** The blit of what of `target` lies in `clip`, or what is wrong with it. @param from undefined: there is no source */
export function makeJob(
  target: Target,
  from: Origin | undefined,
  { rop: code, color, depth, mask }: Operation,
  clip?: Rectangle,
): BlitJob | string {
  if (usesSource(code) && from === undefined) return `raster operation 0x${code.toString(16)} needs a source`;
  // Pixels left of or above the surface's origin do not exist.
  const left = Math.max(target.x1, 0, clip?.x1 ?? 0);
  const top = Math.max(target.y1, 0, clip?.y1 ?? 0);
  const rowBytes = Math.max(0, Math.min(target.x2, clip?.x2 ?? target.x2) - left) * depth;
  const rows = Math.max(0, Math.min(target.y2, clip?.y2 ?? target.y2) - top);
  const wrong = badTiling(target, left, top);
  if (wrong !== undefined) return wrong;
  let destination = surfaceAt(target, left * depth, top);
  let source: Surface | undefined;
  if (from !== undefined && usesSource(code)) {
    const [x, y] = [from.x + left - target.x1, from.y + top - target.y1];
    const bad = badTiling(from, x, y);
    if (bad !== undefined) return bad;
    source = surfaceAt(from, x * depth, y);
    // Two surfaces that are stored bottom row first: the same rectangle, counted from its other end.
    if (target.pitch < 0 && from.pitch < 0) [destination, source] = [upended(destination, rows), upended(source, rows)];
  }
  const pattern = repeat(color, depth);
  const simple = mask === ALL ? SIMPLE.get(code) : undefined;
  return {
    destination,
    source,
    rowBytes,
    rows,
    order: rowOrder(flat(destination), source === undefined ? undefined : flat(source), rows),
    rop: compileRop(code, pattern),
    pattern,
    mask,
    keeps: usesDestination(code) || mask !== ALL,
    plain: simple ?? 'rop',
    tile: undefined,
    done: rowBytes === 0 || mask === 0 ? rows : 0,
  };
}

const SIMPLE: ReadonlyMap<number, 'fill' | 'copy'> = new Map([
  [ROP.PATCOPY, 'fill'],
  [ROP.SRCCOPY, 'copy'],
]);

/** Rows of a tiled surface as if they were linear: their order is the same where two surfaces are one. */
const flat = (surface: Surface): Surface =>
  surface.tiling === Tiling.LINEAR ? surface : { ...surface, start: surface.start + surface.y * surface.pitch + surface.x };

const upended = (surface: Surface, rows: number): Surface => ({
  ...surface,
  start: surface.start + (rows - 1) * surface.pitch,
  pitch: -surface.pitch,
});

function repeat(color: number, depth: number): number {
  if (depth >= 4) return color;
  return (depth === 2 ? (color & 0xffff) * 0x1_0001 : (color & 0xff) * 0x101_0101) >>> 0;
}
