/** Recordings made in the test's own process, over the smallest backend, and their files taken apart. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync, inflateSync } from 'node:zlib';
import type { Test } from 'tap';
import type { GvtOptions } from '../../src/core/gvt/gvt-options.js';
import { openGvt, type ReplayOptions, type ReplayReport, replay } from '../../src/recording/index.js';
import { type Fixture, fixture } from '../gvt/memory-backend.js';

export const folder = mkdtempSync(join(tmpdir(), 'mpt-recording-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

let files = 0;
export const newFile = (): string => join(folder, `${++files}.mptrec`);

/** Records what `run` does with a device model of one vGPU. @returns the file */
export function recorded(run: (f: Fixture) => void, options: GvtOptions & Parameters<typeof fixture>[0] = {}): string {
  const path = newFile();
  let close = (): void => undefined;
  const f = fixture({
    ...options,
    make: (backend, all) => {
      const made = openGvt(backend, all, {
        path,
        onFailure: (error) => {
          throw error;
        },
      });
      close = made.close;
      return made.device;
    },
  });
  run(f);
  close();
  return path;
}

/** Replays and expects no difference. */
export function same(t: Test, path: string, options?: ReplayOptions): ReplayReport {
  const report = replay(path, options);
  t.equal(report.divergence, null);
  t.equal(report.unasked, 0);
  return report;
}

/** Head and unpacked blocks of a file. */
export function takeApart(path: string): { head: Buffer; blocks: Buffer[] } {
  const file = readFileSync(path);
  const headEnd = 12 + file.readUInt32LE(8);
  const blocks: Buffer[] = [];
  for (let at = headEnd; at < file.length; ) {
    const length = file.readUInt32LE(at + 4);
    blocks.push(inflateSync(file.subarray(at + 8, at + 8 + length)));
    at += 8 + length;
  }
  return { head: file.subarray(0, headEnd), blocks };
}

/** The other way round. @returns the file */
export function putTogether({ head, blocks }: { head: Buffer; blocks: readonly Uint8Array[] }): string {
  const pieces: Buffer[] = [head];
  for (const block of blocks) {
    const packed = deflateSync(block);
    const sizes = Buffer.alloc(8);
    sizes.writeUInt32LE(block.length, 0);
    sizes.writeUInt32LE(packed.length, 4);
    pieces.push(sizes, packed);
  }
  const path = newFile();
  writeFileSync(path, Buffer.concat(pieces));
  return path;
}
