/**
 * The beam of one pipe: where it is, and when a frame ends. 60 frames a second of the device model's clock, whatever the guest does.
 *
 * Drivers read the frame counter, write a plane's registers and read the counter again: both reads must be of one frame, or the
 * picture was torn. On silicon that takes microseconds, here each access takes up to a hundred of them, so that updates which a driver
 * began in time would end too late. The frame's end therefore waits while the guest is between such reads, for a limited time; the
 * frames after it come as if it had not.
 */

import type { Saved, StateStream } from '../state/stream.js';

export const REFRESH_HZ = 60;
const FRAME_NS = 1e9 / REFRESH_HZ;
/** How long a frame's end waits, after a read of the counter, for a plane's register to be written. */
const HOLD_NS = 4e6;
/** Once one was, how long it waits for the second read, from the first one on. */
const UPDATE_NS = 50e6;
/** Where the beam of a frame that waits stands: this part of a frame before its end, where drivers do not expect it soon. */
const STANDING = 1 / 8;

/** Lines of a mode. */
export interface Lines {
  readonly total: number;
  /** First line of the vertical blank, where the frame ends. */
  readonly blank: number;
}

export class Beam implements Saved {
  /** Frame of the clock that was ended last. */
  #ended = 0;
  #count = 0;
  /** Time of the counter's read that holds the frame, or -1. */
  #heldSince = -1;
  #updating = false;

  /** @param now time of the vGPU's clock */
  exchange(state: StateStream, now = Number.MAX_SAFE_INTEGER): void {
    this.#ended = state.integer('ended', this.#ended, Math.floor(now / FRAME_NS));
    // The guest sees 32 bits of it.
    this.#count = state.u32('count', this.#count >>> 0);
    this.#heldSince = state.number('held-since', this.#heldSince, now, -1);
    this.#updating = state.bool('updating', this.#updating);
  }

  /** The pipe was switched on. */
  start(now: number): void {
    this.#ended = Math.floor(now / FRAME_NS);
    this.#release();
  }

  /** @returns true when a frame has ended since the last call */
  advance(now: number): boolean {
    const frame = Math.floor(now / FRAME_NS);
    if (frame === this.#ended || this.#held(now)) return false;
    this.#count += frame - this.#ended;
    this.#ended = frame;
    this.#release();
    return true;
  }

  /** Nanoseconds until `advance` could be true; 0 when a frame waits. */
  untilEnd(now: number): number {
    return Math.max(0, (this.#ended + 1) * FRAME_NS - now);
  }

  /** The frame counter, 32 bits. The guest reads it: see above. */
  readCount(now: number): number {
    if (this.#updating) this.#release();
    else if (Math.floor(now / FRAME_NS) === this.#ended) this.#heldSince = now;
    return this.#count >>> 0;
  }

  /** A register that takes effect at the frame's end was written. */
  touched(now: number): void {
    if (this.#held(now)) this.#updating = true;
  }

  /** Line that the beam is at. */
  line(now: number, { total, blank }: Lines): number {
    const position = now / FRAME_NS - this.#ended;
    const line = Math.floor((position < 1 ? position : 1 - STANDING) * total);
    return (blank + line) % total;
  }

  #held(now: number): boolean {
    return this.#heldSince >= 0 && now - this.#heldSince < (this.#updating ? UPDATE_NS : HOLD_NS);
  }

  #release(): void {
    this.#heldSince = -1;
    this.#updating = false;
  }
}
