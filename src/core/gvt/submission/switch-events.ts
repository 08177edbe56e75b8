/**
 * How the guest is told of an engine's context switches: status entries, and one interrupt for those that come together.
 *
 * Where the guest runs elsewhere, an interrupt costs it several round trips, each as dear as many empty batches. A driver submits what it has
 * queued when it is told of a switch, so an engine that tells at once gets batches one by one. Pacing lets a driver that keeps on queueing, without
 * anybody who waits, be told later: what it submitted is done and its fences are written, but the switch is told when as much time has passed
 * since the last one as pacing has come to. Silicon, which takes microseconds for a batch and for a switch, does the same by being slow.
 *
 * It adapts. Two batches or more at a switch: the driver queues faster than it is told, and the time grows. One: it does not, and is told
 * at once from then on. Who waits (the user interrupt is not masked), submits again, or reads the registers that tell of switches, is told at
 * once; and who begins to wait meanwhile, since its ring is full, halves the time.
 */
import type { EventSink, GvtEvent } from '../roles.js';
import { type ContextStatusBuffer, CSB_SLOTS } from './csb.js';

/** Absent: every switch is told at once. */
export interface SwitchPacing {
  /** Nanoseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Nanoseconds between two switches that are told, at most. */
  readonly longest: number;
}

/** Nanoseconds by which the time grows: about one interrupt of a guest that runs elsewhere. */
const STEP = 100_000;

export class SwitchEvents {
  readonly #csb: ContextStatusBuffer;
  readonly #events: EventSink;
  readonly #event: GvtEvent;
  readonly #statusPage: () => number;
  readonly #pacing: SwitchPacing | undefined;
  /** Entries that were not told yet: status and context id each. */
  readonly #entries = new Float64Array(CSB_SLOTS * 2);
  #count = 0;
  /** Nanoseconds between switches now, and when the last one was told. */
  #pace = 0;
  #toldAt = 0;

  constructor(parts: {
    readonly csb: ContextStatusBuffer;
    readonly events: EventSink;
    readonly event: GvtEvent;
    /** GPU address of the engine's status page. */
    readonly statusPage: () => number;
    readonly pacing: SwitchPacing | undefined;
  }) {
    this.#csb = parts.csb;
    this.#events = parts.events;
    this.#event = parts.event;
    this.#statusPage = parts.statusPage;
    this.#pacing = parts.pacing;
  }

  /** Nanoseconds until `tick` tells of something; infinite while nothing waits. */
  get untilDue(): number {
    const { now } = this.#pacing ?? {};
    return this.#count === 0 || now === undefined ? Number.POSITIVE_INFINITY : Math.max(0, this.#toldAt + this.#pace - now());
  }

  /**
   * A switch. Without pacing it is told at once, else when `end` or `settle` says so.
   * @param more another one follows at once: one interrupt tells of both
   */
  add(status: number, contextId: number, more = false): void {
    if (this.#pacing !== undefined) {
      if (this.#count === CSB_SLOTS) this.settle();
      this.#entries[this.#count * 2] = status;
      this.#entries[this.#count * 2 + 1] = contextId;
      this.#count++;
      return;
    }
    this.#csb.push(status, contextId, this.#statusPage());
    if (!more) this.#events.raise(this.#event);
  }

  /** The engine stops for now. @param batches that it began since. @param mayWait nothing is left to do, and nobody waits for it */
  end(batches: number, mayWait: boolean): void {
    if (this.#count === 0 || this.#pacing === undefined) return;
    this.#pace = batches < 2 ? 0 : Math.min(this.#pacing.longest, this.#pace + STEP);
    if (!mayWait || this.untilDue === 0) this.settle();
  }

  /** Tells of what waits, if it has waited long enough. */
  tick(): void {
    if (this.untilDue === 0) this.settle();
  }

  /** Tells of all that waits. */
  settle(): void {
    if (this.#count === 0) return;
    const page = this.#statusPage();
    for (let i = 0; i < this.#count; i++) this.#csb.push(this.#entries[i * 2] as number, this.#entries[i * 2 + 1] as number, page);
    this.#count = 0;
    this.#toldAt = this.#pacing?.now() ?? 0;
    this.#events.raise(this.#event);
  }

  /** Somebody begins to wait. */
  wanted(): void {
    if (this.#count === 0) return;
    this.#pace /= 2;
    this.settle();
  }

  /** Engine reset: nothing tells of what was. */
  drop(): void {
    this.#count = 0;
    this.#pace = 0;
  }
}
