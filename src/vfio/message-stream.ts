/**
 * Messages out of a stream of bytes, with the descriptors that ride on them.
 *
 * A receive takes whatever has come, many messages at once if there are many. The kernel ends a receive behind the part that carries
 * descriptors, so they belong to the message that began last in what was received: whoever sends a message by one call, as every
 * client does, gets them to the right one.
 *
 * Messages are used where they lie. Beside the current one, `lookAhead` finds a later message (the reply to a request of ours) without
 * losing those in between.
 */
import { HEADER_SIZE, HeaderFlag, LIMITS, MESSAGE_MAX } from './protocol.js';
import type { Transport } from './transport.js';

/** Where requests of ours are written in the output buffer: behind the largest reply. */
export const REQUEST_AT = Math.ceil(MESSAGE_MAX / 64) * 64;

/** Why a stream ended. */
export type StreamEnd =
  | 'the client disconnected'
  | 'a message has an impossible size'
  | 'a message could not be sent'
  | 'a reply came that nobody waits for'
  | 'the first message is not VERSION'
  | 'no common version'
  | 'a request was not answered in time'
  | 'closed';

export class MessageStream {
  readonly transport: Transport;
  /** The input buffer, for fields and for data. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** The output buffer. */
  readonly out: DataView;
  readonly outBytes: Uint8Array;
  /** The current message. */
  id = 0;
  command = 0;
  flags = 0;
  errno = 0;
  /** First byte of its body in `view`, and the body's length. */
  body = 0;
  bodyLength = 0;
  /** Its descriptors. Who wants one takes it out of the list; what is left is closed with the message. */
  fds: number[] = [];
  /** More descriptors came than a message may have; the surplus is closed. */
  surplusFds = false;
  #end: StreamEnd | undefined;
  /** First byte of the current or next message, and end of what was received. */
  #start = 0;
  #filled = 0;
  /** Bytes of the current message; 0 when there is none. */
  #size = 0;
  /** Descriptors by the position of their message. */
  readonly #carried = new Map<number, number[]>();
  /** Messages that `lookAhead` took. */
  readonly #taken = new Set<number>();
  /** Where a receive puts descriptors; empty between two. */
  readonly #arrived: number[] = [];

  constructor(transport: Transport) {
    this.transport = transport;
    const { input, output } = transport;
    this.view = new DataView(input.buffer, input.byteOffset, input.length);
    this.bytes = input;
    this.out = new DataView(output.buffer, output.byteOffset, output.length);
    this.outBytes = output;
  }

  /** Why nothing more will come; undefined while the connection stands. */
  get end(): StreamEnd | undefined {
    return this.#end;
  }

  /**
   * Goes on to the next message.
   * @param timeoutMs how long to wait at most
   * @returns false when none came in time or the stream ended
   */
  next(timeoutMs: number): boolean {
    this.release();
    for (;;) {
      const size = this.#messageAt(this.#start);
      if (size > 0) {
        if (this.#taken.size > 0 && this.#taken.delete(this.#start)) {
          this.#start += size;
          continue;
        }
        this.#open(this.#start, size);
        return true;
      }
      if (size < 0 || !this.#fill(timeoutMs)) return false;
    }
  }

  /** The current message is done with: its descriptors that nobody took are closed. */
  release(): void {
    if (this.#size === 0) return;
    if (this.fds.length > 0) {
      for (const fd of this.fds) this.transport.closeFd(fd);
      this.fds = [];
    }
    this.surplusFds = false;
    this.#start += this.#size;
    this.#size = 0;
  }

  /**
   * Looks for the reply to request `id` behind the current message, which stays as it is.
   * @returns the position of its header in `view`, valid until the next `next()`; undefined: none came in time, or the stream ended
   */
  lookAhead(id: number, deadline: number): number | undefined {
    let at = this.#start + this.#size;
    for (;;) {
      const size = this.#messageAt(at);
      if (size < 0) return undefined;
      if (size > 0) {
        const reply = (this.view.getUint32(at + 8, true) & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
        if (reply && this.view.getUint16(at, true) === id && !this.#taken.has(at)) {
          this.#taken.add(at);
          return at;
        }
        at += size;
        continue;
      }
      const left = deadline - performance.now();
      if (left <= 0 || this.bytes.length === this.#filled) return undefined;
      this.#receive(left);
    }
  }

  /**
   * Writes the header of a message at `at` of the output buffer and sends it with the body that lies behind it.
   * @param at 0 for replies, REQUEST_AT for requests of ours: a reply may be half written meanwhile
   * @returns false when the stream ended
   */
  send(at: number, id: number, command: number, bodyLength: number, flags: number, errno: number, fds?: readonly number[]): boolean {
    if (this.#end !== undefined) return false;
    const { out } = this;
    out.setUint16(at, id, true);
    out.setUint16(at + 2, command, true);
    out.setUint32(at + 4, HEADER_SIZE + bodyLength, true);
    out.setUint32(at + 8, flags, true);
    out.setUint32(at + 12, errno, true);
    if (this.transport.send(at, at + HEADER_SIZE + bodyLength, fds)) return true;
    this.#end = 'a message could not be sent';
    return false;
  }

  /** Nothing more is received or sent; the buffers stay until `close`. */
  fail(why: StreamEnd): void {
    this.#end ??= why;
  }

  /** Ends the stream and closes every descriptor that is still here. Idempotent. */
  close(): void {
    this.#end ??= 'closed';
    this.release();
    for (const fds of this.#carried.values()) for (const fd of fds) this.transport.closeFd(fd);
    this.#carried.clear();
    this.transport.close();
  }

  /** Size of the whole message at `at`; 0 when it is not all here; -1 when the stream cannot go on. */
  #messageAt(at: number): number {
    if (this.#end !== undefined) return -1;
    const here = this.#filled - at;
    if (here < HEADER_SIZE) return 0;
    const size = this.view.getUint32(at + 4, true);
    if (size < HEADER_SIZE || size > MESSAGE_MAX) {
      this.#end = 'a message has an impossible size';
      return -1;
    }
    return here >= size ? size : 0;
  }

  #open(at: number, size: number): void {
    const { view } = this;
    this.#size = size;
    this.id = view.getUint16(at, true);
    this.command = view.getUint16(at + 2, true);
    this.flags = view.getUint32(at + 8, true);
    this.errno = view.getUint32(at + 12, true);
    this.body = at + HEADER_SIZE;
    this.bodyLength = size - HEADER_SIZE;
    if (this.#carried.size === 0) return;
    const fds = this.#carried.get(at);
    if (fds === undefined) return;
    this.#carried.delete(at);
    this.surplusFds = fds.length > LIMITS.maxMsgFds;
    this.fds = fds;
  }

  /** Receives more; there is no current message, so what is here may be moved to the front. */
  #fill(timeoutMs: number): boolean {
    if (this.#start === this.#filled) {
      this.#start = 0;
      this.#filled = 0;
    } else if (this.#start + MESSAGE_MAX > this.bytes.length) this.#compact();
    return this.#receive(timeoutMs);
  }

  #compact(): void {
    const by = this.#start;
    this.bytes.copyWithin(0, by, this.#filled);
    this.#start = 0;
    this.#filled -= by;
    const moved = [...this.#carried].map(([at, fds]) => [at - by, fds] as const);
    this.#carried.clear();
    for (const [at, fds] of moved) this.#carried.set(at, fds);
    const taken = [...this.#taken].map((at) => at - by);
    this.#taken.clear();
    for (const at of taken) this.#taken.add(at);
  }

  #receive(timeoutMs: number): boolean {
    const got = this.transport.receive(this.#filled, this.view.byteLength, timeoutMs, this.#arrived);
    if (got < 0) {
      this.#end = 'the client disconnected';
      return false;
    }
    this.#filled += got;
    if (this.#arrived.length > 0) this.#carry();
    return got > 0;
  }

  /** Gives descriptors to the message that began last. */
  #carry(): void {
    let at = this.#start;
    for (;;) {
      if (this.#filled - at < HEADER_SIZE) break;
      const size = this.view.getUint32(at + 4, true);
      if (size < HEADER_SIZE || at + size >= this.#filled) break;
      at += size;
    }
    const list = this.#carried.get(at) ?? [];
    for (const fd of this.#arrived) {
      // One more than allowed is kept, so that the message is known to have too many.
      if (list.length <= LIMITS.maxMsgFds) list.push(fd);
      else this.transport.closeFd(fd);
    }
    this.#carried.set(at, list);
    this.#arrived.length = 0;
  }
}
