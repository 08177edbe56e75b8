/** Pixel formats of planes (drm_fourcc.h) and their conversion to the one format that pictures have. */
import { FourCC } from './vfio/device.js';

export type PixelFormatName = 'RGB565' | 'XRGB8888' | 'XBGR8888' | 'XRGB2101010' | 'XBGR2101010';

export interface PixelFormat {
  readonly name: PixelFormatName;
  /** The same format for VFIO's plane queries. */
  readonly fourcc: number;
  /** Of a pixel. */
  readonly bytes: 2 | 4;
  /** Lowest bit of red, green and blue in the little-endian pixel, and bits of each. */
  readonly red: readonly [number, number];
  readonly green: readonly [number, number];
  readonly blue: readonly [number, number];
}

export const PIXEL_FORMATS: Readonly<Record<PixelFormatName, PixelFormat>> = {
  RGB565: { name: 'RGB565', fourcc: FourCC.RG16, bytes: 2, red: [11, 5], green: [5, 6], blue: [0, 5] },
  XRGB8888: { name: 'XRGB8888', fourcc: FourCC.XR24, bytes: 4, red: [16, 8], green: [8, 8], blue: [0, 8] },
  XBGR8888: { name: 'XBGR8888', fourcc: FourCC.XB24, bytes: 4, red: [0, 8], green: [8, 8], blue: [16, 8] },
  XRGB2101010: { name: 'XRGB2101010', fourcc: FourCC.XR30, bytes: 4, red: [20, 10], green: [10, 10], blue: [0, 10] },
  XBGR2101010: { name: 'XBGR2101010', fourcc: FourCC.XB30, bytes: 4, red: [0, 10], green: [10, 10], blue: [20, 10] },
};

/** The 8-bit channel 255 in bits 31:24: the picture's fourth byte, in memory order of a little-endian machine. */
const OPAQUE = 0xff00_0000;

/** Converts rows of one format to pixels of red, green, blue, 255. */
export class PixelConverter {
  readonly #format: PixelFormat;
  /** Channel values scaled to 8 bits; absent where all three have 8 bits. */
  readonly #levels: readonly [Uint8Array, Uint8Array, Uint8Array] | undefined;

  constructor(format: PixelFormat) {
    this.#format = format;
    const { red, green, blue } = format;
    const direct = red[1] === 8 && green[1] === 8 && blue[1] === 8;
    this.#levels = direct ? undefined : [levels(red[1]), levels(green[1]), levels(blue[1])];
  }

  /** Converts `count` pixels from `source[from]` on into `picture[to]` on. */
  row(source: Uint16Array | Uint32Array, from: number, picture: Uint32Array, to: number, count: number): void {
    if (this.#levels !== undefined) this.#scale(this.#levels, source, from, picture, to, count);
    else if (this.#format.red[0] === 0)
      for (let i = 0; i < count; i++) picture[to + i] = OPAQUE | ((source[from + i] as number) & 0xff_ffff);
    // Constant shifts: three times as fast as those of the table.
    else
      for (let i = 0; i < count; i++) {
        const pixel = source[from + i] as number;
        picture[to + i] = OPAQUE | ((pixel & 0xff) << 16) | (pixel & 0xff00) | ((pixel >>> 16) & 0xff);
      }
  }

  #scale(
    [reds, greens, blues]: readonly [Uint8Array, Uint8Array, Uint8Array],
    source: Uint16Array | Uint32Array,
    from: number,
    picture: Uint32Array,
    to: number,
    count: number,
  ): void {
    const [redShift, greenShift, blueShift] = [this.#format.red[0], this.#format.green[0], this.#format.blue[0]];
    for (let i = 0; i < count; i++) {
      const pixel = source[from + i] as number;
      const r = reds[(pixel >>> redShift) & (reds.length - 1)] as number;
      const g = greens[(pixel >>> greenShift) & (greens.length - 1)] as number;
      const b = blues[(pixel >>> blueShift) & (blues.length - 1)] as number;
      picture[to + i] = OPAQUE | (b << 16) | (g << 8) | r;
    }
  }
}

/** A channel's values scaled to 8 bits: narrower ones are repeated downwards, wider ones lose their low bits. */
const levels = (bits: number): Uint8Array =>
  Uint8Array.from({ length: 1 << bits }, (_, value) =>
    bits < 8 ? (value << (8 - bits)) | (value >>> (2 * bits - 8)) : value >>> (bits - 8),
  );
