/**
 * Works off a blit, row after row, within a budget: a blit of any size can be stopped after a row and resumed. Rows pass
 * through private buffers: what was read from the guest is what is computed with and written.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { GpuMemory } from '../roles.js';
import { type BlitJob, MAX_ROW_BYTES } from './blitter.js';
import { rowAt } from './row-order.js';

/** Bytes of pixels that count as one unit of the budget. */
const BYTES_PER_UNIT = 1024;

/** Row buffers, shared: blits run one at a time and keep no row between slices. */
const source = new Uint8Array(MAX_ROW_BYTES);
const sourceWords = new Uint32Array(source.buffer);
const target = new Uint8Array(MAX_ROW_BYTES);
const targetWords = new Uint32Array(target.buffer);

export const isDone = (job: BlitJob): boolean => job.done >= job.rows;

/**
 * Does rows worth at most about `budget` units (one a KiB, at least one a row): the last row may exceed it.
 * @returns units used, or -1 when a pixel lies in memory that is not mapped
 */
export function runBlit(job: BlitJob, memory: GpuMemory, budget: number): number {
  const perRow = Math.max(1, Math.ceil(job.rowBytes / BYTES_PER_UNIT));
  const doRow = job.plain === 'fill' ? fillRow : job.plain === 'copy' ? copyRow : ropRow;
  let used = 0;
  while (!isDone(job) && used < budget) {
    const y = rowAt(job.order, job.done);
    const from = job.source === undefined ? 0 : job.source.start + y * job.source.pitch;
    if (!doRow(job, memory, job.destination.start + y * job.destination.pitch, from)) return -1;
    used += perRow;
    job.done++;
  }
  return used;
}

function fillRow(job: BlitJob, memory: GpuMemory, at: number): boolean {
  if (at % 4 !== 0 || job.rowBytes % 4 !== 0) {
    targetWords.fill(job.pattern, 0, (job.rowBytes + 3) >> 2);
    return writeRow(memory, at, job.rowBytes);
  }
  for (let done = 0; done < job.rowBytes; ) {
    const page = memory.page(at + done);
    if (page === undefined) return false;
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(job.rowBytes - done, PAGE_SIZE - offset);
    page.u32.fill(job.pattern, offset >> 2, (offset + n) >> 2);
    done += n;
  }
  return true;
}

function copyRow(job: BlitJob, memory: GpuMemory, at: number, from: number): boolean {
  return memory.copyIn(from, target, 0, job.rowBytes) && writeRow(memory, at, job.rowBytes);
}

function ropRow(job: BlitJob, memory: GpuMemory, at: number, from: number): boolean {
  const { rowBytes, mask } = job;
  const { one, d, s, sd } = job.rop;
  if (job.source !== undefined && !memory.copyIn(from, source, 0, rowBytes)) return false;
  if (job.keeps && !memory.copyIn(at, target, 0, rowBytes)) return false;
  const words = (rowBytes + 3) >> 2;
  for (let i = 0; i < words; i++) {
    const from = sourceWords[i] as number;
    const old = targetWords[i] as number;
    const value = one ^ (d & old) ^ (s & from) ^ (sd & from & old);
    targetWords[i] = (value & mask) | (old & ~mask);
  }
  return writeRow(memory, at, rowBytes);
}

/** Writes the target buffer to memory, page by page. */
function writeRow(memory: GpuMemory, at: number, length: number): boolean {
  for (let done = 0; done < length; ) {
    const page = memory.page(at + done);
    if (page === undefined) return false;
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(length - done, PAGE_SIZE - offset);
    page.bytes.set(target.subarray(done, done + n), offset);
    done += n;
  }
  return true;
}
