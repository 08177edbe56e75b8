/**
 * The other end: a vfio-user client, for tests, benchmarks and the interpreted guest. It does what QEMU does: agree on a version, make
 * memory known, ask for regions and interrupts, access regions; and it answers DMA_READ and DMA_WRITE while it waits.
 */
import { errnoText, MptError } from '../core/errors.js';
import { MessageStream } from './message-stream.js';
import { BODY, COMMAND_NAMES, Command, DmaFlag, E, HEADER_SIZE, HeaderFlag, MULTI_ENTRY, setU64, u64 } from './protocol.js';
import type { Transport } from './transport.js';

export interface ClientOptions {
  /** Memory that the server reaches by messages. @returns false for addresses that are none */
  readonly onDma?: (address: number, bytes: Uint8Array, write: boolean) => boolean;
  /** Called while a reply is waited for and nothing came: where both ends share a thread the server gets its turn. */
  readonly pump?: () => void;
  /** How long a reply may take; default 5000 ms, as QEMU's. */
  readonly timeoutMs?: number;
}

export interface RegionInfo {
  readonly size: number;
  readonly flags: number;
  /** Offset in the file that came, for mmap. */
  readonly fileOffset: number;
  /** Capabilities by id, each with its bytes. */
  readonly capabilities: ReadonlyMap<number, Uint8Array>;
  /** Descriptor of the region's file, the caller's; undefined when it cannot be mapped. */
  readonly fd: number | undefined;
}

/** A reply that is an error. */
export class ReplyError extends MptError {
  constructor(command: number, errno: number) {
    super('HYPERVISOR', `the server refused ${COMMAND_NAMES[command] ?? command}, errno ${errnoText(errno)}`, { op: 'vfio_user', errno });
  }
}

/** How long one wait lasts before the pump gets its turn. */
const WAIT_MS = 100;

export class VfioUserClient {
  readonly stream: MessageStream;
  readonly #options: ClientOptions;
  #id = 0;

  constructor(transport: Transport, options: ClientOptions = {}) {
    this.stream = new MessageStream(transport);
    this.#options = options;
  }

  get connected(): boolean {
    return this.stream.end === undefined;
  }

  /** Agrees on version 0.0. @returns the server's capabilities */
  version(capabilities: Record<string, unknown> = {}): Record<string, unknown> {
    const { out, outBytes, view } = this.stream;
    out.setUint32(HEADER_SIZE, 0, true);
    const json = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
    outBytes.set(json, HEADER_SIZE + BODY.VERSION);
    this.call(Command.VERSION, BODY.VERSION + json.length);
    const { body, bodyLength, bytes } = this.stream;
    if (bodyLength < BODY.VERSION || view.getUint16(body, true) !== 0) throw this.#broken('VERSION');
    const text = new TextDecoder().decode(bytes.subarray(body + BODY.VERSION, body + bodyLength)).replace(/\0$/, '');
    return text === '' ? {} : (JSON.parse(text).capabilities ?? {});
  }

  dmaMap(address: number, size: number, fd?: number, offset = 0, flags: number = DmaFlag.READ | DmaFlag.WRITE): void {
    const { out } = this.stream;
    out.setUint32(HEADER_SIZE, BODY.DMA_MAP, true);
    out.setUint32(HEADER_SIZE + 4, flags, true);
    setU64(out, HEADER_SIZE + 8, offset);
    setU64(out, HEADER_SIZE + 16, address);
    setU64(out, HEADER_SIZE + 24, size);
    this.call(Command.DMA_MAP, BODY.DMA_MAP, fd === undefined ? [] : [fd]);
  }

  dmaUnmap(address: number, size: number, flags = 0): void {
    const { out } = this.stream;
    out.setUint32(HEADER_SIZE, BODY.DMA_UNMAP, true);
    out.setUint32(HEADER_SIZE + 4, flags, true);
    setU64(out, HEADER_SIZE + 8, address);
    setU64(out, HEADER_SIZE + 16, size);
    this.call(Command.DMA_UNMAP, BODY.DMA_UNMAP);
  }

  deviceInfo(): { flags: number; regions: number; irqs: number } {
    const { out } = this.stream;
    this.#dwords(BODY.DEVICE_GET_INFO, 0, 0, 0);
    out.setUint32(HEADER_SIZE, BODY.DEVICE_GET_INFO, true);
    this.call(Command.DEVICE_GET_INFO, BODY.DEVICE_GET_INFO);
    const { view, body } = this.stream;
    return { flags: view.getUint32(body + 4, true), regions: view.getUint32(body + 8, true), irqs: view.getUint32(body + 12, true) };
  }

  regionInfo(index: number, argsz: number = BODY.REGION_INFO): RegionInfo {
    const { out } = this.stream;
    this.#dwords(argsz, 0, index, 0, 0, 0, 0, 0);
    out.setUint32(HEADER_SIZE, argsz, true);
    this.call(Command.DEVICE_GET_REGION_INFO, BODY.REGION_INFO);
    const { view, body, bodyLength, bytes, fds } = this.stream;
    const needed = view.getUint32(body, true);
    const fd = fds.shift();
    if (needed > argsz && bodyLength < needed) {
      if (fd !== undefined) this.stream.transport.closeFd(fd);
      return this.regionInfo(index, needed);
    }
    const capabilities = new Map<number, Uint8Array>();
    for (
      let at = view.getUint32(body + 12, true);
      at !== 0 && at + 8 <= bodyLength && !capabilities.has(view.getUint16(body + at, true));
    ) {
      const next = view.getUint32(body + at + 4, true);
      capabilities.set(view.getUint16(body + at, true), bytes.slice(body + at, body + (next === 0 ? bodyLength : next)));
      at = next;
    }
    return { size: u64(view, body + 16), flags: view.getUint32(body + 4, true), fileOffset: u64(view, body + 24), capabilities, fd };
  }

  irqInfo(index: number): { flags: number; count: number } {
    this.#dwords(BODY.IRQ_INFO, 0, index, 0);
    this.call(Command.DEVICE_GET_IRQ_INFO, BODY.IRQ_INFO);
    const { view, body } = this.stream;
    return { flags: view.getUint32(body + 4, true), count: view.getUint32(body + 12, true) };
  }

  /** SET_IRQS. @param bools for DATA_BOOL @param fds for DATA_EVENTFD; they stay the caller's */
  setIrqs(
    flags: number,
    index: number,
    start: number,
    count: number,
    data: { readonly bools?: readonly number[]; readonly fds?: readonly number[] } = {},
  ): void {
    const bools = data.bools ?? [];
    this.#dwords(BODY.SET_IRQS + bools.length, flags, index, start, count);
    this.stream.outBytes.set(bools, HEADER_SIZE + BODY.SET_IRQS);
    this.call(Command.DEVICE_SET_IRQS, BODY.SET_IRQS + bools.length, data.fds);
  }

  /** Reads `length` bytes; valid until the next call. */
  read(region: number, offset: number, length: number): Uint8Array {
    this.startRead(region, offset, length);
    this.#await(Command.REGION_READ);
    return this.readData(length);
  }

  /** Sends a read, for a caller that looks for the reply by `pollReply`. */
  startRead(region: number, offset: number, length: number): void {
    this.#accessFields(region, offset, length);
    this.#send(Command.REGION_READ, BODY.REGION_ACCESS, 0);
  }

  /** The data of the reply to a read. */
  readData(length: number): Uint8Array {
    const { body, bodyLength, bytes } = this.stream;
    if (bodyLength !== BODY.REGION_ACCESS + length) throw this.#broken('REGION_READ');
    return bytes.subarray(body + BODY.REGION_ACCESS, body + BODY.REGION_ACCESS + length);
  }

  /** Writes and waits for the reply. */
  write(region: number, offset: number, bytes: Uint8Array): void {
    this.startWrite(region, offset, bytes);
    this.#await(Command.REGION_WRITE);
  }

  /** Sends a write whose reply the caller looks for by `pollReply`; posted: there will be none. */
  startWrite(region: number, offset: number, bytes: Uint8Array, posted = false): void {
    this.#accessFields(region, offset, bytes.length);
    this.stream.outBytes.set(bytes, HEADER_SIZE + BODY.REGION_ACCESS);
    this.#send(Command.REGION_WRITE, BODY.REGION_ACCESS + bytes.length, posted ? HeaderFlag.NO_REPLY : 0);
  }

  /** REGION_WRITE_MULTI, posted. Each entry has at most 8 bytes. */
  writeMulti(writes: readonly { readonly region: number; readonly offset: number; readonly bytes: Uint8Array }[]): void {
    const { out, outBytes } = this.stream;
    setU64(out, HEADER_SIZE, writes.length);
    writes.forEach(({ region, offset, bytes }, i) => {
      const at = HEADER_SIZE + BODY.WRITE_MULTI + i * MULTI_ENTRY;
      outBytes.fill(0, at, at + MULTI_ENTRY);
      setU64(out, at, offset);
      out.setUint32(at + 8, region, true);
      out.setUint32(at + 12, bytes.length, true);
      outBytes.set(bytes, at + 16);
    });
    this.#send(Command.REGION_WRITE_MULTI, BODY.WRITE_MULTI + writes.length * MULTI_ENTRY, HeaderFlag.NO_REPLY);
  }

  reset(): void {
    this.call(Command.DEVICE_RESET, 0);
  }

  /** Sends a command whose body was written into `stream.out`, and waits for its reply. @throws ReplyError, MptError VM_GONE, TIMEOUT */
  call(command: number, bodyLength: number, fds?: readonly number[]): void {
    this.#send(command, bodyLength, 0, fds);
    this.#await(command);
  }

  /**
   * Takes the reply to the last command if it has come; DMA requests that came before it are answered.
   * @throws ReplyError, MptError VM_GONE when the server is gone
   */
  pollReply(timeoutMs: number): boolean {
    while (this.stream.next(timeoutMs)) {
      if ((this.stream.flags & HeaderFlag.TYPE_MASK) === HeaderFlag.COMMAND) {
        this.#serve();
        continue;
      }
      if (this.stream.id !== this.#id) throw this.#broken('a reply to nothing');
      if ((this.stream.flags & HeaderFlag.ERROR) !== 0) throw new ReplyError(this.stream.command, this.stream.errno);
      return true;
    }
    if (!this.connected) throw new MptError('VM_GONE', `the connection ended: ${this.stream.end}`, { op: 'vfio_user' });
    return false;
  }

  /** Answers requests of the server that have come. @returns false when the server is gone */
  serveRequests(): boolean {
    while (this.stream.next(0)) if ((this.stream.flags & HeaderFlag.TYPE_MASK) === HeaderFlag.COMMAND) this.#serve();
    return this.connected;
  }

  close(): void {
    this.stream.close();
  }

  #await(command: number): void {
    const deadline = performance.now() + (this.#options.timeoutMs ?? 5000);
    const { pump } = this.#options;
    while (!this.pollReply(pump === undefined ? WAIT_MS : 0)) {
      pump?.();
      if (performance.now() > deadline)
        throw new MptError('TIMEOUT', `the server did not answer ${COMMAND_NAMES[command] ?? command}`, { op: 'vfio_user' });
    }
  }

  #send(command: number, bodyLength: number, flags: number, fds?: readonly number[]): void {
    this.#id = (this.#id + 1) & 0x7fff;
    this.stream.send(0, this.#id, command, bodyLength, flags, 0, fds);
  }

  #accessFields(region: number, offset: number, length: number): void {
    const { out } = this.stream;
    setU64(out, HEADER_SIZE, offset);
    out.setUint32(HEADER_SIZE + 8, region, true);
    out.setUint32(HEADER_SIZE + 12, length, true);
  }

  #dwords(...values: readonly number[]): void {
    const { out } = this.stream;
    values.forEach((value, i) => {
      out.setUint32(HEADER_SIZE + 4 * i, value, true);
    });
  }

  /** Answers DMA_READ and DMA_WRITE. */
  #serve(): void {
    const { stream } = this;
    const { id, command, view, body, bodyLength, out, bytes, outBytes, flags } = stream;
    const write = command === Command.DMA_WRITE;
    const known = (write || command === Command.DMA_READ) && bodyLength >= BODY.DMA_ACCESS;
    const [address, length] = known ? [u64(view, body), u64(view, body + 8)] : [0, 0];
    const at = HEADER_SIZE + BODY.DMA_ACCESS;
    let errno = known ? 0 : E.NOTSUP;
    if (known && write && bodyLength !== BODY.DMA_ACCESS + length) errno = E.INVAL;
    if (errno === 0) {
      const data = write ? bytes.subarray(body + BODY.DMA_ACCESS, body + BODY.DMA_ACCESS + length) : outBytes.subarray(at, at + length);
      if (data.length !== length || this.#options.onDma?.(address, data, write) !== true) errno = E.FAULT;
    }
    if ((flags & HeaderFlag.NO_REPLY) !== 0) return;
    setU64(out, HEADER_SIZE, address);
    setU64(out, HEADER_SIZE + 8, length);
    const replyLength = errno !== 0 ? 0 : BODY.DMA_ACCESS + (write ? 0 : length);
    stream.send(0, id, command, replyLength, HeaderFlag.REPLY | (errno === 0 ? 0 : HeaderFlag.ERROR), errno);
  }

  #broken(what: string): MptError {
    return new MptError('HYPERVISOR', `the server's answer is malformed: ${what}`, { op: 'vfio_user' });
  }
}
