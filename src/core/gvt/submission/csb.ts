/**
 * The context status buffer of one engine: six entries in registers and, the same, in the guest's hardware status page
 * (facts: gvt.md 4.12, i915.md rules 2 and 10). In the page an entry is one 8-byte store and the index one 4-byte store
 * after it: a guest that polls the index never sees a half-written entry.
 */
import type { GpuMemory } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';

export const CSB_SLOTS = 6;
/** Entry bits. */
export const CSB = {
  IDLE_TO_ACTIVE: 1 << 0,
  PREEMPTED: 1 << 1,
  ELEMENT_SWITCH: 1 << 2,
  ACTIVE_TO_IDLE: 1 << 3,
  CONTEXT_COMPLETE: 1 << 4,
  LITE_RESTORE: 1 << 15,
} as const;

/** Byte offsets in the status page. */
const PAGE_ENTRIES = 0x40;
const PAGE_INDEX = 0x7c;
/** Write pointer after reset: the next entry goes to slot 0. */
const UNWRITTEN = 7;

export class ContextStatusBuffer implements Saved {
  readonly #memory: GpuMemory;
  readonly #entries = new Uint32Array(CSB_SLOTS * 2);
  #write = UNWRITTEN;
  #read = 0;

  constructor(memory: GpuMemory) {
    this.#memory = memory;
  }

  reset(): void {
    this.#entries.fill(0);
    this.#write = UNWRITTEN;
    this.#read = 0;
  }

  /** What stands in the status page is guest memory. */
  exchange(state: StateStream): void {
    state.words('entries', this.#entries);
    this.#write = state.u32('write', this.#write, 7);
    this.#read = state.u32('read', this.#read, 7);
  }

  /** Register dword at 0x370 + 4 * index. */
  entry(index: number): number {
    return this.#entries[index] ?? 0;
  }

  /** Register 0x3A0: read pointer in bits 10:8, write pointer in 2:0. */
  get pointer(): number {
    return (this.#read << 8) | this.#write;
  }

  /** Masked write (enables in the upper half). It reloads the write pointer too: after 0xffff0505 the next slot is 0. */
  set pointer(value: number) {
    const mask = value >>> 16;
    const next = (this.pointer & ~mask) | (value & mask);
    this.#read = (next >>> 8) & 7;
    this.#write = next & 7;
  }

  /** Appends an entry. @param statusPage GPU address of the status page. Not mapped: the registers alone tell of the entry */
  push(status: number, contextId: number, statusPage: number): void {
    this.#write = this.#write >= CSB_SLOTS - 1 ? 0 : this.#write + 1;
    this.#entries[this.#write * 2] = status;
    this.#entries[this.#write * 2 + 1] = contextId;
    const page = this.#memory.page(statusPage);
    if (page === undefined) return;
    page.store64(PAGE_ENTRIES + this.#write * 8, status, contextId);
    page.store32(PAGE_INDEX, this.#write);
  }
}
