/** A vGPU with per-process page tables in its guest's memory, at either level of page tracking, and a guest that writes them. */
import { Gfn, type Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import type { PpgttRoot } from '../../src/core/gvt/roles.js';
import { type Fixture, fixture, type MemoryBackend, RAM_BYTES } from './memory-backend.js';

export const PRESENT = 1;
export const WRITABLE = 2;
export const LARGE = 1 << 7;
export const IPS = 1 << 11;
export const LEVELS = ['trap', 'sync', null] as const;
export type Level = (typeof LEVELS)[number];

const MARK = 1023;
const value = new Uint32Array(2);

export class PpgttRig {
  readonly f: Fixture;
  readonly level: Level;

  constructor(level: Level, capabilities: { dmaHugePage?: boolean } = {}) {
    this.level = level;
    this.f = fixture({ capabilities: { pageTrack: level, ...capabilities } });
    for (let gfn = 0; gfn < RAM_BYTES / PAGE_SIZE; gfn++) this.backend.words[gfn * 1024 + MARK] = this.mark(gfn);
  }

  get backend(): MemoryBackend {
    return this.f.backend;
  }

  get ppgtt() {
    return this.f.vgpu.ppgtt;
  }

  get shadow() {
    return this.f.vgpu.ppgtt.shadow;
  }

  /** The guest stores 8 bytes, as its CPU does: at level `trap` that is reported when the page is tracked. */
  store(gpa: number, low: number, high = 0): void {
    const { words } = this.backend;
    words[gpa >> 2] = low;
    words[(gpa >> 2) + 1] = high;
    this.#report(gpa, low, high, 8);
  }

  /** The same of 4 bytes. */
  storeHalf(gpa: number, half: number): void {
    this.backend.words[gpa >> 2] = half;
    this.#report(gpa, half, 0, 4);
  }

  /** The same of one byte. */
  storeByte(gpa: number, byte: number): void {
    new Uint8Array(this.backend.words.buffer, this.backend.words.byteOffset)[gpa] = byte;
    this.#report(gpa, byte, 0, 1);
  }

  #report(gpa: number, low: number, high: number, size: number): void {
    if (this.level !== 'trap' || !this.backend.tracked.has(Math.floor(gpa / PAGE_SIZE))) return;
    value[0] = low;
    value[1] = high;
    this.f.gvt.writeProtectHandler(this.f.vgpu.id, gpa as Gpa, value, size);
  }

  /** Stores an entry of a table at guest frame `table` that leads to frame `to`; frames stay below 2^20. */
  entry(table: number, index: number, to: number, bits = PRESENT | WRITABLE): void {
    this.store(table * PAGE_SIZE + index * 8, (to * PAGE_SIZE + bits) >>> 0, to >>> 20);
  }

  /** Tables PML4, PDP, PD and PT at four frames from `first` on, for address 0. @returns the root */
  tables(first: number): PpgttRoot {
    for (let i = 0; i < 3; i++) this.entry(first + i, 0, first + i + 1);
    return wide(first);
  }

  /** The address space of a root, as a workload finds it. */
  space(root: PpgttRoot) {
    this.ppgtt.synchronise();
    return this.ppgtt.space(root);
  }

  /** Last dword of the page that an address shows, or undefined. */
  at(root: PpgttRoot, address: number): number | undefined {
    return this.space(root)
      .page(address)
      ?.load32(MARK * 4);
  }

  /** A number for each frame, to know it by: where a table has the high half of its last entry, which is then not present. */
  mark(gfn: number): number {
    return 0x5000_0000 + gfn;
  }
}

export const wide = (gfn: number): PpgttRoot => ({ wide: true, directories: [Gfn(gfn), 0, 0, 0] });
export const narrow = (...gfns: number[]): PpgttRoot => ({ wide: false, directories: [0, 1, 2, 3].map((i) => gfns[i] ?? 0) });
