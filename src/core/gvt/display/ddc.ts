/**
 * The I2C devices in a monitor (VESA E-DDC 1.3): its EDID at address 0x50, which is read from where an offset was written to, and at 0x30 the
 * pointer to a segment of 256 bytes. GMBUS reaches them over two wires, AUX over messages; both begin with a start condition.
 */

import type { Saved, StateStream } from '../state/stream.js';

/** I2C addresses, 7 bits. */
const ADDRESS_MAX = 0x7f;
const EDID_ADDRESS = 0x50;
const SEGMENT_ADDRESS = 0x30;
const SEGMENT_BYTES = 256;

export class Ddc implements Saved {
  /** The EDID of a monitor that is there. */
  readonly #edid: () => Uint8Array | undefined;
  #address = 0;
  /** Where the EDID's next byte is read; survives the end of a message. */
  #offset = 0;
  #segment = 0;
  /** The next written byte is an offset, or the segment. */
  #expectsOffset = false;

  constructor(edid: () => Uint8Array | undefined) {
    this.#edid = edid;
  }

  reset(): void {
    this.#offset = 0;
    this.#segment = 0;
    this.#expectsOffset = false;
  }

  exchange(state: StateStream): void {
    this.#address = state.u32('address', this.#address, ADDRESS_MAX);
    this.#offset = state.u32('offset', this.#offset, SEGMENT_BYTES - 1);
    this.#segment = state.u32('segment', this.#segment, 0xff);
    this.#expectsOffset = state.bool('expects-offset', this.#expectsOffset);
  }

  /** A start condition, and the address. @returns does a device answer? A segment that the EDID does not reach has none */
  start(address: number, reading: boolean): boolean {
    this.#address = address;
    this.#expectsOffset = true;
    const edid = this.#edid();
    if (edid === undefined) return false;
    if (address === SEGMENT_ADDRESS) return !reading;
    return address === EDID_ADDRESS && this.#segment * SEGMENT_BYTES < edid.length;
  }

  /** A byte for the device. An EDID stores none: what follows the offset is lost. */
  write(value: number): void {
    if (!this.#expectsOffset) return;
    this.#expectsOffset = false;
    if (this.#address === SEGMENT_ADDRESS) this.#segment = value;
    else this.#offset = value;
  }

  /** The next byte. The monitor may have gone in between: the line then reads ones. Past the EDID, as past a segment, its memory begins again. */
  read(): number {
    const edid = this.#edid();
    const at = this.#segment * SEGMENT_BYTES + this.#offset;
    this.#offset = (this.#offset + 1) % SEGMENT_BYTES;
    return edid === undefined ? 0xff : (edid[at % edid.length] as number);
  }

  /** A stop condition takes the segment back to 0. */
  stop(): void {
    this.#segment = 0;
  }
}
