/**
 * What device threads share about one GPU: who is scheduled, who has each engine, what each has left of its time. Every field is one
 * aligned word that Atomics reach. Slots are vGPU ids; a slot has one writer, its own thread, but for the balance, which whoever
 * sees it due settles for all.
 */
import { MAX_VGPUS } from '../device-info.js';
import { ENGINES, type EngineId } from '../roles.js';
import type { Claim } from './policy.js';

/** One for each id, 0 included. */
export const SLOTS = MAX_VGPUS + 1;
/** Words before the slots: balances so far; the scheduled slots as a mask. */
export const EPOCH = 0;
export const SCHEDULED = 1;
/** Slots whose vGPU has been scheduled before, as a mask. */
export const KNOWN = 2;
const WEIGHTS = 3;
const PRIORITIES = WEIGHTS + SLOTS;
const ENGINE_WORDS = PRIORITIES + SLOTS;
/** Words of one engine: who has it, who asks for it, signs of life of who has it; then four tables by slot. */
const HOLDER = 0;
const ASKING = 1;
const TURNS = 2;
const LEFT = 3;
const ALLOTTED = LEFT + SLOTS;
const WANTED = ALLOTTED + SLOTS;
const LAST_TURN = WANTED + SLOTS;
const WORDS_PER_ENGINE = LAST_TURN + SLOTS;
const WORDS = ENGINE_WORDS + ENGINES.length * WORDS_PER_ENGINE;
const BYTES = WORDS * Int32Array.BYTES_PER_ELEMENT;

/** In the holder's word: left to this slot, which does not run yet. */
export const RESERVED = 0x100;
export const NOBODY = 0;

/** What a slot wants of an engine: it had work in this balance period, or has it now. */
export const Wish = { NONE: 0, HAD: 1, HAS: 2 } as const;

/** Memory for the schedule of one GPU whose vGPUs are served by several threads. */
export const sharedSchedule = (): SharedArrayBuffer => new SharedArrayBuffer(BYTES);

/** Gives a vGPU another weight, from any thread; it counts from the next balance on. */
export function setWeight(buffer: ArrayBufferLike, slot: number, weight: number): void {
  Atomics.store(new Int32Array(buffer), WEIGHTS + slot, weight);
}

/** A slot becomes another vGPU's: with its first work it has priority, and owes nothing. */
export function newcomer(buffer: ArrayBufferLike, slot: number): void {
  Atomics.and(new Int32Array(buffer), KNOWN, ~(1 << slot));
}

/** Takes a vGPU whose thread ended without doing so out of the schedule. */
export function unschedule(buffer: ArrayBufferLike, slot: number): void {
  Atomics.and(new Int32Array(buffer), SCHEDULED, ~(1 << slot));
}

export class ScheduleState {
  readonly words: Int32Array;

  constructor(buffer: ArrayBufferLike = new ArrayBuffer(BYTES)) {
    this.words = new Int32Array(buffer, 0, WORDS);
  }

  get isShared(): boolean {
    return this.words.buffer instanceof SharedArrayBuffer;
  }

  /** No other slot is scheduled. */
  isAlone(slot: number): boolean {
    return (Atomics.load(this.words, SCHEDULED) & ~(1 << slot)) === 0;
  }

  isScheduled(slot: number): boolean {
    return (Atomics.load(this.words, SCHEDULED) & (1 << slot)) !== 0;
  }

  /** Sum of the weights of all that are scheduled. */
  weights(): number {
    let sum = 0;
    for (let slot = 1; slot < SLOTS; slot++) if (this.isScheduled(slot)) sum += this.weight(slot);
    return sum;
  }

  weight(slot: number): number {
    return Atomics.load(this.words, WEIGHTS + slot);
  }

  hasPriority(slot: number): boolean {
    return Atomics.load(this.words, PRIORITIES + slot) !== 0;
  }

  setPriority(slot: number, on: boolean): void {
    Atomics.store(this.words, PRIORITIES + slot, on ? 1 : 0);
  }

  /** Indices of words. */
  holder(engine: EngineId): number {
    return at(engine, HOLDER);
  }

  asking(engine: EngineId): number {
    return at(engine, ASKING);
  }

  turns(engine: EngineId): number {
    return at(engine, TURNS);
  }

  left(engine: EngineId, slot: number): number {
    return at(engine, LEFT + slot);
  }

  allotted(engine: EngineId, slot: number): number {
    return at(engine, ALLOTTED + slot);
  }

  wanted(engine: EngineId, slot: number): number {
    return at(engine, WANTED + slot);
  }

  lastTurn(engine: EngineId, slot: number): number {
    return at(engine, LAST_TURN + slot);
  }

  /** The slot's claim on the engine, written over `target`. */
  claim(engine: EngineId, slot: number, target: { -readonly [K in keyof Claim]: Claim[K] }): Claim {
    const { words } = this;
    target.priority = this.hasPriority(slot);
    target.left = Atomics.load(words, this.left(engine, slot));
    target.allotted = Atomics.load(words, this.allotted(engine, slot));
    target.lastTurn = Atomics.load(words, this.lastTurn(engine, slot));
    return target;
  }

  /** The scheduled slots. */
  *scheduled(): Generator<number> {
    for (let slot = 1; slot < SLOTS; slot++) if (this.isScheduled(slot)) yield slot;
  }
}

const at = (engine: EngineId, word: number): number => ENGINE_WORDS + engine * WORDS_PER_ENGINE + word;
