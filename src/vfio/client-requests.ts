/**
 * What a server asks of its client: to read and write memory of which it has no file. Each request waits for its reply; what the client
 * asks meanwhile is kept for later.
 */
import type { MessageMemory } from './dma-maps.js';
import { type MessageStream, REQUEST_AT } from './message-stream.js';
import { BODY, Command, HEADER_SIZE, HeaderFlag, LIMITS, setU64, u64 } from './protocol.js';

/**
 * How long the client may take to answer a request of ours: less than its own limit for ours, 5 s, and less than after what a thread
 * that is to stop is ended by force.
 */
const REQUEST_DEADLINE_MS = 1500;
/** Ids of our requests: those of the client count in a space of their own, but a log reads better with both apart. */
const FIRST_REQUEST_ID = 0x8000;
const REQUEST_BODY = REQUEST_AT + HEADER_SIZE;

export class ClientRequests implements MessageMemory {
  /** Bytes of data that the client takes in one message. */
  transferMax: number = LIMITS.maxDataXferSize;
  readonly #stream: MessageStream;
  #requestId = FIRST_REQUEST_ID;

  constructor(stream: MessageStream) {
    this.#stream = stream;
  }

  /** DMA_READ: copies client memory that has no file. */
  dmaRead(address: number, target: Uint8Array): boolean {
    return this.#eachTransfer(target.length, (done, n) => {
      const { out } = this.#stream;
      setU64(out, REQUEST_BODY, address + done);
      setU64(out, REQUEST_BODY + 8, n);
      return this.#request(Command.DMA_READ, BODY.DMA_ACCESS, target.subarray(done, done + n));
    });
  }

  /** DMA_WRITE: the other direction. */
  dmaWrite(address: number, source: Uint8Array): boolean {
    return this.#eachTransfer(source.length, (done, n) => {
      const { out, outBytes } = this.#stream;
      setU64(out, REQUEST_BODY, address + done);
      setU64(out, REQUEST_BODY + 8, n);
      outBytes.set(source.subarray(done, done + n), REQUEST_BODY + BODY.DMA_ACCESS);
      return this.#request(Command.DMA_WRITE, BODY.DMA_ACCESS + n);
    });
  }

  /** DMA_WRITE without a reply: for an interrupt message. @returns false when the client is gone */
  dmaPost(address: number, source: Uint8Array): boolean {
    const { out, outBytes } = this.#stream;
    setU64(out, REQUEST_BODY, address);
    setU64(out, REQUEST_BODY + 8, source.length);
    outBytes.set(source, REQUEST_BODY + BODY.DMA_ACCESS);
    const id = this.#nextRequestId();
    return this.#stream.send(
      REQUEST_AT,
      id,
      Command.DMA_WRITE,
      BODY.DMA_ACCESS + source.length,
      HeaderFlag.COMMAND | HeaderFlag.NO_REPLY,
      0,
    );
  }

  #nextRequestId(): number {
    const id = this.#requestId;
    this.#requestId = id === 0xffff ? FIRST_REQUEST_ID : id + 1;
    return id;
  }

  #eachTransfer(length: number, transfer: (done: number, n: number) => boolean): boolean {
    const most = Math.min(this.transferMax, LIMITS.maxDataXferSize);
    for (let done = 0; done < length; done += most) if (!transfer(done, Math.min(most, length - done))) return false;
    return true;
  }

  /**
   * Sends a request and waits for its reply; what the client asks meanwhile is kept for later.
   * @param target where the reply's data goes, which must have that length. Without one the reply may be a bare header, as QEMU's to
   *   DMA_WRITE is
   * @returns false: refused, late, too short, or the client is gone
   */
  #request(command: Command, bodyLength: number, target?: Uint8Array): boolean {
    const stream = this.#stream;
    const id = this.#nextRequestId();
    if (!stream.send(REQUEST_AT, id, command, bodyLength, HeaderFlag.COMMAND, 0)) return false;
    const at = stream.lookAhead(id, performance.now() + REQUEST_DEADLINE_MS);
    if (at === undefined) {
      // Without this a reply that comes later would be taken for another's.
      stream.fail('a request was not answered in time');
      return false;
    }
    const { view, bytes } = stream;
    let answered = view.getUint16(at + 2, true) === command && (view.getUint32(at + 8, true) & HeaderFlag.ERROR) === 0;
    if (answered && target !== undefined) {
      const data = at + HEADER_SIZE + BODY.DMA_ACCESS;
      answered = view.getUint32(at + 4, true) === data - at + target.length && u64(view, at + HEADER_SIZE + 8) === target.length;
      if (answered) target.set(bytes.subarray(data, data + target.length));
    }
    stream.removeAhead(at);
    return answered;
  }
}
