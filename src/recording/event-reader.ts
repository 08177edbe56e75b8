/**
 * Events out of a file, one at a time, with one block in memory. The file is anybody's: lengths are checked before anything is read or
 * unpacked, numbers and tags before they are used. A file that ends inside a block is a recording whose writer died: it ends there.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { inflateSync } from 'node:zlib';
import { MptError } from '../core/errors.js';
import { BLOCK_HEAD, BLOCK_MAX } from './event-writer.js';
import { BLOB_MAX, DIFFERENCE, EVENTS, FIELDS_MAX, NUMBER_MAX, SIGNED, UNSIGNED } from './events.js';
import { badRecording, HEADER_MAX, MAGIC, parseHeader, type RecordingHeader } from './header.js';

/** zlib's worst case is a few bytes more than its input. */
const PACKED_MAX = BLOCK_MAX + 0x1000;

export class EventReader {
  readonly header: RecordingHeader;
  /** Bytes of the file. */
  readonly size: number;
  /** The event that `next` found: its tag, numbers and bytes. */
  tag = -1;
  readonly fields = new Float64Array(FIELDS_MAX);
  /** In the reader's block: valid until the next event. */
  blob: Uint8Array = new Uint8Array(0);
  /** The file ended inside a block. */
  truncated = false;
  readonly #fd: number;
  readonly #last = new Float64Array(EVENTS.length * FIELDS_MAX);
  #block: Uint8Array = new Uint8Array(0);
  #at = 0;
  #position = 0;
  #closed = false;

  /** @throws MptError IO, BAD_RECORDING */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'r');
    } catch (error) {
      throw failed(path, error);
    }
    try {
      const stat = fstatSync(this.#fd);
      if (!stat.isFile()) throw new MptError('IO', `${path} is not a regular file`, { op: 'replay', hint: 'name a recording' });
      this.size = stat.size;
      this.header = this.#readHeader(path);
    } catch (error) {
      closeSync(this.#fd);
      throw MptError.is(error) ? error : failed(path, error);
    }
  }

  /** Bytes of the file that were read. */
  get position(): number {
    return this.#position;
  }

  /** Decodes the next event. @returns false at the end. @throws MptError BAD_RECORDING, IO */
  next(): boolean {
    if (this.#at >= this.#block.length && !this.#nextBlock()) return false;
    const tag = this.#block[this.#at++] as number;
    const row = EVENTS[tag];
    if (row === undefined) throw badRecording(`an event has the unknown tag ${tag}`, this.#where());
    this.tag = tag;
    const kinds = row.fields;
    for (let i = 0; i < kinds.length; i++) {
      const kind = kinds.charCodeAt(i);
      let value = this.#number();
      if (kind !== UNSIGNED) {
        value = value % 2 === 1 ? -(value + 1) / 2 : value / 2;
        if (kind === DIFFERENCE) {
          const at = tag * FIELDS_MAX + i;
          value += this.#last[at] as number;
          this.#last[at] = value;
        }
      }
      if (!Number.isSafeInteger(value) || (kind !== SIGNED && value < 0))
        throw badRecording(`a number of an event '${row.name}' is out of range`, this.#where());
      this.fields[i] = value;
    }
    if (row.blob === true) {
      const length = this.#number();
      if (length > BLOB_MAX || this.#at + length > this.#block.length)
        throw badRecording(`the bytes of an event '${row.name}' leave their block`, this.#where());
      this.blob = this.#block.subarray(this.#at, this.#at + length);
      this.#at += length;
    }
    return true;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }

  #readHeader(path: string): RecordingHeader {
    const start = this.#read(MAGIC.length + 4);
    if (start === undefined || !isMagic(start)) throw badRecording(`${path} is no recording of mpt`, versionHint(start));
    const length = start.readUInt32LE(MAGIC.length);
    if (length > HEADER_MAX) throw badRecording('the head of the recording is too long');
    const text = this.#read(length);
    if (text === undefined) throw badRecording('the recording ends inside its head');
    return parseHeader(text.toString('utf8'));
  }

  /** False at the end of the file, or of its last whole block. */
  #nextBlock(): boolean {
    const start = this.#position;
    const head = this.#read(BLOCK_HEAD);
    if (head === undefined) {
      this.truncated = start < this.size;
      return false;
    }
    const [length, packedLength] = [head.readUInt32LE(0), head.readUInt32LE(4)];
    if (length === 0 || length > BLOCK_MAX || packedLength > PACKED_MAX)
      throw badRecording('a block has an impossible size', this.#where());
    const packed = this.#read(packedLength);
    if (packed === undefined) {
      this.truncated = true;
      return false;
    }
    let block: Buffer;
    try {
      block = inflateSync(packed, { maxOutputLength: length });
    } catch {
      throw badRecording('a block is damaged', this.#where());
    }
    if (block.length !== length) throw badRecording('a block is damaged', this.#where());
    this.#block = block;
    this.#at = 0;
    return true;
  }

  /** Undefined where the file is shorter. */
  #read(length: number): Buffer | undefined {
    const bytes = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const n = readSync(this.#fd, bytes, done, length - done, this.#position + done);
      if (n === 0) return undefined;
      done += n;
    }
    this.#position += length;
    return bytes;
  }

  #number(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < NUMBER_MAX; i++) {
      const byte = this.#block[this.#at++];
      if (byte === undefined) throw badRecording('an event leaves its block', this.#where());
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
    throw badRecording('a number is too long', this.#where());
  }

  #where(): string {
    return `the file is damaged before byte ${this.#position}`;
  }
}

const isMagic = (bytes: Buffer): boolean => bytes.toString('latin1', 0, MAGIC.length) === MAGIC;

/** Another version is told apart from another file. */
const versionHint = (bytes: Buffer | undefined): string | undefined =>
  bytes?.toString('latin1', 0, 6) === MAGIC.slice(0, 6)
    ? `its format is version ${String.fromCharCode(bytes[6] as number)}, this mpt reads 1`
    : undefined;

function failed(path: string, error: unknown): MptError {
  const { errno } = error as NodeJS.ErrnoException;
  return new MptError('IO', `${path} cannot be read`, {
    op: 'replay',
    ...(errno === undefined ? { cause: error } : { errno: Math.abs(errno) }),
  });
}
