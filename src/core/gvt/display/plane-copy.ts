/**
 * A plane for VFIO_DEVICE_GET_GFX_DMABUF. GVT-g exports the guest's own pages, which the kernel can scatter into one buffer.
 * Here they are not one file, and on some hypervisors not in this process at all, so the export is a copy: each query copies the
 * rows that are shown, linear whatever the plane's tiling is, and a viewer that holds the descriptor sees them then. A viewer that
 * never asks again sees a still picture.
 */
import type { DeviceMemories, DeviceMemory } from '../../device-memory.js';
import { Errno, type GfxPlane, NO_PLANE } from '../../vfio/device.js';
import type { ScanoutMemory } from '../roles.js';
import { PLANE_FORMATS, type Plane, PlaneRows } from './plane.js';

/** Rows of the copy begin at multiples of this: what GPUs that import a dmabuf ask for. */
const ROW_ALIGNMENT = 64;
const PAGE_SIZE = 4096;
const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

export class PlaneCopy {
  readonly #memories: DeviceMemories;
  readonly #newId: () => number;
  #memory: DeviceMemory | undefined;
  #shown: GfxPlane = NO_PLANE;

  /** @param newId ids of copies: of all copies of a device, none twice */
  constructor(memories: DeviceMemories, newId: () => number) {
    this.#memories = memories;
    this.#newId = newId;
  }

  /** Copies the plane. @returns what to tell of the copy; its id stays as long as size and format do. ENOMEM: no memory for it */
  refresh(plane: Plane, memory: ScanoutMemory): GfxPlane | Errno {
    const { width, height } = plane;
    const { bytes, fourcc } = PLANE_FORMATS[plane.format];
    const stride = roundUp(width * bytes, ROW_ALIGNMENT);
    if (this.#memory === undefined || this.#shown.width !== width || this.#shown.height !== height || this.#shown.drmFormat !== fourcc) {
      this.close();
      try {
        this.#memory = this.#memories.allocate(roundUp(stride * height, PAGE_SIZE), 'plane');
      } catch {
        return Errno.ENOMEM;
      }
      this.#shown = { ...NO_PLANE, drmFormat: fourcc, width, height, stride, size: stride * height, source: this.#newId() };
    }
    const target = this.#memory.bytes;
    const rows = new PlaneRows(plane, memory);
    for (let line = 0; line < height; line++) {
      rows.read(line);
      target.set(rows.bytes, line * stride);
    }
    return this.#shown;
  }

  /** The id of the copy; 0: there is none. */
  get id(): number {
    return this.#shown.source;
  }

  /** @returns a descriptor of the copy, the caller's, or ENOENT for an id that is not the copy's, or what the export answers */
  export(id: number): number {
    if (this.#memory === undefined || id !== this.#shown.source) return Errno.ENOENT;
    return this.#memories.exportPlane(this.#memory, 0, this.#shown.size);
  }

  /** Gives the memory up; descriptors that viewers have stay good. */
  close(): void {
    this.#memory?.close();
    this.#memory = undefined;
    this.#shown = NO_PLANE;
  }
}
