/**
 * One connected client of one device: answers the protocol's commands by the device's VFIO view, and hands out the accesses to its
 * regions one by one.
 *
 * The client is hostile. Whatever it sends is answered by an errno or ends the connection, every descriptor that came with it is
 * closed or owned, and nothing throws. All sizes are checked against the bytes that are there before anything is read.
 */
import { type Errno, RegionFlag, type VfioDevice, type VfioRegion } from '../core/vfio/device.js';
import type { IrqEvent } from '../core/vfio/irqs.js';
import { ClientRequests } from './client-requests.js';
import { COMMANDS } from './commands.js';
import type { DmaMaps } from './dma-maps.js';
import { MessageStream } from './message-stream.js';
import { BODY, Command, E, HEADER_SIZE, HeaderFlag, LIMITS, MULTI_DATA_MAX, MULTI_ENTRY, MULTI_MAX, setU64, u64 } from './protocol.js';
import type { Transport } from './transport.js';

/** One access of the client to a region, valid until it is completed. The object is used again. */
export class RegionAccess {
  region = 0;
  offset = 0;
  write = false;
  /** The data: what is written, or where what is read goes. */
  bytes: Uint8Array = new Uint8Array(0);
}

export interface SessionOptions {
  readonly device: VfioDevice;
  readonly memory: DmaMaps;
  /** Wraps an eventfd that came with SET_IRQS and takes it over; undefined, and closed, for what is no eventfd. */
  readonly openEvent: (fd: number) => IrqEvent | undefined;
  /** A line about what a client did wrong, at a limited rate. */
  readonly onComplaint?: (what: string) => void;
}

/** Messages that are answered in one go before the caller gets its turn. */
const MESSAGES_PER_TURN = 256;
const REPLY_DATA = HEADER_SIZE + BODY.REGION_ACCESS;
const REPLY_VIEWS_MAX = 64;
/** Bytes of the largest single access of a guest. */
const SMALL = 8;
/** Complaints that are passed on; the rest is only counted. */
const COMPLAINTS_MAX = 20;

/** What the connection has got to. */
const State = { NEW: 0, READY: 1 } as const;

export class Session {
  readonly memory: DmaMaps;
  readonly stream: MessageStream;
  /** What we ask of the client. */
  readonly requests: ClientRequests;
  readonly openEvent: (fd: number) => IrqEvent | undefined;
  /** Messages received, and those answered with an error. */
  messages = 0;
  refused = 0;
  readonly #onComplaint: ((what: string) => void) | undefined;
  readonly #access = new RegionAccess();
  /** Views of the reply's data by length, for the lengths that come often. */
  readonly #replyViews = new Map<number, Uint8Array>();
  /** Room for the data of a guest's write, by length. */
  readonly #small = Array.from({ length: SMALL + 1 }, (_, length) => new Uint8Array(length));
  /** The last larger data of a write, and where it lies. */
  #large: Uint8Array = new Uint8Array(0);
  #largeAt = 0;
  #device: VfioDevice;
  /** The device's regions by index. */
  readonly #regions: readonly (VfioRegion | undefined)[];
  #state: number = State.NEW;
  #pending = false;
  /** REGION_WRITE_MULTI in progress: entries, and the next one. */
  #multiCount = 0;
  #multiNext = 0;

  constructor(transport: Transport, options: SessionOptions) {
    this.#device = options.device;
    this.memory = options.memory;
    this.openEvent = options.openEvent;
    this.#onComplaint = options.onComplaint;
    this.stream = new MessageStream(transport);
    const { regions, regionCount } = this.#device;
    this.#regions = Array.from({ length: regionCount }, (_, index) => regions.get(index));
    this.requests = new ClientRequests(this.stream);
    this.memory.messages = this.requests;
  }

  get device(): VfioDevice {
    return this.#device;
  }

  /** Another device of the same shape answers from now on; not while an access is pending. */
  set device(device: VfioDevice) {
    this.#device = device;
  }

  /** The connection stands. */
  get open(): boolean {
    return this.stream.end === undefined;
  }

  /** VERSION was agreed on. */
  get ready(): boolean {
    return this.#state === State.READY;
  }

  /** An access waits for `complete`. */
  get pending(): boolean {
    return this.#pending;
  }

  /**
   * Answers what the client asks until it accesses a region.
   * @returns the access, to be given to `complete`; undefined when none came within `timeoutMs`, when others should get their turn, or
   *   when the connection ended (`open`)
   */
  receive(timeoutMs: number): RegionAccess | undefined {
    if (this.#multiCount > 0) {
      const access = this.#nextOfMulti();
      if (access !== undefined) return access;
    }
    for (let turn = 0; turn < MESSAGES_PER_TURN; turn++) {
      if (!this.stream.next(turn === 0 ? timeoutMs : 0)) return undefined;
      this.messages++;
      if (this.#dispatch()) return this.#access;
    }
    return undefined;
  }

  /** Ends an access: sends the reply, unless the client wants none. @param status 0 or a negative errno */
  complete(status: Errno): void {
    const { stream } = this;
    this.#pending = false;
    if (this.#multiCount > 0) return;
    if ((stream.flags & HeaderFlag.NO_REPLY) !== 0) {
      if (status !== 0) this.refused++;
      return;
    }
    if (status !== 0) {
      this.replyError(-status);
      return;
    }
    const { out, view, body } = stream;
    // offset and region as they came; the count too.
    out.setUint32(HEADER_SIZE, view.getUint32(body, true), true);
    out.setUint32(HEADER_SIZE + 4, view.getUint32(body + 4, true), true);
    out.setUint32(HEADER_SIZE + 8, view.getUint32(body + 8, true), true);
    out.setUint32(HEADER_SIZE + 12, view.getUint32(body + 12, true), true);
    this.reply(BODY.REGION_ACCESS + (this.#access.write ? 0 : this.#access.bytes.length));
  }

  /** Sends the reply whose body was written into `stream.out` behind the header. */
  reply(bodyLength: number, fds?: readonly number[]): void {
    const { stream } = this;
    if ((stream.flags & HeaderFlag.NO_REPLY) !== 0) return;
    stream.send(0, stream.id, stream.command, bodyLength, HeaderFlag.REPLY, 0, fds);
  }

  /** Sends an error reply. @param errno positive */
  replyError(errno: number): void {
    const { stream } = this;
    this.refused++;
    if ((stream.flags & HeaderFlag.NO_REPLY) !== 0) return;
    stream.send(0, stream.id, stream.command, 0, HeaderFlag.REPLY | HeaderFlag.ERROR, errno);
  }

  /** A line for the log. */
  complain(what: string): void {
    if (this.refused <= COMPLAINTS_MAX) this.#onComplaint?.(`${this.device.name}: ${what}`);
  }

  /** Called by VERSION. */
  agreed(clientTransferMax: number): void {
    this.#state = State.READY;
    this.requests.transferMax = clientTransferMax;
  }

  /** Ends the connection and lets go of the client's memory and events; the device goes back to reset. Idempotent. */
  close(): void {
    this.stream.close();
    this.#multiCount = 0;
    this.#pending = false;
    this.memory.messages = undefined;
    this.memory.clear();
    this.device.irqs.clear();
    this.device.reset();
  }

  // --- messages of the client ---------------------------------------------------------------------------------------

  /** Handles the current message. @returns true when it is an access, which waits for `complete` */
  #dispatch(): boolean {
    const { command, flags } = this.stream;
    if ((flags & HeaderFlag.TYPE_MASK) === HeaderFlag.COMMAND) {
      if (command === Command.REGION_READ) return this.#read();
      if (command === Command.REGION_WRITE) return this.#write();
      if (command === Command.REGION_WRITE_MULTI) return this.#multi();
    }
    this.#control();
    return false;
  }

  /** Answers a message that is no access. Apart, as all that is rare here: what is small the compiler joins with its callers. */
  #control(): void {
    const { stream } = this;
    if ((stream.flags & HeaderFlag.TYPE_MASK) !== HeaderFlag.COMMAND) {
      this.complain('a reply came that nobody waits for');
      stream.fail('a reply came that nobody waits for');
      return;
    }
    if (this.#state === State.NEW && stream.command !== Command.VERSION) {
      this.#refuse(E.INVAL, 'the first message is not VERSION');
      stream.fail('the first message is not VERSION');
      return;
    }
    const command = COMMANDS[stream.command];
    if (command === undefined) this.#refuse(E.NOTSUP, `command ${stream.command} is not known`);
    else if (stream.bodyLength < command.min) this.#refuse(E.INVAL, `${command.name} has ${stream.bodyLength} bytes, not ${command.min}`);
    else if (stream.surplusFds || stream.fds.length > command.fds)
      this.#refuse(E.INVAL, `${command.name} came with ${stream.fds.length} descriptors`);
    else {
      const errno = command.run(this);
      if (errno !== 0) this.#refuse(errno, `${command.name} refused`);
    }
  }

  #refuse(errno: number, why: string): void {
    this.replyError(errno);
    this.complain(`${why}, errno ${errno}`);
  }

  #read(): boolean {
    const count = this.#accessFields(RegionFlag.READ);
    if (count < 0) return false;
    this.#access.write = false;
    this.#access.bytes = this.#replyData(count);
    this.#pending = true;
    return true;
  }

  #write(): boolean {
    const { stream } = this;
    const count = this.#accessFields(RegionFlag.WRITE);
    if (count < 0) return false;
    const data = stream.body + BODY.REGION_ACCESS;
    if (stream.bodyLength - BODY.REGION_ACCESS !== count) {
      this.#refuseAccess('has more or fewer bytes of data');
      return false;
    }
    this.#access.write = true;
    this.#access.bytes = this.#written(data, count);
    this.#pending = true;
    return true;
  }

  /** Takes offset, region and count of the current message and checks them. @returns the count, or -1 when it was refused */
  #accessFields(flag: number): number {
    const { view, body, bodyLength, fds, surplusFds } = this.stream;
    if (this.#state === State.READY && bodyLength >= BODY.REGION_ACCESS && fds.length === 0 && !surplusFds) {
      const count = view.getUint32(body + 12, true);
      const fault = this.#setAccess(u64(view, body), view.getUint32(body + 8, true), count, flag);
      if (fault === 0 && count <= LIMITS.maxDataXferSize) return count;
    }
    this.#refuseAccess('is not possible');
    return -1;
  }

  /** Refuses the current message, an access. @param why what is wrong when the message as such is not */
  #refuseAccess(why: string): void {
    const { view, body, bodyLength, fds, surplusFds } = this.stream;
    if (this.#state === State.NEW || bodyLength < BODY.REGION_ACCESS || fds.length > 0 || surplusFds) {
      this.#refuse(E.INVAL, 'an access before VERSION, too short or with descriptors');
      if (this.#state === State.NEW) this.stream.fail('the first message is not VERSION');
      return;
    }
    const [offset, region, count] = [u64(view, body), view.getUint32(body + 8, true), view.getUint32(body + 12, true)];
    this.#refuse(E.INVAL, `an access of ${count} bytes at ${offset} of region ${region} ${why}`);
  }

  #setAccess(offset: number, region: number, count: number, flag: number): number {
    const info = region < this.#regions.length ? this.#regions[region] : undefined;
    // As numbers offset + count does not wrap.
    if (info === undefined || (info.flags & flag) === 0 || count === 0 || offset + count > info.size) return E.INVAL;
    this.#access.region = region;
    this.#access.offset = offset;
    return 0;
  }

  /** Where the reply's data goes, filled with zeros: a device that answers fewer bytes must not give away an earlier reply. */
  #replyData(count: number): Uint8Array {
    let bytes = this.#replyViews.get(count);
    if (bytes === undefined) {
      bytes = this.stream.outBytes.subarray(REPLY_DATA, REPLY_DATA + count);
      if (this.#replyViews.size < REPLY_VIEWS_MAX) this.#replyViews.set(count, bytes);
    }
    if (count > SMALL) bytes.fill(0);
    else for (let i = 0; i < count; i++) bytes[i] = 0;
    return bytes;
  }

  /** The bytes that a message writes. A guest's access is copied to a place that has views already: a new view would cost more. */
  #written(at: number, count: number): Uint8Array {
    const { bytes } = this.stream;
    if (count > SMALL) {
      // A message that comes alone begins where the one before it began.
      if (at !== this.#largeAt || count !== this.#large.length) {
        this.#large = bytes.subarray(at, at + count);
        this.#largeAt = at;
      }
      return this.#large;
    }
    const small = this.#small[count] as Uint8Array;
    for (let i = 0; i < count; i++) small[i] = bytes[at + i] as number;
    return small;
  }

  #multi(): boolean {
    const { stream } = this;
    const count = stream.bodyLength < BODY.WRITE_MULTI ? 0 : u64(stream.view, stream.body);
    const complete = stream.bodyLength === BODY.WRITE_MULTI + count * MULTI_ENTRY;
    if (this.#state === State.NEW || count === 0 || count > MULTI_MAX || !complete || stream.fds.length > 0 || stream.surplusFds) {
      this.#refuse(E.INVAL, `REGION_WRITE_MULTI with ${count} entries in ${stream.bodyLength} bytes`);
      if (this.#state === State.NEW) stream.fail('the first message is not VERSION');
      return false;
    }
    this.#multiCount = count;
    this.#multiNext = 0;
    return this.#nextOfMulti() !== undefined;
  }

  /** The next entry that can be carried out; when there is none any more the message is answered. */
  #nextOfMulti(): RegionAccess | undefined {
    const { view, body } = this.stream;
    while (this.#multiNext < this.#multiCount) {
      const entry = body + BODY.WRITE_MULTI + this.#multiNext++ * MULTI_ENTRY;
      const count = view.getUint32(entry + 12, true);
      if (count > MULTI_DATA_MAX || this.#setAccess(u64(view, entry), view.getUint32(entry + 8, true), count, RegionFlag.WRITE) !== 0) {
        this.refused++;
        continue;
      }
      this.#access.write = true;
      this.#access.bytes = this.#written(entry + 16, count);
      this.#pending = true;
      return this.#access;
    }
    setU64(this.stream.out, HEADER_SIZE, this.#multiCount);
    this.#multiCount = 0;
    this.reply(BODY.WRITE_MULTI);
    return undefined;
  }
}
