/**
 * mdpy: a display whose framebuffer is a BAR, of a fixed size that the driver reads from a vendor capability (facts: gvt.md 7.7).
 * The viewer sees the same memory as region 16.
 *
 * Other than the original: reads and writes of the BAR go where they say, and the region count includes region 16.
 */
import type { DeviceMemories, DeviceMemory } from '../device-memory.js';
import { PIXEL_FORMATS } from '../pixels.js';
import { MemoryPort } from '../vfio/access.js';
import { Errno, type GfxPlane, GfxPlaneFlag, NO_PLANE, type Picture, type PixelMemory, RegionIndex } from '../vfio/device.js';
import { BarType, commonFields, type PciField, PciHeader } from './pci-header.js';
import { decodeXrgb, memoryRegion, SampleDevice } from './sample-device.js';

/** Index of the region that the plane names. */
export const MDPY_DISPLAY_REGION = 16;

const PCI = { vendor: 0x1b36, device: 0x000f };
const COMMAND_IO_MEMORY = 3;
const STATUS_CAPABILITIES = 0x10;
/** Vendor-specific capability (PCI 3.0, appendix H): id, next, length, then what the vendor puts there. */
const CAPABILITY = { OFFSET: 0x40, ID: 9, LENGTH: 0x10 } as const;
const FORMAT = PIXEL_FORMATS.XRGB8888;

export interface MdpyType {
  /** Without the kind: `xga`. */
  readonly name: string;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
}

export const MDPY_TYPES: readonly MdpyType[] = [
  { name: 'vga', width: 640, height: 480 },
  { name: 'xga', width: 1024, height: 768 },
  { name: 'hd', width: 1920, height: 1080 },
];

/** Bytes of the BAR: the framebuffer, up to the next power of two. */
export const mdpyMemory = ({ width, height }: MdpyType): number => 2 ** Math.ceil(Math.log2(width * height * FORMAT.bytes));

export const mdpyAttributes = ({ width, height }: MdpyType): Readonly<Record<string, string>> => ({ resolution: `${width}x${height}` });

const capability = ({ width, height }: MdpyType): readonly PciField[] => [
  { name: 'capability pointer', offset: 0x34, bytes: 1, value: CAPABILITY.OFFSET },
  { name: 'capability id', offset: CAPABILITY.OFFSET, bytes: 1, value: CAPABILITY.ID },
  { name: 'next capability', offset: CAPABILITY.OFFSET + 1, bytes: 1, value: 0 },
  { name: 'capability length', offset: CAPABILITY.OFFSET + 2, bytes: 1, value: CAPABILITY.LENGTH },
  { name: 'format', offset: CAPABILITY.OFFSET + 4, bytes: 4, value: FORMAT.fourcc },
  { name: 'width', offset: CAPABILITY.OFFSET + 8, bytes: 4, value: width },
  { name: 'height', offset: CAPABILITY.OFFSET + 12, bytes: 4, value: height },
];

export class Mdpy extends SampleDevice {
  readonly #type: MdpyType;

  /** @throws what the allocation throws */
  static create(type: MdpyType, memories: DeviceMemories, onClose: () => void): Mdpy {
    return new Mdpy(type, memories.allocate(mdpyMemory(type), `mdpy-${type.name}`), onClose);
  }

  private constructor(type: MdpyType, memory: DeviceMemory, onClose: () => void) {
    const fields = [...commonFields({ ...PCI, command: COMMAND_IO_MEMORY, status: STATUS_CAPABILITIES }), ...capability(type)];
    const port = new MemoryPort(memory.bytes);
    super({
      name: `mdpy-${type.name}`,
      attributes: mdpyAttributes(type),
      memory,
      header: new PciHeader(fields, [{ index: 0, size: memory.bytes.length, type: BarType.PREFETCHABLE }]),
      regionCount: MDPY_DISPLAY_REGION + 1,
      regions: [RegionIndex.BAR0, MDPY_DISPLAY_REGION].map((index) => ({ region: memoryRegion(index, memory), port })),
      planeKind: GfxPlaneFlag.REGION,
      onClose,
    });
    this.#type = type;
    this.resetDevice();
  }

  /** Fills the framebuffer with a gradient from black at the top to white at the bottom, and what is behind it with zeros. */
  protected override resetDevice(): void {
    const { width, height } = this.#type;
    const { bytes } = this.memory;
    const stride = width * FORMAT.bytes;
    for (let row = 0; row < height; row++) bytes.fill((row * 255) / (height - 1), row * stride, (row + 1) * stride);
    bytes.fill(0, height * stride);
  }

  protected override primaryPlane(): GfxPlane {
    const { width, height } = this.#type;
    const size = this.memory.bytes.length;
    return { ...NO_PLANE, drmFormat: FORMAT.fourcc, width, height, stride: width * FORMAT.bytes, size, source: MDPY_DISPLAY_REGION };
  }

  /** Its plane is a region. */
  protected override exportBuffer(): number {
    return Errno.EINVAL;
  }

  protected override decode(pixels: PixelMemory): Picture {
    const { width, height } = this.#type;
    return decodeXrgb(this.memory, { width, height, stride: width * FORMAT.bytes, offset: 0 }, pixels);
  }
}
