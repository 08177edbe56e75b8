/**
 * The vGPU's PCI configuration space (facts: gvt.md 4.6, 8.3; PCI Local Bus Specification 3.0, 6.1-6.2): 4096 bytes, a
 * table of what may be written, and the effects of the command register and the BARs. The header is as strict as real
 * hardware; from 0x40 on, writes are stored except where the table says otherwise.
 */
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { TrapRegistry } from '../mpt.js';
import { Bars } from './bars.js';
import { GMCH_GGTT_SIZE, type GpuSize, PCI_IDENTITY } from './device-info.js';
import type { MsiCapability } from './interrupts.js';
import type { GpuRange } from './resources.js';
import type { GuestErrorLog } from './roles.js';
import type { Saved, StateStream } from './state/stream.js';

export const CONFIG_SIZE = 4096;

/** Offsets that have names elsewhere too. */
export const CFG = {
  COMMAND: 0x04,
  STATUS: 0x06,
  BAR0: 0x10,
  BAR2: 0x18,
  CARDBUS: 0x28,
  ROM: 0x30,
  CAPABILITIES: 0x34,
  GMCH: 0x50,
  MSI: 0x90,
  SWSCI: 0xe8,
  ASLS: 0xfc,
} as const;

const COMMAND_MEMORY = 0x2;
const CAPABILITY_MSI = 5;
/** Status: capability list (bit 4). */
const STATUS_CAPABILITIES = 0x10;

interface Field {
  readonly name: string;
  readonly offset: number;
  readonly bytes: 1 | 2 | 4;
  readonly value?: number;
  /** Bits that a write stores; default none. */
  readonly writable?: number;
}

/** The declared fields; header bytes that are not listed read 0 and keep it. BARs are in bars.ts. */
const FIELDS: readonly Field[] = [
  { name: 'vendor id', offset: 0x00, bytes: 2, value: PCI_IDENTITY.vendor },
  { name: 'device id', offset: 0x02, bytes: 2, value: PCI_IDENTITY.device },
  { name: 'command', offset: CFG.COMMAND, bytes: 2, writable: 0x07ff },
  // The error bits, which a 1 would clear, are never set: nothing to write.
  { name: 'status', offset: CFG.STATUS, bytes: 2, value: STATUS_CAPABILITIES },
  { name: 'revision', offset: 0x08, bytes: 1, value: PCI_IDENTITY.revision },
  { name: 'interface', offset: 0x09, bytes: 1, value: PCI_IDENTITY.classCode & 0xff },
  { name: 'class', offset: 0x0a, bytes: 2, value: PCI_IDENTITY.classCode >>> 8 },
  { name: 'cache line size', offset: 0x0c, bytes: 1, writable: 0xff },
  { name: 'subsystem vendor', offset: 0x2c, bytes: 2, value: PCI_IDENTITY.subsystemVendor },
  { name: 'subsystem', offset: 0x2e, bytes: 2, value: PCI_IDENTITY.subsystem },
  { name: 'capability pointer', offset: CFG.CAPABILITIES, bytes: 1, value: CFG.MSI },
  { name: 'interrupt line', offset: 0x3c, bytes: 1, writable: 0xff },
  { name: 'interrupt pin', offset: 0x3d, bytes: 1, value: 1 },
  // Memory layout of the host: the firmware locks it.
  { name: 'GMCH control', offset: CFG.GMCH, bytes: 2 },
  { name: 'MSI id', offset: CFG.MSI, bytes: 1, value: CAPABILITY_MSI },
  { name: 'MSI next', offset: CFG.MSI + 1, bytes: 1, value: 0 },
  // One message, 32-bit address. Multiple Message Enable can be written, as on hardware, but is not honoured.
  { name: 'MSI control', offset: CFG.MSI + 2, bytes: 2, writable: 0x0071 },
  { name: 'MSI address', offset: CFG.MSI + 4, bytes: 4, writable: 0xffff_fffc },
  { name: 'MSI data', offset: CFG.MSI + 8, bytes: 2, writable: 0xffff },
  // Only written where there is an OpRegion: see below.
  { name: 'ASLS', offset: CFG.ASLS, bytes: 4 },
];

/** First byte of what devices define themselves. */
const DEVICE_SPECIFIC = 0x40;

/** Dwords that can only be accessed as such when written: first and last offset. */
const WHOLE_DWORDS: readonly (readonly [number, number])[] = [
  [CFG.BAR0, CFG.CARDBUS - 1],
  [CFG.ROM, CFG.ROM + 3],
  [CFG.SWSCI, CFG.SWSCI + 3],
  [CFG.ASLS, CFG.ASLS + 3],
];

const initial = new Uint8Array(CONFIG_SIZE);
const writable = new Uint8Array(CONFIG_SIZE).fill(0xff, DEVICE_SPECIFIC);
for (const field of FIELDS)
  for (let i = 0; i < field.bytes; i++) {
    initial[field.offset + i] = (field.value ?? 0) >>> (8 * i);
    writable[field.offset + i] = (field.writable ?? 0) >>> (8 * i);
  }

export class PciConfig implements MsiCapability, Saved {
  readonly bars: Bars;
  readonly #bytes = new Uint8Array(CONFIG_SIZE);
  readonly #gmch: number;
  readonly #onAsls: ((address: number) => void) | undefined;

  constructor(parts: {
    readonly gpu: GpuSize;
    readonly aperture: GpuRange;
    /** Absent where the transport delivers BAR accesses by itself. */
    readonly traps: TrapRegistry | undefined;
    readonly log: GuestErrorLog;
    /** Told where the guest's firmware puts the OpRegion. Absent: there is none, and ASLS reads 0. */
    readonly onAsls?: (address: number) => void;
  }) {
    this.#onAsls = parts.onAsls;
    this.bars = new Bars(parts);
    this.#gmch = GMCH_GGTT_SIZE.get(parts.gpu.ggtt) as number;
    this.#load();
  }

  get msiControl(): number {
    return this.#word(CFG.MSI + 2);
  }

  get msiAddress(): number {
    return (this.#word(CFG.MSI + 4) | (this.#word(CFG.MSI + 6) << 16)) >>> 0;
  }

  get msiData(): number {
    return this.#word(CFG.MSI + 8);
  }

  /** Reads 1, 2 or 4 bytes. @returns EINVAL for other sizes or past the end */
  read(offset: number, value: AccessValue, size: number): Status {
    if (!inside(offset, size)) return Status.EINVAL;
    let result = 0;
    for (let i = 0; i < size; i++) result |= this.#readByte(offset + i) << (8 * i);
    value[0] = result;
    value[1] = 0;
    return Status.OK;
  }

  /**
   * Writes 1, 2 or 4 bytes. A dword at the command register writes the status too, as on hardware (GVT-g refuses it,
   * ACRN splits it).
   * @returns EINVAL for other sizes, past the end, and for anything but a whole dword at BARs, ROM, SWSCI and ASLS
   */
  write(offset: number, value: AccessValue, size: number): Status {
    if (!inside(offset, size)) return Status.EINVAL;
    const data = value[0] as number;
    for (const [first, last] of WHOLE_DWORDS)
      if (offset <= last && offset + size > first && (size !== 4 || offset % 4 !== 0)) return Status.EINVAL;
    if (offset >= CFG.BAR0 && offset < CFG.CARDBUS) {
      this.bars.write((offset - CFG.BAR0) >>> 2, data);
      return Status.OK;
    }
    if (offset === CFG.ASLS) {
      this.#writeAsls(data);
      return Status.OK;
    }
    for (let i = 0; i < size; i++) this.#writeByte(offset + i, (data >>> (8 * i)) & 0xff);
    if (offset <= CFG.COMMAND && offset + size > CFG.COMMAND) this.bars.setDecoding((this.#word(CFG.COMMAND) & COMMAND_MEMORY) !== 0);
    return Status.OK;
  }

  /** Back to power-on: BARs unmapped, MSI off, no OpRegion. */
  reset(): void {
    this.bars.reset();
    if (this.#onAsls !== undefined && (this.#word(CFG.ASLS) | this.#word(CFG.ASLS + 2)) !== 0) this.#onAsls(0);
    this.#load();
  }

  /**
   * The BARs are placed where they were. The OpRegion's pages are moved by whoever has them.
   */
  exchange(state: StateStream): void {
    const bytes = state.restoring ? new Uint8Array(CONFIG_SIZE) : this.#bytes;
    state.bytes('space', bytes);
    if (state.restoring) this.#adopt(bytes, state);
    state.within('bars', () => this.bars.exchange(state));
    if (this.bars.decoding !== ((this.#word(CFG.COMMAND) & COMMAND_MEMORY) !== 0)) state.refuse('the command register says otherwise');
  }

  /**
   * Takes over what a guest can have written; everything else has to be what this device has there. ASLS may point to guest RAM, where a
   * VFIO user's firmware put its copy.
   */
  #adopt(bytes: Uint8Array, state: StateStream): void {
    for (let i = 0; i < CONFIG_SIZE; i++) {
      if (i >= CFG.ASLS && i < CFG.ASLS + 4) continue;
      if ((((bytes[i] as number) ^ (this.#bytes[i] as number)) & ~(writable[i] as number)) !== 0)
        state.refuse(`byte 0x${i.toString(16)} is not this device’s`);
    }
    this.#bytes.set(bytes);
  }

  #writeAsls(address: number): void {
    if (this.#onAsls === undefined) return;
    for (let i = 0; i < 4; i++) this.#bytes[CFG.ASLS + i] = address >>> (8 * i);
    this.#onAsls(address);
  }

  #load(): void {
    this.#bytes.set(initial);
    this.#bytes[CFG.GMCH] = this.#gmch;
  }

  #word(offset: number): number {
    return (this.#bytes[offset] as number) | ((this.#bytes[offset + 1] as number) << 8);
  }

  #readByte(offset: number): number {
    if (offset >= CFG.BAR0 && offset < CFG.CARDBUS) return (this.bars.read((offset - CFG.BAR0) >>> 2) >>> ((offset & 3) * 8)) & 0xff;
    return this.#bytes[offset] as number;
  }

  #writeByte(offset: number, value: number): void {
    const old = this.#bytes[offset] as number;
    const enabled = writable[offset] as number;
    this.#bytes[offset] = (old & ~enabled) | (value & enabled);
  }
}

const inside = (offset: number, size: number): boolean =>
  (size === 1 || size === 2 || size === 4) && Number.isInteger(offset) && offset >= 0 && offset + size <= CONFIG_SIZE;
