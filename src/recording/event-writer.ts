/**
 * Events into blocks, and blocks, compressed, into a file. A block is whole in the file or not there at all for a reader, so a process
 * that dies leaves a recording that is good up to its last block.
 */
import { closeSync, fchmodSync, fstatSync, openSync, writeSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { MptError } from '../core/errors.js';
import { BLOB_MAX, DIFFERENCE, EVENTS, FIELDS_MAX, NUMBER_MAX, UNSIGNED } from './events.js';
import { MAGIC, type RecordingHeader } from './header.js';

/** Bytes of events at which a block ends. Larger ones pack hardly better, and one takes a millisecond to pack. */
const BLOCK_TARGET = 0x1_0000;
/** A block with its largest event. */
export const BLOCK_MAX = BLOCK_TARGET + BLOB_MAX + 0x1000;
/** Room that an event needs besides its blob. */
const EVENT_MAX = 1 + (FIELDS_MAX + 1) * NUMBER_MAX;
/** Before each block: bytes of its events, bytes that follow. */
export const BLOCK_HEAD = 8;
/** Bytes of a file, unless it is told: a day of a busy guest. */
const LIMIT = 2 ** 30;
/** The fastest of zlib's: the events repeat themselves enough for it. */
const LEVEL = 1;
/** The rows of the table as the writer needs them: kinds of fields, and whether bytes follow. */
const KINDS = EVENTS.map((row) => Uint8Array.from(row?.fields ?? '', (kind) => kind.charCodeAt(0)));
const BLOBS = Uint8Array.from(EVENTS, (row) => Number(row?.blob === true));
const NO_BLOB = new Uint8Array(0);

export class EventWriter {
  readonly #fd: number;
  readonly #path: string;
  readonly #limit: number;
  #size = 0;
  #bytes = new Uint8Array(BLOCK_TARGET + 0x4000);
  #used = 0;
  /** Last values of fields that are written as differences, by tag and field. */
  readonly #last = new Float64Array(EVENTS.length * FIELDS_MAX);
  #closed = false;
  /** Events that were written. */
  events = 0;

  /** Makes the file, for its owner's eyes only: it holds guest memory. @param limit bytes that it has at most. @throws MptError IO */
  constructor(path: string, header: RecordingHeader, limit = LIMIT) {
    this.#path = path;
    this.#limit = limit;
    try {
      this.#fd = openSync(path, 'w', 0o600);
    } catch (error) {
      throw this.#failed(error);
    }
    const head = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(4);
    size.writeUInt32LE(head.length);
    try {
      // A file that was there keeps its mode when it is opened; what is no file is not ours to change.
      if (fstatSync(this.#fd).isFile()) fchmodSync(this.#fd, 0o600);
      this.#write(Buffer.concat([Buffer.from(MAGIC, 'latin1'), size, head]));
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** Appends an event. @throws MptError IO, LIMIT */
  put(tag: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, blob: Uint8Array = NO_BLOB, blobLength = blob.length): void {
    if (blobLength > BLOB_MAX)
      throw new MptError('LIMIT', 'an event is too long to be recorded', { op: 'record', size: blobLength, limit: BLOB_MAX });
    this.#reserve(EVENT_MAX + blobLength);
    this.events++;
    this.#bytes[this.#used++] = tag;
    const kinds = KINDS[tag] as Uint8Array;
    const count = kinds.length;
    if (count > 0) this.#field(kinds, tag, 0, a);
    if (count > 1) this.#field(kinds, tag, 1, b);
    if (count > 2) this.#field(kinds, tag, 2, c);
    if (count > 3) this.#field(kinds, tag, 3, d);
    if (count > 4) this.#field(kinds, tag, 4, e);
    if (count > 5) this.#field(kinds, tag, 5, f);
    if (count > 6) this.#field(kinds, tag, 6, g);
    if (BLOBS[tag] === 1) {
      this.#number(blobLength);
      this.#bytes.set(blobLength === blob.length ? blob : blob.subarray(0, blobLength), this.#used);
      this.#used += blobLength;
    }
    if (this.#used >= BLOCK_TARGET) this.flush();
  }

  /** Writes what is there as a block. @throws MptError IO; LIMIT, and then nothing of the block is written */
  flush(): void {
    if (this.#used === 0) return;
    const packed = deflateSync(this.#bytes.subarray(0, this.#used), { level: LEVEL });
    const block = Buffer.allocUnsafe(BLOCK_HEAD + packed.length);
    block.writeUInt32LE(this.#used, 0);
    block.writeUInt32LE(packed.length, 4);
    packed.copy(block, BLOCK_HEAD);
    this.#used = 0;
    this.#write(block);
  }

  /** Writes the rest and closes the file. Idempotent. @throws MptError IO, and then the file is closed */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }

  #field(kinds: Uint8Array, tag: number, index: number, value: number): void {
    const kind = kinds[index];
    if (kind === UNSIGNED) {
      this.#number(value);
      return;
    }
    let signed = value;
    if (kind === DIFFERENCE) {
      const at = tag * FIELDS_MAX + index;
      signed = value - (this.#last[at] as number);
      this.#last[at] = value;
    }
    this.#number(signed < 0 ? -signed * 2 - 1 : signed * 2);
  }

  /** Below 2^54: differences of numbers below 2^53 have one bit more. */
  #number(value: number): void {
    const bytes = this.#bytes;
    let rest = value;
    while (rest >= 0x8000_0000) {
      bytes[this.#used++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest >= 128) {
      bytes[this.#used++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    bytes[this.#used++] = rest;
  }

  #reserve(length: number): void {
    if (this.#used + length <= this.#bytes.length) return;
    const grown = new Uint8Array(this.#used + length);
    grown.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = grown;
  }

  #write(bytes: Uint8Array): void {
    if (this.#size + bytes.length > this.#limit)
      throw new MptError('LIMIT', `the recording ${this.#path} is as large as it may be`, {
        op: 'record',
        limit: this.#limit,
        hint: 'set --record-limit',
      });
    this.#size += bytes.length;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): MptError {
    const { errno } = error as NodeJS.ErrnoException;
    return new MptError('IO', `the recording ${this.#path} cannot be written`, {
      op: 'record',
      ...(errno === undefined ? { cause: error } : { errno: Math.abs(errno) }),
    });
  }
}
