/**
 * Works off a blit, row after row, within a budget: a blit of any size can be stopped after a row and resumed. Rows pass
 * through private buffers: what was read from the guest is what is computed with and written. Fills and plain copies need none: they go
 * from page to page, and over pages that lie together in one piece.
 */
import { PAGE_SIZE, pageOffset } from '../../addresses.js';
import { copyAcross, fillAcross } from '../gpu-page.js';
import type { GpuMemory, GpuPage } from '../roles.js';
import { type BlitJob, MAX_ROW_BYTES } from './blit-job.js';
import { rowAt } from './row-order.js';
import { addressAt, type Surface, spanAt, Tiling } from './surface.js';

/** Bytes of pixels that count as one unit of the budget, by tiling: pieces of 512 or of 16 bytes cost their calls. */
const BYTES_PER_UNIT: Readonly<Record<Tiling, number>> = { [Tiling.LINEAR]: 1024, [Tiling.X]: 1024, [Tiling.Y]: 64 };

/** Row buffers, shared: blits run one at a time and keep no row between slices. */
const source = new Uint8Array(MAX_ROW_BYTES);
const sourceWords = new Uint32Array(source.buffer);
const target = new Uint8Array(MAX_ROW_BYTES);
const targetWords = new Uint32Array(target.buffer);

export const isDone = (job: BlitJob): boolean => job.done >= job.rows;

const ROWS = { fill: fillRow, copy: copyRow, pattern: patternRow, rop: ropRow } as const;

/**
 * Does rows worth at most about `budget` units (one a KiB, at least one a row): the last row may exceed it.
 * @returns units used, or -1 when a pixel lies in memory that is not mapped
 */
export function runBlit(job: BlitJob, memory: GpuMemory, budget: number): number {
  const perUnit = Math.min(BYTES_PER_UNIT[job.destination.tiling], BYTES_PER_UNIT[job.source?.tiling ?? Tiling.LINEAR]);
  const perRow = Math.max(1, Math.ceil(job.rowBytes / perUnit));
  const doRow = ROWS[job.plain];
  let used = 0;
  if (isOnePiece(job))
    while (!isDone(job) && used < budget) {
      const rows = Math.min(job.rows - job.done, Math.max(1, Math.floor((budget - used) / perRow)));
      const length = rows * job.rowBytes;
      const at = addressAt(job.destination, job.done, 0);
      const moved =
        job.plain === 'fill'
          ? fill(memory, at, length, job.pattern)
          : copy(memory, addressAt(job.source as Surface, job.done, 0), at, length);
      if (!moved) return -1;
      used += rows * perRow;
      job.done += rows;
    }
  while (!isDone(job) && used < budget) {
    if (!doRow(job, memory, rowAt(job.order, job.done))) return -1;
    used += perRow;
    job.done++;
  }
  return used;
}

function fillRow(job: BlitJob, memory: GpuMemory, row: number): boolean {
  const { destination, rowBytes, pattern } = job;
  const at = addressAt(destination, row, 0);
  if (destination.tiling !== Tiling.LINEAR || at % 4 !== 0 || rowBytes % 4 !== 0) {
    targetWords.fill(pattern, 0, (rowBytes + 3) >> 2);
    return writeRow(memory, destination, row, rowBytes);
  }
  return fill(memory, at, rowBytes, pattern);
}

/** Rows that lie one behind the other, of which it is all the same where one ends. */
function isOnePiece({ plain, destination, source: from, rowBytes, order, rows }: BlitJob): boolean {
  if (order.down !== rows || destination.tiling !== Tiling.LINEAR || destination.pitch !== rowBytes) return false;
  if (plain === 'fill') return destination.start % 4 === 0 && rowBytes % 4 === 0;
  return (
    plain === 'copy' && from?.tiling === Tiling.LINEAR && from.pitch === rowBytes && isApart(destination.start, from.start, rows * rowBytes)
  );
}

const isApart = (a: number, b: number, length: number): boolean => Math.abs(a - b) >= length;

/** What `findRun` found: the first page, and the bytes from the address on that lie in one piece. */
let runPage: GpuPage | undefined;
let runLength = 0;

/** @returns false where no page is */
function findRun(memory: GpuMemory, at: number, length: number, write: boolean): boolean {
  const first = write ? memory.pageToWrite(at) : memory.page(at);
  if (first === undefined) return false;
  runPage = first;
  runLength = memory.run(first, at, length, write);
  return true;
}

/** Stores a dword over and over; address and length are multiples of 4. */
function fill(memory: GpuMemory, at: number, length: number, pattern: number): boolean {
  for (let done = 0; done < length; done += runLength) {
    if (!findRun(memory, at + done, length - done, true)) return false;
    fillAcross(runPage as GpuPage, pageOffset(at + done), runLength, pattern);
  }
  return true;
}

/** Copies between ranges that do not overlap. */
function copy(memory: GpuMemory, from: number, to: number, length: number): boolean {
  for (let done = 0; done < length; ) {
    if (!findRun(memory, from + done, length - done, false)) return false;
    const page = runPage as GpuPage;
    if (!findRun(memory, to + done, runLength, true)) return false;
    copyAcross(page, pageOffset(from + done), runPage as GpuPage, pageOffset(to + done), runLength);
    done += runLength;
  }
  return true;
}

function copyRow(job: BlitJob, memory: GpuMemory, row: number): boolean {
  const { destination, rowBytes } = job;
  const from = job.source as Surface;
  if (destination.tiling === Tiling.LINEAR && from.tiling === Tiling.LINEAR) {
    const [at, to] = [addressAt(from, row, 0), addressAt(destination, row, 0)];
    if (isApart(at, to, rowBytes)) return copy(memory, at, to, rowBytes);
  }
  return readRow(memory, job.source as Surface, row, target, job.rowBytes) && writeRow(memory, job.destination, row, job.rowBytes);
}

/** The pattern's row of eight pixels, over and over. */
function patternRow(job: BlitJob, memory: GpuMemory, row: number): boolean {
  const { destination, rowBytes, tile } = job;
  if (tile === undefined) return false;
  const { bytes, width, left, top } = tile;
  const from = ((top + row) & 7) * width;
  for (let i = 0; i < rowBytes; i++) target[i] = bytes[from + ((left + i) & (width - 1))] as number;
  return writeRow(memory, destination, row, rowBytes);
}

function ropRow(job: BlitJob, memory: GpuMemory, row: number): boolean {
  const { rowBytes, mask } = job;
  const { one, d, s, sd } = job.rop;
  if (job.source !== undefined && !readRow(memory, job.source, row, source, rowBytes)) return false;
  if (job.keeps && !readRow(memory, job.destination, row, target, rowBytes)) return false;
  const words = (rowBytes + 3) >> 2;
  for (let i = 0; i < words; i++) {
    const from = sourceWords[i] as number;
    const old = targetWords[i] as number;
    const value = one ^ (d & old) ^ (s & from) ^ (sd & from & old);
    targetWords[i] = (value & mask) | (old & ~mask);
  }
  return writeRow(memory, job.destination, row, rowBytes);
}

function readRow(memory: GpuMemory, surface: Surface, row: number, into: Uint8Array, length: number): boolean {
  if (surface.tiling === Tiling.LINEAR) return memory.copyIn(addressAt(surface, row, 0), into, 0, length);
  for (let done = 0; done < length; ) {
    const n = Math.min(length - done, spanAt(surface, done));
    if (!memory.copyIn(addressAt(surface, row, done), into, done, n)) return false;
    done += n;
  }
  return true;
}

/** Writes the target buffer to memory, piece by piece. */
function writeRow(memory: GpuMemory, surface: Surface, row: number, length: number): boolean {
  for (let done = 0; done < length; ) {
    const at = addressAt(surface, row, done);
    const page = memory.pageToWrite(at);
    if (page === undefined) return false;
    const offset = pageOffset(at);
    const n = Math.min(length - done, PAGE_SIZE - offset, spanAt(surface, done));
    page.store(offset, target, done, done + n);
    done += n;
  }
  return true;
}
