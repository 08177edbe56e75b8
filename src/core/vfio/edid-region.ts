/**
 * The EDID region of VFIO (linux/vfio.h: struct vfio_region_gfx_edid; facts: gvt.md 7.6): the viewer tells the device which monitor
 * is connected. Link down, write the blob, write its size, link up.
 *
 * It is the viewer's side, not the guest's: a device reset leaves it.
 */
import type { RegionPort } from './access.js';
import { Errno, eachAccess } from './device.js';

export const EDID_REGION_SIZE = 0x1000;
/** Where the blob begins. */
export const EDID_OFFSET = 0x800;
/** VFIO_DEVICE_GFX_LINK_STATE_*. */
export const LinkState = { UP: 1, DOWN: 2 } as const;

/** Offsets of the header's dwords. */
export const EdidField = { OFFSET: 0, MAX_SIZE: 4, SIZE: 8, MAX_XRES: 12, MAX_YRES: 16, LINK_STATE: 20 } as const;
const HEADER_SIZE = 24;

export interface EdidRegionParts {
  /** Bytes of the largest EDID. */
  readonly maxSize: number;
  /** The largest resolution, pixels; 0: none. */
  readonly width: number;
  readonly height: number;
  /** Of the monitor that the device has before a viewer comes; it is connected then. */
  readonly edid?: Uint8Array;
  /**
   * What the device does when the viewer sets the link. Anything but OK refuses it, and the state stays.
   * @param edid what the viewer wrote; not to be kept
   */
  readonly onLink?: (up: boolean, edid: Uint8Array) => Errno;
  /** The link's state where others can change it too. */
  readonly isUp?: () => boolean;
}

export class EdidRegion implements RegionPort {
  readonly #header: Uint32Array;
  readonly #blob: Uint8Array;
  readonly #onLink: EdidRegionParts['onLink'];
  readonly #isUp: EdidRegionParts['isUp'];
  /** What a write of a field answers; fields that are not here are read-only. */
  readonly #accepts: Readonly<Record<number, (value: number) => Errno>> = {
    [EdidField.SIZE]: (value) => (value <= this.#blob.length ? Errno.OK : Errno.EINVAL),
    [EdidField.LINK_STATE]: (value) => this.#setLink(value),
  };

  constructor({ maxSize, width, height, edid = new Uint8Array(), onLink, isUp }: EdidRegionParts) {
    const state = edid.length > 0 ? LinkState.UP : LinkState.DOWN;
    this.#header = Uint32Array.of(EDID_OFFSET, maxSize, edid.length, width, height, state);
    this.#blob = new Uint8Array(maxSize);
    this.#blob.set(edid);
    this.#onLink = onLink;
    this.#isUp = isUp;
  }

  get linkUp(): boolean {
    return this.#isUp?.() ?? this.#header[EdidField.LINK_STATE >>> 2] === LinkState.UP;
  }

  /** The blob as the guest sees it: empty while the link is down. Not to be kept. */
  get visible(): Uint8Array {
    return this.#blob.subarray(0, this.linkUp ? this.#header[EdidField.SIZE >>> 2] : 0);
  }

  /** @returns EINVAL outside of header and blob, and for parts of a header's field */
  read(offset: number, bytes: Uint8Array): Errno {
    const at = offset - EDID_OFFSET;
    if (at >= 0) {
      if (at + bytes.length > this.#blob.length) return Errno.EINVAL;
      bytes.set(this.#blob.subarray(at, at + bytes.length));
      return Errno.OK;
    }
    this.#header[EdidField.LINK_STATE >>> 2] = this.linkUp ? LinkState.UP : LinkState.DOWN;
    return this.#fields(offset, bytes, (field, i) => {
      const value = this.#header[field >>> 2] as number;
      for (let byte = 0; byte < 4; byte++) bytes[i + byte] = value >>> (8 * byte);
      return Errno.OK;
    });
  }

  /** The same, and EPERM for a field that is read-only, EINVAL for a value that it cannot have. */
  write(offset: number, bytes: Uint8Array): Errno {
    const at = offset - EDID_OFFSET;
    if (at >= 0) {
      if (at + bytes.length > this.#blob.length) return Errno.EINVAL;
      this.#blob.set(bytes, at);
      return Errno.OK;
    }
    return this.#fields(offset, bytes, (field, i) => {
      const accepts = this.#accepts[field];
      if (accepts === undefined) return Errno.EPERM;
      let value = 0;
      for (let byte = 3; byte >= 0; byte--) value = value * 256 + (bytes[i + byte] as number);
      const status = accepts(value);
      if (status === Errno.OK) this.#header[field >>> 2] = value;
      return status;
    });
  }

  #setLink(state: number): Errno {
    if (state !== LinkState.UP && state !== LinkState.DOWN) return Errno.EINVAL;
    return this.#onLink?.(state === LinkState.UP, this.#blob.subarray(0, this.#header[EdidField.SIZE >>> 2])) ?? Errno.OK;
  }

  /** Whole dwords of the header. */
  #fields(offset: number, bytes: Uint8Array, access: (field: number, at: number) => Errno): Errno {
    if (offset + bytes.length > HEADER_SIZE) return Errno.EINVAL;
    return eachAccess(offset, bytes.length, 4, (at, size) => (size === 4 ? access(offset + at, at) : Errno.EINVAL));
  }
}
