/**
 * A DisplayPort monitor as its source sees it over the AUX channel: registers (DPCD), the devices of its I2C bus, and what it receives on the
 * main link (VESA DisplayPort 1.2: 2.7 AUX transactions, 2.9.3 DPCD, 3.5.1 link training; facts: gvt.md 4.18).
 *
 * It answers each request at once: it never defers. What it sees on the link is what the port's registers say that the source sends.
 */
import type { Saved, StateStream } from '../state/stream.js';
import type { Ddc } from './ddc.js';

/** What a source sends. */
export interface MainLink {
  /** Lanes that are driven; 0: the port is off. */
  readonly lanes: number;
  /** Training pattern 1 to 3, or 0: none. Of a port that is off it means nothing. */
  readonly pattern: number;
}

/** Bytes of the longest message: four of the header, 16 of data. */
export const AUX_MESSAGE = 20;
const HEADER = 4;
const DATA_MAX = 16;

/** Request codes: bit 3 native; of I2C bit 2 is MOT, more messages of the same transaction follow. */
const NATIVE = 8;
const MOT = 4;
const READ = 1;
const WRITE_STATUS = 2;
/** Replies, as the first byte has them. */
const ACK = 0;
const NATIVE_NACK = 0x10;
const I2C_NACK = 0x40;

/** DPCD addresses. */
const DPCD = {
  CAPABILITIES: 0x000,
  LINK_RATE: 0x100,
  LANES: 0x101,
  PATTERN: 0x102,
  LINK_END: 0x110,
  SINK_COUNT: 0x200,
  LANE_STATUS: 0x202,
  ALIGNED: 0x204,
  IN_SYNC: 0x205,
  SOURCE: 0x300,
  SOURCE_END: 0x400,
  POWER: 0x600,
  SIZE: 0x800,
} as const;

/** Link rates in units of 0.27 Gb/s. */
const RATES = [0x06, 0x0a, 0x14];
const LANES_MAX = 4;
/**
 * Revision 1.2; 5.4 Gb/s; 4 lanes, training pattern 3 (which that rate needs) and enhanced framing; half a percent of down-spread; one
 * receiver; no branch; 8b/10b.
 */
const CAPABILITIES = [0x12, 0x14, LANES_MAX | 0x40 | 0x80, 0x01, 0x00, 0x00, 0x01];
/** Bits of a lane's status. */
const RECOVERED = 1;
const EQUALISED = 2 | 4;
const PATTERN_MASK = 3;
const LANES_MASK = 0x1f;
const POWER_ON = 1;
/** In the place of an address of 7 bits with its direction. */
const NO_TRANSACTION = 0x100;

export class DpSink implements Saved {
  readonly #ddc: Ddc;
  readonly #link: MainLink;
  readonly #dpcd = new Uint8Array(DPCD.SIZE);
  /** Lanes whose clock was recovered, and all of them equalised, since the link was set up. */
  #recovered = 0;
  #equalised = false;
  /** The I2C transaction that goes on: address and direction. */
  #i2c = NO_TRANSACTION;
  #acknowledged = false;

  constructor(ddc: Ddc, link: MainLink) {
    this.#ddc = ddc;
    this.#link = link;
    this.reset();
  }

  /** The monitor is plugged in, or its power was away. */
  reset(): void {
    this.#dpcd.fill(0);
    this.#dpcd.set(CAPABILITIES, DPCD.CAPABILITIES);
    this.#dpcd[DPCD.SINK_COUNT] = 1;
    this.#dpcd[DPCD.POWER] = POWER_ON;
    this.#i2c = NO_TRANSACTION;
    this.linkLost();
  }

  exchange(state: StateStream): void {
    state.bytes('dpcd', this.#dpcd);
    // No guest writes these.
    this.#dpcd.set(CAPABILITIES, DPCD.CAPABILITIES);
    this.#recovered = state.u32('recovered', this.#recovered, LANES_MAX);
    this.#equalised = state.bool('equalised', this.#equalised);
    this.#i2c = state.u32('i2c', this.#i2c, NO_TRANSACTION);
    this.#acknowledged = state.bool('acknowledged', this.#acknowledged);
  }

  /** The source sends nothing any more. */
  linkLost(): void {
    this.#recovered = 0;
    this.#equalised = false;
  }

  /**
   * Answers a request.
   * @param message gets the reply in its place; has `AUX_MESSAGE` bytes
   * @param size bytes of the request
   * @returns bytes of the reply; 0: what came is no request, and is not answered
   */
  answer(message: Uint8Array, size: number): number {
    if (size < HEADER - 1 || size > AUX_MESSAGE) return 0;
    const code = (message[0] as number) >>> 4;
    const address = (((message[0] as number) & 0xf) << 16) | ((message[1] as number) << 8) | (message[2] as number);
    const count = size < HEADER ? 0 : (message[3] as number) + 1;
    if (count > DATA_MAX) return 0;
    const carries = size - Math.min(size, HEADER);
    const writes = code === NATIVE || (code & ~MOT) === 0;
    if (writes ? carries !== count : carries !== 0) return 0;
    if (code === NATIVE || code === (NATIVE | READ)) {
      // Without a length there is nothing to read or write.
      if (count === 0) return reply(message, NATIVE_NACK, 1);
      return code === NATIVE ? this.#write(message, address, count) : this.#read(message, address, count);
    }
    if ((code & NATIVE) !== 0) return 0;
    return this.#i2cMessage(message, code, address & 0x7f, count);
  }

  // --- native -----------------------------------------------------------------------------------------------------

  #read(message: Uint8Array, address: number, count: number): number {
    for (let i = 0; i < count; i++) message[1 + i] = this.#register(address + i);
    return reply(message, ACK, 1 + count);
  }

  /** Registers that cannot be written take no notice. */
  #write(message: Uint8Array, address: number, count: number): number {
    for (let i = 0; i < count; i++) {
      const at = address + i;
      const link = at >= DPCD.LINK_RATE && at < DPCD.LINK_END;
      if (link || (at >= DPCD.SOURCE && at < DPCD.SOURCE_END) || at === DPCD.POWER) this.#dpcd[at] = message[HEADER + i] as number;
      if (at === DPCD.LINK_RATE || at === DPCD.LANES) this.linkLost();
    }
    // Once the whole message is there: pattern and lanes may come with it.
    if (address <= DPCD.PATTERN && address + count > DPCD.PATTERN) this.#train();
    return reply(message, ACK, 1);
  }

  #register(address: number): number {
    switch (address) {
      case DPCD.LANE_STATUS:
      case DPCD.LANE_STATUS + 1: {
        const first = (address - DPCD.LANE_STATUS) * 2;
        return this.#laneStatus(first) | (this.#laneStatus(first + 1) << 4);
      }
      case DPCD.ALIGNED:
      case DPCD.IN_SYNC:
        return this.#equalised ? 1 : 0;
      default:
        return address < DPCD.SIZE ? (this.#dpcd[address] as number) : 0;
    }
  }

  #laneStatus(lane: number): number {
    if (lane >= this.#recovered) return 0;
    return this.#equalised ? RECOVERED | EQUALISED : RECOVERED;
  }

  /**
   * A training pattern was asked for. Every voltage is right at once: on no lane another one is asked for. First pattern 1 recovers the
   * clock, then 2 or 3 equalises; the end of training changes nothing.
   */
  #train(): void {
    const pattern = (this.#dpcd[DPCD.PATTERN] as number) & PATTERN_MASK;
    if (pattern === 0) return;
    const lanes = (this.#dpcd[DPCD.LANES] as number) & LANES_MASK;
    const valid = RATES.includes(this.#dpcd[DPCD.LINK_RATE] as number) && (lanes === 1 || lanes === 2 || lanes === LANES_MAX);
    if (pattern === 1) this.linkLost();
    if (!valid || this.#link.pattern !== pattern || this.#link.lanes < lanes) return;
    if (pattern === 1) this.#recovered = lanes;
    else this.#equalised = this.#recovered === lanes;
  }

  // --- I2C over AUX -----------------------------------------------------------------------------------------------

  /** A transaction goes on while address and direction stay the same and each message but the last has MOT. */
  #i2cMessage(message: Uint8Array, code: number, address: number, count: number): number {
    const reading = (code & READ) !== 0;
    if ((code & ~MOT) === WRITE_STATUS) {
      this.#end(code);
      return reply(message, this.#acknowledged ? ACK : I2C_NACK, 1);
    }
    const transaction = (address << 1) | (reading ? 1 : 0);
    // A message without data is a start condition even where there was one.
    if (count === 0 || this.#i2c !== transaction) this.#acknowledged = this.#ddc.start(address, reading);
    this.#i2c = transaction;
    let size = 1;
    if (this.#acknowledged) {
      if (reading) for (; size <= count; size++) message[size] = this.#ddc.read();
      else for (let i = 0; i < count; i++) this.#ddc.write(message[HEADER + i] as number);
    }
    const answer = this.#acknowledged ? ACK : I2C_NACK;
    this.#end(code);
    return reply(message, answer, size);
  }

  #end(code: number): void {
    if ((code & MOT) !== 0) return;
    this.#i2c = NO_TRANSACTION;
    this.#ddc.stop();
  }
}

function reply(message: Uint8Array, code: number, size: number): number {
  message[0] = code;
  return size;
}
