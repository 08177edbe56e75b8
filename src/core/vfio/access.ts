/** What every device does with a client's access before its own rules: is the region there, does it allow it, does it fit? */
import { PAGE_SIZE } from '../addresses.js';
import { Errno, RegionFlag, type VfioRegion } from './device.js';

/** Bytes of one region. Called with ranges inside it and at least 1 byte. Never throws. */
export interface RegionPort {
  read(offset: number, bytes: Uint8Array): Errno;
  write(offset: number, bytes: Uint8Array): Errno;
}

/** A region with what answers for it. */
export interface PortedRegion {
  readonly region: VfioRegion;
  readonly port: RegionPort;
}

/** EINVAL unless the region has the flag and holds [offset, offset + length). Any numbers may come. */
export function checkAccess(region: VfioRegion | undefined, flag: number, offset: number, length: number): Errno {
  if (region === undefined || (region.flags & flag) === 0) return Errno.EINVAL;
  return Number.isSafeInteger(offset) && offset >= 0 && offset + length <= region.size ? Errno.OK : Errno.EINVAL;
}

/** The regions of a device, by index. */
export class Regions {
  readonly table: ReadonlyMap<number, VfioRegion>;
  /** By index. */
  readonly #ported: readonly (PortedRegion | undefined)[];

  constructor(ported: readonly PortedRegion[]) {
    const last = Math.max(...ported.map(({ region }) => region.index));
    this.#ported = Array.from({ length: last + 1 }, (_, index) => ported.find(({ region }) => region.index === index));
    this.table = new Map(ported.map(({ region }) => [region.index, region]));
  }

  /** @returns EINVAL for no such region, one without READ, or a range that leaves it; else what the region answers */
  read(index: number, offset: number, bytes: Uint8Array): Errno {
    const entry = this.#ported[index];
    const status = checkAccess(entry?.region, RegionFlag.READ, offset, bytes.length);
    return entry === undefined || status !== Errno.OK || bytes.length === 0 ? status : entry.port.read(offset, bytes);
  }

  /** The other direction, with WRITE. */
  write(index: number, offset: number, bytes: Uint8Array): Errno {
    const entry = this.#ported[index];
    const status = checkAccess(entry?.region, RegionFlag.WRITE, offset, bytes.length);
    return entry === undefined || status !== Errno.OK || bytes.length === 0 ? status : entry.port.write(offset, bytes);
  }
}

/** Up to so many bytes a loop is cheaper than a view for a copy. */
const LOOP_MAX = 16;

/** Plain memory: any range is one copy. */
export class MemoryPort implements RegionPort {
  readonly #bytes: Uint8Array;
  /** Views of pages that were read whole. Making one takes 2 us when the caches are cold; 200 bytes of heap each. */
  readonly #pages: (Uint8Array | undefined)[];

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#pages = Array.from({ length: Math.floor(bytes.length / PAGE_SIZE) });
  }

  read(offset: number, bytes: Uint8Array): Errno {
    const { length } = bytes;
    if (length > LOOP_MAX) bytes.set(this.#part(offset, length));
    else for (let i = 0; i < length; i++) bytes[i] = this.#bytes[offset + i] as number;
    return Errno.OK;
  }

  write(offset: number, bytes: Uint8Array): Errno {
    const { length } = bytes;
    if (length > LOOP_MAX) this.#bytes.set(bytes, offset);
    else for (let i = 0; i < length; i++) this.#bytes[offset + i] = bytes[i] as number;
    return Errno.OK;
  }

  #part(offset: number, length: number): Uint8Array {
    if (length !== PAGE_SIZE || offset % PAGE_SIZE !== 0) return this.#bytes.subarray(offset, offset + length);
    const page = offset / PAGE_SIZE;
    this.#pages[page] ??= this.#bytes.subarray(offset, offset + length);
    return this.#pages[page];
  }
}
