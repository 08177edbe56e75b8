/**
 * The ring state in a logical context's image (facts: gvt.md 4.12): the page after the context's first one, register
 * values at fixed offsets. Copied in once, checked, and only the copy is used.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { GpuMemory } from '../roles.js';
import { optional, type StateStream } from '../state/stream.js';

/** Byte offsets of the values in the ring state page. */
const CONTEXT_CONTROL = 0x0c;
const HEAD = 0x14;
const TAIL = 0x1c;
const START = 0x24;
const CONTROL = 0x2c;
/** Render engine only: batches that are executed when the context is restored. */
const PER_CONTEXT = 0x64;
const INDIRECT = 0x6c;
const TIMESTAMP = 0x8c;
/** PDP3's high dword; its low one and the lower PDPs follow, 8 bytes apart. */
const PDP3_HIGH = 0x94;
const COPIED = 0xd0;

/** RING_CTL: bit 0 valid, bits 20:12 pages less one. */
const RING_VALID = 1;
/**
 * RING_HEAD and RING_TAIL: byte offset in bits 20:2; the bits above count the head's wraps. Silicon takes the tail by
 * quadwords, drivers write it so; a tail between two of them is taken as it stands, so that it cuts no command.
 */
const OFFSET_MASK = 0x1f_fffc;
/** Bytes of the longest ring, and of the longest batch of a context's own. */
const RING_SIZE_MAX = 512 * PAGE_SIZE;
const INDIRECT_MAX = 0x3f * 64;

export interface RingState {
  /** Bytes from the ring's start; below `size`. */
  readonly head: number;
  readonly tail: number;
  /** GPU address, 4 KiB aligned. */
  readonly start: number;
  /** Bytes, 4 KiB to 2 MiB. */
  readonly size: number;
  /** Commands that are executed first, in GGTT memory. */
  readonly indirect?: { readonly at: number; readonly bytes: number };
  /** A batch that is executed then. */
  readonly perContext?: number;
}

/** The rest of what is restored with a context. */
export interface ContextState {
  readonly ring: RingState;
  /** Roots of its page tables as the engine's registers hold them: PDP0 low, high, PDP1 low, … */
  readonly pdp: Uint32Array;
  /** Timestamp ticks that it ran. */
  readonly ticks: number;
}

const copy = new Uint8Array(COPIED);
const words = new Uint32Array(copy.buffer);
const word = (offset: number): number => words[offset >> 2] as number;

const pdp = new Uint32Array(8);

/** The context at GPU address `lrca`, or what is wrong with it. `pdp` is used again by the next call. @param render the render engine's image */
export function readContext(memory: GpuMemory, lrca: number, render: boolean): ContextState | string {
  if (!memory.copyIn(lrca + PAGE_SIZE, copy, 0, COPIED)) return 'the context image is not mapped';
  const control = word(CONTROL);
  const size = (((control >>> 12) & 0x1ff) + 1) * PAGE_SIZE;
  const start = word(START);
  const head = word(HEAD) & OFFSET_MASK;
  const tail = word(TAIL) & OFFSET_MASK;
  if ((control & RING_VALID) === 0) return 'the context’s ring is not enabled';
  if (start % PAGE_SIZE !== 0) return 'the ring does not start at a page';
  if (head >= size || tail >= size) return 'ring head or tail lies past the ring';
  for (let i = 0; i < 4; i++) {
    const high = PDP3_HIGH + (3 - i) * 16;
    pdp[i * 2] = word(high + 8);
    pdp[i * 2 + 1] = word(high);
  }
  const ring = render ? { head, tail, start, size, ...ownBatches() } : { head, tail, start, size };
  return { ring, pdp, ticks: word(TIMESTAMP) };
}

/** Size of the indirect batch in bits 5:0, cache lines; its address above them. The per-context batch has a valid bit. */
function ownBatches(): Pick<RingState, 'indirect' | 'perContext'> {
  const indirect = word(INDIRECT);
  const perContext = word(PER_CONTEXT);
  return {
    ...((indirect & 0x3f) === 0 ? {} : { indirect: { at: (indirect & ~0x3f) >>> 0, bytes: (indirect & 0x3f) * 64 } }),
    ...((perContext & 1) === 0 ? {} : { perContext: (perContext & -PAGE_SIZE) >>> 0 }),
  };
}

/** A ring that was accepted, as a part of a saved state. */
export function exchangeRing(state: StateStream, ring: RingState): RingState {
  const size = state.u32('size', ring.size, RING_SIZE_MAX, PAGE_SIZE);
  const start = state.u32('start', ring.start);
  const head = state.u32('head', ring.head, size - 4);
  const tail = state.u32('tail', ring.tail, size - 4);
  const indirect = optional(state, 'indirect', ring.indirect, (batch) => ({
    at: state.u32('at', batch?.at ?? 0),
    bytes: state.u32('bytes', batch?.bytes ?? 0, INDIRECT_MAX, 64),
  }));
  const perContext = optional(state, 'per-context', ring.perContext, (at) => state.u32('at', at ?? 0));
  const unaligned = (size % PAGE_SIZE) | (start % PAGE_SIZE) | (head % 4) | (tail % 4) | ((perContext ?? 0) % PAGE_SIZE);
  if (unaligned !== 0 || ((indirect?.at ?? 0) | (indirect?.bytes ?? 0)) % 64 !== 0) state.refuse('the ring is not aligned');
  return { head, tail, start, size, ...(indirect === undefined ? {} : { indirect }), ...(perContext === undefined ? {} : { perContext }) };
}

/** CTX_CONTROL bit 0: the image held no state to restore. It does once the context has run. */
const RESTORE_INHIBIT = 1;

/** Stores head, run time and context control in the image, an aligned store each. False when the page has gone. */
export function finishContext(memory: GpuMemory, lrca: number, head: number, ticks: number): boolean {
  const page = memory.page(lrca + PAGE_SIZE);
  if (page === undefined) return false;
  page.store32(CONTEXT_CONTROL, page.load32(CONTEXT_CONTROL) & ~RESTORE_INHIBIT);
  page.store32(TIMESTAMP, ticks);
  page.store32(HEAD, head);
  return true;
}
