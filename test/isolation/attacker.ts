/** A hostile driver: writes rings, batches, page tables and contexts of its own making by instructions of the guest agent. */
import { PAGE_SIZE } from '../../src/core/addresses.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import type { GuestAgent } from '../../src/guest/agent.js';
import type { Address } from './attacks.js';

export const BDF = 0x10;
export const BAR0 = 0xe000_0000;
export const BAR2 = 0xc000_0000;
const BASES = [0x2000, 0x2_2000, 0x1_2000, 0x1_a000] as const;
/** Reset register's bits. */
const DOMAINS = [2, 8, 4, 0x10] as const;

/** Guest-physical; the pages from `FIRST` on are mapped in this order from the aperture's start on. */
const FIRST = 0x10_0000;
const PAGES = 32;
const at = (page: number): number => FIRST + page * PAGE_SIZE;
const PAGE = { STATUS: 0, CONTEXT: 1, RING: 3, BATCH: 4, PML4: 5, DATA: 12 } as const;
/** Per-process pages: the batch, the data, and the forged ones. */
const PROCESS = { BATCH: 1, DATA: 2, FORGED: 16 } as const;
const PRESENT_WRITABLE = 3;

export class Attacker {
  readonly #agent: GuestAgent;
  readonly #vgpu: Vgpu;
  readonly aperture: number;
  /** Its own data page, in either memory. */
  readonly own: { readonly ggtt: Address; readonly process: Address };

  /** Places the BARs, maps its pages, enables the engines, builds page tables. */
  constructor(agent: GuestAgent, vgpu: Vgpu) {
    this.#agent = agent;
    this.#vgpu = vgpu;
    for (const [bar, base] of [
      [0x10, BAR0],
      [0x18, BAR2],
    ] as const)
      agent.pciWrite(BDF, bar, 4, base);
    agent.pciWrite(BDF, 0x04, 2, 6);
    agent.read64(BAR0 + 0x7_8000);
    this.aperture = agent.read(BAR0 + 0x7_8040, 4);
    this.own = {
      ggtt: { low: this.aperture + PAGE.DATA * PAGE_SIZE, high: 0 },
      process: { low: PROCESS.DATA * PAGE_SIZE, high: 0 },
    };
    for (let page = 0; page < PAGES; page++) agent.write64(BAR0 + 0x80_0000 + (this.aperture / PAGE_SIZE + page) * 8, at(page) | 1, 0);
    this.restart();
    for (let level = 0; level < 3; level++) this.entry(PAGE.PML4 + level, 0, at(PAGE.PML4 + level + 1), 0);
    this.entry(PAGE.PML4 + 3, PROCESS.BATCH, at(PAGE.BATCH), 0);
    this.entry(PAGE.PML4 + 3, PROCESS.DATA, at(PAGE.DATA), 0);
    this.context({});
  }

  /** Enables what a reset disabled. */
  restart(): void {
    for (const base of BASES) {
      this.register(base + 0x80, this.aperture + PAGE.STATUS * PAGE_SIZE);
      this.register(base + 0x29c, 0x8000_8000);
    }
  }

  register(offset: number, value: number): void {
    this.#agent.write(BAR0 + offset, 4, value);
  }

  read(offset: number): number {
    return this.#agent.read(BAR0 + offset, 4);
  }

  /** An entry of one of its table pages. */
  entry(page: number, index: number, low: number, high: number): void {
    this.#agent.write64(at(page) + index * 8, low | PRESENT_WRITABLE, high);
  }

  /** Makes a per-process page lead to a frame that is none of its own. @returns its address */
  forge(index: number, frame: number): Address {
    this.entry(PAGE.PML4 + 3, PROCESS.FORGED + index, (frame % 2 ** 20) * PAGE_SIZE, Math.floor(frame / 2 ** 20));
    return { low: (PROCESS.FORGED + index) * PAGE_SIZE, high: 0 };
  }

  /** Writes values of the context's image, by their offset in its second page, over those that work. */
  context(values: Readonly<Record<number, number>>): void {
    const state = at(PAGE.CONTEXT + 1);
    const working = {
      0x14: 0,
      0x1c: 0,
      0x24: this.aperture + PAGE.RING * PAGE_SIZE,
      0x2c: 1,
      0x64: 0,
      0x6c: 0,
      0xc4: 0,
      0xcc: at(PAGE.PML4),
    };
    for (const [offset, value] of Object.entries({ ...working, ...values })) this.#agent.write(state + Number(offset), 4, value);
  }

  /** Submits a context, its own or one at any GGTT address. */
  submit(engine: number, lrca = this.aperture + PAGE.CONTEXT * PAGE_SIZE): void {
    for (const dword of [0, 0, 7, (lrca | 0x119) >>> 0]) this.register((BASES[engine] as number) + 0x230, dword);
  }

  /**
   * Has an engine execute a batch in its own or in GGTT memory, and then a store of `mark` to its data page; an engine that hangs over it is reset.
   * @returns whether it hung, and whether the store came
   */
  execute(engine: number, perProcess: boolean, batch: readonly number[], mark: number): { hung: boolean; marked: boolean } {
    const last = at(PAGE.DATA) + PAGE_SIZE - 4;
    this.#agent.write(last, 4, 0);
    this.#agent.stream(at(PAGE.BATCH), [...batch, 0x0500_0000, 0]);
    const start = perProcess ? PROCESS.BATCH * PAGE_SIZE : this.aperture + PAGE.BATCH * PAGE_SIZE;
    const mine = this.aperture + PAGE.DATA * PAGE_SIZE + PAGE_SIZE - 4;
    this.#agent.stream(at(PAGE.RING), [0x1880_0001 + (perProcess ? 0x100 : 0), start, 0, 0x1040_0002, mine, 0, mark, 0]);
    this.context({ 0x1c: 32 });
    this.submit(engine);
    const hung = this.#vgpu.submission.hung(engine as 0) !== undefined;
    const waits = this.#vgpu.submission.hasWork;
    const marked = this.#agent.read(last, 4) === mark;
    if (hung || waits) {
      this.register(0x941c, DOMAINS[engine] as number);
      this.restart();
    }
    return { hung: hung || waits, marked };
  }

  /** Bytes that its guest can see of the aperture at any offset of BAR2. */
  aperturePeek(offset: number): number {
    return this.#agent.read(BAR2 + offset, 4);
  }

  aperturePoke(offset: number, value: number): void {
    this.#agent.write(BAR2 + offset, 4, value);
  }

  /** Writes any GGTT entry, in one store or two. */
  gttWrite(page: number, low: number, high: number, halves: boolean): void {
    const offset = BAR0 + 0x80_0000 + page * 8;
    if (!halves) this.#agent.write64(offset, low, high);
    else {
      this.#agent.write(offset, 4, low);
      this.#agent.write(offset + 4, 4, high);
    }
  }

  gttRead(page: number): number {
    return this.#agent.read(BAR0 + 0x80_0000 + page * 8, 4);
  }
}
