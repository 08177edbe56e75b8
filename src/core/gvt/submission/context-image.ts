/**
 * The ring state in a logical context's image (facts: gvt.md 4.12): the page after the context's first one, register
 * values at fixed offsets. Copied in once, checked, and only the copy is used.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { GpuMemory } from '../roles.js';

/** Byte offsets of the values in the ring state page. */
const CONTEXT_CONTROL = 0x0c;
const HEAD = 0x14;
const TAIL = 0x1c;
const START = 0x24;
const CONTROL = 0x2c;
const COPIED = 0x30;

/** RING_CTL: bit 0 valid, bits 20:12 pages less one. */
const RING_VALID = 1;
/**
 * RING_HEAD and RING_TAIL: byte offset in bits 20:2; the bits above count the head's wraps. Silicon takes the tail by
 * quadwords, drivers write it so; a tail between two of them is taken as it stands, so that it cuts no command.
 */
const OFFSET_MASK = 0x1f_fffc;

export interface RingState {
  /** Bytes from the ring's start; below `size`. */
  readonly head: number;
  readonly tail: number;
  /** GPU address, 4 KiB aligned. */
  readonly start: number;
  /** Bytes, 4 KiB to 2 MiB. */
  readonly size: number;
}

const copy = new Uint8Array(COPIED);
const words = new Uint32Array(copy.buffer);
const word = (offset: number): number => words[offset >> 2] as number;

/** The ring of the context at GPU address `lrca`, or what is wrong with it. */
export function readRingState(memory: GpuMemory, lrca: number): RingState | string {
  if (!memory.copyIn(lrca + PAGE_SIZE, copy, 0, COPIED)) return 'the context image is not mapped';
  const control = word(CONTROL);
  const size = (((control >>> 12) & 0x1ff) + 1) * PAGE_SIZE;
  const start = word(START);
  const head = word(HEAD) & OFFSET_MASK;
  const tail = word(TAIL) & OFFSET_MASK;
  if ((control & RING_VALID) === 0) return 'the context’s ring is not enabled';
  if (start % PAGE_SIZE !== 0) return 'the ring does not start at a page';
  if (head >= size || tail >= size) return 'ring head or tail lies past the ring';
  return { head, tail, start, size };
}

/** CTX_CONTROL bit 0: the image held no state to restore. It does once the context has run. */
const RESTORE_INHIBIT = 1;

/** Stores head and context control in the image, an aligned store each. False when the page has gone. */
export function finishContext(memory: GpuMemory, lrca: number, head: number): boolean {
  const page = memory.page(lrca + PAGE_SIZE);
  if (page === undefined) return false;
  page.u32[CONTEXT_CONTROL >> 2] = (page.u32[CONTEXT_CONTROL >> 2] as number) & ~RESTORE_INHIBIT;
  page.u32[HEAD >> 2] = head;
  return true;
}
