/**
 * Tiled surfaces: 4 KiB tiles, row after row of them (Intel OSRC Broadwell vol. 5, "Tiling Memory"). An X tile is 8 rows of 512 bytes,
 * a Y tile 8 columns of 16 bytes and 32 rows. Generation 8 swizzles no address bits. Its planes scan out linear and X-tiled surfaces;
 * Y tiles are those of generation 9.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { ScanoutMemory } from '../roles.js';

export type Tiling = 'linear' | 'x' | 'y';

interface TileLayout {
  /** Bytes of a tile's row, and rows of a tile. */
  readonly width: number;
  readonly rows: number;
  /** Bytes that are beside each other in memory and in the row. */
  readonly run: number;
  /** drm_fourcc.h: I915_FORMAT_MOD_*. */
  readonly modifier: bigint;
}

export const TILE_LAYOUTS: Readonly<Record<Tiling, TileLayout>> = {
  linear: { width: 1, rows: 1, run: 1, modifier: 0n },
  x: { width: 512, rows: 8, run: 512, modifier: 0x0100_0000_0000_0001n },
  y: { width: 128, rows: 32, run: 16, modifier: 0x0100_0000_0000_0002n },
};

/** Part of GPU memory with rows of pixels. */
export interface Surface {
  /** GPU address, page aligned. */
  readonly base: number;
  /** Bytes from row to row; of a tiled surface whole tiles. */
  readonly stride: number;
  readonly tiling: Tiling;
}

/** Bytes that the first `rows` rows take: of a tiled surface whole rows of tiles. */
export function surfaceBytes({ stride, tiling }: Omit<Surface, 'base'>, rows: number): number {
  const unit = TILE_LAYOUTS[tiling].rows;
  return Math.ceil(rows / unit) * unit * stride;
}

/** Reads rows of a surface; best from the top down, since a row of tiles is read once then. What is not mapped reads 0. */
export class SurfaceReader {
  readonly #surface: Surface;
  readonly #memory: ScanoutMemory;
  readonly #layout: TileLayout;
  /** A row of tiles as it stands in memory, and which one. */
  readonly #tiles: Uint8Array;
  #tileRow = -1;

  constructor(surface: Surface, memory: ScanoutMemory) {
    this.#surface = surface;
    this.#memory = memory;
    this.#layout = TILE_LAYOUTS[surface.tiling];
    this.#tiles = new Uint8Array(surface.tiling === 'linear' ? 0 : surface.stride * this.#layout.rows);
  }

  /** Reads `length` bytes of row `y` from byte `first` on into `target[to..]`. The row has them. */
  read(y: number, first: number, target: Uint8Array, to: number, length: number): void {
    const { base, stride, tiling } = this.#surface;
    if (tiling === 'linear') {
      if (!this.#memory.copyIn(base + y * stride + first, target, to, length)) target.fill(0, to, to + length);
      return;
    }
    const { rows, width, run } = this.#layout;
    this.#fetch(Math.floor(y / rows));
    const inTile = (y % rows) * run;
    for (let done = 0; done < length; ) {
      const byte = first + done;
      const column = byte % width;
      const part = Math.min(run - (column % run), length - done);
      const tile = Math.floor(byte / width) * PAGE_SIZE;
      const from = tile + Math.floor(column / run) * run * rows + inTile + (column % run);
      target.set(this.#tiles.subarray(from, from + part), to + done);
      done += part;
    }
  }

  #fetch(tileRow: number): void {
    if (tileRow === this.#tileRow) return;
    this.#tileRow = tileRow;
    const tiles = this.#tiles;
    const address = this.#surface.base + tileRow * tiles.length;
    if (this.#memory.copyIn(address, tiles, 0, tiles.length)) return;
    for (let at = 0; at < tiles.length; at += PAGE_SIZE)
      if (!this.#memory.copyIn(address + at, tiles, at, PAGE_SIZE)) tiles.fill(0, at, at + PAGE_SIZE);
  }
}
