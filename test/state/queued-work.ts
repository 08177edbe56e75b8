/**
 * A guest with work queued on three engines, in the two halves between which its vGPU is saved: every access is an instruction of the
 * guest agent, so that the same work runs on every hypervisor. What stands at the save:
 *
 * - BCS: a fill stopped after some of its rows; behind it a second context in the same list, and a second list.
 * - RCS: a context that waits at a semaphore; behind it another in the same list, and a second list that continues that one (a lite restore to come).
 * - VCS: a batch in per-process memory, stopped by the budget between two stores.
 */
import { PAGE_SIZE } from '../../src/core/addresses.js';
import type { GuestAgent } from '../../src/guest/agent.js';
import { MI } from '../../src/guest/gpu-commands.js';

const MIB = 0x10_0000;
export const RAM = [{ gpa: 0, size: 16 * MIB }];
export const VECTOR = 0x41;
const BDF = 0x10;
export const BAR0 = 0xe000_0000;
const BAR2 = 0xc000_0000;

/** Guest-physical layout; all of it is mapped into the aperture in this order. */
const MAPPED = 1 * MIB;
const AT = {
  STATUS: 0x10_0000,
  /** Two pages each. */
  CONTEXTS: 0x10_8000,
  RINGS: 0x11_8000,
  DATA: 0x12_0000,
  /** Page tables: PML4, PDP, PD, PT. */
  TABLES: 0x12_4000,
  /** Of the batch in per-process memory. */
  BATCH: 0x13_0000,
  COPY: 0x20_0000,
  PICTURE: 0x40_0000,
} as const;
const MAPPED_END = 0xa0_0000;
/** Two fills of 1024x1500 pixels, four bytes each: together more than the two submissions execute at once, the second is not begun by the first. */
const PITCH = 4096;
const FILL_ROWS = 1500;
const COPY_ROWS = 64;
const FIRST_COLOUR = 0x0033_3333;
const FILL_COLOUR = 0x00c0_ffee;
/** The batch: a store, more idle commands than a submission executes at once, a store. */
const IDLE_COMMANDS = 5000;
/** Where the process sees its batch and its data. */
const PROCESS_BATCH = 0x4000_0000;
const PROCESS_DATA = 0x4000_0000 + 64 * PAGE_SIZE;

export const ENGINES = {
  rcs: { base: 0x2000, status: 0 },
  bcs: { base: 0x2_2000, status: 1 },
  vcs: { base: 0x1_2000, status: 2 },
} as const;
type EngineName = keyof typeof ENGINES;

/** Dwords of the data page. */
const WORD = {
  SEMAPHORE: 0,
  RCS_FIRST: 1,
  RCS_SECOND: 2,
  RCS_THIRD: 3,
  BCS_FIRST: 4,
  BCS_SECOND: 5,
  BCS_THIRD: 6,
  VCS_FIRST: 7,
  VCS_LAST: 8,
} as const;
const SIGNAL = 0x5160;
/** What stands in the data page when everything is done, besides the semaphore. */
const DONE: Readonly<Record<number, number>> = {
  [WORD.RCS_FIRST]: 0x11,
  [WORD.RCS_SECOND]: 0x12,
  [WORD.RCS_THIRD]: 0x13,
  [WORD.BCS_FIRST]: 0x21,
  [WORD.BCS_SECOND]: 0x22,
  [WORD.BCS_THIRD]: 0x23,
  [WORD.VCS_FIRST]: 0x31,
  [WORD.VCS_LAST]: 0x32,
};

const SEMAPHORE_WAIT_EQUAL = 0x0e40_c002;
const STORE_GGTT = 0x1040_0002;
const STORE_PROCESS = 0x1000_0002;
const FILL = 0x5430_0005;
const COPY = 0x54f0_0008;
const BATCH_START_PROCESS = 0x1880_0101;
const BPP32 = 3 << 24;
const GGTT = 0x80_0000;

/** What a guest finds when its work is done. */
export interface Outcome {
  readonly data: number[];
  /** Status page of each engine from 0x40 on: six status entries and the write index. */
  readonly statusEntries: Readonly<Record<EngineName, number[]>>;
  /** Pixels at the corners of what was filled and copied. */
  readonly pixels: number[];
  readonly interrupts: number;
}

/** What the work asks of its guest: a guest agent, or a client that does the same. */
export type Guest = Pick<
  GuestAgent,
  'read' | 'write' | 'write64' | 'stream' | 'stream64' | 'pciWrite' | 'interruptCount' | 'waitInterrupt'
>;

export class QueuedWork {
  #agent: Guest;
  #aperture = 0;
  readonly #tails = new Map<number, number>();

  constructor(agent: Guest) {
    this.#agent = agent;
  }

  /** The guest runs in another VM from now on. */
  continueOn(agent: Guest): void {
    this.#agent = agent;
  }

  /** Everything up to the save. */
  queue(): void {
    this.#probe();
    this.#tables();
    this.#queueBlits();
    this.#queueSemaphore();
    this.#queueProcess();
  }

  /** What the guest sees of unfinished work: dwords that are not written yet. */
  unfinished(): number[] {
    return Object.keys(DONE)
      .map(Number)
      .filter((word) => this.#word(word) !== DONE[word]);
  }

  /** Rows that the fill has done, from the first one on. */
  rowsFilled(): number {
    let [low, high] = [0, FILL_ROWS];
    while (low < high) {
      const row = (low + high) >> 1;
      if (this.#agent.read(AT.PICTURE + row * PITCH, 4) === FILL_COLOUR) low = row + 1;
      else high = row;
    }
    return low;
  }

  static readonly rows = FILL_ROWS;

  /** The other half: signals the semaphore, and sleeps until interrupts have told of everything. */
  finish(): Outcome {
    const agent = this.#agent;
    const before = agent.interruptCount(VECTOR);
    agent.write(AT.DATA + WORD.SEMAPHORE * 4, 4, SIGNAL);
    let seen = before;
    while (this.unfinished().length > 0 || !this.#idle()) {
      agent.waitInterrupt(VECTOR, ++seen);
      this.#acknowledge();
    }
    this.#acknowledge();
    return {
      data: Object.keys(DONE).map((word) => this.#word(Number(word))),
      statusEntries: {
        rcs: this.#statusEntries('rcs'),
        bcs: this.#statusEntries('bcs'),
        vcs: this.#statusEntries('vcs'),
      },
      pixels: [0, FILL_ROWS / 2, FILL_ROWS - 1]
        .flatMap((row) => [0, 1023].map((x) => agent.read(AT.PICTURE + row * PITCH + x * 4, 4)))
        .concat([0, COPY_ROWS - 1].map((row) => agent.read(AT.COPY + row * PITCH + 1023 * 4, 4))),
      interrupts: agent.interruptCount(VECTOR) - before,
    };
  }

  /** What `finish` must find. */
  static readonly expected: Pick<Outcome, 'data' | 'pixels'> = { data: Object.values(DONE), pixels: new Array(8).fill(FILL_COLOUR) };

  // --- first half -----------------------------------------------------------------------------------------------------

  #probe(): void {
    const agent = this.#agent;
    for (const [register, value] of [
      [0x10, BAR0],
      [0x14, 0],
      [0x18, BAR2],
      [0x1c, 0],
    ] as const)
      agent.pciWrite(BDF, register, 4, value);
    agent.pciWrite(BDF, 0x04, 2, 6);
    agent.pciWrite(BDF, 0x94, 4, 0xfee0_0000);
    agent.pciWrite(BDF, 0x98, 2, VECTOR);
    agent.pciWrite(BDF, 0x92, 2, 1);
    if (agent.read(BAR0 + 0x7_8000, 4) !== 0x7654_4776) throw new Error('no PVINFO');
    this.#aperture = agent.read(BAR0 + 0x7_8040, 4);
    const pages = (MAPPED_END - MAPPED) / PAGE_SIZE;
    const entries = new Uint32Array(pages * 2);
    for (let page = 0; page < pages; page++) entries[page * 2] = (MAPPED + page * PAGE_SIZE) | 1;
    agent.stream64(BAR0 + GGTT + (this.#aperture / PAGE_SIZE) * 8, entries);
    // User interrupts and context switches of RCS, BCS and VCS.
    for (const [group, events] of [
      [0x4_4300, 0x0101_0101],
      [0x4_4310, 0x0000_0101],
    ] as const) {
      this.#register(group + 4, ~events >>> 0);
      this.#register(group + 12, events);
    }
    this.#register(0x4_4200, 0x8000_0000);
    for (const { base, status } of Object.values(ENGINES)) {
      this.#register(base + 0x80, this.#gpu(AT.STATUS + status * PAGE_SIZE));
      this.#register(base + 0xa8, 0);
      this.#register(base + 0x29c, 0x8000_8000);
    }
  }

  /** PML4 to PT for 0x4000_0000: sixteen pages of batch, and the data page. */
  #tables(): void {
    const [pml4, pdp, pd, pt] = [0, 1, 2, 3].map((i) => AT.TABLES + i * PAGE_SIZE) as [number, number, number, number];
    const entry = (table: number, index: number, to: number): void => this.#agent.write64(table + index * 8, to | 3, 0);
    entry(pml4, 0, pdp);
    entry(pdp, 1, pd);
    entry(pd, 0, pt);
    for (let page = 0; page < 16; page++) entry(pt, page, AT.BATCH + page * PAGE_SIZE);
    entry(pt, 64, AT.DATA);
  }

  #queueBlits(): void {
    const [first, second, third] = [0, 1, 2] as const;
    this.#emit(first, [...this.#fill(FIRST_COLOUR), ...this.#fill(FILL_COLOUR), ...this.#store(WORD.BCS_FIRST), MI.USER_INTERRUPT]);
    this.#emit(second, [
      ...[COPY, (BPP32 | (0xcc << 16) | PITCH) >>> 0, 0, (COPY_ROWS << 16) | 1024, this.#gpu(AT.COPY), 0],
      ...[0, PITCH, this.#gpu(AT.PICTURE), 0],
      ...this.#store(WORD.BCS_SECOND),
      MI.NOOP,
    ]);
    this.#emit(third, [...this.#store(WORD.BCS_THIRD), MI.USER_INTERRUPT, MI.NOOP]);
    this.#submit('bcs', first, second);
    this.#submit('bcs', third);
  }

  #queueSemaphore(): void {
    const [first, second] = [3, 4] as const;
    this.#emit(first, [SEMAPHORE_WAIT_EQUAL, SIGNAL, this.#gpu(AT.DATA + WORD.SEMAPHORE * 4), 0, ...this.#store(WORD.RCS_FIRST)]);
    this.#emit(second, [...this.#store(WORD.RCS_SECOND), MI.USER_INTERRUPT, MI.NOOP]);
    this.#submit('rcs', first, second);
    this.#emit(second, [...this.#store(WORD.RCS_THIRD), MI.USER_INTERRUPT, MI.NOOP]);
    this.#submit('rcs', second);
  }

  #queueProcess(): void {
    const context = 5;
    const last = 4 + IDLE_COMMANDS;
    this.#agent.stream(AT.BATCH, [STORE_PROCESS, PROCESS_DATA + WORD.VCS_FIRST * 4, 0, DONE[WORD.VCS_FIRST] as number]);
    this.#agent.stream(AT.BATCH + last * 4, [
      ...[STORE_PROCESS, PROCESS_DATA + WORD.VCS_LAST * 4, 0, DONE[WORD.VCS_LAST] as number],
      MI.BATCH_BUFFER_END,
      MI.NOOP,
    ]);
    this.#emit(context, [BATCH_START_PROCESS, PROCESS_BATCH, 0, MI.USER_INTERRUPT]);
    const state = AT.CONTEXTS + context * 2 * PAGE_SIZE + PAGE_SIZE;
    this.#agent.write(state + 0xcc, 4, AT.TABLES);
    this.#agent.write(state + 0xc4, 4, 0);
    this.#submit('vcs', context);
  }

  // --- the rest -------------------------------------------------------------------------------------------------------

  #fill(colour: number): number[] {
    return [FILL, (BPP32 | (0xf0 << 16) | PITCH) >>> 0, 0, (FILL_ROWS << 16) | 1024, this.#gpu(AT.PICTURE), 0, colour];
  }

  #store(word: number): number[] {
    return [STORE_GGTT, this.#gpu(AT.DATA + word * 4), 0, DONE[word] as number];
  }

  /** Appends to the ring of a context, and moves the tail in its image. */
  #emit(context: number, commands: readonly number[]): void {
    const tail = this.#tails.get(context) ?? 0;
    this.#agent.stream(AT.RINGS + context * PAGE_SIZE + tail, commands);
    const state = AT.CONTEXTS + context * 2 * PAGE_SIZE + PAGE_SIZE;
    if (tail === 0) {
      this.#agent.write(state + 0x14, 4, 0);
      this.#agent.write(state + 0x24, 4, this.#gpu(AT.RINGS + context * PAGE_SIZE));
      this.#agent.write(state + 0x2c, 4, 1);
    }
    this.#tails.set(context, tail + commands.length * 4);
    this.#agent.write(state + 0x1c, 4, tail + commands.length * 4);
  }

  #submit(engine: EngineName, first: number, second?: number): void {
    // Valid, 48-bit addressing, privileged.
    const descriptor = (context: number): number => this.#gpu(AT.CONTEXTS + context * 2 * PAGE_SIZE) | 0x119;
    const port = ENGINES[engine].base + 0x230;
    const upper = second === undefined ? [0, 0] : [second + 1, descriptor(second)];
    for (const dword of [...upper, first + 1, descriptor(first)]) this.#register(port, dword);
  }

  #acknowledge(): void {
    this.#register(0x4_4200, 0);
    for (const group of [0x4_4308, 0x4_4318]) this.#register(group, this.#agent.read(BAR0 + group, 4));
    this.#register(0x4_4200, 0x8000_0000);
  }

  /** EXECLIST_STATUS: no element is active. */
  #idle(): boolean {
    return Object.values(ENGINES).every(({ base }) => (this.#agent.read(BAR0 + base + 0x234, 4) & (3 << 14)) === 0);
  }

  #statusEntries(engine: EngineName): number[] {
    const page = AT.STATUS + ENGINES[engine].status * PAGE_SIZE;
    return Array.from({ length: 16 }, (_, i) => this.#agent.read(page + 0x40 + i * 4, 4));
  }

  #word(word: number): number {
    return this.#agent.read(AT.DATA + word * 4, 4);
  }

  #register(offset: number, value: number): void {
    this.#agent.write(BAR0 + offset, 4, value);
  }

  #gpu(gpa: number): number {
    return this.#aperture + gpa - MAPPED;
  }
}
