/**
 * GMBUS: the I2C controller that reads the monitors' EDID (Intel OSRC Broadwell vol. 2c: GMBUS0-GMBUS5; facts: gvt.md 4.18, i915.md
 * rule 7). A message is started by GMBUS1, its bytes pass through GMBUS3 four at a time, and the device answers at once: what the
 * hardware would have to wait for is there when the register write returns.
 *
 * One device is behind each pin pair that has a monitor: its EDID (E-DDC: address 0x50, segments at 0x30).
 */
import type { EventSink, RegisterStore } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';

/** Offsets of the registers. */
export const GMBUS = { SELECT: 0xc_5100, COMMAND: 0xc_5104, STATUS: 0xc_5108, DATA: 0xc_510c, MASK: 0xc_5110, INDEX: 0xc_5120 } as const;

/** GMBUS0: pin pair. */
const PIN_MASK = 7;
/** Pin pair of port B's DDC lines (i915: GMBUS_PIN_DPB). */
export const PIN_PORT_B = 5;

/** GMBUS1. */
const CLEAR_INTERRUPT = 0x8000_0000;
const READY = 0x4000_0000;
const CYCLE = { WAIT: 1 << 25, INDEX: 1 << 26, STOP: 1 << 27 } as const;
const COUNT_SHIFT = 16;
const COUNT_MASK = 0x1ff;
const INDEX_SHIFT = 8;
const READ = 1;

/** GMBUS2. */
export const GmbusStatus = { IN_USE: 1 << 15, WAIT_PHASE: 1 << 14, READY: 1 << 11, NAK: 1 << 10, ACTIVE: 1 << 9, COUNT: 0x1ff } as const;

/** What this controller's own state has; the other bits are added when the register is read. */
const STATUS_BITS = GmbusStatus.WAIT_PHASE | GmbusStatus.READY | GmbusStatus.NAK | GmbusStatus.ACTIVE;

/** GMBUS4: which states interrupt. */
const MASK = { READY: 1 << 0, WAIT: 1 << 1, IDLE: 1 << 2, NAK: 1 << 3 } as const;

/** GMBUS5: the index has two bytes. */
const TWO_BYTES = 0x8000_0000;

/** I2C addresses, 7 bits (VESA E-DDC 1.3). */
const EDID_ADDRESS = 0x50;
const SEGMENT_ADDRESS = 0x30;
const SEGMENT_BYTES = 256;

export class Gmbus implements Saved {
  readonly #registers: RegisterStore;
  readonly #events: EventSink;
  /** The EDID at a pin pair, or undefined where no device answers. */
  readonly #edidAt: (pin: number) => Uint8Array | undefined;
  #status: number = GmbusStatus.READY;
  #inUse = false;
  /** Bytes of the message that have not passed. */
  #left = 0;
  #reading = false;
  #address = 0;
  /** Where the EDID's next byte is read; survives the end of a message. */
  #offset = 0;
  #segment = 0;
  /** The next written byte is an offset. */
  #expectsOffset = false;

  constructor(parts: {
    readonly registers: RegisterStore;
    readonly events: EventSink;
    readonly edidAt: (pin: number) => Uint8Array | undefined;
  }) {
    this.#registers = parts.registers;
    this.#events = parts.events;
    this.#edidAt = parts.edidAt;
  }

  reset(): void {
    this.#end();
    this.#inUse = false;
    this.#offset = 0;
    this.#segment = 0;
  }

  /** A message in progress. */
  exchange(state: StateStream): void {
    this.#status = state.u32('status', this.#status, STATUS_BITS);
    this.#inUse = state.bool('in-use', this.#inUse);
    this.#left = state.u32('left', this.#left, COUNT_MASK);
    this.#reading = state.bool('reading', this.#reading);
    this.#address = state.u32('address', this.#address, 0x7f);
    this.#offset = state.u32('offset', this.#offset, SEGMENT_BYTES - 1);
    this.#segment = state.u32('segment', this.#segment, 0xff);
    this.#expectsOffset = state.bool('expects-offset', this.#expectsOffset);
  }

  /** GMBUS1 was written. */
  command(value: number): void {
    if ((value & CLEAR_INTERRUPT) !== 0) {
      this.#end();
      this.#segment = 0;
      return;
    }
    if ((value & READY) === 0) return;
    if ((value & (CYCLE.WAIT | CYCLE.INDEX)) === 0) {
      if ((value & CYCLE.STOP) !== 0) this.#stop();
      return;
    }
    this.#begin(value);
    // The stop comes after the last byte.
    if ((value & CYCLE.STOP) !== 0 && this.#left === 0 && (this.#status & GmbusStatus.NAK) === 0) this.#stop();
    this.#tell();
  }

  /** GMBUS2 is read: taking the bus is one read (bit 15). */
  readStatus(): number {
    const status = this.#status | this.#left | (this.#inUse ? GmbusStatus.IN_USE : 0);
    this.#inUse = true;
    return status;
  }

  /** GMBUS2 is written: bit 15 gives the bus back. */
  writeStatus(value: number): void {
    if ((value & GmbusStatus.IN_USE) !== 0) this.#inUse = false;
  }

  /** GMBUS3 is read: the next four bytes, lowest first; past the message 0. */
  readData(): number {
    let value = 0;
    for (let shift = 0; shift < 32 && this.#reading && this.#left > 0; shift += 8, this.#left--) value |= this.#nextByte() << shift;
    this.#tell();
    return value;
  }

  /** GMBUS3 is written: kept for a message that is started later, or the next four bytes of this one. */
  writeData(value: number): void {
    this.#registers.set(GMBUS.DATA, value);
    if (!this.#reading && this.#left > 0) this.#takeBytes(value);
    this.#tell();
  }

  #begin(command: number): void {
    this.#address = (command >>> 1) & 0x7f;
    this.#reading = (command & READ) !== 0;
    this.#left = (command >>> COUNT_SHIFT) & COUNT_MASK;
    this.#expectsOffset = true;
    if (!this.#acknowledged()) {
      this.#left = 0;
      this.#status = GmbusStatus.READY | GmbusStatus.NAK;
      return;
    }
    this.#status = GmbusStatus.READY | GmbusStatus.WAIT_PHASE | GmbusStatus.ACTIVE;
    if ((command & CYCLE.INDEX) !== 0) this.#setIndex((command >>> INDEX_SHIFT) & 0xff);
    if (!this.#reading) this.#takeBytes(this.#registers.get(GMBUS.DATA));
  }

  /** Does a device answer to the address? A segment that the EDID does not reach has no device. */
  #acknowledged(): boolean {
    const edid = this.#edidAt(this.#registers.get(GMBUS.SELECT) & PIN_MASK);
    if (edid === undefined) return false;
    if (this.#address === SEGMENT_ADDRESS) return !this.#reading;
    return this.#address === EDID_ADDRESS && this.#segment * SEGMENT_BYTES < edid.length;
  }

  #setIndex(low: number): void {
    const two = this.#registers.get(GMBUS.INDEX);
    // An EDID has addresses of one byte: of two it takes the second as data, which it cannot store.
    this.#takeByte((two & TWO_BYTES) !== 0 ? (two >>> 8) & 0xff : low);
  }

  #takeBytes(value: number): void {
    for (let shift = 0; shift < 32 && this.#left > 0; shift += 8, this.#left--) this.#takeByte((value >>> shift) & 0xff);
  }

  #takeByte(value: number): void {
    if (!this.#expectsOffset) return;
    this.#expectsOffset = false;
    if (this.#address === SEGMENT_ADDRESS) this.#segment = value;
    else this.#offset = value;
  }

  /** The monitor may have gone in the middle: the line then reads ones. Past the EDID, as past a segment, its memory begins again. */
  #nextByte(): number {
    const edid = this.#edidAt(this.#registers.get(GMBUS.SELECT) & PIN_MASK);
    const at = this.#segment * SEGMENT_BYTES + this.#offset;
    this.#offset = (this.#offset + 1) % SEGMENT_BYTES;
    return edid === undefined ? 0xff : (edid[at % edid.length] as number);
  }

  /** E-DDC: a stop condition takes the segment back to 0. */
  #stop(): void {
    this.#end();
    this.#segment = 0;
    this.#tell();
  }

  #end(): void {
    this.#status = GmbusStatus.READY;
    this.#left = 0;
    this.#reading = false;
  }

  /** Raises the interrupt when the state is one that GMBUS4 asks for. */
  #tell(): void {
    const mask = this.#registers.get(GMBUS.MASK);
    if (mask === 0) return;
    const status = this.#status;
    const idle = (status & GmbusStatus.ACTIVE) === 0;
    if (
      ((mask & MASK.READY) !== 0 && (status & GmbusStatus.READY) !== 0) ||
      ((mask & MASK.WAIT) !== 0 && (status & GmbusStatus.WAIT_PHASE) !== 0) ||
      ((mask & MASK.IDLE) !== 0 && idle) ||
      ((mask & MASK.NAK) !== 0 && (status & GmbusStatus.NAK) !== 0)
    )
      this.#events.raise('pch.gmbus');
  }
}
