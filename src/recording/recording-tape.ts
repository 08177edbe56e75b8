/** The tape that records: each crossing is passed on and written down. */
import { PAGE_SIZE } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import { PageView } from '../core/gvt/gpu-page.js';
import type { EventWriter } from './event-writer.js';
import { STEP, sizeOf, Tag } from './events.js';
import { diffWords, dmaKey, guestKey, hashBytes, maskLow, PageCopies, PageCopy, RANGES_MAX, storeCopy } from './page-copies.js';
import { CALL, Look, type Tape } from './tape.js';

/** A recording of a device that has little to do is in the file up to the last second or so. */
const FLUSH_NS = 1e9;
/** The clock is looked at for that after so many steps. */
const CLOCK_MASK = 31;

export interface RecordingTapeParts {
  readonly writer: EventWriter;
  /** Nanoseconds, never going back. */
  readonly now: () => number;
  /** The file cannot be written any more: the device goes on, the recording does not. */
  readonly onFailure: (error: MptError) => void;
  /** Pages known at once; both sides must have the same. */
  readonly copies?: PageCopies;
}

export class RecordingTape implements Tape {
  readonly #writer: EventWriter;
  readonly #clock: () => number;
  readonly #onFailure: (error: MptError) => void;
  readonly #copies: PageCopies;
  readonly #started: number;
  /** Inside a step and outside of calls: what happens is written. */
  #active = false;
  /** A call runs: what happens in it is the backend's. */
  #inCall = false;
  /** A call of sync_page_track runs: reports of frames are written. */
  #syncing = false;
  /** A slice that is written only when something happens in it. */
  #waiting = -1;
  #failed = false;
  /** What the step's guest wrote: size, or 0; value. */
  #writtenSize = 0;
  #writtenLow = 0;
  #writtenHigh = 0;
  #ends = 0;
  #flushed: number;
  readonly #scratch = new PageCopy();
  readonly #ranges = new Uint8Array(RANGES_MAX);

  constructor({ writer, now, onFailure, copies = new PageCopies() }: RecordingTapeParts) {
    this.#writer = writer;
    this.#clock = now;
    this.#onFailure = onFailure;
    this.#copies = copies;
    this.#started = now();
    this.#flushed = this.#started;
  }

  // --- steps ----------------------------------------------------------------------------------------------------------

  /** Begins a step. @returns false inside another one, whose matter it then is */
  step(tag: number, a = 0, b = 0, c = 0, d = 0, e = 0, blob?: Uint8Array): boolean {
    if (this.#active || this.#syncing || this.#inCall) return false;
    this.#active = true;
    this.#waiting = -1;
    this.#put(tag, a, b, c, d, e, 0, 0, blob);
    return true;
  }

  /** The same for a guest's write to a BAR, whose value often is just stored. @param of as `who` makes it */
  write(of: number, gpa: number, low: number, high: number): boolean {
    const size = sizeOf(of);
    if (!this.step(size === 8 ? Tag.MMIO_WRITE_8 : Tag.MMIO_WRITE, of, gpa, low, high)) return false;
    this.#writtenSize = size;
    this.#writtenLow = maskLow(low, size);
    this.#writtenHigh = size === 8 ? high : 0;
    return true;
  }

  /** The same for a slice of which it is not known whether anything happens in it. */
  slice(budget: number, hasWork: boolean): boolean {
    if (hasWork) return this.step(Tag.SLICE, budget);
    if (this.#active || this.#syncing || this.#inCall) return false;
    this.#active = true;
    this.#waiting = budget;
    return true;
  }

  /** Ends the step that `step` began. @param answer bytes of a read that is longer than `value` */
  end(status: number, value?: Uint32Array, size = 0, answer?: Uint8Array): void {
    const low = size === 0 || value === undefined ? 0 : maskLow(value[0] as number, size);
    const high = size === 8 && value !== undefined ? (value[1] as number) : 0;
    if (status !== 0 || size > 0) this.#put(Tag.END, status, low, high, answer === undefined ? 0 : hashBytes(answer));
    this.#waiting = -1;
    this.#active = false;
    this.#writtenSize = 0;
    if ((++this.#ends & CLOCK_MASK) === 0) this.flushDue();
  }

  /** Nothing comes now: what happened goes to the file when that is due. */
  flushDue(): void {
    const now = this.#clock();
    if (now - this.#flushed < FLUSH_NS) return;
    this.#flushed = now;
    this.#guarded(() => this.#writer.flush());
  }

  /** A report inside sync_page_track. @returns false outside of one */
  reported(vgpu: number, gfn: number): boolean {
    if (!this.#syncing) return false;
    this.#active = true;
    this.#put(Tag.REPORTED, vgpu, gfn);
    this.#active = false;
    return true;
  }

  /** Ends the recording in order. Idempotent. */
  close(): void {
    if (this.#failed) return;
    this.#active = true;
    this.#put(Tag.CLOSE, Math.round((this.#clock() - this.#started) / 1e6));
    this.#guarded(() => this.#writer.close());
    this.#failed = true;
  }

  // --- Tape -----------------------------------------------------------------------------------------------------------

  call(op: number, vgpu: number, a: number, b: number, c: number, d: number, run: () => number): number {
    if (!this.#active) return run();
    let result: number;
    this.#active = false;
    this.#inCall = true;
    try {
      result = run();
    } catch (error) {
      this.#active = true;
      this.#put(Tag.REFUSED, op, vgpu, a, b, c, d, 0, errorBytes(error));
      throw error;
    } finally {
      this.#inCall = false;
      this.#active = true;
    }
    this.#put(Tag.CALL, op, vgpu, a, b, c, d, result);
    return result;
  }

  sync(vgpu: number, run: () => number): number {
    if (!this.#active) return run();
    this.#syncing = true;
    try {
      return this.call(CALL.sync_page_track, vgpu, 0, 0, 0, 0, run);
    } finally {
      this.#syncing = false;
    }
  }

  view(address: number, run: () => Uint8Array): PageView {
    try {
      return PageView.of(run());
    } catch (error) {
      this.#put(Tag.UNREADABLE, Look.VIEW, address, 0, 0, 0, 0, 0, errorBytes(error));
      throw error;
    }
  }

  load(key: number, view: PageView | undefined): PageCopy | PageView {
    const live = view as PageView;
    if (!this.#active || live.gone) return live;
    return this.#known(key, 0, live.bytes, 0, PAGE_SIZE);
  }

  gone(key: number, view: PageView | undefined): boolean {
    const { gone } = view as PageView;
    if (gone) {
      this.#put(Tag.GONE, key);
      if (this.#active) this.#copies.delete(key);
    }
    return gone;
  }

  look(what: Look, address: number, target: Uint8Array, offset: number, length: number, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#put(Tag.UNREADABLE, what, address, 0, 0, 0, 0, 0, errorBytes(error));
      throw error;
    }
    if (!this.#active) return;
    const keyOf = what === Look.READ ? guestKey : dmaKey;
    for (let done = 0; done < length; ) {
      const at = (address + done) % PAGE_SIZE;
      const piece = Math.min(length - done, PAGE_SIZE - at);
      this.#known(keyOf(address + done), at, target, offset + done, piece);
      done += piece;
    }
  }

  store(key: number, offset: number, size: 1 | 4 | 8, low: number, high: number): void {
    if (!this.#active) return;
    if (size === this.#writtenSize && low === this.#writtenLow && high === this.#writtenHigh) this.#put(Tag.STORE_SAME, key, offset);
    else this.#put(Tag.STORE, key, offset, size, low, high);
    storeCopy(this.#copies.get(key), offset, size, low, high);
  }

  fill(key: number, offset: number, end: number, value: number): void {
    if (!this.#active) return;
    this.#put(Tag.FILL, key, offset, end, value);
    this.#copies.get(key)?.u32.fill(value, offset >>> 2, end >>> 2);
  }

  bytes(key: number, offset: number, source: Uint8Array, from: number, to: number): void {
    if (!this.#active) return;
    this.#put(Tag.BYTES, key, offset, to - from, hashBytes(source, from, to));
    this.#copies.get(key)?.bytes.set(source.subarray(from, to), offset);
  }

  /** Whole nanoseconds: what the device model sees is exactly what is in the file. */
  now(): number {
    const now = Math.floor(this.#clock());
    if (this.#active) this.#put(Tag.NOW, now);
    return now;
  }

  // --- memory ---------------------------------------------------------------------------------------------------------

  /** Writes what of these bytes is not known. @returns the copy, which has them now */
  #known(key: number, at: number, source: Uint8Array, from: number, length: number): PageCopy {
    const known = this.#copies.get(key);
    if (known !== undefined && known.bytes.compare(source, from, from + length, at, at + length) === 0) return known;
    const copy = known ?? this.#copies.add(key);
    // Guest memory may change at any moment: what is compared, written and used is one copy of it.
    const { bytes, u32 } = this.#scratch;
    if (length < PAGE_SIZE) bytes.set(copy.bytes);
    bytes.set(length === source.length ? source : source.subarray(from, from + length), at);
    const used = diffWords(copy.u32, u32, bytes, this.#ranges);
    this.#put(Tag.PAGE, key, 0, 0, 0, 0, 0, 0, this.#ranges, used);
    copy.bytes.set(bytes);
    return copy;
  }

  #put(tag: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, blob?: Uint8Array, length = blob?.length ?? 0): void {
    if (!this.#active || this.#failed) return;
    try {
      if (this.#waiting >= 0 && tag < STEP) {
        const budget = this.#waiting;
        this.#waiting = -1;
        this.#writer.put(Tag.SLICE, budget);
      }
      this.#writer.put(tag, a, b, c, d, e, f, g, blob, length);
    } catch (error) {
      this.#fail(error);
    }
  }

  #guarded(run: () => void): void {
    if (this.#failed) return;
    try {
      run();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failed = true;
    try {
      this.#writer.close();
    } catch {
      // The first failure is the one that is told.
    }
    this.#onFailure(error as MptError);
  }
}

/** What a replay needs of an error: the device model goes by its code, and tells its text. */
const errorBytes = (error: unknown): Uint8Array => {
  const typed = MptError.is(error) ? error : new MptError('INTERNAL', String(error));
  return Buffer.from(JSON.stringify(typed.toJSON()));
};
