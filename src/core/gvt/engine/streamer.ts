/**
 * The command streamer of one engine: walks a ring from head to tail and the batches that it starts, one command at a
 * time. Memory is fetched page by page into a private buffer; a command is copied from there, checked, and only the copy
 * is executed. Execution stops at any command boundary (and inside a blit) when the budget is used up, and goes on later.
 */
import { PAGE_SIZE } from '../../addresses.js';
import type { RingState } from '../submission/context-image.js';
import type { SubmissionParts } from '../submission/submission.js';
import type { Engine } from '../roles.js';
import { type BlitJob, runBlit } from './blitter.js';
import { type CommandDef, type Flow, findCommand, MAX_COMMAND_DWORDS } from './commands.js';

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
const ACTHD = 0x74;

export class CommandStreamer {
  readonly engine: Engine;
  readonly parts: SubmissionParts;
  /** The command in execution: a private copy. */
  readonly command = new Uint32Array(MAX_COMMAND_DWORDS);
  /** Why the last run ended with FAULT. */
  fault = '';
  /** Budget that the last run used. */
  spent = 0;
  readonly #page = new Uint8Array(PAGE_SIZE);
  readonly #words = new Uint32Array(this.#page.buffer);
  /** GPU address of the page in the buffer, or -1. */
  #pageAt = -1;
  #ring: RingState = { head: 0, tail: 0, start: 0, size: PAGE_SIZE };
  /** Position in the ring, bytes from its start. */
  #head = 0;
  /** Addresses of the next command in the batches that are open, outermost first. */
  readonly #batches = new Float64Array(MAX_DEPTH);
  #depth = 0;
  #blit: BlitJob | undefined;

  constructor(engine: Engine, parts: SubmissionParts) {
    this.engine = engine;
    this.parts = parts;
  }

  get head(): number {
    return this.#head;
  }

  /** Starts on a ring. */
  begin(ring: RingState): void {
    this.#ring = ring;
    this.#head = ring.head;
    this.#depth = 0;
    this.#blit = undefined;
    this.#pageAt = -1;
  }

  /** Takes the later tail of the ring in execution; false when it is another ring. */
  moveTail(ring: RingState): boolean {
    if (ring.start !== this.#ring.start || ring.size !== this.#ring.size) return false;
    this.#ring = ring;
    this.#pageAt = -1;
    return true;
  }

  abandon(): void {
    this.#blit = undefined;
    this.#depth = 0;
  }

  /** Executes commands worth at most about `budget`. */
  run(budget: number): Outcome {
    const { statistics } = this.parts;
    this.spent = 0;
    // Between slices the guest may have changed its batch: what was prefetched is dropped.
    this.#pageAt = -1;
    while (this.spent < budget) {
      if (this.#blit !== undefined) {
        const used = runBlit(this.#blit, this.parts.memory, budget - this.spent);
        if (used < 0) return this.#faultAt('a blit reaches memory that is not mapped');
        this.spent += used;
        if (!this.#blit.done) return Outcome.BUDGET;
        this.#blit = undefined;
        continue;
      }
      if (this.#depth === 0 && this.#head === this.#ring.tail) return Outcome.DONE;
      const header = this.#peek(0);
      if (header < 0) return this.#faultAt('the command is not mapped');
      const def = findCommand(this.engine.id, header);
      if (def === undefined) return this.#faultAt(`command 0x${header.toString(16).padStart(8, '0')} is not allowed`);
      const length = def.length(header);
      if (length > MAX_COMMAND_DWORDS || (this.#depth === 0 && length * 4 > this.#ringLeft()))
        return this.#faultAt(`${def.name} runs past the ring’s tail`);
      for (let i = 0; i < length; i++) {
        const dword = this.#peek(i);
        if (dword < 0) return this.#faultAt(`${def.name} runs into memory that is not mapped`);
        this.command[i] = dword;
      }
      this.#advance(length);
      this.spent++;
      statistics.commands++;
      if (def.execute === undefined) {
        if (def.skipped) statistics.skippedCommands++;
        continue;
      }
      const flow = def.execute(this, length);
      if (flow !== undefined && !this.#follow(flow, def)) return this.#faultAt(this.fault);
    }
    return Outcome.BUDGET;
  }

  /** Bytes from head to tail along the ring. */
  #ringLeft(): number {
    const { tail, size } = this.#ring;
    return (tail - this.#head + size) % size;
  }

  /** Applies what a command asks of the streamer. */
  #follow(flow: Flow, def: CommandDef): boolean {
    switch (flow.kind) {
      case 'fault':
        this.fault = `${def.name}: ${flow.why}`;
        return false;
      case 'blit':
        this.#blit = flow.job;
        return true;
      case 'end':
        if (this.#depth === 0) {
          this.fault = `${def.name} in the ring`;
          return false;
        }
        this.#depth--;
        this.#pageAt = -1;
        return true;
      case 'start':
        // From the ring and from a batch a first-level start replaces or opens level 1; second level nests once.
        if (flow.secondLevel && this.#depth !== 1) {
          this.fault = `${def.name}: a second-level batch starts from a first-level batch only`;
          return false;
        }
        if (!flow.secondLevel && this.#depth === 2) {
          this.fault = `${def.name}: a second-level batch cannot start another`;
          return false;
        }
        this.#depth = flow.secondLevel ? 2 : 1;
        this.#batches[this.#depth - 1] = flow.address;
        this.parts.registers.set(this.engine.base + ACTHD, flow.address >>> 0);
        this.#pageAt = -1;
        return true;
    }
  }

  #advance(dwords: number): void {
    if (this.#depth > 0) this.#batches[this.#depth - 1] = (this.#batches[this.#depth - 1] as number) + dwords * 4;
    else this.#head = (this.#head + dwords * 4) % this.#ring.size;
  }

  /** The i-th dword of the next command, or -1 where nothing is mapped. */
  #peek(i: number): number {
    const at =
      this.#depth > 0 ? (this.#batches[this.#depth - 1] as number) + i * 4 : this.#ring.start + ((this.#head + i * 4) % this.#ring.size);
    const page = at - (at % PAGE_SIZE);
    if (page !== this.#pageAt) {
      if (!this.parts.memory.copyIn(page, this.#page, 0, PAGE_SIZE)) {
        this.#pageAt = -1;
        return -1;
      }
      this.#pageAt = page;
    }
    return this.#words[(at - page) >> 2] as number;
  }

  #faultAt(why: string): Outcome {
    const at =
      this.#depth > 0 ? `batch at 0x${(this.#batches[this.#depth - 1] as number).toString(16)}` : `ring at 0x${this.#head.toString(16)}`;
    this.fault = `${why} (${at})`;
    return Outcome.FAULT;
  }
}
