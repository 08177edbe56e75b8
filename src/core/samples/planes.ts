/** The buffers that VFIO_DEVICE_QUERY_GFX_PLANE names and VFIO_DEVICE_GET_GFX_DMABUF exports: one for each mode (facts: gvt.md 7.8). */
import type { DisplayMode } from './dispi.js';

/** Modes that are remembered. A viewer exports what it has just asked for; older ones go. */
export const PLANES_MAX = 32;

export class Planes {
  /** By id, oldest use first. */
  readonly #modes = new Map<number, DisplayMode>();
  #last = 0;

  get size(): number {
    return this.#modes.size;
  }

  /** The id of the mode's buffer: the one that it had, or the next of the counter. */
  idOf(mode: DisplayMode): number {
    let id = 0;
    for (const [known, other] of this.#modes) if (equal(mode, other)) id = known;
    if (id === 0) {
      // 32 bits on the wire, and 0 is no buffer.
      do this.#last = (this.#last + 1) >>> 0 || 1;
      while (this.#modes.has(this.#last));
      id = this.#last;
    }
    this.#modes.delete(id);
    this.#modes.set(id, mode);
    if (this.#modes.size > PLANES_MAX) this.#modes.delete(this.#modes.keys().next().value as number);
    return id;
  }

  mode(id: number): DisplayMode | undefined {
    return this.#modes.get(id);
  }
}

const equal = (a: DisplayMode, b: DisplayMode): boolean =>
  a.offset === b.offset && a.stride === b.stride && a.width === b.width && a.height === b.height && a.drmFormat === b.drmFormat;
