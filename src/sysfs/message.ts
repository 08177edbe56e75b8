/** A request of the kernel and the reply to it, in two buffers that are used again for each. 64-bit ids are numbers: they stay below 2^53. */
import { IN, OUT } from './abi.js';
import { ATTRIBUTE_MAX } from './node.js';

/** The kernel wants room for 8 KiB at least (FUSE_MIN_READ_BUFFER); requests here have a page of data at most. */
const REQUEST_MAX = 16_384;
/** A reply's payload: a folder's listing asks for up to 32 pages. */
const REPLY_MAX = 32 * ATTRIBUTE_MAX;
const DWORD = 2 ** 32;

/** A u64 of a view. */
export const u64 = (view: DataView, at: number): number => view.getUint32(at, true) + view.getUint32(at + 4, true) * DWORD;

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % DWORD, true);
  view.setUint32(at + 4, value / DWORD, true);
}

export class Request {
  readonly bytes = new Uint8Array(REQUEST_MAX);
  readonly view = new DataView(this.bytes.buffer);
  /** Bytes that were received. */
  length = 0;

  get opcode(): number {
    return this.view.getUint32(IN.OPCODE, true);
  }

  get unique(): number {
    return u64(this.view, IN.UNIQUE);
  }

  get node(): number {
    return u64(this.view, IN.NODE);
  }

  u32(at: number): number {
    return this.view.getUint32(IN.SIZE + at, true);
  }

  u64(at: number): number {
    return u64(this.view, IN.SIZE + at);
  }

  /** A name, closed by a zero. */
  get name(): string {
    return Buffer.from(this.bytes.buffer, IN.SIZE, Math.max(0, this.length - IN.SIZE - 1)).toString('utf8');
  }

  /** Data behind the fixed part. */
  data(at: number, length: number): Uint8Array {
    return this.bytes.subarray(IN.SIZE + at, Math.min(this.length, IN.SIZE + at + length));
  }
}

export class Reply {
  readonly bytes = new Uint8Array(OUT.SIZE + REPLY_MAX);
  readonly view = new DataView(this.bytes.buffer);
  readonly room = REPLY_MAX;

  /** A payload of zeros, to be filled in at `OUT.SIZE`. */
  clear(length: number): void {
    this.bytes.fill(0, OUT.SIZE, OUT.SIZE + length);
  }

  /** The finished reply. @param error positive errno, or 0 */
  finish(unique: number, error: number, length: number): Uint8Array {
    const whole = OUT.SIZE + (error === 0 ? length : 0);
    this.view.setUint32(OUT.LENGTH, whole, true);
    this.view.setInt32(OUT.ERROR, -error, true);
    setU64(this.view, OUT.UNIQUE, unique);
    return this.bytes.subarray(0, whole);
  }
}
