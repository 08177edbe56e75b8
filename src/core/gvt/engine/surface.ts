/** Surfaces that the blitter reads and writes: linear, or in tiles of 4 KiB (Broadwell PRM, volume 5, "Memory Views": tiling). */

export const Tiling = {
  LINEAR: 0,
  /** Tiles of 512 bytes by 8 rows, row after row. */
  X: 1,
  /** Tiles of 128 bytes by 32 rows, in columns of 16 bytes. */
  Y: 2,
} as const;
export type Tiling = (typeof Tiling)[keyof typeof Tiling];

/** A rectangle's rows in GPU memory. */
export interface Surface {
  /**
   * GPU address of the rectangle's first byte, or of the surface's where it is tiled. May be negative or unmapped: whoever touches it
   * finds out.
   */
  readonly start: number;
  /** Bytes from row to row, signed; of a tiled surface a whole number of tiles. */
  readonly pitch: number;
  readonly tiling: Tiling;
  /** Where the rectangle begins in a tiled surface, bytes and rows; not below 0. */
  readonly x: number;
  readonly y: number;
}

const TILE = 4096;

/** GPU address of a byte of a row. */
export function addressAt({ start, pitch, tiling, x, y }: Surface, row: number, byte: number): number {
  if (tiling === Tiling.LINEAR) return start + row * pitch + byte;
  const column = x + byte;
  const line = y + row;
  if (tiling === Tiling.X) return start + (line >> 3) * pitch * 8 + (column >> 9) * TILE + (line & 7) * 512 + (column & 511);
  return start + (line >> 5) * pitch * 32 + (column >> 7) * TILE + ((column & 127) >> 4) * 512 + (line & 31) * 16 + (column & 15);
}

/** Bytes from there on that lie one after the other. */
export function spanAt({ tiling, x }: Surface, byte: number): number {
  if (tiling === Tiling.LINEAR) return Number.POSITIVE_INFINITY;
  const unit = tiling === Tiling.X ? 512 : 16;
  return unit - ((x + byte) & (unit - 1));
}

/** Width of a tile in bytes; pitches are multiples of it. */
export const tileWidth = (tiling: Tiling): number => (tiling === Tiling.X ? 512 : tiling === Tiling.Y ? 128 : 1);
