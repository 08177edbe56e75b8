/**
 * The command streamer of one engine: walks a ring from head to tail and the batches that it starts, one command at a
 * time. Memory is fetched page by page into a private buffer; a command is copied from there, checked, and only the copy
 * is executed. Execution stops at any command boundary (and inside a blit) when the budget is used up, and goes on later.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { Engine, GvtEvent } from '../roles.js';
import type { RingState } from '../submission/context-image.js';
import type { SubmissionParts } from '../submission/submission.js';
import { isDone, runBlit } from './blit-rows.js';
import type { BlitJob } from './blitter.js';
import { type CommandDef, type Flow, MAX_EXECUTED_DWORDS } from './command.js';
import { findCommand } from './commands.js';

export const Outcome = {
  /** Head reached tail. */
  DONE: 0,
  /** The budget is used up; `run()` goes on from here. */
  BUDGET: 1,
  /** The workload cannot go on; `fault` says why. */
  FAULT: 2,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** Nesting below the ring: a batch and a second-level batch. */
const MAX_DEPTH = 2;
/** RING_ACTHD: where the engine executes. */
const ACTHD = 0x74;

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

export class CommandStreamer {
  readonly engine: Engine;
  readonly parts: SubmissionParts;
  /** The command in execution: a private copy. */
  readonly command = new Uint32Array(MAX_EXECUTED_DWORDS);
  /** Why the last run ended with FAULT. */
  fault = '';
  /** Budget that the last run used. */
  spent = 0;
  readonly #page = new Uint8Array(PAGE_SIZE);
  readonly #words = new Uint32Array(this.#page.buffer);
  /** GPU address of the page in the buffer. */
  #pageAt = NO_PAGE;
  #ring = NO_RING;
  /** Position in the ring, bytes from its start. */
  #head = 0;
  /** Addresses of the next command in the batches that are open, outermost first. */
  readonly #batches = new Float64Array(MAX_DEPTH);
  #depth = 0;
  /** Address of the command in execution. */
  #at = 0;
  #blit: BlitJob | undefined;

  constructor(engine: Engine, parts: SubmissionParts) {
    this.engine = engine;
    this.parts = parts;
  }

  /** Bytes from the ring's start: the next command of the ring. */
  get head(): number {
    return this.#head;
  }

  /** Starts on a ring. */
  begin(ring: RingState): void {
    this.abandon();
    this.#ring = ring;
    this.#head = ring.head;
  }

  /** Takes the later tail of the ring in execution; false when it is another ring. */
  moveTail(ring: RingState): boolean {
    if (ring.start !== this.#ring.start || ring.size !== this.#ring.size) return false;
    this.#ring = ring;
    return true;
  }

  /** Forgets the ring and what was open in it. */
  abandon(): void {
    this.#ring = NO_RING;
    this.#head = 0;
    this.#blit = undefined;
    this.#depth = 0;
  }

  /**
   * Executes commands worth at most about `budget`: the last one may exceed it, by what one command or one row of a blit
   * costs.
   */
  run(budget: number): Outcome {
    this.spent = 0;
    // Between runs the guest may have changed its batch: what was prefetched is dropped.
    this.#pageAt = NO_PAGE;
    while (this.spent < budget) {
      if (this.#blit !== undefined) {
        const used = runBlit(this.#blit, this.parts.memory, budget - this.spent);
        if (used < 0) return this.#stop('a blit reaches memory that is not mapped');
        this.spent += used;
        if (isDone(this.#blit)) this.#blit = undefined;
      } else if (this.#atTail()) return Outcome.DONE;
      else if (!this.#step()) return Outcome.FAULT;
    }
    return this.#blit === undefined && this.#atTail() ? Outcome.DONE : Outcome.BUDGET;
  }

  /** Raises an event for the command in execution. */
  raise(event: GvtEvent): void {
    this.spent += INTERRUPT_UNITS;
    this.parts.events.raise(event);
  }

  #atTail(): boolean {
    return this.#depth === 0 && this.#head === this.#ring.tail;
  }

  /** Executes the next command. @returns false when it cannot be, with `fault` set */
  #step(): boolean {
    this.#at = this.#next();
    const header = this.#peek(0);
    if (header < 0) return this.#refuse('the command is not mapped');
    const def = findCommand(this.engine.id, header);
    if (def === undefined) return this.#refuse(`command 0x${header.toString(16).padStart(8, '0')} is not allowed`);
    const length = def.length(header);
    if (this.#depth === 0 && length * 4 > this.#ringLeft()) return this.#refuse(`${def.name} runs past the ring’s tail`);
    const { statistics } = this.parts;
    const { execute } = def;
    if (execute === undefined) {
      // Nothing looks at its other dwords: they are not even fetched.
      this.#advance(length);
      this.spent++;
      statistics.commands++;
      if (def.skipped) statistics.skippedCommands++;
      return true;
    }
    for (let i = 0; i < length; i++) {
      const dword = this.#peek(i);
      if (dword < 0) return this.#refuse(`${def.name} runs into memory that is not mapped`);
      this.command[i] = dword;
    }
    this.#advance(length);
    this.spent += 1 + (length >> DWORDS_PER_UNIT_SHIFT);
    const flow = execute(this, length);
    if (flow !== undefined) {
      const why = this.#follow(flow, def);
      if (why !== undefined) return this.#refuse(`${def.name}: ${why}`);
    }
    statistics.commands++;
    return true;
  }

  /** Bytes from head to tail along the ring. */
  #ringLeft(): number {
    const { tail, size } = this.#ring;
    return (tail - this.#head + size) % size;
  }

  /** Does what a command asks of the streamer. @returns what is wrong with it, or undefined */
  #follow(flow: Flow, { name }: CommandDef): string | undefined {
    switch (flow.kind) {
      case 'fault':
        return flow.why;
      case 'blit':
        this.#blit = flow.job;
        return undefined;
      case 'end':
        if (this.#depth === 0) return 'there is no batch in the ring itself';
        this.#depth--;
        return undefined;
      case 'start':
        return this.#start(flow.address, flow.secondLevel, name);
    }
  }

  /** A first-level start opens a batch from the ring and replaces the batch that it stands in; a second-level one nests once. */
  #start(address: number, secondLevel: boolean, name: string): string | undefined {
    if (secondLevel && this.#depth !== 1) return 'a second-level batch starts from a first-level batch only';
    if (!secondLevel && this.#depth === 2) return `${name} is not for second-level batches`;
    this.#depth = secondLevel ? 2 : 1;
    this.#batches[this.#depth - 1] = address;
    this.parts.registers.set(this.engine.base + ACTHD, address >>> 0);
    // A batch that starts itself again sees what was written to it since.
    this.#pageAt = NO_PAGE;
    return undefined;
  }

  #advance(dwords: number): void {
    const level = this.#depth - 1;
    if (level >= 0) this.#batches[level] = (this.#batches[level] as number) + dwords * 4;
    else this.#head = (this.#head + dwords * 4) % this.#ring.size;
  }

  /** GPU address of the next command. */
  #next(): number {
    return this.#depth > 0 ? (this.#batches[this.#depth - 1] as number) : this.#ring.start + this.#head;
  }

  /** The i-th dword of the next command, or -1 where nothing is mapped. */
  #peek(i: number): number {
    const at =
      this.#depth > 0 ? (this.#batches[this.#depth - 1] as number) + i * 4 : this.#ring.start + ((this.#head + i * 4) % this.#ring.size);
    const offset = at - this.#pageAt;
    if (offset >= 0 && offset < PAGE_SIZE) return this.#words[offset >> 2] as number;
    const pageAt = at - (at % PAGE_SIZE);
    this.#pageAt = NO_PAGE;
    this.spent += FETCH_UNITS;
    if (!this.parts.memory.copyIn(pageAt, this.#page, 0, PAGE_SIZE)) return -1;
    this.#pageAt = pageAt;
    return this.#words[(at - pageAt) >> 2] as number;
  }

  #refuse(why: string): false {
    this.#stop(why);
    return false;
  }

  #stop(why: string): Outcome {
    this.fault = `${why} (${this.#depth > 0 ? 'batch' : 'ring'}, 0x${this.#at.toString(16)})`;
    return Outcome.FAULT;
  }
}
