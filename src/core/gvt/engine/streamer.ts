/**
 * The command streamer of one engine: walks what precedes a context's ring, the ring from head to tail, and the batches that it starts,
 * one command at a time. Memory is fetched into a private buffer; a command is copied from there, checked, and only the copy is
 * executed. Execution stops at any command boundary (and inside a blit) when the budget is used up, and goes on later.
 *
 * The ring and batches in the GGTT are privileged. What a batch in per-process memory may not do, silicon drops, and so does this.
 */
import { PAGE_SIZE, pageOffset } from '../../addresses.js';
import type { Engine, GpuMemory, GpuPage, GvtEvent } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';
import { exchangeRing, type RingState } from '../submission/context-image.js';
import type { SubmissionParts } from '../submission/submission.js';
import { exchangeBlit } from './blit-commands.js';
import { type BlitJob, exchangeRectangle, type Rectangle } from './blit-job.js';
import { isDone, runBlit } from './blit-rows.js';
import { type CommandDef, type Flow, MAX_EXECUTED_DWORDS } from './command.js';
import { findCommand } from './commands.js';
import { ENGINE_REGISTER, rootOf } from './engine-registers.js';
import { type Fault, Outcome } from './outcome.js';

/** Nesting below the ring: a batch and a second-level batch. */
const MAX_DEPTH = 2;
/** What stands at depth 0, in the order in which it is executed. */
const Base = { INDIRECT: 0, PER_CONTEXT: 1, RING: 2 } as const;

/**
 * The budget's unit is about the time of a plain command, a fraction of a microsecond. What takes longer costs more, so
 * that a slice of the worst commands takes about as long as one of the best. Measured: a page copy is four units, an
 * interrupt that a backend injects by a system call is sixteen; dwords of long commands go eight a unit.
 */
const FETCH_UNITS = 4;
const INTERRUPT_UNITS = 16;
const DWORDS_PER_UNIT_SHIFT = 3;

/** In `#pageAt`: no address is within a page of it. */
const NO_PAGE = -2 * PAGE_SIZE;
const NO_RING: RingState = { head: 0, tail: 0, start: 0, size: PAGE_SIZE };
const GGTT_SPACE = 0;
const PROCESS_SPACE = 1;
/** A batch begins below 2^48, and ends where nothing is mapped any more. */
const ADDRESS_MAX = 2 ** 49;

export class CommandStreamer implements Saved {
  readonly engine: Engine;
  readonly parts: SubmissionParts;
  /** The command in execution: a private copy. Not saved: over between two commands; that of a blit in progress is in `exchangeBlit`. */
  readonly command = new Uint32Array(MAX_EXECUTED_DWORDS);
  /** Why the last run ended with FAULT. Not saved: whoever ran it has taken it. */
  fault: Fault = { why: '', address: undefined, ggtt: true };
  /** Budget that the last run used. Not saved: of that run. */
  spent = 0;
  /** Batches that rings began, counted until somebody sets it back. Not saved: for the pace at which the guest is told. */
  batches = 0;
  /** Clipping rectangle of the blitter. */
  clip: Rectangle = { x1: 0, y1: 0, x2: 0, y2: 0 };
  /** BCS_SWCTRL as the last blit found it. */
  swctrl = 0;
  /** Not saved: it is fetched again. */
  readonly #page = new Uint8Array(PAGE_SIZE);
  /** Not saved: a view of `#page`. */
  readonly #words = new Uint32Array(this.#page.buffer);
  /** GPU address of the page in the buffer, and its address space. Not saved: it is fetched again. */
  #pageAt = NO_PAGE;
  /** Not saved: of `#pageAt`. */
  #pageSpace = GGTT_SPACE;
  #ring = NO_RING;
  #base: number = Base.RING;
  /** Next command of the indirect or per-context batch. */
  #baseAt = 0;
  #baseEnd = 0;
  /** The context's addresses have 48 bits. */
  #wide = true;
  /** Memory of the context's page tables, once it was used. Not saved: looked up by its root again. */
  #process: GpuMemory | undefined;
  /** Position in the ring, bytes from its start. */
  #head = 0;
  /** Addresses of the next command in the batches that are open, outermost first, and their address spaces. */
  readonly #batches = new Float64Array(MAX_DEPTH);
  readonly #spaces = new Uint8Array(MAX_DEPTH);
  #depth = 0;
  /** Address and header of the command in execution. */
  #at = 0;
  #header = 0;
  #blit: BlitJob | undefined;

  constructor(engine: Engine, parts: SubmissionParts) {
    this.engine = engine;
    this.parts = parts;
  }

  /** Bytes from the ring's start: the next command of the ring. */
  get head(): number {
    return this.#head;
  }

  /** Commands may do what silicon reserves for the ring and GGTT batches. */
  get privileged(): boolean {
    return this.#depth === 0 || this.#spaces[this.#depth - 1] === GGTT_SPACE;
  }

  /** Starts on a context. @param wide its per-process addresses have 48 bits */
  begin(ring: RingState, wide = true): void {
    this.abandon();
    this.#ring = ring;
    this.#head = ring.head;
    this.#wide = wide;
    this.#nextBase(-1);
  }

  /** Takes the later tail of the ring in execution; false when it is another ring. */
  moveTail(ring: RingState): boolean {
    if (ring.start !== this.#ring.start || ring.size !== this.#ring.size) return false;
    this.#ring = ring;
    this.rootChanged();
    return true;
  }

  /** Forgets the ring and what was open in it. */
  abandon(): void {
    this.#ring = NO_RING;
    this.#base = Base.RING;
    this.#head = 0;
    this.#blit = undefined;
    this.#depth = 0;
    this.#process = undefined;
  }

  /** Where it stands. What it had fetched it fetches again. */
  exchange(state: StateStream): void {
    state.within('clip', () => {
      this.clip = exchangeRectangle(state, this.clip);
    });
    this.swctrl = state.u32('swctrl', this.swctrl);
    state.within('ring', () => {
      this.#ring = exchangeRing(state, this.#ring);
    });
    this.#base = state.u32('base', this.#base, Base.RING);
    this.#baseAt = state.integer('base-at', this.#baseAt, ADDRESS_MAX);
    this.#wide = state.bool('wide', this.#wide);
    this.#head = state.u32('head', this.#head, this.#ring.size - 4);
    this.#depth = state.u32('depth', this.#depth, this.#base === Base.RING ? MAX_DEPTH : 0);
    for (let level = 0; level < this.#depth; level++) {
      this.#batches[level] = state.integer('batch', this.#batches[level] as number, ADDRESS_MAX);
      this.#spaces[level] = state.u32('space', this.#spaces[level] as number, PROCESS_SPACE);
    }
    this.#at = state.integer('at', this.#at, ADDRESS_MAX);
    this.#header = state.u32('header', this.#header);
    this.#blit = exchangeBlit(state, this, this.#blit);
    if (state.restoring) this.#settle(state);
  }

  /** Checks a restored position, and adds what follows from it. */
  #settle(state: StateStream): void {
    const { indirect, perContext } = this.#ring;
    const first = this.#base === Base.INDIRECT ? indirect?.at : this.#base === Base.PER_CONTEXT ? perContext : 0;
    if (first === undefined || (this.#base !== Base.RING && this.#baseAt < first))
      state.refuse('it is in a batch that the context has not');
    this.#baseEnd = this.#base === Base.INDIRECT ? (indirect?.at ?? 0) + (indirect?.bytes ?? 0) : Number.POSITIVE_INFINITY;
    for (const at of [this.#head, this.#baseAt, ...this.#batches]) if (at % 4 !== 0) state.refuse('a command is not aligned');
    this.rootChanged();
  }

  /** The PDP registers, or the tables that they name, may be others than before. */
  rootChanged(): void {
    this.#process = undefined;
    this.#pageAt = NO_PAGE;
  }

  /** Silicon drops a command of a per-process batch that names a GGTT address. */
  drops(ggtt: boolean): boolean {
    return ggtt && !this.privileged;
  }

  /** The GGTT, or the context's per-process memory. */
  memory(ggtt: boolean): GpuMemory {
    if (ggtt) return this.parts.memory;
    if (this.#process === undefined) {
      const { processes, registers } = this.parts;
      processes.synchronise();
      this.#process = processes.space(rootOf(registers, this.engine.base, this.#wide));
    }
    return this.#process;
  }

  page(ggtt: boolean, address: number): GpuPage | undefined {
    return this.memory(ggtt).page(address);
  }

  pageToWrite(ggtt: boolean, address: number): GpuPage | undefined {
    return this.memory(ggtt).pageToWrite(address);
  }

  /** Memory of addresses that commands give without saying of which kind: that of the batch. */
  get ownMemory(): GpuMemory {
    return this.memory(this.privileged);
  }

  /**
   * Executes commands worth at most about `budget`: the last one may exceed it, by what one command or one row of a blit
   * costs.
   */
  run(budget: number): Outcome {
    this.spent = 0;
    // Between runs the guest may have changed its batch: what was prefetched is dropped.
    this.#pageAt = NO_PAGE;
    const outcome = this.#run(budget);
    this.#publish();
    return outcome;
  }

  #run(budget: number): Outcome {
    const { processes } = this.parts;
    for (;;) {
      this.spent += processes.takeCost();
      const idle = this.#blit === undefined && this.#atTail();
      if (idle) return Outcome.DONE;
      if (this.spent >= budget) return Outcome.BUDGET;
      if (this.#blit !== undefined) {
        const used = runBlit(this.#blit, this.ownMemory, budget - this.spent);
        if (used < 0) return this.#stop('a blit reaches memory that is not mapped', 0, this.privileged);
        this.spent += used;
        if (isDone(this.#blit)) this.#blit = undefined;
        continue;
      }
      const outcome = this.#step();
      if (outcome !== undefined) return outcome;
    }
  }

  /** Raises an event for the command in execution. */
  raise(event: GvtEvent): void {
    this.spent += INTERRUPT_UNITS;
    this.parts.events.raise(event);
  }

  #atTail(): boolean {
    if (this.#depth > 0) return false;
    // The indirect batch has a length instead of an end.
    if (this.#base === Base.INDIRECT && this.#baseAt >= this.#baseEnd) this.#nextBase(Base.INDIRECT);
    return this.#base === Base.RING && this.#head === this.#ring.tail;
  }

  /** Goes to what is executed after `base`. */
  #nextBase(base: number): void {
    const { indirect, perContext } = this.#ring;
    if (base < Base.INDIRECT && indirect !== undefined) {
      this.#base = Base.INDIRECT;
      this.#baseAt = indirect.at;
      this.#baseEnd = indirect.at + indirect.bytes;
    } else if (base < Base.PER_CONTEXT && perContext !== undefined) {
      this.#base = Base.PER_CONTEXT;
      this.#baseAt = perContext;
      this.#baseEnd = Number.POSITIVE_INFINITY;
    } else this.#base = Base.RING;
  }

  /** Executes the next command. @returns an outcome when the run ends here */
  #step(): Outcome | undefined {
    this.#at = this.#next();
    const header = this.#peek(0);
    if (header < 0) return this.#stop('the command is not mapped', this.#at, this.privileged);
    this.#header = header;
    const def = findCommand(this.engine.id, header);
    if (def === undefined) return this.#stop(`command 0x${header.toString(16).padStart(8, '0')} is not allowed`);
    const length = def.length(header);
    if (this.#depth === 0 && length * 4 > this.#baseLeft())
      return this.#stop(`${def.name} runs past the ${this.#base === Base.RING ? 'ring’s tail' : 'batch’s end'}`);
    const { statistics } = this.parts;
    const { execute } = def;
    if (execute === undefined) {
      // Nothing looks at its other dwords: they are not even fetched.
      this.#advance(length);
      this.spent++;
      statistics.commands++;
      if (def.skipped) statistics.skippedCommands++;
      return undefined;
    }
    for (let i = 0; i < length; i++) {
      const dword = this.#peek(i);
      if (dword < 0) return this.#stop(`${def.name} runs into memory that is not mapped`, this.#at + i * 4, this.privileged);
      this.command[i] = dword;
    }
    this.spent += 1 + (length >> DWORDS_PER_UNIT_SHIFT);
    // A command that waits is not left behind.
    this.#advance(length);
    const flow = execute(this, length);
    if (flow !== undefined) {
      if (flow.kind === 'wait') {
        this.#advance(-length);
        return Outcome.WAIT;
      }
      const outcome = this.#follow(flow, def);
      if (outcome !== undefined) return outcome;
    }
    statistics.commands++;
    return undefined;
  }

  /** Bytes that are left at depth 0. */
  #baseLeft(): number {
    if (this.#base !== Base.RING) return this.#baseEnd - this.#baseAt;
    const { tail, size } = this.#ring;
    return (tail - this.#head + size) % size;
  }

  /** Does what a command asks of the streamer. */
  #follow(flow: Flow, { name }: CommandDef): Outcome | undefined {
    switch (flow.kind) {
      case 'fault':
        return this.#stop(`${name}: ${flow.why}`, flow.at, flow.ggtt);
      case 'blit':
        this.#blit = flow.job;
        return undefined;
      case 'skipped':
        this.parts.statistics.skippedCommands++;
        return undefined;
      case 'end':
        if (this.#depth > 0) this.#depth--;
        else if (this.#base !== Base.RING) this.#nextBase(this.#base);
        else return this.#stop(`${name}: there is no batch in the ring itself`);
        return undefined;
      case 'start':
        return this.#start(flow.address, flow.secondLevel, flow.perProcess, name);
      default:
        return undefined;
    }
  }

  /**
   * A first-level start opens a batch from the ring and replaces the batch that it stands in; a second-level one nests once. A batch that
   * is not privileged starts none that is.
   */
  #start(address: number, secondLevel: boolean, perProcess: boolean, name: string): Outcome | undefined {
    if (secondLevel && this.#depth !== 1) return this.#stop(`${name}: a second-level batch starts from a first-level batch only`);
    if (!secondLevel && this.#depth === 2) return this.#stop(`${name}: ${name} is not for second-level batches`);
    if (this.#depth === 0 && this.#base !== Base.RING) return this.#stop(`${name}: a context’s own batch starts no other`);
    const space = perProcess || !this.privileged ? PROCESS_SPACE : GGTT_SPACE;
    if (this.#depth === 0) this.batches++;
    this.#depth = secondLevel ? 2 : 1;
    this.#batches[this.#depth - 1] = address;
    this.#spaces[this.#depth - 1] = space;
    // A batch that starts itself again sees what was written to it since.
    this.#pageAt = NO_PAGE;
    return undefined;
  }

  #advance(dwords: number): void {
    const level = this.#depth - 1;
    if (level >= 0) this.#batches[level] = (this.#batches[level] as number) + dwords * 4;
    else if (this.#base !== Base.RING) this.#baseAt += dwords * 4;
    else this.#head = (this.#head + dwords * 4 + this.#ring.size) % this.#ring.size;
  }

  /** GPU address of the next command. */
  #next(): number {
    if (this.#depth > 0) return this.#batches[this.#depth - 1] as number;
    return this.#base === Base.RING ? this.#ring.start + this.#head : this.#baseAt;
  }

  /** The i-th dword of the next command, or -1 where nothing is mapped. */
  #peek(i: number): number {
    const at =
      this.#depth === 0 && this.#base === Base.RING ? this.#ring.start + ((this.#head + i * 4) % this.#ring.size) : this.#next() + i * 4;
    const space = this.#depth === 0 ? GGTT_SPACE : (this.#spaces[this.#depth - 1] as number);
    const offset = at - this.#pageAt;
    if (offset >= 0 && offset < PAGE_SIZE && space === this.#pageSpace) return this.#words[offset >> 2] as number;
    const pageAt = at - pageOffset(at);
    this.#pageAt = NO_PAGE;
    this.spent += FETCH_UNITS;
    if (!this.memory(space === GGTT_SPACE).copyIn(pageAt, this.#page, 0, PAGE_SIZE)) return -1;
    this.#pageAt = pageAt;
    this.#pageSpace = space;
    return this.#words[(at - pageAt) >> 2] as number;
  }

  /** @param address of a page fault. @param ggtt its address space */
  #stop(why: string, address?: number, ggtt = true): Outcome {
    this.fault = { why: `${why} (${this.#depth > 0 ? 'batch' : 'ring'}, 0x${this.#at.toString(16)})`, address, ggtt };
    return Outcome.FAULT;
  }

  /** What the registers tell of the position, to whoever looks at a hang. */
  #publish(): void {
    const { registers } = this.parts;
    const { base } = this.engine;
    const at = this.#next();
    const batch = this.#depth > 0 ? at : 0;
    registers.set(base + ENGINE_REGISTER.HEAD, this.#head);
    registers.set(base + ENGINE_REGISTER.ACTHD, at >>> 0);
    registers.set(base + ENGINE_REGISTER.ACTHD_UDW, Math.floor(at / 2 ** 32));
    registers.set(base + ENGINE_REGISTER.BBADDR, batch >>> 0);
    registers.set(base + ENGINE_REGISTER.BBADDR_UDW, Math.floor(batch / 2 ** 32));
    registers.set(base + ENGINE_REGISTER.IPEHR, this.#header);
  }
}
