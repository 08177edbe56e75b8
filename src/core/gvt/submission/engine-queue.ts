/**
 * One engine's execlists: the submission port, two virtual slots of up to two contexts each, and the status entries that
 * the guest sees as contexts start, switch and finish (facts: gvt.md 4.12).
 */
import { CommandStreamer, Outcome } from '../engine/streamer.js';
import { Status } from '../../gvt-ops.js';
import type { Engine, GvtEvent } from '../roles.js';
import { readRingState, writeRingHead } from './context-image.js';
import { CSB, ContextStatusBuffer } from './csb.js';
import { type ContextDescriptor, isValid, parseDescriptor, sameContext } from './descriptor.js';
import type { SubmissionParts } from './submission.js';

/** Offset of HWS_PGA in an engine's block. */
const HWS_PGA = 0x80;
/** Ring registers that mirror the running context. */
const RING = { TAIL: 0x30, HEAD: 0x34, START: 0x38 } as const;

/** What the guest wrote in one submission: one or two contexts. */
interface ExecList {
  /** Virtual slot, 0 or 1. */
  readonly slot: number;
  readonly elements: readonly ContextDescriptor[];
  /** Element that runs. */
  current: number;
}

export class EngineQueue {
  readonly engine: Engine;
  readonly csb: ContextStatusBuffer;
  enabled = false;
  readonly #parts: SubmissionParts;
  readonly #streamer: CommandStreamer;
  readonly #switchEvent: GvtEvent;
  /** Dwords of the submission being written. */
  readonly #port = new Uint32Array(4);
  #portCount = 0;
  #nextSlot = 0;
  #running: ExecList | undefined;
  #pending: ExecList | undefined;
  /** The running element's ring is loaded into the streamer. */
  #loaded = false;
  #lastReason = 0;
  #lastContextId = 0;

  constructor(engine: Engine, parts: SubmissionParts) {
    this.engine = engine;
    this.#parts = parts;
    this.csb = new ContextStatusBuffer(parts.memory);
    this.#streamer = new CommandStreamer(engine, parts);
    this.#switchEvent = `${engine.name}.ctx-switch`;
  }

  get hasWork(): boolean {
    return this.#running !== undefined;
  }

  /** EXECLIST_STATUS, low dword. */
  get status(): number {
    const running = this.#running;
    const valid = (slot: number): boolean => running?.slot === slot || this.#pending?.slot === slot;
    return (
      (running === undefined ? 0 : running.slot) |
      (this.#nextSlot << 1) |
      (this.#pending === undefined ? 0 : 1 << 2) |
      (valid(1) ? 1 << 3 : 0) |
      (valid(0) ? 1 << 4 : 0) |
      ((this.#lastReason & 0x1ff) << 5) |
      (running === undefined ? 0 : (running.current + 1) << 14) |
      (1 << 16) |
      (running?.slot === 1 ? 1 << 17 : 0) |
      (running?.slot === 0 ? 1 << 18 : 0)
    );
  }

  get statusContextId(): number {
    const running = this.#running;
    return running === undefined ? this.#lastContextId : (running.elements[running.current] as ContextDescriptor).id;
  }

  writePort(value: number): Status {
    this.#port[this.#portCount++] = value;
    if (this.#portCount < this.#port.length) return Status.OK;
    // The counter wraps even when the submission is refused.
    this.#portCount = 0;
    const [high1, low1, high0, low0] = this.#port as unknown as [number, number, number, number];
    return this.#submit(low0, high0, low1, high1);
  }

  /** Executes until the budget is used up or nothing is left. */
  run(budget: number): void {
    let left = budget;
    while (left > 0 && this.#running !== undefined) {
      if (!this.#loaded && !this.#load()) return;
      const outcome = this.#streamer.run(left);
      left -= Math.max(1, this.#streamer.spent);
      if (outcome === Outcome.BUDGET) return;
      if (outcome === Outcome.FAULT) {
        this.#fail(this.#streamer.fault);
        return;
      }
      this.#ringDone();
    }
  }

  reset(): void {
    this.#drop();
    this.#portCount = 0;
    this.#nextSlot = 0;
    this.#lastReason = 0;
    this.#lastContextId = 0;
    this.csb.reset();
  }

  #submit(low0: number, high0: number, low1: number, high1: number): Status {
    if (!this.enabled) return this.#refuse('submission while RUN_LIST_ENABLE is off');
    if (!isValid(low0)) return this.#refuse('element 0 is not valid');
    const first = parseDescriptor(low0, high0);
    if (typeof first === 'string') return this.#refuse(first);
    const elements = [first];
    if (isValid(low1)) {
      const second = parseDescriptor(low1, high1);
      if (typeof second === 'string') return this.#refuse(second);
      elements.push(second);
    }
    if (this.#pending !== undefined) return this.#refuse('both execlist slots are in use');
    const list: ExecList = { slot: this.#nextSlot, elements, current: 0 };
    this.#nextSlot ^= 1;
    this.#parts.statistics.workloads += elements.length;
    this.#scheduleIn(list);
    return Status.OK;
  }

  #scheduleIn(list: ExecList): void {
    const running = this.#running;
    if (running === undefined) {
      this.#start(list);
      return;
    }
    const last = running.elements.at(-1) as ContextDescriptor;
    const first = list.elements[0] as ContextDescriptor;
    if (running.current === running.elements.length - 1 && sameContext(last, first)) {
      // Lite restore: the context goes on with the tail that the guest has just moved.
      this.#running = list;
      this.#switched(CSB.LITE_RESTORE | CSB.PREEMPTED, first.id);
      if (this.#loaded) this.#refreshTail(first);
      return;
    }
    this.#pending = list;
  }

  #start(list: ExecList): void {
    this.#running = list;
    this.#loaded = false;
    this.#switched(CSB.IDLE_TO_ACTIVE, 0);
  }

  /** Takes the running element's ring from its context image. */
  #load(): boolean {
    const running = this.#running as ExecList;
    const { lrca } = running.elements[running.current] as ContextDescriptor;
    const ring = readRingState(this.#parts.memory, lrca);
    if (typeof ring === 'string') {
      this.#fail(ring);
      return false;
    }
    const { registers } = this.#parts;
    const { base } = this.engine;
    registers.set(base + RING.START, ring.start);
    registers.set(base + RING.HEAD, ring.head);
    registers.set(base + RING.TAIL, ring.tail);
    this.#streamer.begin(ring);
    this.#loaded = true;
    return true;
  }

  #refreshTail(context: ContextDescriptor): void {
    const ring = readRingState(this.#parts.memory, context.lrca);
    if (typeof ring === 'string') this.#fail(ring);
    else if (!this.#streamer.moveTail(ring)) this.#fail('the ring of a running context was moved');
    else this.#parts.registers.set(this.engine.base + RING.TAIL, ring.tail);
  }

  /** The running element reached its tail. */
  #ringDone(): void {
    const running = this.#running as ExecList;
    const context = running.elements[running.current] as ContextDescriptor;
    const { head } = this.#streamer;
    this.#parts.registers.set(this.engine.base + RING.HEAD, head);
    this.#loaded = false;
    if (!writeRingHead(this.#parts.memory, context.lrca, head)) {
      this.#fail('the context image is not mapped');
      return;
    }
    const next = running.elements[running.current + 1];
    if (next !== undefined) {
      running.current++;
      // The same context twice is one context with a later tail: nothing is switched.
      if (!sameContext(context, next)) this.#switched(CSB.CONTEXT_COMPLETE | CSB.ELEMENT_SWITCH, context.id);
      return;
    }
    const pending = this.#pending;
    this.#running = undefined;
    this.#pending = undefined;
    if (pending === undefined) {
      this.#switched(CSB.CONTEXT_COMPLETE | CSB.ACTIVE_TO_IDLE, context.id);
      return;
    }
    this.#record(CSB.CONTEXT_COMPLETE | CSB.ACTIVE_TO_IDLE, context.id);
    this.#start(pending);
  }

  #switched(status: number, contextId: number): void {
    this.#record(status, contextId);
    this.#parts.events.raise(this.#switchEvent);
  }

  #record(status: number, contextId: number): void {
    this.#lastReason = status;
    this.#lastContextId = contextId;
    this.csb.push(status, contextId, this.#parts.registers.get(this.engine.base + HWS_PGA));
  }

  #refuse(why: string): Status {
    this.#parts.log.guestError(`${this.engine.name} ELSP: ${why}`);
    return Status.EINVAL;
  }

  /** The workload cannot go on: no status entry, and the vGPU stops accepting work. */
  #fail(why: string): void {
    this.#drop();
    this.#parts.log.guestError(`${this.engine.name}: ${why}`);
    this.#parts.failsafe('guest-error');
  }

  #drop(): void {
    this.#running = undefined;
    this.#pending = undefined;
    this.#loaded = false;
    this.#streamer.abandon();
  }
}
