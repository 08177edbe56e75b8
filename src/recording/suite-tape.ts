/**
 * The tape of a backend under the conformance suite: what crosses between the rules of the base classes and the hypervisor's half (`mpt-hooks.ts`),
 * in a recording passed on and written, in a replay answered from the file. Time does not count there, so an event is one JSON document.
 */
import { PAGE_SIZE } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import type { EventReader } from './event-reader.js';
import type { EventWriter } from './event-writer.js';
import { Tag } from './events.js';
import { badRecording } from './header.js';
import type { Divergence } from './replay-tape.js';

/** A call, or the outcome of a case. */
interface Crossing {
  /** `read_gpa`, `next`, `case`, … */
  readonly what: string;
  readonly args: readonly unknown[];
  readonly result?: unknown;
  readonly error?: Record<string, unknown>;
  /** What the call wrote to buffers that it was given, base64. */
  readonly out?: readonly string[];
  /** What changed in live memory that the suite holds, since the last crossing: which, where, base64. */
  readonly seen?: readonly (readonly [view: number, offset: number, bytes: string])[];
}

export interface SuiteTape {
  /**
   * One crossing: `run` makes it, in a recording. What it answers must be JSON.
   * @param out buffers that it fills
   */
  call<T>(what: string, args: readonly unknown[], run: () => T, out?: readonly Uint8Array[]): T;
  /** Live memory that the suite is about to get. @param live in a recording. @returns what it gets */
  watch(owner: object, size: number, live: Uint8Array | undefined): Uint8Array;
  /** The owner's memory is nobody's any more. */
  forget(owner: object): void;
  /** Backends that were opened. */
  backends: number;
  /** True in a replay. */
  readonly replaying: boolean;
}

/** Of live memory that is larger, only so much at both ends is looked at. */
const WATCHED_MAX = 0x40_0000;
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

/** JSON has no NaN and no infinity; the suite asks with them. */
const outOfNumbers = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? { $number: String(value) } : value;
const intoNumbers = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && '$number' in value ? Number(value.$number) : value;

interface Watched {
  readonly owner: object;
  readonly number: number;
  readonly live: Uint8Array;
  readonly parts: readonly { readonly offset: number; readonly copy: Buffer }[];
}

export class RecordingSuiteTape implements SuiteTape {
  readonly replaying = false;
  backends = 0;
  readonly #writer: EventWriter;
  readonly #watched = new Set<Watched>();
  readonly #started = performance.now();
  #views = 0;
  #depth = 0;

  constructor(writer: EventWriter) {
    this.#writer = writer;
  }

  call<T>(what: string, args: readonly unknown[], run: () => T, out: readonly Uint8Array[] = []): T {
    // What a crossing does inside another one is the backend's.
    if (this.#depth > 0) return run();
    this.#depth++;
    try {
      const result = run();
      this.#put({ what, args, result, ...(out.length === 0 ? {} : { out: out.map(base64) }) });
      return result;
    } catch (error) {
      if (!MptError.is(error)) throw error;
      this.#put({ what, args, error: error.toJSON() });
      throw error;
    } finally {
      this.#depth--;
    }
  }

  watch(owner: object, size: number, live: Uint8Array | undefined): Uint8Array {
    if (live === undefined) throw new MptError('INTERNAL', 'there is nothing to be recorded', { op: 'record' });
    const ends =
      size <= WATCHED_MAX
        ? [[0, size] as const]
        : ([
            [0, PAGE_SIZE],
            [size - PAGE_SIZE, size],
          ] as const);
    const parts = ends.map(([offset, end]) => ({ offset, copy: Buffer.alloc(end - offset) }));
    this.#watched.add({ owner, number: this.#views++, live, parts });
    return live;
  }

  forget(owner: object): void {
    for (const watched of this.#watched) if (watched.owner === owner) this.#watched.delete(watched);
  }

  close(): void {
    this.#writer.put(Tag.CLOSE, Math.round(performance.now() - this.#started));
    this.#writer.close();
  }

  #put(crossing: Crossing): void {
    const seen: [number, number, string][] = [];
    for (const watched of this.#watched) {
      const { number, live, parts } = watched;
      if (live.length === 0) this.#watched.delete(watched);
      else
        for (const { offset, copy } of parts) {
          if (copy.compare(live, offset, offset + copy.length) !== 0)
            changedPages(live, offset, copy, (at, bytes) => seen.push([number, at, bytes]));
        }
    }
    const text = JSON.stringify(seen.length === 0 ? crossing : { ...crossing, seen }, outOfNumbers);
    this.#writer.put(Tag.CROSSING, 0, 0, 0, 0, 0, 0, 0, Buffer.from(text));
  }
}

/** Takes over what changed, page by page. */
function changedPages(live: Uint8Array, offset: number, copy: Buffer, tell: (at: number, bytes: string) => void): void {
  for (let at = 0; at < copy.length; at += PAGE_SIZE) {
    const end = Math.min(at + PAGE_SIZE, copy.length);
    if (copy.compare(live, offset + at, offset + end, at, end) === 0) continue;
    // Copied first: the guest may go on writing.
    copy.set(live.subarray(offset + at, offset + end), at);
    tell(offset + at, base64(copy.subarray(at, end)));
  }
}

/** Crossings that are told before a difference. */
const HISTORY = 16;

export class ReplaySuiteTape implements SuiteTape {
  readonly replaying = true;
  backends = 0;
  divergence: Divergence | undefined;
  crossings = 0;
  readonly #reader: EventReader;
  readonly #views = new Map<number, { readonly owner: object; readonly bytes: Uint8Array }>();
  #made = 0;
  /** Milliseconds that the recording took; null: it was not ended in order. */
  recordedMs: number | null = null;
  readonly #history: string[] = [];
  #case = 'the start';

  constructor(reader: EventReader) {
    this.#reader = reader;
  }

  /** For history: the case that runs. */
  set case(id: string) {
    this.#case = id;
  }

  call<T>(what: string, args: readonly unknown[], _run: () => T, out: readonly Uint8Array[] = []): T {
    if (this.divergence !== undefined) throw this.#error();
    const got = told(what, args);
    const crossing = this.#next();
    this.crossings++;
    const expected = crossing === undefined ? 'nothing: the recording ends here' : told(crossing.what, crossing.args);
    if (crossing === undefined || expected !== got) {
      this.divergence = { step: this.crossings, what: this.#case, expected, got, history: [...this.#history] };
      throw this.#error();
    }
    if (this.#history.push(got) > HISTORY) this.#history.shift();
    for (const [view, offset, bytes] of crossing.seen ?? [])
      this.#apply(this.#views.get(view)?.bytes, offset, Buffer.from(bytes, 'base64'));
    for (const [i, buffer] of out.entries()) {
      const bytes = Buffer.from(crossing.out?.[i] ?? '', 'base64');
      if (crossing.error === undefined) this.#apply(buffer, 0, bytes);
    }
    if (crossing.error !== undefined) throw MptError.fromJSON(crossing.error);
    return crossing.result as T;
  }

  watch(owner: object, size: number): Uint8Array {
    if (!(Number.isSafeInteger(size) && size >= 0 && size <= VIEW_MAX)) throw badRecording('memory in the recording is impossibly large');
    const bytes = new Uint8Array(size);
    this.#views.set(this.#made++, { owner, bytes });
    return bytes;
  }

  forget(owner: object): void {
    for (const [number, view] of this.#views) if (view.owner === owner) this.#views.delete(number);
  }

  /** Reads the end of the recording. @returns false when there is more before it */
  finish(): boolean {
    return this.#next() === undefined;
  }

  #next(): Crossing | undefined {
    if (!this.#reader.next()) return undefined;
    if (this.#reader.tag === Tag.CLOSE) {
      this.recordedMs = this.#reader.fields[0] as number;
      return undefined;
    }
    if (this.#reader.tag !== Tag.CROSSING) throw badRecording('an event is not one of the suite');
    try {
      const crossing = JSON.parse(Buffer.from(this.#reader.blob).toString('utf8'), intoNumbers) as Crossing;
      if (typeof crossing.what === 'string' && Array.isArray(crossing.args) && isWhole(crossing)) return crossing;
    } catch {
      // Told below.
    }
    throw badRecording('a crossing of the suite is damaged');
  }

  #apply(view: Uint8Array | undefined, offset: number, bytes: Uint8Array): void {
    if (view === undefined || !(offset >= 0) || offset + bytes.length > view.length)
      throw badRecording('memory in the recording leaves its view');
    view.set(bytes, offset);
  }

  #error(): MptError {
    return new MptError('INTERNAL', 'the suite does not do what was recorded', { op: 'replay' });
  }
}

const isText = (value: unknown): boolean => typeof value === 'string';

/** Memory is texts, as what has a length may claim any; an error is one of ours. Answers are checked by who gets them. */
const isWhole = ({ out = [], seen = [], error }: Crossing): boolean =>
  Array.isArray(out) &&
  out.every(isText) &&
  Array.isArray(seen) &&
  seen.every((change) => Array.isArray(change) && isText(change[2])) &&
  (error === undefined || (error !== null && isText(error['code']) && isText(error['message']) && isText(error['text'])));

/** Of host pages: as many as may be allocated at once. */
const VIEW_MAX = 0x1000_0000;

const told = (what: string, args: readonly unknown[]): string =>
  `${what}(${args.map((arg) => JSON.stringify(arg, outOfNumbers)).join(', ')})`;
