/**
 * The vfio-user wire format, version 0.0 (the protocol's document in QEMU: docs/interop/vfio-user.rst). Little-endian.
 *
 * header: u16 message id, u16 command, u32 size with the header, u32 flags, u32 errno
 */

export const HEADER_SIZE = 16;

export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  DIRTY_PAGES: 14,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

/** Names by number, for logs. */
export const COMMAND_NAMES: readonly string[] = Object.entries(Command).reduce<string[]>((names, [name, number]) => {
  names[number] = name;
  return names;
}, []);

export const HeaderFlag = { TYPE_MASK: 0xf, COMMAND: 0, REPLY: 1, NO_REPLY: 0x10, ERROR: 0x20 } as const;

/** Limits that VERSION announces. */
export const LIMITS = {
  /** Descriptors in one message. */
  maxMsgFds: 16,
  /** Bytes of data in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE. */
  maxDataXferSize: 0x10_0000,
  /** DMA maps at once: QEMU has about 20, and one for each page when the guest has an IOMMU. */
  maxDmaMaps: 65_535,
  /** Bytes of all DMA maps. */
  maxDmaBytes: 2 ** 40,
} as const;

/** Bytes of a message's fields before its data, without the header: what must be there at least. */
export const BODY = {
  VERSION: 4,
  DMA_MAP: 32,
  DMA_UNMAP: 24,
  DEVICE_GET_INFO: 16,
  REGION_INFO: 32,
  REGION_IO_FDS: 16,
  IRQ_INFO: 16,
  SET_IRQS: 20,
  REGION_ACCESS: 16,
  DMA_ACCESS: 16,
  WRITE_MULTI: 8,
} as const;

/** The largest message: a header, the fields of an access, its data. */
export const MESSAGE_MAX = HEADER_SIZE + BODY.REGION_ACCESS + LIMITS.maxDataXferSize;

/** Bytes of a transport's buffers: the largest message twice, so that one can be looked for behind another. */
export const BUFFER_SIZE = 2 * MESSAGE_MAX + 0x1_0000;

/** DMA_MAP and DMA_UNMAP flags. */
export const DmaFlag = { READ: 1, WRITE: 2 } as const;
export const UnmapFlag = { DIRTY_BITMAP: 1, ALL: 2 } as const;

/** REGION_WRITE_MULTI: u64 count, then entries of u64 offset, u32 region, u32 count, 8 bytes of data. */
export const MULTI_ENTRY = 24;
export const MULTI_MAX = 200;
export const MULTI_DATA_MAX = 8;

/** Region info capabilities (linux/vfio.h): u16 id, u16 version, u32 next. */
export const RegionCapability = { SPARSE_MMAP: 1, TYPE: 2 } as const;

/** Where regions lie in the device's own offset space, as the kernel's samples do: index << 40. Only informative here. */
export const regionOffset = (index: number): bigint => BigInt(index) << 40n;

/** Errnos that the protocol's replies carry, positive. */
export const E = {
  PERM: 1,
  NOENT: 2,
  IO: 5,
  BADF: 9,
  NOMEM: 12,
  FAULT: 14,
  BUSY: 16,
  EXIST: 17,
  NODEV: 19,
  INVAL: 22,
  NOSPC: 28,
  NOSYS: 38,
  NOTSUP: 95,
  TIMEDOUT: 110,
  CONNRESET: 104,
} as const;

/** A u64 as a number: exact below 2^53, and anything above stays above. */
export const u64 = (view: DataView, offset: number): number => view.getUint32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);

export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, value / 2 ** 32, true);
}
