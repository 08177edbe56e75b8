/** The picture of a pipe: primary plane, on it the sprite, on it the cursor. */
import { PIXEL_FORMATS, PixelConverter, type PixelFormatName } from '../../pixels.js';
import { freshPixels, type Picture, type PixelMemory, type ShownPlane } from '../../vfio/device.js';
import type { RegisterStore, ScanoutMemory } from '../roles.js';
import { decodeCursorPlane } from './cursor-plane.js';
import { applyGamma, gammaOf, paletteOf } from './palette.js';
import { PIPES } from './pipes.js';
import { type Plane, PlaneRows } from './plane.js';
import { decodePrimaryPlane, screenSize } from './primary-plane.js';
import { decodeSpritePlane } from './sprite-plane.js';

const BLACK = 0xff00_0000;

/** Draws `count` pixels of a row in the plane's format, from pixel `from` on, at `picture[to..]`. */
type DrawRow = (row: Uint8Array, from: number, picture: Uint32Array, to: number, count: number) => void;

/** The picture of the first pipe that shows a plane; undefined when none does. */
export function composePicture(
  registers: RegisterStore,
  memory: ScanoutMemory,
  pixelMemory: PixelMemory = freshPixels,
): Picture | undefined {
  for (const pipe of PIPES) {
    const primary = decodePrimaryPlane(registers, memory, pipe);
    const sprite = decodeSpritePlane(registers, memory, pipe);
    const cursor = decodeCursorPlane(registers, memory, pipe);
    const planes = [primary, sprite, cursor].filter((plane) => plane !== undefined);
    if (planes.length === 0) continue;
    // The size is the guest's word: a primary plane of a byte a pixel could be 36 million pixels, 144 MiB here.
    const { width, height } = boundedSize(primary ?? screenSize(registers, pipe));
    if (width === 0) continue;
    const rgba = pixelMemory(width * height * 4);
    const pixels = new Uint32Array(rgba.buffer, rgba.byteOffset, width * height);
    if (primary === undefined) pixels.fill(BLACK);
    for (const plane of planes) draw(plane, registers, memory, { width, height, pixels });
    return { width, height, rgba, planes: [...shown('primary', primary), ...shown('sprite', sprite), ...shown('cursor', cursor)] };
  }
  return undefined;
}

const shown = (kind: ShownPlane['kind'], plane: Plane | undefined): readonly ShownPlane[] => {
  if (plane === undefined) return [];
  const { width, height, left, top, format, tiling } = plane;
  return [{ kind, width, height, left, top, format, tiling }];
};

/** Pixels a side of the largest mode of the hardware. */
const SIDE_MAX = 4096;
const boundedSize = (size: { readonly width: number; readonly height: number }): { readonly width: number; readonly height: number } =>
  size.width <= SIDE_MAX && size.height <= SIDE_MAX ? size : { width: 0, height: 0 };

interface Canvas {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint32Array;
}

/** Draws what of the plane is on the screen. */
function draw(plane: Plane, registers: RegisterStore, memory: ScanoutMemory, { width, height, pixels }: Canvas): void {
  const { left, top } = plane;
  const from = Math.max(0, -left);
  const count = Math.min(plane.width, width - left) - from;
  const end = Math.min(plane.height, height - top);
  if (count <= 0) return;
  const rows = new PlaneRows(plane, memory);
  const drawRow = drawerOf(plane, registers);
  for (let line = Math.max(0, -top); line < end; line++) {
    rows.read(line);
    drawRow(rows.bytes, from, pixels, (top + line) * width + left + from, count);
  }
}

function drawerOf({ format, pipe }: Plane, registers: RegisterStore): DrawRow {
  if (format === 'ARGB8888') return blend;
  if (format === 'C8') return indexed(paletteOf(registers, pipe));
  return converted(format, gammaOf(registers, pipe));
}

const converted = (format: PixelFormatName, gamma: Uint32Array | undefined): DrawRow => {
  const converter = new PixelConverter(PIXEL_FORMATS[format]);
  return (row, from, picture, to, count) => {
    converter.row(PIXEL_FORMATS[format].bytes === 4 ? new Uint32Array(row.buffer) : new Uint16Array(row.buffer), from, picture, to, count);
    if (gamma !== undefined) applyGamma(picture, to, count, gamma);
  };
};

const indexed =
  (palette: Uint32Array): DrawRow =>
  (row, from, picture, to, count) => {
    for (let i = 0; i < count; i++) picture[to + i] = palette[row[from + i] as number] as number;
  };

const over = (colour: number, below: number, behind: number): number => Math.min(255, colour + Math.round((below * behind) / 255));

/** Colours that are multiplied with their alpha, over what is there. */
const blend: DrawRow = (row, from, picture, to, count) => {
  const source = new Uint32Array(row.buffer);
  for (let i = 0; i < count; i++) {
    const pixel = source[from + i] as number;
    const under = picture[to + i] as number;
    const behind = 255 - (pixel >>> 24);
    const red = over((pixel >>> 16) & 0xff, under & 0xff, behind);
    const green = over((pixel >>> 8) & 0xff, (under >>> 8) & 0xff, behind);
    const blue = over(pixel & 0xff, (under >>> 16) & 0xff, behind);
    picture[to + i] = BLACK | (blue << 16) | (green << 8) | red;
  }
};
