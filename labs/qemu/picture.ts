/** Pictures that `mpt display --picture` saved, and what must be in them. */
import { readFileSync } from 'node:fs';
import { decode } from 'fast-png';

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** `0xRRGGBB`, row by row. */
  readonly pixels: Uint32Array;
}

/** @throws Error when it is not a PNG file of 8 bits a channel with 3 or 4 channels */
export function pictureOf(png: Uint8Array): Picture {
  const { width, height, channels, depth, data } = decode(png);
  if (depth !== 8 || (channels !== 3 && channels !== 4))
    throw new Error(`the picture has ${channels} channels of ${depth} bits; wanted are 3 or 4 of 8`);
  const pixels = new Uint32Array(width * height);
  for (let i = 0, at = 0; i < pixels.length; i++, at += channels)
    pixels[i] = ((data[at] as number) << 16) | ((data[at + 1] as number) << 8) | (data[at + 2] as number);
  return { width, height, pixels };
}

/** Of bytes red, green, blue and alpha, as the live page's canvas has them. */
export function pictureOfRgba({
  width,
  height,
  rgba,
}: {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}): Picture {
  const pixels = new Uint32Array(width * height);
  for (let i = 0, at = 0; i < pixels.length; i++, at += 4)
    pixels[i] = ((rgba[at] as number) << 16) | ((rgba[at + 1] as number) << 8) | (rgba[at + 2] as number);
  return { width, height, pixels };
}

export const pixelAt = ({ width, pixels }: Picture, x: number, y: number): number => pixels[y * width + x] as number;

export const readPicture = (path: string): Picture => pictureOf(readFileSync(path));

/**
 * The test pattern that `guest/pattern.h` draws: a multiplicative hash of the position, so that a pixel of the wrong row, column or
 * channel differs. Each channel takes all its values. @returns `0xRRGGBB`
 */
export function patternPixel(x: number, y: number): number {
  let v = (Math.imul(x, 0x0001_0dcd) + Math.imul(y, 0x3c6e_f35f)) >>> 0;
  v = Math.imul(v ^ (v >>> 13), 0x2545_f491) >>> 0;
  return v >>> 8;
}

/** @throws Error with the number of wrong pixels and the first of them */
export function mustShow(
  { width, height, pixels }: Picture,
  size: { width: number; height: number },
  wanted: (x: number, y: number) => number,
): void {
  if (width !== size.width || height !== size.height)
    throw new Error(`the picture is ${width}x${height}; the guest drew ${size.width}x${size.height}`);
  let wrong = 0;
  let first = '';
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i++) {
      if (pixels[i] === wanted(x, y)) continue;
      if (wrong++ === 0) first = `at ${x},${y} is ${rgb(pixels[i] as number)}, not ${rgb(wanted(x, y))}`;
    }
  if (wrong > 0) throw new Error(`${wrong} of ${width * height} pixels are wrong; the first ${first}`);
}

export const rgb = (pixel: number): string => `#${pixel.toString(16).padStart(6, '0')}`;
