/**
 * The tape that replays: it answers from a recording and compares. What the device model does towards the outside (calls, stores, answers) must be
 * the same, in the same order. What it takes in (guest memory, the clock) it may look at less often than it did: looks that are left over
 * are passed over, and counted.
 */
import { PAGE_SIZE } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import { type BarsOf, describeCall, describeEvent, describePlace, describeStatus, describeValue } from './describe.js';
import type { EventReader } from './event-reader.js';
import { FIELDS_MAX, STEP, Tag } from './events.js';
import { badRecording } from './header.js';
import { applyRanges, dmaKey, guestKey, hashBytes, maskLow, PageCopies, type PageCopy, storeCopy } from './page-copies.js';
import { CALL, Look, type Tape } from './tape.js';

/** The first thing that was not as it was recorded. */
export interface Divergence {
  /** Number of the step, from 1: guest accesses, slices and what else comes from outside. */
  readonly step: number;
  /** What came. */
  readonly what: string;
  readonly expected: string;
  readonly got: string;
  /** Events before it, oldest first. */
  readonly history: readonly string[];
}

/** Events that are told before a divergence. */
const HISTORY = 16;
const NO_STEP = -1;

/** A look or the clock: an input, which nobody has to take. */
const isInput = (tag: number): boolean => tag === Tag.PAGE || tag === Tag.NOW || tag === Tag.GONE || tag === Tag.UNREADABLE;

export class ReplayTape implements Tape {
  readonly reader: EventReader;
  readonly copies: PageCopies;
  divergence: Divergence | undefined;
  /** Steps and events so far; inputs that nobody asked for. */
  steps = 0;
  events = 0;
  unasked = 0;
  /** Told of frames that sync_page_track reported. */
  onReport: (vgpu: number, gfn: number) => void = () => undefined;
  /** For descriptions. */
  barsOf: BarsOf = () => undefined;
  readonly #ring = new Float64Array(HISTORY * (FIELDS_MAX + 1));
  #peeked = false;
  #ended = false;
  #inStep = false;
  #step = NO_STEP;
  readonly #stepFields = new Float64Array(FIELDS_MAX);
  #now = 0;
  /** What the step's guest wrote: size, or 0; value. */
  #writtenSize = 0;
  #writtenLow = 0;
  #writtenHigh = 0;

  constructor(reader: EventReader, copies = new PageCopies()) {
    this.reader = reader;
    this.copies = copies;
  }

  // --- steps ----------------------------------------------------------------------------------------------------------

  /** Goes to the next step, whose numbers and bytes are then the reader's. @returns its tag, or -1 at the end */
  nextStep(): number {
    const tag = this.#peek();
    if (tag < 0) return -1;
    if (tag < STEP) throw badRecording('an event stands outside of any step');
    this.#take();
    this.steps++;
    this.#step = tag;
    this.#stepFields.set(this.reader.fields);
    this.#inStep = true;
    return tag;
  }

  /** Of a guest's write: what a store of the same stands for. */
  wrote(size: number, value: Uint32Array): void {
    this.#writtenSize = size;
    this.#writtenLow = maskLow(value[0] as number, size);
    this.#writtenHigh = size === 8 ? (value[1] as number) : 0;
  }

  /** Ends the step and compares how. @param size bytes of the answer of a read that went well @param answer its bytes where it may be longer */
  end(status: number, value?: Uint32Array, size = 0, answer?: Uint8Array): void {
    this.#passInputs();
    this.#inStep = false;
    this.#writtenSize = 0;
    if (this.divergence !== undefined) return;
    const got = { status, low: 0, high: 0, hash: answer === undefined ? 0 : hashBytes(answer) };
    if (value !== undefined && size > 0) {
      got.low = maskLow(value[0] as number, size);
      got.high = size === 8 ? (value[1] as number) : 0;
    }
    const tag = this.#peek();
    const told = (low: number, high: number, of: number): string =>
      size > 0 || of !== 0
        ? `the answer ${describeValue(Math.max(size, 4), low, high)}, status ${describeStatus(of)}`
        : `status ${describeStatus(of)}`;
    const mine = told(got.low, got.high, status);
    if (tag !== Tag.END) {
      // A step that ended well and has no answer leaves no trace.
      if (tag >= STEP || tag < 0) {
        // Where the writer died inside a step its end is not known.
        if ((status === 0 && size === 0) || tag < 0) return;
        this.#diverge('status OK', mine);
      } else this.#diverge(this.#describe(tag), `nothing more: the step ended with ${mine}`);
      return;
    }
    const { fields } = this.reader;
    const [wantedStatus, low, high, hash] = [fields[0] as number, fields[1] as number, fields[2] as number, fields[3] as number];
    this.#take();
    if (wantedStatus !== status || low !== got.low || high !== got.high) this.#diverge(told(low, high, wantedStatus), mine);
    else if (hash !== got.hash) this.#diverge(`an answer whose hash is 0x${hash.toString(16)}`, `one of 0x${got.hash.toString(16)}`);
  }

  // --- Tape -----------------------------------------------------------------------------------------------------------

  call(op: number, vgpu: number, a: number, b: number, c: number, d: number): number {
    if (!this.#inStep) return 0;
    const tag = this.#output();
    const { fields } = this.reader;
    const same =
      (tag === Tag.CALL || tag === Tag.REFUSED) &&
      fields[0] === op &&
      fields[1] === vgpu &&
      fields[2] === a &&
      fields[3] === b &&
      fields[4] === c &&
      fields[5] === d;
    if (!same) throw this.#diverge(this.#describe(tag), describeCall(op, vgpu, a, b, c, d));
    this.#take();
    if (tag === Tag.REFUSED) throw this.#error();
    return fields[6] as number;
  }

  sync(vgpu: number): number {
    if (!this.#inStep) return 0;
    while (this.#output() === Tag.REPORTED) {
      const [of, gfn] = [this.reader.fields[0] as number, this.reader.fields[1] as number];
      this.#take();
      this.onReport(of, gfn);
    }
    return this.call(CALL.sync_page_track, vgpu, 0, 0, 0, 0);
  }

  view(address: number): undefined {
    this.#failedLook(Look.VIEW, address);
    return undefined;
  }

  gone(key: number): boolean {
    if (this.#peek() !== Tag.GONE || this.reader.fields[0] !== key || !this.#inStep) return false;
    this.#take();
    this.copies.delete(key);
    return true;
  }

  load(key: number): PageCopy {
    this.#passTo(key);
    return this.copies.get(key) ?? this.#unknown(key);
  }

  look(what: Look, address: number, target: Uint8Array, offset: number, length: number): void {
    this.#failedLook(what, address);
    const keyOf = what === Look.READ ? guestKey : dmaKey;
    for (let done = 0; done < length; ) {
      const at = (address + done) % PAGE_SIZE;
      const piece = Math.min(length - done, PAGE_SIZE - at);
      const { bytes } = this.load(keyOf(address + done));
      bytes.copy(target, offset + done, at, at + piece);
      done += piece;
    }
  }

  store(key: number, offset: number, size: 1 | 4 | 8, low: number, high: number): void {
    this.#expectStore(key, offset, size, low, high);
    storeCopy(this.copies.get(key), offset, size, low, high);
  }

  fill(key: number, offset: number, end: number, value: number): void {
    this.#expect(Tag.FILL, key, offset, end, value, 0);
    this.copies.get(key)?.u32.fill(value, offset >>> 2, end >>> 2);
  }

  bytes(key: number, offset: number, source: Uint8Array, from: number, to: number): void {
    this.#expect(Tag.BYTES, key, offset, to - from, hashBytes(source, from, to), 0);
    this.copies.get(key)?.bytes.set(source.subarray(from, to), offset);
  }

  now(): number {
    if (this.#inStep && this.#peek() === Tag.NOW) this.#passInput();
    return this.#now;
  }

  // --- events ---------------------------------------------------------------------------------------------------------

  /** Tag of the next event, which stays; -1 at the end. */
  #peek(): number {
    if (!this.#peeked && !this.#ended) {
      if (this.reader.next()) this.#peeked = true;
      else this.#ended = true;
    }
    return this.#ended ? -1 : this.reader.tag;
  }

  /** Takes the event that was peeked. Its numbers stay until the next peek. */
  #take(): void {
    const { tag, fields } = this.reader;
    this.#peeked = false;
    const at = (this.events++ % HISTORY) * (FIELDS_MAX + 1);
    this.#ring[at] = tag;
    for (let i = 0; i < FIELDS_MAX; i++) this.#ring[at + 1 + i] = fields[i] as number;
  }

  /** Passes inputs over. @returns the tag of the next event that is an output, a step, or the end */
  #output(): number {
    this.#passInputs();
    return this.#peek();
  }

  #passInputs(): void {
    for (let tag = this.#peek(); isInput(tag); tag = this.#peek()) {
      this.unasked++;
      this.#passInput();
    }
  }

  /** Takes an input for what it tells. */
  #passInput(): void {
    const { tag, fields, blob } = this.reader;
    const first = fields[0] as number;
    this.#take();
    if (tag === Tag.NOW) this.#now = first;
    else if (tag === Tag.GONE) this.copies.delete(first);
    else if (tag === Tag.PAGE && !applyRanges(blob, this.copies.get(first) ?? this.copies.add(first)))
      throw badRecording('a page of guest memory is damaged');
  }

  /** Takes what was recorded when the device model looked at this page. Another look may stand before it only if the page is not known. */
  #passTo(key: number): void {
    if (!this.#inStep) return;
    let tag = this.#peek();
    if (tag === Tag.PAGE && this.reader.fields[0] === key) {
      this.#passInput();
      return;
    }
    while (this.copies.get(key) === undefined && isInput(tag)) {
      if (!(tag === Tag.PAGE && this.reader.fields[0] === key)) this.unasked++;
      this.#passInput();
      tag = this.#peek();
    }
  }

  #unknown(key: number): PageCopy {
    throw this.#diverge(this.#describe(this.#peek()), `a look at ${describePlace(key)}, at which the recorded device did not look`);
  }

  #failedLook(what: Look, address: number): void {
    if (this.#inStep && this.#peek() === Tag.UNREADABLE && this.reader.fields[0] === what && this.reader.fields[1] === address) {
      this.#take();
      throw this.#error();
    }
  }

  #expect(tag: number, a: number, b: number, c: number, d: number, e: number): void {
    if (!this.#inStep) return;
    const next = this.#output();
    const { fields } = this.reader;
    const same =
      next === tag &&
      fields[0] === a &&
      fields[1] === b &&
      (tag === Tag.STORE_SAME || (fields[2] === c && fields[3] === d && (tag !== Tag.STORE || fields[4] === e)));
    if (!same)
      throw this.#diverge(this.#describe(next), describeEvent(tag === Tag.STORE_SAME ? Tag.STORE : tag, [a, b, c, d, e], this.barsOf));
    this.#take();
  }

  #expectStore(key: number, offset: number, size: number, low: number, high: number): void {
    if (
      this.#inStep &&
      this.#output() === Tag.STORE_SAME &&
      size === this.#writtenSize &&
      low === this.#writtenLow &&
      high === this.#writtenHigh
    )
      this.#expect(Tag.STORE_SAME, key, offset, size, low, high);
    else this.#expect(Tag.STORE, key, offset, size, low, high);
  }

  #error(): MptError {
    try {
      const fields = JSON.parse(Buffer.from(this.reader.blob).toString('utf8')) as Record<string, unknown>;
      if (typeof fields['code'] === 'string' && typeof fields['message'] === 'string' && typeof fields['text'] === 'string')
        return MptError.fromJSON(fields);
    } catch {
      // Told below.
    }
    throw badRecording('the error of a call is damaged');
  }

  // --- divergence -----------------------------------------------------------------------------------------------------

  #describe(tag: number): string {
    if (tag < 0) return 'nothing: the recording ends here';
    if (tag >= STEP) return 'nothing more in this step';
    if (tag === Tag.STORE_SAME) {
      const [key, offset] = [this.reader.fields[0] as number, this.reader.fields[1] as number];
      return describeEvent(Tag.STORE, [key, offset, this.#writtenSize, this.#writtenLow, this.#writtenHigh], this.barsOf);
    }
    return describeEvent(tag, this.reader.fields, this.barsOf);
  }

  /** Keeps the first. @returns an error that ends what the device model does */
  #diverge(expected: string, got: string): MptError {
    const count = Math.min(this.events, HISTORY);
    const history = Array.from({ length: count }, (_, i) => {
      const at = ((this.events - count + i) % HISTORY) * (FIELDS_MAX + 1);
      const tag = this.#ring[at] as number;
      const line = describeEvent(tag, this.#ring.subarray(at + 1, at + 1 + FIELDS_MAX), this.barsOf);
      return tag >= STEP ? line : `  ${line}`;
    });
    const what = this.#step === NO_STEP ? 'the start' : describeEvent(this.#step, this.#stepFields, this.barsOf);
    this.divergence ??= { step: this.steps, what, expected, got, history };
    return new MptError('INTERNAL', 'the device model does not do what was recorded', { op: 'replay' });
  }
}
