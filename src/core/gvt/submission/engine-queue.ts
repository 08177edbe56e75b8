/**
 * One engine's execlists: the submission port, two virtual slots of up to two contexts each, and the status entries that
 * the guest sees as contexts start, switch and finish (facts: gvt.md 4.12).
 */
import { PAGE_SIZE } from '../../addresses.js';
import { Status } from '../../gvt-ops.js';
import { ALL_DONE, ENGINE_REGISTER, PDP_REGISTERS, RING_NOT_DONE, userInterruptMasked } from '../engine/engine-registers.js';
import { Outcome } from '../engine/outcome.js';
import { CommandStreamer } from '../engine/streamer.js';
import type { Engine } from '../roles.js';
import { optional, type Saved, type StateStream } from '../state/stream.js';
import { type ContextState, finishContext, readContext } from './context-image.js';
import { ContextStatusBuffer, CSB } from './csb.js';
import { type ContextDescriptor, isValid, parseDescriptor, sameContext } from './descriptor.js';
import { currentContext, type ExecList, encodeStatus, exchangeList, lastElement } from './execlist.js';
import { tellOfFault } from './fault-registers.js';
import type { SubmissionParts } from './submission.js';
import { SwitchEvents } from './switch-events.js';

/** The render engine's contexts have batches of their own. */
const RENDER = 0;
const PORT_DWORDS = 4;
/** Bytes of the sentence that says why an engine stopped. */
const HUNG_TEXT_MAX = 400;

export class EngineQueue implements Saved {
  readonly engine: Engine;
  readonly csb: ContextStatusBuffer;
  /** RUN_LIST_ENABLE. What was accepted while it was on goes on when it is off. */
  enabled = false;
  readonly #parts: SubmissionParts;
  readonly #streamer: CommandStreamer;
  readonly #switches: SwitchEvents;
  /** Dwords of the submission being written. */
  readonly #port = new Uint32Array(PORT_DWORDS);
  #portCount = 0;
  #nextSlot = 0;
  #running: ExecList | undefined;
  #pending: ExecList | undefined;
  /** The running element's ring is loaded into the streamer. */
  #loaded = false;
  #lastReason = 0;
  #lastContextId = 0;
  /** The engine stopped: why. Only a reset makes it go on. */
  #hung: string | undefined;
  /** Run time of the running context before it was loaded, and the clock then, in ticks. */
  #ticksBefore = 0;
  #loadedAt = 0;

  constructor(engine: Engine, parts: SubmissionParts) {
    this.engine = engine;
    this.#parts = parts;
    this.csb = new ContextStatusBuffer(parts.memory);
    this.#streamer = new CommandStreamer(engine, parts);
    this.#switches = new SwitchEvents({
      csb: this.csb,
      events: parts.events,
      event: `${engine.name}.ctx-switch`,
      statusPage: () => parts.registers.get(engine.base + ENGINE_REGISTER.HWS_PGA),
      pacing: parts.pacing,
    });
  }

  /** Something can be executed. */
  get hasWork(): boolean {
    return this.#running !== undefined && this.#hung === undefined;
  }

  get idle(): boolean {
    return this.#running === undefined;
  }

  get hung(): string | undefined {
    return this.#hung;
  }

  /** EXECLIST_STATUS, low dword. */
  get status(): number {
    return encodeStatus(this.#running, this.#pending, this.#nextSlot, this.#lastReason);
  }

  /** EXECLIST_STATUS, high dword: the running context, or the last one that an entry told of. */
  get statusContextId(): number {
    return this.#running === undefined ? this.#lastContextId : currentContext(this.#running).id;
  }

  /** Takes a dword of the port; the fourth submits. @param budget what an accepted submission executes at once */
  writePort(value: number, budget: number): Status {
    this.#port[this.#portCount++] = value;
    if (this.#portCount < PORT_DWORDS) return Status.OK;
    // The counter wraps even when the submission is refused.
    this.#portCount = 0;
    const [high1, low1, high0, low0] = this.#port as unknown as [number, number, number, number];
    const { events } = this.#parts;
    let why: string | undefined;
    events.hold();
    try {
      this.#switches.settle();
      why = this.#submit(low0, high0, low1, high1);
      if (why === undefined) this.#takeTurn(budget);
      this.#endRun();
    } finally {
      events.release();
    }
    if (why === undefined) return Status.OK;
    this.#parts.log.guestError(`${this.engine.name} ELSP: ${why}`);
    return Status.EINVAL;
  }

  /**
   * Executes until the budget is used up or nothing is left. The guest is interrupted once, at the end.
   * @returns budget that was used; 0 when it is no use to try again at once: no work, another's turn, a semaphore that waits
   */
  run(budget: number): number {
    if (!this.hasWork) return 0;
    const { events } = this.#parts;
    events.hold();
    try {
      const used = this.#takeTurn(budget);
      this.#endRun();
      return used;
    } finally {
      events.release();
    }
  }

  /** Status entries that wait are told. */
  settle(): void {
    this.#switches.settle();
  }

  /** Somebody begins to wait for the engine. */
  wanted(): void {
    this.#switches.wanted();
  }

  /** Tells of those that are due. */
  tick(): void {
    this.#switches.tick();
  }

  /** Nanoseconds until `tick` tells of something. */
  get untilTick(): number {
    return this.#switches.untilDue;
  }

  #endRun(): void {
    const { batches } = this.#streamer;
    this.#streamer.batches = 0;
    this.#switches.end(batches, this.#running === undefined && userInterruptMasked(this.engine, this.#parts.registers));
  }

  #takeTurn(budget: number): number {
    const { turns } = this.#parts;
    const { id } = this.engine;
    if (!this.hasWork || !turns.begin(id)) return 0;
    let used = 0;
    try {
      used = budget - this.#run(budget);
      return used;
    } finally {
      turns.end(id, used > 0 && this.hasWork);
    }
  }

  /** @returns budget that is left: all of it for a semaphore that waits */
  #run(budget: number): number {
    const { turns } = this.#parts;
    let left = budget;
    while (left > 0 && this.#running !== undefined && this.#hung === undefined) {
      if (!this.#loaded && !this.#load(this.#running)) break;
      const outcome = this.#execute(this.#running, Math.min(left, turns.chunk));
      if (outcome === Outcome.WAIT) return budget;
      // A context without commands costs something, too.
      left -= Math.max(1, this.#streamer.spent);
      if (outcome === Outcome.BUDGET) {
        if (left <= 0 || !turns.goOn(this.engine.id)) break;
        continue;
      }
      if (outcome === Outcome.FAULT) {
        const { fault } = this.#streamer;
        this.#hang(fault.why);
        tellOfFault(this.engine, this.#parts, fault);
        break;
      }
      this.#ringDone(this.#running);
    }
    return left;
  }

  #execute(running: ExecList, budget: number): Outcome {
    const { trace, statistics } = this.#parts;
    if (trace === undefined) return this.#streamer.run(budget);
    const from = trace.now();
    const { commands } = statistics;
    const outcome = this.#streamer.run(budget);
    trace.ran(this.engine.id, currentContext(running).id, from, statistics.commands - commands);
    return outcome;
  }

  /** Forgets what was submitted; no status entry tells of it. */
  drop(): void {
    this.#parts.trace?.dropped(this.engine.id);
    this.#running = undefined;
    this.#pending = undefined;
    this.#loaded = false;
    this.#hung = undefined;
    this.#streamer.abandon();
    this.#parts.turns.withdraw(this.engine.id);
    this.#parts.registers.set(this.engine.base + ENGINE_REGISTER.INSTDONE, ALL_DONE);
  }

  /** Engine reset. */
  reset(): void {
    this.drop();
    this.#portCount = 0;
    this.#nextSlot = 0;
    this.#lastReason = 0;
    this.#lastContextId = 0;
    this.#switches.drop();
    this.csb.reset();
  }

  /** Submitted and running contexts. What their images and rings hold is guest memory. */
  exchange(state: StateStream): void {
    this.enabled = state.bool('enabled', this.enabled);
    state.words('port', this.#port);
    this.#portCount = state.u32('port-count', this.#portCount, PORT_DWORDS - 1);
    this.#nextSlot = state.u32('next-slot', this.#nextSlot, 1);
    this.#running = optional(state, 'running', this.#running, (list) => exchangeList(state, list));
    this.#pending = optional(state, 'pending', this.#pending, (list) => exchangeList(state, list));
    this.#loaded = state.bool('loaded', this.#loaded);
    this.#lastReason = state.u32('last-reason', this.#lastReason, 0xffff);
    this.#lastContextId = state.u32('last-context', this.#lastContextId);
    this.#hung = optional(state, 'hung', this.#hung, (why) => state.text('why', why ?? '', HUNG_TEXT_MAX));
    this.#ticksBefore = state.u32('ticks-before', this.#ticksBefore);
    this.#loadedAt = state.u32('loaded-at', this.#loadedAt);
    state.within('csb', () => this.csb.exchange(state));
    state.within('streamer', () => this.#streamer.exchange(state));
    if (this.#running === undefined && (this.#pending !== undefined || this.#loaded || this.#hung !== undefined))
      state.refuse('nothing runs, and something waits for it');
    if (this.#pending !== undefined && (this.#pending.slot === this.#running?.slot || this.#pending.current !== 0))
      state.refuse('the slots of the two lists are not theirs');
  }

  /** @returns why the submission is refused, or undefined */
  #submit(low0: number, high0: number, low1: number, high1: number): string | undefined {
    if (!this.enabled) return 'submission while RUN_LIST_ENABLE is off';
    if (!isValid(low0)) return 'element 0 is not valid';
    const first = parseDescriptor(low0, high0);
    if (typeof first === 'string') return first;
    const second = isValid(low1) ? parseDescriptor(low1, high1) : undefined;
    if (typeof second === 'string') return second;
    if (this.#pending !== undefined) return 'both execlist slots are in use';
    const list: ExecList = { slot: this.#nextSlot, elements: second === undefined ? [first] : [first, second], current: 0 };
    this.#nextSlot ^= 1;
    this.#parts.statistics.workloads += list.elements.length;
    this.#parts.trace?.submitted(
      this.engine.id,
      list.elements.map(({ id }) => id),
    );
    this.#scheduleIn(list);
    return undefined;
  }

  #scheduleIn(list: ExecList): void {
    const running = this.#running;
    if (running === undefined) {
      this.#start(list);
      return;
    }
    const [first] = list.elements;
    if (this.#hung !== undefined || running.current !== lastElement(running) || !sameContext(currentContext(running), first)) {
      this.#pending = list;
      return;
    }
    // Lite restore: the context goes on with the tail that the guest has just moved.
    this.#running = list;
    this.#tell(CSB.LITE_RESTORE | CSB.PREEMPTED, first.id);
    if (this.#loaded) this.#refreshTail(first);
  }

  #start(list: ExecList): void {
    this.#running = list;
    this.#loaded = false;
    this.#tell(CSB.IDLE_TO_ACTIVE, 0);
  }

  /** Restores the running element's context from its image. */
  #load(running: ExecList): boolean {
    const { lrca, wide } = currentContext(running);
    const context = this.#read(lrca);
    if (context === undefined) return false;
    const { registers } = this.#parts;
    const { base } = this.engine;
    const { ring, pdp } = context;
    registers.set(base + ENGINE_REGISTER.START, ring.start);
    registers.set(base + ENGINE_REGISTER.HEAD, ring.head);
    registers.set(base + ENGINE_REGISTER.TAIL, ring.tail);
    registers.set(base + ENGINE_REGISTER.CTL, ring.size - PAGE_SIZE + 1);
    for (let i = 0; i < PDP_REGISTERS; i++) registers.set(base + ENGINE_REGISTER.PDP + i * 4, pdp[i] as number);
    this.#ticksBefore = context.ticks;
    this.#loadedAt = this.#clock();
    this.#streamer.begin(ring, wide);
    this.#loaded = true;
    this.#parts.trace?.loaded(this.engine.id, currentContext(running).id);
    return true;
  }

  #refreshTail({ lrca }: ContextDescriptor): void {
    const context = this.#read(lrca);
    if (context === undefined) return;
    if (!this.#streamer.moveTail(context.ring)) this.#hang('the ring of a running context was moved');
    else this.#parts.registers.set(this.engine.base + ENGINE_REGISTER.TAIL, context.ring.tail);
  }

  #read(lrca: number): ContextState | undefined {
    const context = readContext(this.#parts.memory, lrca, this.engine.id === RENDER);
    if (typeof context !== 'string') return context;
    this.#hang(context);
    return undefined;
  }

  #clock(): number {
    return this.#parts.commands.readFromCommand(this.engine.base + ENGINE_REGISTER.TIMESTAMP);
  }

  /** The running element reached its tail. */
  #ringDone(running: ExecList): void {
    const context = currentContext(running);
    const { head } = this.#streamer;
    this.#loaded = false;
    this.#parts.trace?.finished(this.engine.id);
    if (!finishContext(this.#parts.memory, context.lrca, head, this.#ticksBefore + this.#clock() - this.#loadedAt)) {
      this.#hang('the context image is not mapped');
      return;
    }
    if (running.current < lastElement(running)) {
      running.current++;
      // The same context twice is one context with a later tail: nothing is switched.
      if (!sameContext(context, currentContext(running))) this.#tell(CSB.CONTEXT_COMPLETE | CSB.ELEMENT_SWITCH, context.id);
      return;
    }
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending !== undefined && sameContext(context, currentContext(pending))) {
      // The context only goes on: it is not switched out between the two lists.
      this.#running = pending;
      this.#tell(CSB.LITE_RESTORE | CSB.PREEMPTED, context.id);
      return;
    }
    this.#running = undefined;
    if (pending === undefined) {
      this.#tell(CSB.CONTEXT_COMPLETE | CSB.ACTIVE_TO_IDLE, context.id);
      return;
    }
    // One interrupt tells of both entries.
    this.#tell(CSB.CONTEXT_COMPLETE | CSB.ACTIVE_TO_IDLE, context.id, true);
    this.#start(pending);
  }

  #tell(status: number, contextId: number, more = false): void {
    this.#lastReason = status;
    this.#lastContextId = contextId;
    this.#parts.trace?.switched(this.engine.id, status, contextId);
    this.#switches.add(status, contextId, more);
  }

  /** The engine cannot go on, as silicon would not: no status entry, the context stays where it is until the engine is reset. */
  #hang(why: string): void {
    this.#hung = why;
    this.#parts.statistics.hangs++;
    this.#parts.trace?.hung(this.engine.id, why);
    this.#parts.onHang?.(this.engine.name, why);
    this.#parts.registers.set(this.engine.base + ENGINE_REGISTER.INSTDONE, RING_NOT_DONE);
    this.#parts.log.guestError(`${this.engine.name}: ${why}`);
  }
}
