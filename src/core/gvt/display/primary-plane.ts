/** The primary plane of a pipe: what its registers say (facts: gvt.md 4.15), and its pixels as a picture. */
import { PAGE_SIZE } from '../../addresses.js';
import { PIXEL_FORMATS, PixelConverter, type PixelFormat, type PixelFormatName } from '../../pixels.js';
import { freshPixels, type Picture, type PixelMemory } from '../../vfio/device.js';
import type { GpuMemory, RegisterStore } from '../roles.js';

/** Registers of pipe A; each pipe's block is PIPE_STRIDE further (i915_reg.h: PIPESRC, PIPECONF, DSPCNTR, …). */
const PIPE_STRIDE = 0x1000;
const PIPESRC = 0x6_001c;
const PIPECONF = 0x7_0008;
const DSPCNTR = 0x7_0180;
const DSPSTRIDE = 0x7_0188;
const DSPSURF = 0x7_019c;
/** First pixel shown: y in bits 28:16, x in 12:0. */
const DSPOFFSET = 0x7_01a4;
const OFFSET_MASK = 0x1fff;
const ENABLE = 0x8000_0000;
const TILED_X = 1 << 10;

/** GVT-g's limit for a surface, bytes. */
export const MAX_SURFACE = 36 << 20;

/** DSPCNTR bits 29:26. Indexed colour (2) needs the palette and is not decoded. */
const FORMATS: Readonly<Record<number, PixelFormat>> = {
  5: PIXEL_FORMATS.RGB565,
  6: PIXEL_FORMATS.XRGB8888,
  8: PIXEL_FORMATS.XBGR2101010,
  10: PIXEL_FORMATS.XRGB2101010,
  14: PIXEL_FORMATS.XBGR8888,
};

export interface Plane {
  readonly pipe: 0 | 1 | 2;
  readonly format: PixelFormatName;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Pixels of the surface left of and above the first one that is shown. */
  readonly x: number;
  readonly y: number;
  /** Bytes from row to row. */
  readonly stride: number;
  /** GPU address of the surface, page aligned. */
  readonly base: number;
  /** Bytes of the surface, as far down as it is shown. */
  readonly size: number;
}

/** The plane that the pipe shows, or undefined: off, of a format that is not decoded, or out of bounds. */
export function decodePrimaryPlane(registers: RegisterStore, memory: GpuMemory, pipe: 0 | 1 | 2): Plane | undefined {
  const get = (register: number): number => registers.get(register + pipe * PIPE_STRIDE);
  const control = get(DSPCNTR);
  if ((get(PIPECONF) & ENABLE) === 0 || (control & ENABLE) === 0 || (control & TILED_X) !== 0) return undefined;
  const format = FORMATS[(control >>> 26) & 0xf];
  if (format === undefined) return undefined;
  const source = get(PIPESRC);
  const offset = get(DSPOFFSET);
  const width = ((source >>> 16) & 0xffff) + 1;
  const height = (source & 0xffff) + 1;
  const x = offset & OFFSET_MASK;
  const y = (offset >>> 16) & OFFSET_MASK;
  const stride = get(DSPSTRIDE);
  const base = (get(DSPSURF) & -PAGE_SIZE) >>> 0;
  const size = (y + height) * stride;
  if (stride < (x + width) * format.bytes || size > MAX_SURFACE) return undefined;
  if (memory.page(base) === undefined || memory.page(base + size - 1) === undefined) return undefined;
  return { pipe, format: format.name, width, height, x, y, stride, base, size };
}

/** The plane's pixels as red, green, blue, 255. Rows that are not mapped are black. */
export function renderPlane(plane: Plane, memory: GpuMemory, pixelMemory: PixelMemory = freshPixels): Picture {
  const { width, height, x, y, stride, base } = plane;
  const format = PIXEL_FORMATS[plane.format];
  const converter = new PixelConverter(format);
  const rgba = pixelMemory(width * height * 4);
  const picture = new Uint32Array(rgba.buffer, rgba.byteOffset, width * height);
  const row = new Uint8Array(width * format.bytes);
  const pixels = format.bytes === 4 ? new Uint32Array(row.buffer) : new Uint16Array(row.buffer);
  const first = base + y * stride + x * format.bytes;
  for (let line = 0; line < height; line++) {
    if (!memory.copyIn(first + line * stride, row, 0, row.length)) row.fill(0);
    converter.row(pixels, 0, picture, line * width, width);
  }
  return { width, height, rgba };
}
