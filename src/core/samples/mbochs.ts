/**
 * mbochs: a display that Linux's bochs driver knows (1234:1111): video memory in BAR0, dispi registers and the monitor's EDID in
 * BAR2 (facts: gvt.md 7.8). Its planes are exported as dmabufs.
 *
 * Other than the original: reads and writes of BAR0 go where they say, and the first query of a new mode answers.
 */
import type { DeviceMemories, DeviceMemory } from '../device-memory.js';
import { MemoryPort, type RegionPort } from '../vfio/access.js';
import {
  accessSize,
  Errno,
  eachAccess,
  type GfxPlane,
  GfxPlaneFlag,
  NO_PLANE,
  type Picture,
  type PixelMemory,
  RegionIndex,
  RegionType,
} from '../vfio/device.js';
import { EDID_REGION_SIZE, EdidRegion } from '../vfio/edid-region.js';
import { DISPI_REGISTERS, DispiRegisters } from './dispi.js';
import { BarType, commonFields, PciHeader } from './pci-header.js';
import { Planes } from './planes.js';
import { decodeXrgb, memoryRegion, READ_WRITE, SampleDevice } from './sample-device.js';

const PCI = { vendor: 0x1234, device: 0x1111 };
const COMMAND_IO_MEMORY = 3;
const MIB = 0x10_0000;
const PAGE_SIZE = 4096;

export const MBOCHS_EDID_REGION = RegionIndex.FIRST_OWN;
/** Bytes of BAR2. */
export const MBOCHS_REGISTERS_SIZE = 0x1000;
/** Where BAR2 has the dispi registers, 2 bytes each. */
export const MBOCHS_DISPI = 0x500;
/** Bytes of the largest EDID: what BAR2 has room for. */
export const EDID_MAX_SIZE = 0x400;
const DISPI_END = MBOCHS_DISPI + 2 * DISPI_REGISTERS;

export interface MbochsType {
  /** Without the kind: `small`. */
  readonly name: string;
  /** Bytes of video memory. */
  readonly memory: number;
  /** Largest resolution that the EDID region tells, pixels; 0: no limit. */
  readonly width: number;
  readonly height: number;
}

export const MBOCHS_TYPES: readonly MbochsType[] = [
  { name: 'small', memory: 4 * MIB, width: 800, height: 600 },
  { name: 'medium', memory: 16 * MIB, width: 1920, height: 1440 },
  { name: 'large', memory: 64 * MIB, width: 0, height: 0 },
];

/**
 * BAR2: the EDID blob at 0x000-0x3ff, dispi registers at 0x500-0x515, which answer accesses of 2 bytes. All else, the VGA ports at
 * 0x400 and QEMU's extension at 0x600 among it, reads 0 and ignores writes.
 */
class RegisterPort implements RegionPort {
  readonly #edid: EdidRegion;
  readonly #dispi: DispiRegisters;

  constructor(edid: EdidRegion, dispi: DispiRegisters) {
    this.#edid = edid;
    this.#dispi = dispi;
  }

  read(offset: number, bytes: Uint8Array): Errno {
    const { length } = bytes;
    if (accessSize(offset, length, 4) === length) return this.#read(offset, length, bytes, 0);
    if (offset + length <= EDID_MAX_SIZE) return this.#readEdid(offset, length, bytes, 0);
    return eachAccess(offset, length, 4, (at, size) => this.#read(offset + at, size, bytes, at));
  }

  write(offset: number, bytes: Uint8Array): Errno {
    const { length } = bytes;
    if (accessSize(offset, length, 4) === length) return this.#write(offset, length, bytes, 0);
    return eachAccess(offset, length, 4, (at, size) => this.#write(offset + at, size, bytes, at));
  }

  #read(offset: number, size: number, bytes: Uint8Array, at: number): Errno {
    if (offset < EDID_MAX_SIZE) return this.#readEdid(offset, size, bytes, at);
    const dispi = size === 2 && offset >= MBOCHS_DISPI && offset < DISPI_END;
    const value = dispi ? this.#dispi.read((offset - MBOCHS_DISPI) >>> 1) : 0;
    for (let i = 0; i < size; i++) bytes[at + i] = value >>> (8 * i);
    return Errno.OK;
  }

  #readEdid(offset: number, length: number, bytes: Uint8Array, at: number): Errno {
    const { visible } = this.#edid;
    bytes.fill(0, at, at + length);
    bytes.set(visible.subarray(offset, offset + length), at);
    return Errno.OK;
  }

  #write(offset: number, size: number, bytes: Uint8Array, at: number): Errno {
    if (size === 2 && offset >= MBOCHS_DISPI && offset < DISPI_END)
      this.#dispi.write((offset - MBOCHS_DISPI) >>> 1, (bytes[at] as number) | ((bytes[at + 1] as number) << 8));
    return Errno.OK;
  }
}

export const mbochsAttributes = ({ memory }: MbochsType): Readonly<Record<string, string>> => ({ memory: `${memory / MIB} MB` });

export class Mbochs extends SampleDevice {
  readonly #memories: DeviceMemories;
  readonly #dispi: DispiRegisters;
  readonly #planes = new Planes();

  /** @throws what the allocation throws */
  static create(type: MbochsType, memories: DeviceMemories, onClose: () => void): Mbochs {
    return new Mbochs(type, memories, memories.allocate(type.memory, `mbochs-${type.name}`), onClose);
  }

  private constructor(type: MbochsType, memories: DeviceMemories, memory: DeviceMemory, onClose: () => void) {
    const dispi = new DispiRegisters(type.memory);
    const edid = new EdidRegion({ maxSize: EDID_MAX_SIZE, width: type.width, height: type.height });
    super({
      name: `mbochs-${type.name}`,
      attributes: mbochsAttributes(type),
      memory,
      header: new PciHeader(commonFields({ ...PCI, command: COMMAND_IO_MEMORY, status: 0 }), [
        { index: 0, size: type.memory, type: BarType.PREFETCHABLE },
        { index: 2, size: MBOCHS_REGISTERS_SIZE, type: BarType.MEMORY },
      ]),
      regionCount: MBOCHS_EDID_REGION + 1,
      regions: [
        { region: memoryRegion(RegionIndex.BAR0, memory), port: new MemoryPort(memory.bytes) },
        {
          region: { index: RegionIndex.BAR2, size: MBOCHS_REGISTERS_SIZE, flags: READ_WRITE },
          port: new RegisterPort(edid, dispi),
        },
        {
          region: {
            index: MBOCHS_EDID_REGION,
            size: EDID_REGION_SIZE,
            flags: READ_WRITE,
            type: { type: RegionType.GFX, subtype: RegionType.GFX_EDID },
          },
          port: edid,
        },
      ],
      planeKind: GfxPlaneFlag.DMABUF,
      onClose,
    });
    this.#memories = memories;
    this.#dispi = dispi;
  }

  /** The registers; video memory keeps what it has, and so does the monitor, which is the viewer's. */
  protected override resetDevice(): void {
    this.#dispi.reset();
  }

  protected override primaryPlane(): GfxPlane {
    const mode = this.#dispi.mode();
    if (mode === undefined) return NO_PLANE;
    const { drmFormat, width, height, stride, size } = mode;
    return { ...NO_PLANE, drmFormat, width, height, stride, size, source: this.#planes.idOf(mode) };
  }

  /** EINVAL too for a mode whose first byte does not begin a page: a dmabuf is made of whole ones. */
  protected override exportBuffer(id: number): number {
    const mode = this.#planes.mode(id);
    if (mode === undefined) return Errno.ENOENT;
    if (mode.offset % PAGE_SIZE !== 0) return Errno.EINVAL;
    return this.#memories.exportPlane(this.memory, mode.offset, mode.size);
  }

  protected override decode(pixels: PixelMemory): Picture | undefined {
    const mode = this.#dispi.mode();
    return mode === undefined ? undefined : decodeXrgb(this.memory, mode, pixels);
  }
}
