/**
 * Messages out of a stream of bytes, with the descriptors that ride on them.
 *
 * A receive takes whatever has come, many messages at once if there are many. The kernel ends a receive behind the part that carries
 * descriptors, so they belong to the message that began last in what was received: whoever sends a message by one call, as every
 * client does, gets them to the right one.
 *
 * Messages are used where they lie. Beside the current one, `lookAhead` finds a later message (the reply to a request of ours) without
 * losing those in between; there is always room for it, because messages of the client fill only the first half of the buffer.
 */
import { HEADER_SIZE, HeaderFlag, LIMITS, MESSAGE_MAX } from './protocol.js';
import type { Transport } from './transport.js';

/** Where requests of ours are written in the output buffer: behind the largest reply. */
export const REQUEST_AT = Math.ceil(MESSAGE_MAX / 64) * 64;

/** Descriptors that may wait with messages behind the current one. */
const CARRIED_MAX = 8 * LIMITS.maxMsgFds;

/** Why a stream ended. */
export type StreamEnd =
  | 'the client disconnected'
  | 'a message has an impossible size'
  | 'a message could not be sent'
  | 'a reply came that nobody waits for'
  | 'the first message is not VERSION'
  | 'no common version'
  | 'VERSION did not come in time'
  | 'a request was not answered in time'
  | 'too many descriptors wait'
  | 'closed';

/** Descriptors of one message, and whether there were more. */
interface Carried {
  readonly list: number[];
  readonly surplus: boolean;
}

export class MessageStream {
  readonly transport: Transport;
  /** The input buffer, for fields and for data. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** The output buffer. */
  readonly out: DataView;
  readonly outBytes: Uint8Array;
  /** Where the part of the input ends that messages of the client fill: what is behind it is for replies to requests of ours. */
  readonly #inputEnd: number;
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
  /** More descriptors came than a message may have, or some were lost on the way; the surplus is closed. */
  surplusFds = false;
  #end: StreamEnd | undefined;
  /** First byte of the current or next message, and end of what was received. */
  #start = 0;
  #filled = 0;
  /** Bytes of the current message; 0 when there is none. */
  #size = 0;
  /** Descriptors by the position of their message. */
  readonly #carried = new Map<number, Carried>();
  #carriedCount = 0;
  /** Where a receive puts descriptors; empty between two. */
  readonly #arrived: number[] = [];

  constructor(transport: Transport) {
    this.transport = transport;
    const { input, output } = transport;
    this.view = new DataView(input.buffer, input.byteOffset, input.length);
    this.bytes = input;
    this.out = new DataView(output.buffer, output.byteOffset, output.length);
    this.outBytes = output;
    this.#inputEnd = input.length - MESSAGE_MAX;
  }

  /** Why nothing more will come; undefined while the connection stands. */
  get end(): StreamEnd | undefined {
    return this.#end;
  }

  /** Something was received and not yet looked at: a wait for the socket would overlook it. */
  get buffered(): boolean {
    return this.#filled > this.#start + this.#size;
  }

  /**
   * Goes on to the next message.
   * @param timeoutMs how long to wait at most
   * @returns false when none came in time or the stream ended
   */
  next(timeoutMs: number): boolean {
    this.release();
    for (let wait = timeoutMs; ; wait = 0) {
      const size = this.#messageAt(this.#start);
      if (size > 0) {
        this.#open(this.#start, size);
        return true;
      }
      // Waits once: a client that sends byte by byte does not keep the caller from its other work.
      if (size < 0 || !this.#fill(wait)) return false;
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
   * @returns the position of its header in `view`, to be given to `removeAhead`; undefined: none came in time, or the stream ended
   */
  lookAhead(id: number, deadline: number): number | undefined {
    let at = this.#start + this.#size;
    for (;;) {
      const size = this.#messageAt(at);
      if (size < 0) return undefined;
      if (size > 0) {
        const reply = (this.view.getUint32(at + 8, true) & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
        if (reply && this.view.getUint16(at, true) === id) return at;
        at += size;
        continue;
      }
      const left = deadline - performance.now();
      if (left <= 0 || this.bytes.length === this.#filled) return undefined;
      this.#receive(left, this.bytes.length);
    }
  }

  /** Takes a message that `lookAhead` found out of the input: an access may need any number of replies. */
  removeAhead(at: number): void {
    const size = this.view.getUint32(at + 4, true);
    const fds = this.#takeCarried(at);
    for (const fd of fds?.list ?? []) this.transport.closeFd(fd);
    this.bytes.copyWithin(at, at + size, this.#filled);
    this.#filled -= size;
    this.#moveCarried(at, size);
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
    for (const { list } of this.#carried.values()) for (const fd of list) this.transport.closeFd(fd);
    this.#carried.clear();
    this.#carriedCount = 0;
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
    const fds = this.#takeCarried(at);
    if (fds === undefined) return;
    this.surplusFds = fds.surplus;
    this.fds = fds.list;
  }

  #takeCarried(at: number): Carried | undefined {
    const fds = this.#carried.get(at);
    if (fds === undefined) return undefined;
    this.#carried.delete(at);
    this.#carriedCount -= fds.list.length;
    return fds;
  }

  /** Messages at and behind `from` lie `by` bytes nearer now. */
  #moveCarried(from: number, by: number): void {
    if (this.#carried.size === 0) return;
    const all = [...this.#carried];
    this.#carried.clear();
    for (const [at, fds] of all) this.#carried.set(at < from ? at : at - by, fds);
  }

  /** Receives more; there is no current message, so what is here may be moved to the front. */
  #fill(timeoutMs: number): boolean {
    if (this.#start === this.#filled) {
      this.#start = 0;
      this.#filled = 0;
    } else if (this.#start + MESSAGE_MAX > this.#inputEnd) this.#compact();
    return this.#receive(timeoutMs, this.#inputEnd);
  }

  #compact(): void {
    const by = this.#start;
    this.bytes.copyWithin(0, by, this.#filled);
    this.#start = 0;
    this.#filled -= by;
    this.#moveCarried(0, by);
  }

  #receive(timeoutMs: number, end: number): boolean {
    const got = this.transport.receive(this.#filled, end, timeoutMs, this.#arrived);
    if (got < 0) {
      this.#end = 'the client disconnected';
      return false;
    }
    this.#filled += got;
    if (this.#arrived.length > 0 || this.transport.lostFds) this.#carry(this.transport.lostFds);
    return got > 0;
  }

  /** Gives descriptors to the message that began last. */
  #carry(lost: boolean): void {
    const fds = this.#arrived;
    let at = this.#start;
    for (;;) {
      if (this.#filled - at < HEADER_SIZE) break;
      const size = this.view.getUint32(at + 4, true);
      if (size < HEADER_SIZE || at + size >= this.#filled) break;
      at += size;
    }
    const { list, surplus } = this.#carried.get(at) ?? { list: [], surplus: false };
    const room = LIMITS.maxMsgFds - list.length;
    for (const fd of fds.slice(room)) this.transport.closeFd(fd);
    list.push(...fds.slice(0, room));
    this.#carried.set(at, { list, surplus: surplus || lost || fds.length > room });
    this.#carriedCount += Math.min(room, fds.length);
    if (this.#carriedCount > CARRIED_MAX) this.#end ??= 'too many descriptors wait';
    fds.length = 0;
  }
}
