/**
 * The primary plane for VFIO_DEVICE_GET_GFX_DMABUF. GVT-g exports the guest's own pages, which the kernel can scatter into one buffer.
 * Here they are not one file, and on some hypervisors not in this process at all, so the export is a copy: each query copies the
 * rows that are shown, and a viewer that holds the descriptor sees them then. A viewer that never asks again sees a still picture.
 */
import type { DeviceMemories, DeviceMemory } from '../../device-memory.js';
import { PIXEL_FORMATS } from '../../pixels.js';
import { Errno, type GfxPlane, NO_PLANE } from '../../vfio/device.js';
import type { GpuMemory } from '../roles.js';
import type { Plane } from './primary-plane.js';

/** Rows of the copy begin at multiples of this: what GPUs that import a dmabuf ask for. */
const ROW_ALIGNMENT = 64;
const PAGE_SIZE = 4096;
const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

export class PlaneCopy {
  readonly #memories: DeviceMemories;
  #memory: DeviceMemory | undefined;
  #shown: GfxPlane = NO_PLANE;
  #lastId = 0;

  constructor(memories: DeviceMemories) {
    this.#memories = memories;
  }

  /** Copies the plane. @returns what to tell of the copy; its id stays as long as size and format do. ENOMEM: no memory for it */
  refresh(plane: Plane, memory: GpuMemory): GfxPlane | Errno {
    const { width, height, x, y, base, stride: from } = plane;
    const { bytes, fourcc } = PIXEL_FORMATS[plane.format];
    const stride = roundUp(width * bytes, ROW_ALIGNMENT);
    if (this.#memory === undefined || this.#shown.width !== width || this.#shown.height !== height || this.#shown.drmFormat !== fourcc) {
      this.close();
      try {
        this.#memory = this.#memories.allocate(roundUp(stride * height, PAGE_SIZE), 'plane');
      } catch {
        return Errno.ENOMEM;
      }
      this.#lastId = (this.#lastId + 1) >>> 0 || 1;
      this.#shown = { ...NO_PLANE, drmFormat: fourcc, width, height, stride, size: stride * height, source: this.#lastId };
    }
    const target = this.#memory.bytes;
    const first = base + y * from + x * bytes;
    for (let row = 0; row < height; row++)
      if (!memory.copyIn(first + row * from, target, row * stride, width * bytes))
        target.fill(0, row * stride, row * stride + width * bytes);
    return this.#shown;
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
