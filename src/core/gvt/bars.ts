/**
 * The two memory BARs (facts: gvt.md 4.6). BAR0: registers and GGTT entries, trapped whole. BAR2: as large as the host's
 * aperture in every guest, of which only the vGPU's own slice is answered.
 *
 * The slice is trapped and translated through the GGTT access by access, not mapped into the guest: a plain mapping
 * shows the guest host memory at the aperture's address, while its GGTT entries point elsewhere, and i915's GTT mmap
 * then reads stale data (measured: facts/i915.md, "Traffic").
 *
 * Where a guest puts a BAR is its own affair: a place that the hypervisor refuses (on top of RAM) is counted as a guest
 * mistake and the BAR stays unmapped until it is moved.
 */
import { GPA_LIMIT, Gpa, hex } from '../addresses.js';
import type { TrapRegistry } from '../mpt.js';
import { BAR0_SIZE, type GpuSize } from './device-info.js';
import { refusedByHypervisor } from './guest-error-log.js';
import type { GpuRange } from './resources.js';
import type { GuestErrorLog } from './roles.js';
import type { Saved, StateStream } from './state/stream.js';

/** Memory BAR, 64 bits wide; and the prefetchable one. */
const TYPE_64 = 0x4;
const TYPE_64_PREFETCHABLE = 0xc;
const TYPE_BITS = 0xf;
const ALL_ONES = 0xffff_ffff;
const DWORD = 2 ** 32;
/** An address that no access is above: what an unmapped BAR decodes. */
const NOWHERE = Number.POSITIVE_INFINITY;

class Bar implements Saved {
  readonly name: string;
  readonly size: number;
  /** Part of the BAR that is answered. */
  readonly window: GpuRange;
  readonly #type: number;
  #low: number;
  #high = 0;
  /** Halves that hold all ones to read the size back: bit 0 low, bit 1 high. */
  #sizing = 0;
  /** First byte of the trap area that is registered. Not saved: mapped again. */
  mapped = NOWHERE;

  constructor(name: string, size: number, type: number, window: GpuRange) {
    this.name = name;
    this.size = size;
    this.window = window;
    this.#type = type;
    this.#low = type;
  }

  read(half: number): number {
    return half === 0 ? this.#low : this.#high;
  }

  /** Address bits below the size are hardwired to 0, so that all ones read back as the size mask. */
  write(half: number, value: number): void {
    if (half === 0) this.#low = ((value & ~(this.size - 1) & ~TYPE_BITS) | this.#type) >>> 0;
    else this.#high = value;
    this.#sizing = value === ALL_ONES ? this.#sizing | (1 << half) : this.#sizing & ~(1 << half);
  }

  /** Address that the guest gave, or undefined: none yet, sizing, or past the physical address space. */
  get base(): number | undefined {
    const base = this.#high * DWORD + ((this.#low & ~TYPE_BITS) >>> 0);
    return this.#sizing !== 0 || base === 0 || base + this.size > GPA_LIMIT ? undefined : base;
  }

  reset(): void {
    this.#low = this.#type;
    this.#high = 0;
    this.#sizing = 0;
  }

  /** Where it is mapped follows from where the guest has put it: `Bars.exchange`. */
  exchange(state: StateStream): void {
    const low = state.u32('low', this.#low);
    const high = state.u32('high', this.#high);
    this.#sizing = state.u32('sizing', this.#sizing, 3);
    if (!state.restoring) return;
    const sizing = this.#sizing;
    this.write(0, (sizing & 1) !== 0 ? ALL_ONES : low);
    this.write(1, high);
    // What a guest cannot have written is now something else.
    if (this.#low !== low || this.#sizing !== sizing) state.refuse('no guest can have written this');
  }
}

export class Bars implements Saved {
  readonly #bar0: Bar;
  readonly #bar2: Bar;
  readonly #traps: TrapRegistry | undefined;
  readonly #log: GuestErrorLog;
  #decoding = false;
  /** Guest-physical address of BAR0's first byte; infinity while it is not mapped. Read on every access. Not saved: it follows. */
  bar0 = NOWHERE;
  /** Same of BAR2. Not saved: it follows. */
  bar2 = NOWHERE;

  constructor(parts: {
    readonly gpu: GpuSize;
    readonly aperture: GpuRange;
    readonly traps: TrapRegistry | undefined;
    readonly log: GuestErrorLog;
  }) {
    this.#bar0 = new Bar('BAR0', BAR0_SIZE, TYPE_64, { start: 0, size: BAR0_SIZE });
    this.#bar2 = new Bar('BAR2', parts.gpu.aperture, TYPE_64_PREFETCHABLE, parts.aperture);
    this.#traps = parts.traps;
    this.#log = parts.log;
  }

  /** @param index dword from 0x10: BAR0, BAR0 high, BAR2, BAR2 high; BARs 4 and 5 do not exist and read 0 */
  read(index: number): number {
    const bar = this.#at(index);
    return bar === undefined ? 0 : bar.read(index & 1);
  }

  write(index: number, value: number): void {
    const bar = this.#at(index);
    if (bar === undefined) return;
    this.#unmap(bar);
    bar.write(index & 1, value);
    if (this.#decoding) this.#map(bar);
    this.#publish();
  }

  get decoding(): boolean {
    return this.#decoding;
  }

  /** Command register, memory space bit. */
  setDecoding(on: boolean): void {
    if (on === this.#decoding) return;
    this.#decoding = on;
    if (on) {
      this.#map(this.#bar0);
      this.#map(this.#bar2);
    } else {
      this.#unmap(this.#bar2);
      this.#unmap(this.#bar0);
    }
    this.#publish();
  }

  reset(): void {
    this.setDecoding(false);
    this.#bar0.reset();
    this.#bar2.reset();
  }

  /**
   * The BARs are placed again where they were.
   * @throws MptError BAD_STATE when the VM has no room there
   */
  exchange(state: StateStream): void {
    const decoding = state.bool('decoding', this.#decoding);
    const mapped = [this.#bar0, this.#bar2].map((bar) => {
      let there = false;
      state.within(bar.name, () => {
        bar.exchange(state);
        there = state.bool('mapped', bar.mapped !== NOWHERE);
      });
      return { bar, there };
    });
    if (!state.restoring) return;
    this.setDecoding(decoding);
    for (const { bar, there } of mapped)
      if (there && bar.mapped === NOWHERE) state.refuse(`${bar.name} cannot be placed in this VM at ${hex(bar.base ?? 0)}`);
      // What kept it out, the OpRegion maybe, is restored later and has its place.
      else if (!there) this.#unmap(bar);
    this.#publish();
  }

  #at(index: number): Bar | undefined {
    if (index < 2) return this.#bar0;
    return index < 4 ? this.#bar2 : undefined;
  }

  #publish(): void {
    this.bar0 = this.#bar0.mapped;
    this.bar2 = this.#bar2.mapped - this.#bar2.window.start;
  }

  #map(bar: Bar): void {
    const { base, window } = bar;
    if (base === undefined) return;
    const start = base + window.start;
    try {
      this.#traps?.setTrapArea(Gpa(start), Gpa(start + window.size - 1), true);
      bar.mapped = start;
    } catch (error) {
      refusedByHypervisor(this.#log, error, `${bar.name} at ${hex(base)} is not mapped`);
    }
  }

  #unmap(bar: Bar): void {
    if (bar.mapped === NOWHERE) return;
    const start = bar.mapped;
    bar.mapped = NOWHERE;
    try {
      this.#traps?.setTrapArea(Gpa(start), Gpa(start + bar.window.size - 1), false);
    } catch (error) {
      // The hypervisor lost the area: nothing is trapped there any more.
      refusedByHypervisor(this.#log, error, `${bar.name} at ${hex(start)} was not unmapped`);
    }
  }
}
