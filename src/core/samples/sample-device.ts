/** What the two small display devices share: a configuration space, regions of bytes, no interrupts, one plane kind. */
import type { DeviceMemory } from '../device-memory.js';
import { PIXEL_FORMATS, PixelConverter } from '../pixels.js';
import { type PortedRegion, Regions } from '../vfio/access.js';
import {
  checkPlaneQuery,
  DeviceFlag,
  Errno,
  freshPixels,
  type GfxPlane,
  GfxPlaneType,
  NO_PLANE,
  type Picture,
  type PixelMemory,
  RegionFlag,
  RegionIndex,
  type VfioDevice,
  type VfioRegion,
} from '../vfio/device.js';
import { IrqSet } from '../vfio/irqs.js';
import { CONFIG_SIZE, type PciHeader } from './pci-header.js';

export const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;

export interface SampleParts {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly memory: DeviceMemory;
  readonly header: PciHeader;
  readonly regionCount: number;
  /** All but the configuration space. */
  readonly regions: readonly PortedRegion[];
  /** The plane kind that it supports, a `GfxPlaneFlag`. */
  readonly planeKind: number;
  readonly onClose: () => void;
}

export abstract class SampleDevice implements VfioDevice {
  readonly name: string;
  /** What the vendor's sysfs group tells, as `resolution`: `1024x768`. */
  readonly attributes: Readonly<Record<string, string>>;
  /** The originals can be reset but do not say so. */
  readonly flags = DeviceFlag.PCI | DeviceFlag.RESET;
  readonly regionCount: number;
  readonly irqs = new IrqSet();
  protected readonly memory: DeviceMemory;
  protected readonly header: PciHeader;
  readonly #regions: Regions;
  readonly #planeKind: number;
  readonly #onClose: () => void;
  #closed = false;

  protected constructor(parts: SampleParts) {
    this.name = parts.name;
    this.attributes = parts.attributes;
    this.regionCount = parts.regionCount;
    this.memory = parts.memory;
    this.header = parts.header;
    this.#planeKind = parts.planeKind;
    this.#onClose = parts.onClose;
    const config: VfioRegion = { index: RegionIndex.CONFIG, size: CONFIG_SIZE, flags: READ_WRITE };
    this.#regions = new Regions([{ region: config, port: parts.header }, ...parts.regions]);
  }

  get regions(): ReadonlyMap<number, VfioRegion> {
    return this.#regions.table;
  }

  read(region: number, offset: number, bytes: Uint8Array): Errno {
    return this.#closed ? Errno.ENODEV : this.#regions.read(region, offset, bytes);
  }

  write(region: number, offset: number, bytes: Uint8Array): Errno {
    return this.#closed ? Errno.ENODEV : this.#regions.write(region, offset, bytes);
  }

  reset(): Errno {
    if (this.#closed) return Errno.ENODEV;
    this.header.reset();
    this.resetDevice();
    return Errno.OK;
  }

  barAddress(bar: number): number | undefined {
    return this.header.barAddress(bar);
  }

  queryGfxPlane(flags: number, planeType: number): GfxPlane | Errno {
    if (this.#closed) return Errno.ENODEV;
    const what = checkPlaneQuery(flags, this.#planeKind);
    if (what === 'probe') return NO_PLANE;
    if (what !== 'query') return what;
    return planeType === GfxPlaneType.PRIMARY ? this.primaryPlane() : Errno.EINVAL;
  }

  getGfxDmabuf(id: number): number {
    return this.#closed ? Errno.ENODEV : this.exportBuffer(id);
  }

  picture(pixels: PixelMemory = freshPixels): Picture | undefined {
    return this.#closed ? undefined : this.decode(pixels);
  }

  /** Gives the memory up. Everything answers ENODEV afterwards. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.irqs.clear();
    this.memory.close();
    this.#onClose();
  }

  protected abstract resetDevice(): void;
  protected abstract primaryPlane(): GfxPlane;
  /** @returns a descriptor or a negative errno */
  protected abstract exportBuffer(id: number): number;
  protected abstract decode(pixels: PixelMemory): Picture | undefined;
}

const CONVERTER = new PixelConverter(PIXEL_FORMATS.XRGB8888);

/** Rows of XRGB8888 in a device's memory as a picture. Offset and stride are multiples of 4, the last row lies inside. */
export function decodeXrgb(
  memory: DeviceMemory,
  mode: { readonly width: number; readonly height: number; readonly stride: number; readonly offset: number },
  pixels: PixelMemory,
): Picture {
  const { width, height, stride, offset } = mode;
  const { buffer, byteOffset, length } = memory.bytes;
  const source = new Uint32Array(buffer, byteOffset, length >>> 2);
  const rgba = pixels(width * height * 4);
  const picture = new Uint32Array(rgba.buffer, rgba.byteOffset, width * height);
  for (let row = 0; row < height; row++) CONVERTER.row(source, (offset + row * stride) >>> 2, picture, row * width, width);
  return { width, height, rgba };
}

/** The region of a memory BAR that a client may map whole. */
export const memoryRegion = (index: number, memory: DeviceMemory): VfioRegion => ({
  index,
  size: memory.bytes.length,
  ...(memory.fd < 0 ? { flags: READ_WRITE } : { flags: READ_WRITE | RegionFlag.MMAP, file: { fd: memory.fd, offset: 0 } }),
});
