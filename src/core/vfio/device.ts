/**
 * The VFIO view of a device: what a VFIO user (QEMU, a test client, the management tree) can ask of any device of ours.
 * Structures and numbers are those of linux/vfio.h; how they travel is the transport's business.
 *
 * Methods are called with what a hostile client sent. They answer an errno and never throw; a transport need not check more
 * than that an index and a range fit the numbers' own width.
 */
import type { IrqSet } from './irqs.js';

/** Errnos that a view answers, negative as in the kernel. */
export const Errno = {
  OK: 0,
  EPERM: -1,
  ENOENT: -2,
  EIO: -5,
  ENOMEM: -12,
  EFAULT: -14,
  EBUSY: -16,
  ENODEV: -19,
  EINVAL: -22,
  ENFILE: -23,
  ENOSPC: -28,
  ENOTSUP: -95,
} as const;
/** 0 or a negative errno. */
export type Errno = number;

/** VFIO_PCI_*_REGION_INDEX. Device-specific regions follow from 9 on. */
export const RegionIndex = { BAR0: 0, BAR1: 1, BAR2: 2, BAR3: 3, BAR4: 4, BAR5: 5, ROM: 6, CONFIG: 7, VGA: 8, FIRST_OWN: 9 } as const;

/** VFIO_PCI_*_IRQ_INDEX. */
export const IrqIndex = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4, COUNT: 5 } as const;

/** VFIO_DEVICE_FLAGS_*. */
export const DeviceFlag = { RESET: 1, PCI: 2 } as const;

/** VFIO_REGION_INFO_FLAG_*. CAPS is set by whoever encodes the info, when there is a capability. */
export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;

/** VFIO_IRQ_INFO_*. */
export const IrqFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** VFIO_REGION_TYPE_* and subtypes of device-specific regions. */
export const RegionType = { GFX: 1, GFX_EDID: 1, PCI_VENDOR: 0x8000_0000, INTEL_OPREGION: 1 } as const;

/** Memory behind a region that a client may map: a file, shared. */
export interface RegionFile {
  /** Descriptor of the file; stays the device's. */
  readonly fd: number;
  /** Byte of the file at which the region's first byte lies, 4 KiB aligned. */
  readonly offset: number;
}

export interface RegionArea {
  /** From the region's start, 4 KiB aligned. */
  readonly offset: number;
  readonly size: number;
}

export interface VfioRegion {
  readonly index: number;
  /** Bytes. */
  readonly size: number;
  /** `RegionFlag` bits READ, WRITE and MMAP. MMAP needs `file`. */
  readonly flags: number;
  readonly file?: RegionFile;
  /** Sparse mmap (capability 1): the parts that can be mapped. Absent: the whole region. */
  readonly areas?: readonly RegionArea[];
  /** Type capability (2) of a device-specific region. */
  readonly type?: { readonly type: number; readonly subtype: number };
}

export interface VfioIrq {
  /** `IrqFlag` bits; 0 with a count of 0. */
  readonly flags: number;
  /** Vectors. */
  readonly count: number;
}

/** VFIO_GFX_PLANE_TYPE_*. */
export const GfxPlaneFlag = { PROBE: 1, DMABUF: 2, REGION: 4 } as const;
/** DRM_PLANE_TYPE_*. */
export const GfxPlaneType = { OVERLAY: 0, PRIMARY: 1, CURSOR: 2 } as const;

/** drm_fourcc.h, of the formats that planes here have. */
export const FourCC = {
  XR24: 0x3432_5258,
  AR24: 0x3432_5241,
  XB24: 0x3432_4258,
  RG16: 0x3631_4752,
  XR30: 0x3033_5258,
  XB30: 0x3033_4258,
  C8: 0x2020_3843,
} as const;

/** What a plane shows (struct vfio_device_gfx_plane_info). All zero: the plane is off. */
export interface GfxPlane {
  readonly drmFormat: number;
  /** 0 is linear. */
  readonly drmFormatMod: number;
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  /** Bytes from row to row. */
  readonly stride: number;
  /** Bytes of the buffer. */
  readonly size: number;
  /** Position on the screen; of a cursor. */
  readonly x: number;
  readonly y: number;
  /** Hot spot of a cursor; all ones: unknown. */
  readonly hotX: number;
  readonly hotY: number;
  /** Region index (flag REGION) or dmabuf id (flag DMABUF). */
  readonly source: number;
}

export const NO_PLANE: GfxPlane = Object.freeze({
  drmFormat: 0,
  drmFormatMod: 0,
  width: 0,
  height: 0,
  stride: 0,
  size: 0,
  x: 0,
  y: 0,
  hotX: 0,
  hotY: 0,
  source: 0,
});

/** A plane that a picture is composed of. */
export interface ShownPlane {
  readonly kind: 'primary' | 'sprite' | 'cursor';
  /** Pixels; the place on the screen may be left of or above it. */
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly top: number;
  /** As drm_fourcc.h calls it, without DRM_FORMAT_. */
  readonly format: string;
  readonly tiling: 'linear' | 'x' | 'y';
}

/** The picture that a device's planes show, 4 bytes a pixel: red, green, blue, 255. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
  /** The planes, the lowest first. Absent where the device has one alone. */
  readonly planes?: readonly ShownPlane[];
}

/**
 * Gives the memory that a picture's pixels are written into: exactly so many bytes, 4-byte aligned, any content. Who asks again and again
 * gives the same memory again: touching fresh pages costs several times what decoding does.
 */
export type PixelMemory = (bytes: number) => Uint8Array;
export const freshPixels: PixelMemory = (bytes) => new Uint8Array(bytes);

export interface VfioDevice {
  /** `mdpy-xga`, `mbochs-small`, `GVTg_V4_8`: for messages and logs. */
  readonly name: string;
  /** `DeviceFlag` bits. */
  readonly flags: number;
  /** VFIO's num_regions: indices below it can be asked. */
  readonly regionCount: number;
  /** Regions that exist, by index. One that is not here has size 0 and no flags. */
  readonly regions: ReadonlyMap<number, VfioRegion>;
  /** Interrupts by `IrqIndex`, with the state that SET_IRQS gave them. */
  readonly irqs: IrqSet;

  /**
   * Reads `bytes.length` bytes of a region from `offset` on, as the guest's access of that size would where the length is 1, 2, 4
   * or 8. The range lies inside the region, which has READ.
   */
  read(region: number, offset: number, bytes: Uint8Array): Errno;
  /** The other direction; the region has WRITE. */
  write(region: number, offset: number, bytes: Uint8Array): Errno;
  /** VFIO_DEVICE_RESET: registers as after creation. Interrupt triggers stay, as on vfio-pci. */
  reset(): Errno;
  /** Guest-physical address at which the guest put the BAR, or undefined while it is not decoded. */
  barAddress(bar: number): number | undefined;

  /**
   * VFIO_DEVICE_QUERY_GFX_PLANE.
   * @param flags `GfxPlaneFlag` bits: PROBE with exactly one kind asks whether it is supported; else exactly the supported kind
   * @returns the plane (`NO_PLANE` when it is off, and for PROBE), or an errno: EINVAL for a kind or plane that the device has not
   */
  queryGfxPlane(flags: number, planeType: number): GfxPlane | Errno;
  /** VFIO_DEVICE_GET_GFX_DMABUF. @returns a new descriptor, the caller's, or an errno: ENOENT for an unknown id */
  getGfxDmabuf(id: number): number;
  /** What the primary plane shows, decoded; undefined when it is off. @param pixels default: fresh memory */
  picture(pixels?: PixelMemory): Picture | undefined;
}

/** For `queryGfxPlane`: checks the flags against the one kind that a device supports. @returns 'probe', 'query' or EINVAL */
export function checkPlaneQuery(flags: number, supported: number): 'probe' | 'query' | Errno {
  if ((flags & GfxPlaneFlag.PROBE) !== 0) return (flags & ~GfxPlaneFlag.PROBE) === supported ? 'probe' : Errno.EINVAL;
  return flags === supported ? 'query' : Errno.EINVAL;
}

/**
 * Cuts a range into naturally aligned accesses of 1, 2, 4 or 8 bytes, largest first, as a bus would. `access` answers an errno;
 * the first failure ends it.
 */
export function eachAccess(offset: number, length: number, widest: 4 | 8, access: (at: number, size: 1 | 2 | 4 | 8) => Errno): Errno {
  let at = 0;
  while (at < length) {
    const size = accessSize(offset + at, length - at, widest);
    const status = access(at, size);
    if (status !== Errno.OK) return status;
    at += size;
  }
  return Errno.OK;
}

/** The widest naturally aligned access at `offset` that fits. */
export function accessSize(offset: number, left: number, widest: 4 | 8): 1 | 2 | 4 | 8 {
  if (widest === 8 && left >= 8 && offset % 8 === 0) return 8;
  if (left >= 4 && offset % 4 === 0) return 4;
  return left >= 2 && offset % 2 === 0 ? 2 : 1;
}
