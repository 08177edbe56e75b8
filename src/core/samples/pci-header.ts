/**
 * A small PCI function's configuration space (PCI Local Bus Specification 3.0, 6.1-6.2): 256 bytes out of a table of fields, each
 * with the bits that a write stores. A BAR is such a field too: its address bits are writable, those below its size are not, so that
 * all ones read back as the size mask.
 */
import { Errno } from '../vfio/device.js';

export const CONFIG_SIZE = 256;

const COMMAND = 0x04;
const COMMAND_MEMORY = 2;
const BAR0 = 0x10;
const BARS = 6;
/** Memory BAR of 32 bits; and the prefetchable one. */
export const BarType = { MEMORY: 0, PREFETCHABLE: 8 } as const;
const BAR_TYPE_BITS = 0xf;

export interface PciField {
  readonly name: string;
  readonly offset: number;
  readonly bytes: 1 | 2 | 4;
  readonly value?: number;
  /** Bits that a write stores; default none. */
  readonly writable?: number;
}

export interface PciBar {
  readonly index: number;
  /** Bytes, a power of two from 16 on, below 4 GiB. */
  readonly size: number;
  readonly type: number;
}

/** IO, memory, bus master, parity, SERR and INTx disable (PCI 3.0, 6.2.2). */
const COMMAND_WRITABLE = 0x0547;

/** Fields that each function here has, with the identity of its kind. */
export const commonFields = (identity: { vendor: number; device: number; command: number; status: number }): readonly PciField[] => [
  { name: 'vendor id', offset: 0x00, bytes: 2, value: identity.vendor },
  { name: 'device id', offset: 0x02, bytes: 2, value: identity.device },
  { name: 'command', offset: COMMAND, bytes: 2, value: identity.command, writable: COMMAND_WRITABLE },
  { name: 'status', offset: 0x06, bytes: 2, value: identity.status },
  { name: 'revision', offset: 0x08, bytes: 1, value: 1 },
  // Base class 3, sub-class 0x80: a display controller that is not VGA.
  { name: 'class', offset: 0x0a, bytes: 2, value: 0x0380 },
  { name: 'cache line size', offset: 0x0c, bytes: 1, writable: 0xff },
  { name: 'subsystem vendor', offset: 0x2c, bytes: 2, value: 0x1af4 },
  { name: 'subsystem', offset: 0x2e, bytes: 2, value: 0x1100 },
  { name: 'interrupt line', offset: 0x3c, bytes: 1, writable: 0xff },
];

export class PciHeader {
  readonly #initial = new Uint8Array(CONFIG_SIZE);
  readonly #writable = new Uint8Array(CONFIG_SIZE);
  readonly #bytes: Uint8Array;
  readonly #bars: readonly (PciBar | undefined)[];

  /** What is in no field reads 0 and keeps it. */
  constructor(fields: readonly PciField[], bars: readonly PciBar[]) {
    const ofBars = bars.map(
      ({ index, size, type }): PciField => ({
        name: `BAR${index}`,
        offset: BAR0 + 4 * index,
        bytes: 4,
        value: type,
        writable: -size & ~BAR_TYPE_BITS,
      }),
    );
    for (const { offset, bytes, value = 0, writable = 0 } of [...fields, ...ofBars])
      for (let i = 0; i < bytes; i++) {
        this.#initial[offset + i] = value >>> (8 * i);
        this.#writable[offset + i] = writable >>> (8 * i);
      }
    this.#bytes = this.#initial.slice();
    this.#bars = Array.from({ length: BARS }, (_, index) => bars.find((bar) => bar.index === index));
  }

  /** Any range inside the 256 bytes. */
  read(offset: number, bytes: Uint8Array): Errno {
    bytes.set(this.#bytes.subarray(offset, offset + bytes.length));
    return Errno.OK;
  }

  /** Stores the writable bits, byte by byte, as a bus's byte enables would. */
  write(offset: number, bytes: Uint8Array): Errno {
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i;
      const enabled = this.#writable[at] as number;
      this.#bytes[at] = ((this.#bytes[at] as number) & ~enabled) | ((bytes[i] as number) & enabled);
    }
    return Errno.OK;
  }

  /** Guest-physical address of the BAR; undefined while memory is not decoded, the BAR has no address or holds the size mask. */
  barAddress(index: number): number | undefined {
    const bar = this.#bars[index];
    if (bar === undefined || ((this.#bytes[COMMAND] as number) & COMMAND_MEMORY) === 0) return undefined;
    const at = BAR0 + 4 * index;
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 256 + (this.#bytes[at + i] as number);
    const address = value - (value % 16);
    return address === 0 || address === (-bar.size & ~BAR_TYPE_BITS) >>> 0 ? undefined : address;
  }

  reset(): void {
    this.#bytes.set(this.#initial);
  }
}
