/** A plane as its registers describe it, checked, and its rows. */
import { PAGE_SIZE } from '../../addresses.js';
import { PIXEL_FORMATS, type PixelFormatName } from '../../pixels.js';
import { FourCC } from '../../vfio/device.js';
import type { ScanoutMemory } from '../roles.js';
import type { Pipe } from './pipes.js';
import { type Surface, SurfaceReader, surfaceBytes, TILE_LAYOUTS } from './tiling.js';

/** GVT-g's limit for a surface, bytes. */
export const MAX_SURFACE = 36 << 20;

export type PlaneFormatName = PixelFormatName | 'C8' | 'ARGB8888';

export interface PlaneFormat {
  readonly name: PlaneFormatName;
  /** drm_fourcc.h. */
  readonly fourcc: number;
  /** Of a pixel. */
  readonly bytes: 1 | 2 | 4;
}

export const PLANE_FORMATS: Readonly<Record<PlaneFormatName, PlaneFormat>> = {
  ...PIXEL_FORMATS,
  /** An index into the pipe's palette. */
  C8: { name: 'C8', fourcc: FourCC.C8, bytes: 1 },
  /** Colours are multiplied with the alpha already. */
  ARGB8888: { name: 'ARGB8888', fourcc: FourCC.AR24, bytes: 4 },
};

export interface Plane extends Surface {
  readonly pipe: Pipe;
  readonly format: PlaneFormatName;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Pixels of the surface left of and above the first one that is shown. */
  readonly x: number;
  readonly y: number;
  /** Where on the screen its first pixel is; a cursor's may be left of or above it. */
  readonly left: number;
  readonly top: number;
  /** Turned by 180 degrees: the last pixel of the last row is shown first. */
  readonly rotated: boolean;
  /** Bytes of the surface, as far down as it is shown. */
  readonly size: number;
}

/** @returns undefined when the surface is too large, too narrow for the plane, not of whole tiles, or when an end of it is not the vGPU's */
export function checkedPlane(plane: Omit<Plane, 'size'>, memory: ScanoutMemory): Plane | undefined {
  const { base, stride, tiling, width, height, x, y } = plane;
  const size = surfaceBytes(plane, y + height);
  if (stride < (x + width) * PLANE_FORMATS[plane.format].bytes || size > MAX_SURFACE) return undefined;
  if (stride % TILE_LAYOUTS[tiling].width !== 0) return undefined;
  if (!memory.shows(base) || !memory.shows(base + size - 1)) return undefined;
  return { ...plane, size };
}

/** GPU address of a surface register: a page's; the bits below are flags. */
export const surfaceBase = (register: number): number => (register & -PAGE_SIZE) >>> 0;

/** The rows of a plane as they are shown, in the plane's format, from the top down. */
export class PlaneRows {
  /** One row. */
  readonly bytes: Uint8Array;
  readonly #plane: Plane;
  readonly #reader: SurfaceReader;
  readonly #pixel: number;

  constructor(plane: Plane, memory: ScanoutMemory) {
    this.#plane = plane;
    this.#reader = new SurfaceReader(plane, memory);
    this.#pixel = PLANE_FORMATS[plane.format].bytes;
    this.bytes = new Uint8Array(plane.width * this.#pixel);
  }

  /** Fills `bytes` with row `line`. */
  read(line: number): void {
    const { x, y, height, rotated } = this.#plane;
    const row = y + (rotated ? height - 1 - line : line);
    this.#reader.read(row, x * this.#pixel, this.bytes, 0, this.bytes.length);
    if (rotated) this.#turn();
  }

  #turn(): void {
    const { buffer } = this.bytes;
    if (this.#pixel === 4) new Uint32Array(buffer).reverse();
    else if (this.#pixel === 2) new Uint16Array(buffer).reverse();
    else this.bytes.reverse();
  }
}
