/**
 * The 2D blitter: XY_COLOR_BLT and XY_SRC_COPY_BLT on linear surfaces of 8, 16 and 32 bits per pixel, every raster
 * operation, byte write enables. A blit is a job that does row after row within a budget and can be resumed.
 *
 * Rows are read into private buffers before the row is written, and rows go bottom up when the destination lies above
 * the source, so overlapping copies are right.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { GpuMemory } from '../roles.js';
import { applyRop, ROP, usesDestination, usesSource } from './rop.js';

interface Surface {
  /** GPU address of the pixel (x1, y1). */
  start: number;
  /** Bytes from row to row, signed. */
  readonly pitch: number;
}

export interface BlitJob {
  readonly destination: Surface;
  readonly source: Surface | undefined;
  /** Bytes of a row. */
  readonly rowBytes: number;
  readonly rows: number;
  readonly rop: number;
  /** Pattern repeated to 32 bits. */
  readonly pattern: number;
  /** Bytes that may be written, as a mask of 32 bits. */
  readonly mask: number;
  readonly bottomUp: boolean;
  /** Rows done. */
  row: number;
  done: boolean;
}

/** Pixels at most 65535 a row, 4 bytes each. */
const MAX_ROW = 65_535 * 4;
/** Bytes of pixels that count as one command. */
const BYTES_PER_UNIT = 1024;

/** Colour depth of BR13 bits 25:24: bytes per pixel. */
const DEPTHS: readonly number[] = [1, 2, 2, 4];
const ALL = 0xffff_ffff;

const signed16 = (value: number): number => (value << 16) >> 16;
const address = (low: number, high: number): number => low + (high & 0xffff) * 2 ** 32;

/** XY_COLOR_BLT: 7 dwords. */
export function colorBlit(c: Uint32Array, length: number): BlitJob | string {
  if (length !== 7) return `the length is ${length}`;
  return makeJob(c, c[6] as number, undefined);
}

/** XY_SRC_COPY_BLT: 10 dwords. */
export function copyBlit(c: Uint32Array, length: number): BlitJob | string {
  if (length !== 10) return `the length is ${length}`;
  if (((c[0] as number) & (1 << 15)) !== 0) return 'a tiled source is not supported';
  const origin = c[6] as number;
  return makeJob(c, 0, {
    x: signed16(origin),
    y: signed16(origin >>> 16),
    pitch: signed16(c[7] as number),
    base: address(c[8] as number, c[9] as number),
  });
}

function makeJob(c: Uint32Array, color: number, from: { x: number; y: number; pitch: number; base: number } | undefined): BlitJob | string {
  const header = c[0] as number;
  const br13 = c[1] as number;
  if ((header & (1 << 11)) !== 0) return 'a tiled destination is not supported';
  if ((br13 & (1 << 30)) !== 0) return 'clipping needs XY_SETUP_CLIP_BLT, which is not supported';
  const depth = DEPTHS[(br13 >>> 24) & 3] as number;
  const pitch = signed16(br13);
  const base = address(c[4] as number, c[5] as number);
  const [x1, y1] = [signed16(c[2] as number), signed16((c[2] as number) >>> 16)];
  const [x2, y2] = [signed16(c[3] as number), signed16((c[3] as number) >>> 16)];
  // Pixels left of or above the surface's origin do not exist.
  const left = Math.max(x1, 0);
  const top = Math.max(y1, 0);
  const width = Math.max(0, x2 - left);
  const rows = Math.max(0, y2 - top);
  const destination = { start: base + top * pitch + left * depth, pitch };
  const source = from && { start: from.base + (from.y + top - y1) * from.pitch + (from.x + left - x1) * depth, pitch: from.pitch };
  const rop = (br13 >>> 16) & 0xff;
  if (usesSource(rop) && source === undefined) return `raster operation 0x${rop.toString(16)} needs a source`;
  return {
    destination,
    source,
    rowBytes: width * depth,
    rows,
    rop,
    pattern: repeat(color, depth),
    mask: depth === 4 ? writeMask(header) : ALL,
    bottomUp: source !== undefined && destination.start > source.start,
    row: 0,
    done: width === 0 || rows === 0,
  };
}

/** Byte write enables of 32-bit blits: bit 21 alpha, bit 20 colour. */
const writeMask = (header: number): number =>
  (((header & (1 << 21)) !== 0 ? 0xff00_0000 : 0) | ((header & (1 << 20)) !== 0 ? 0x00ff_ffff : 0)) >>> 0;

function repeat(color: number, depth: number): number {
  if (depth === 4) return color;
  return (depth === 2 ? (color & 0xffff) * 0x1_0001 : (color & 0xff) * 0x101_0101) >>> 0;
}

/** Row buffers, shared: blits run one at a time and never keep a row between slices. */
const sourceRow = new Uint8Array(MAX_ROW);
const targetRow = new Uint8Array(MAX_ROW);

/**
 * Does rows worth at most about `budget` units (one a KiB, at least one a row).
 * @returns units used, or -1 when a pixel lies in memory that is not mapped
 */
export function runBlit(job: BlitJob, memory: GpuMemory, budget: number): number {
  const perRow = Math.max(1, Math.ceil(job.rowBytes / BYTES_PER_UNIT));
  let used = 0;
  const plainFill = job.rop === ROP.PATCOPY && job.mask === ALL;
  const plainCopy = job.rop === ROP.SRCCOPY && job.mask === ALL;
  while (!job.done && used < budget) {
    const y = job.bottomUp ? job.rows - 1 - job.row : job.row;
    const at = job.destination.start + y * job.destination.pitch;
    const from = job.source === undefined ? 0 : job.source.start + y * job.source.pitch;
    const ok = plainFill ? fillRow(memory, at, job) : plainCopy ? copyRow(memory, at, from, job) : ropRow(memory, at, from, job);
    if (!ok) return -1;
    used += perRow;
    if (++job.row === job.rows) job.done = true;
  }
  return used;
}

function fillRow(memory: GpuMemory, at: number, job: BlitJob): boolean {
  if (at % 4 !== 0 || job.rowBytes % 4 !== 0) {
    for (let i = 0; i < job.rowBytes; i++) targetRow[i] = job.pattern >>> (8 * (i & 3));
    return writeRow(memory, at, job.rowBytes);
  }
  let done = 0;
  while (done < job.rowBytes) {
    const page = memory.page(at + done);
    if (page === undefined) return false;
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(job.rowBytes - done, PAGE_SIZE - offset);
    page.u32.fill(job.pattern, offset >> 2, (offset + n) >> 2);
    done += n;
  }
  return true;
}

function copyRow(memory: GpuMemory, at: number, from: number, job: BlitJob): boolean {
  return from >= 0 && memory.copyIn(from, targetRow, 0, job.rowBytes) && writeRow(memory, at, job.rowBytes);
}

function ropRow(memory: GpuMemory, at: number, from: number, job: BlitJob): boolean {
  const { rop, rowBytes, pattern, mask } = job;
  if (usesSource(rop) && (from < 0 || !memory.copyIn(from, sourceRow, 0, rowBytes))) return false;
  const keeps = usesDestination(rop) || mask !== ALL;
  if (keeps && (at < 0 || !memory.copyIn(at, targetRow, 0, rowBytes))) return false;
  for (let i = 0; i < rowBytes; i++) {
    const shift = 8 * (i & 3);
    const old = targetRow[i] as number;
    const writable = (mask >>> shift) & 0xff;
    const value = applyRop(rop, pattern >>> shift, sourceRow[i] as number, old) & 0xff;
    targetRow[i] = (value & writable) | (old & ~writable);
  }
  return writeRow(memory, at, rowBytes);
}

/** Writes the target row to memory, page by page. */
function writeRow(memory: GpuMemory, at: number, length: number): boolean {
  let done = 0;
  while (done < length) {
    const page = memory.page(at + done);
    if (page === undefined) return false;
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(length - done, PAGE_SIZE - offset);
    page.bytes.set(targetRow.subarray(done, done + n), offset);
    done += n;
  }
  return true;
}
