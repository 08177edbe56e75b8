/**
 * GMBUS: the I2C controller that reads the monitors' EDID (Intel OSRC Broadwell vol. 2c: GMBUS0-GMBUS5; facts: gvt.md 4.18, i915.md
 * rule 7). A message is started by GMBUS1, its bytes pass through GMBUS3 four at a time, and the device answers at once: what the
 * hardware would have to wait for is there when the register write returns.
 */
import type { EventSink, RegisterStore } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';
import type { Ddc } from './ddc.js';

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

export class Gmbus implements Saved {
  readonly #registers: RegisterStore;
  readonly #events: EventSink;
  /** The monitor's devices at a pin pair, or undefined where nothing is connected to the pins. */
  readonly #ddcAt: (pin: number) => Ddc | undefined;
  #status: number = GmbusStatus.READY;
  #inUse = false;
  /** Bytes of the message that have not passed. */
  #left = 0;
  #reading = false;

  constructor(parts: {
    readonly registers: RegisterStore;
    readonly events: EventSink;
    readonly ddcAt: (pin: number) => Ddc | undefined;
  }) {
    this.#registers = parts.registers;
    this.#events = parts.events;
    this.#ddcAt = parts.ddcAt;
  }

  reset(): void {
    this.#end();
    this.#inUse = false;
  }

  /** A message in progress. */
  exchange(state: StateStream): void {
    this.#status = state.u32('status', this.#status, STATUS_BITS);
    this.#inUse = state.bool('in-use', this.#inUse);
    this.#left = state.u32('left', this.#left, COUNT_MASK);
    this.#reading = state.bool('reading', this.#reading);
  }

  /** GMBUS1 was written. */
  command(value: number): void {
    if ((value & CLEAR_INTERRUPT) !== 0) {
      this.#end();
      this.#device?.stop();
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
    for (let shift = 0; shift < 32 && this.#reading && this.#left > 0; shift += 8, this.#left--)
      value |= (this.#device?.read() ?? 0xff) << shift;
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
    this.#reading = (command & READ) !== 0;
    this.#left = (command >>> COUNT_SHIFT) & COUNT_MASK;
    if (this.#device?.start((command >>> 1) & 0x7f, this.#reading) !== true) {
      this.#left = 0;
      this.#status = GmbusStatus.READY | GmbusStatus.NAK;
      return;
    }
    this.#status = GmbusStatus.READY | GmbusStatus.WAIT_PHASE | GmbusStatus.ACTIVE;
    if ((command & CYCLE.INDEX) !== 0) this.#setIndex((command >>> INDEX_SHIFT) & 0xff);
    if (!this.#reading) this.#takeBytes(this.#registers.get(GMBUS.DATA));
  }

  get #device(): Ddc | undefined {
    return this.#ddcAt(this.#registers.get(GMBUS.SELECT) & PIN_MASK);
  }

  #setIndex(low: number): void {
    const two = this.#registers.get(GMBUS.INDEX);
    // An EDID has addresses of one byte: of two it takes the second as data, which it cannot store.
    this.#device?.write((two & TWO_BYTES) !== 0 ? (two >>> 8) & 0xff : low);
  }

  #takeBytes(value: number): void {
    for (let shift = 0; shift < 32 && this.#left > 0; shift += 8, this.#left--) this.#device?.write((value >>> shift) & 0xff);
  }

  #stop(): void {
    this.#end();
    this.#device?.stop();
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
