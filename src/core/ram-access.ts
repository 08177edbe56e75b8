/**
 * Copying guest memory that the process has mapped, with all rules of read_gpa and write_gpa: copies that cross regions,
 * holes, both ends, whole-word stores. Where the mapped regions come from is the subclass's matter: fixed for the VM's life
 * (`GuestRam`), or mapped when they are asked for (Xen).
 *
 * Regions that touch in guest-physical space are crossed inside one copy. Nothing is copied unless everything is RAM.
 */
import { PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';

export interface RamRegion {
  /** First guest-physical byte, 4 KiB aligned. */
  readonly gpa: number;
  /** Bytes, a multiple of 4 KiB. */
  readonly size: number;
}

/** A region with the bytes behind it. */
export interface MappedRegion extends RamRegion {
  readonly bytes: Uint8Array;
  /** The same bytes for whole-word stores and loads that a polling guest never sees half done. */
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

/** Page views kept for 4 KiB copies; one object each, dropped all together at this bound. */
const PAGE_VIEWS_MAX = 4096;

/** Makes a region of `bytes`, which must start 8-byte aligned in its ArrayBuffer and be a multiple of 4 KiB long. */
export function mapRegion(gpa: number, bytes: Uint8Array): MappedRegion {
  const { buffer, byteOffset, length } = bytes;
  return {
    gpa,
    size: length,
    bytes,
    u16: new Uint16Array(buffer, byteOffset, length / 2),
    u32: new Uint32Array(buffer, byteOffset, length / 4),
    u64: new BigUint64Array(buffer, byteOffset, length / 8),
  };
}

/** `0x0-0x3fffff, 0x400000-0xffffff` for messages. */
export const describeRam = (regions: readonly RamRegion[]): string =>
  regions.map((r) => `0x${r.gpa.toString(16)}-0x${(r.gpa + r.size - 1).toString(16)}`).join(', ');

export abstract class RamAccess<Region extends MappedRegion = MappedRegion> {
  readonly #pages = new Map<number, Uint8Array>();

  /** The region that contains the byte, valid until the next call. */
  abstract find(gpa: number): Region | undefined;

  /** Where RAM is, for messages. */
  abstract describe(): string;

  /** True when every byte of the range is RAM. */
  covers(gpa: number, length: number): boolean {
    return this.#firstHole(gpa, length) < 0;
  }

  /** Copies guest bytes to `target[offset..offset+length)`. @throws MptError NOT_RAM, and then nothing was copied. */
  read(gpa: number, target: Uint8Array, offset: number, length: number): void {
    const region = this.find(gpa);
    if (region === undefined || gpa - region.gpa + length > region.size) {
      this.#require(gpa, length);
      this.#eachPiece(gpa, length, (bytes, at, done, n) => target.set(bytes.subarray(at, at + n), offset + done));
      return;
    }
    const at = gpa - region.gpa;
    if (length === PAGE_SIZE && (at & (PAGE_SIZE - 1)) === 0) target.set(this.#page(region, at), offset);
    else if (length <= 16) for (let i = 0; i < length; i++) target[offset + i] = region.bytes[at + i] as number;
    else target.set(region.bytes.subarray(at, at + length), offset);
  }

  /**
   * Copies `source[offset..offset+length)` to the guest. A naturally aligned store of 1, 2, 4 or 8 bytes is one store.
   * @throws MptError NOT_RAM, and then nothing was copied.
   */
  write(gpa: number, source: Uint8Array, offset: number, length: number): void {
    const region = this.find(gpa);
    if (region === undefined || gpa - region.gpa + length > region.size) {
      this.#require(gpa, length);
      this.#eachPiece(gpa, length, (bytes, at, done, n) => bytes.set(source.subarray(offset + done, offset + done + n), at));
      return;
    }
    const at = gpa - region.gpa;
    if (length <= 8 && storeWhole(region, at, source, offset, length)) return;
    if (length === PAGE_SIZE && (at & (PAGE_SIZE - 1)) === 0 && source.length === PAGE_SIZE) this.#page(region, at).set(source);
    else region.bytes.set(offset === 0 && length === source.length ? source : source.subarray(offset, offset + length), at);
  }

  /** The bytes themselves, of a range inside one region. @throws MptError NOT_RAM */
  view(gpa: number, length: number): Uint8Array {
    const region = this.find(gpa);
    if (region === undefined || gpa - region.gpa + length > region.size)
      throw new MptError('NOT_RAM', 'the range is not inside one RAM region', { address: gpa, size: length });
    const at = gpa - region.gpa;
    return region.bytes.subarray(at, at + length);
  }

  #page(region: MappedRegion, at: number): Uint8Array {
    const key = region.gpa + at;
    let page = this.#pages.get(key);
    if (page === undefined) {
      if (this.#pages.size >= PAGE_VIEWS_MAX) this.#pages.clear();
      page = region.bytes.subarray(at, at + PAGE_SIZE);
      this.#pages.set(key, page);
    }
    return page;
  }

  #require(gpa: number, length: number): void {
    const hole = this.#firstHole(gpa, length);
    if (hole >= 0)
      throw new MptError('NOT_RAM', 'the guest-physical range runs into a hole', {
        address: hole,
        size: length,
        hint: `RAM is ${this.describe()}`,
      });
  }

  /** First address of the range that is not RAM, or -1. */
  #firstHole(gpa: number, length: number): number {
    let at = gpa;
    const end = gpa + length;
    while (at < end) {
      const region = this.find(at);
      if (region === undefined) return at;
      at = region.gpa + region.size;
    }
    return -1;
  }

  #eachPiece(gpa: number, length: number, copy: (bytes: Uint8Array, at: number, done: number, n: number) => void): void {
    let done = 0;
    while (done < length) {
      const region = this.find(gpa + done);
      // Only where the guest runs beside us can RAM go between the check and here.
      if (region === undefined) throw new MptError('NOT_RAM', 'RAM went during the copy', { address: gpa + done, size: length });
      const at = gpa + done - region.gpa;
      const n = Math.min(length - done, region.size - at);
      copy(region.bytes, at, done, n);
      done += n;
    }
  }

  /** Forgets the views of pages: for a subclass whose regions went. */
  protected dropPages(): void {
    this.#pages.clear();
  }
}

/** One aligned store, or false when the size or alignment does not allow it. */
function storeWhole(region: MappedRegion, at: number, source: Uint8Array, offset: number, length: number): boolean {
  if ((at & (length - 1)) !== 0) return false;
  const b = (i: number): number => source[offset + i] as number;
  switch (length) {
    case 1:
      region.bytes[at] = b(0);
      return true;
    case 2:
      region.u16[at / 2] = b(0) | (b(1) << 8);
      return true;
    case 4:
      region.u32[at / 4] = b(0) | (b(1) << 8) | (b(2) << 16) | (b(3) << 24);
      return true;
    case 8: {
      const low = (b(0) | (b(1) << 8) | (b(2) << 16) | (b(3) << 24)) >>> 0;
      const high = (b(4) | (b(5) << 8) | (b(6) << 16) | (b(7) << 24)) >>> 0;
      region.u64[at / 8] = (BigInt(high) << 32n) | BigInt(low);
      return true;
    }
    default:
      return false;
  }
}
