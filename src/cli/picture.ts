/** A plane as a PNG file. */
import { createHash } from 'node:crypto';
import { encode } from 'fast-png';
import { writeWhole } from './files.js';

export interface PictureResult {
  readonly path: string;
  readonly width: number;
  readonly height: number;
  /** Of the file, as sha256sum prints it. The encoder is deterministic: equal pixels give equal files. */
  readonly sha256: string;
}

export function writePicture(path: string, { width, height, rgba }: { width: number; height: number; rgba: Uint8Array }): PictureResult {
  const png = encode({ width, height, data: rgba, channels: 4, depth: 8 });
  writeWhole(path, png, 'picture');
  return { path, width, height, sha256: createHash('sha256').update(png).digest('hex') };
}
