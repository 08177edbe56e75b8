/**
 * The AUX channel of a DDI (Intel OSRC Broadwell vol. 2c: DDI_AUX_CTL, DDI_AUX_DATA; facts: gvt.md 4.18). A write that sends is answered
 * before it returns: the message stands in the data registers, first byte on top, and the reply takes its place. Where no monitor is, a message
 * is done with a timeout.
 */
import type { EventSink, GvtEvent, RegisterStore } from '../roles.js';
import { AUX_MESSAGE, type DpSink } from './dp-sink.js';

/** Control. */
const SEND = 0x8000_0000;
const DONE = 0x4000_0000;
const INTERRUPT = 0x2000_0000;
const TIMEOUT = 0x1000_0000;
const RECEIVE_ERROR = 0x0200_0000;
/** What a 1 clears. */
const STATUS = DONE | TIMEOUT | RECEIVE_ERROR;
const SIZE_SHIFT = 20;
const SIZE_MASK = 0x1f;
/** First data register, from the control register on. */
const DATA = 4;

export class AuxChannel {
  readonly #registers: RegisterStore;
  readonly #events: EventSink;
  readonly #message = new Uint8Array(AUX_MESSAGE);

  constructor(registers: RegisterStore, events: EventSink) {
    this.#registers = registers;
    this.#events = events;
  }

  /**
   * The control register was written.
   * @param raw what was written, and `old` what stood there
   * @param sink the monitor, or undefined where none answers
   * @param done the port's event
   */
  control(offset: number, raw: number, old: number, sink: DpSink | undefined, done: GvtEvent | undefined): void {
    const registers = this.#registers;
    const setup = raw & ~(SEND | STATUS);
    if ((raw & SEND) === 0) {
      registers.set(offset, setup | (old & STATUS & ~raw));
      return;
    }
    const size = (raw >>> SIZE_SHIFT) & SIZE_MASK;
    const answered = sink === undefined || size > AUX_MESSAGE ? 0 : this.#exchange(offset + DATA, size, sink);
    const status = answered === 0 ? DONE | TIMEOUT : DONE;
    // A timeout leaves the size of the request.
    const received = answered === 0 ? setup : (setup & ~(SIZE_MASK << SIZE_SHIFT)) | (answered << SIZE_SHIFT);
    registers.set(offset, received | status);
    if ((raw & INTERRUPT) !== 0 && done !== undefined) this.#events.raise(done);
  }

  /** @returns bytes of the reply; 0: none */
  #exchange(data: number, size: number, sink: DpSink): number {
    const [registers, message] = [this.#registers, this.#message];
    message.fill(0);
    for (let i = 0; i < size; i++) message[i] = registers.get(data + (i & ~3)) >>> (24 - 8 * (i & 3));
    const answered = sink.answer(message, size);
    for (let i = 0; i < answered; i += 4) {
      let word = 0;
      for (let byte = 0; byte < 4; byte++) word = (word << 8) | (i + byte < answered ? (message[i + byte] as number) : 0);
      registers.set(data + i, word);
    }
    return answered;
  }
}
