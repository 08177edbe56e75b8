/** Which rows of a picture differ from those of an earlier one. */
import type { Picture } from '../../core/vfio/device.js';
import type { DisplayUpdate } from './protocol.js';

/** Rows next to each other: the first, and how many. */
export type RowRange = readonly [first: number, count: number];

/** The rows for which `has` answers true. */
export function rangesOf(height: number, has: (row: number) => boolean): RowRange[] {
  const ranges: RowRange[] = [];
  let first = -1;
  for (let row = 0; row <= height; row++) {
    const wanted = row < height && has(row);
    if (wanted && first < 0) first = row;
    if (!wanted && first >= 0) {
      ranges.push([first, row - first]);
      first = -1;
    }
  }
  return ranges;
}

/** The pixels of these rows, in order, as views of the picture. */
export const rowsOf = ({ width, rgba }: Picture, ranges: readonly RowRange[]): Uint8Array[] =>
  ranges.map(([first, count]) => rgba.subarray(first * width * 4, (first + count) * width * 4));

/**
 * What a viewer that has `before` needs to have `now`; undefined for nothing.
 * @param before what it has: undefined for a display that is off, null for nothing at all
 */
export function updateBetween(before: Picture | undefined | null, now: Picture | undefined): DisplayUpdate | undefined {
  if (now === undefined) return before === undefined ? undefined : { type: 'off' };
  const { width, height, rgba, planes } = now;
  if (before === undefined || before === null || before.width !== width || before.height !== height)
    return { type: 'picture', width, height, rgba, ...(planes === undefined ? {} : { planes }) };
  const rowBytes = width * 4;
  const [old, fresh] = [asBuffer(before.rgba), asBuffer(rgba)];
  const ranges = rangesOf(height, (row) => {
    const [start, end] = [row * rowBytes, (row + 1) * rowBytes];
    return fresh.compare(old, start, end, start, end) !== 0;
  });
  return ranges.length === 0 ? undefined : { type: 'rows', width, height, ranges, rgba: Buffer.concat(rowsOf(now, ranges)) };
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

/**
 * The picture after an update. Rows are drawn into `before`, whose pixels are the caller's own.
 * @returns undefined for a display that is off, and for rows that do not fit what is there
 */
export function applyUpdate(before: Picture | undefined, update: DisplayUpdate): Picture | undefined {
  if (update.type === 'off') return undefined;
  if (update.type === 'picture') return { width: update.width, height: update.height, rgba: update.rgba };
  const { width, height, ranges, rgba } = update;
  if (before === undefined || before.width !== width || before.height !== height) return undefined;
  let at = 0;
  for (const [first, count] of ranges) {
    const length = count * width * 4;
    before.rgba.set(rgba.subarray(at, at + length), first * width * 4);
    at += length;
  }
  return before;
}
