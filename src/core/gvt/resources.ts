/**
 * What vGPUs take from the physical GPU: ids, a slice of the aperture, a slice of hidden memory, fence registers
 * (facts: gvt.md 4.2, 4.3). The host's reserve stands first in each.
 */
import { VgpuId } from '../addresses.js';
import { MptError } from '../errors.js';
import { RangeSet } from '../ranges.js';
import { type GpuSize, HOST_RESERVE, MAX_VGPUS } from './device-info.js';
import type { VgpuType } from './types.js';

/** Part of the GGTT's address space. */
export interface GpuRange {
  readonly start: number;
  readonly size: number;
}

/** One vGPU's share; given back by `ResourcePool.release`. */
export interface VgpuResources {
  readonly id: VgpuId;
  readonly aperture: GpuRange;
  readonly hidden: GpuRange;
  /** Physical fence register behind each of the vGPU's virtual ones. */
  readonly fences: readonly number[];
}

/** First-fit allocation of contiguous address space. */
class Space {
  readonly #first: number;
  readonly #end: number;
  readonly #used = new RangeSet<true>();
  #free: number;

  constructor(first: number, end: number) {
    this.#first = first;
    this.#end = end;
    this.#free = Math.max(0, end - first);
  }

  /** Bytes not taken, in one piece or several. */
  get free(): number {
    return this.#free;
  }

  take(size: number): GpuRange | undefined {
    let start = this.#first;
    for (const range of this.#used) {
      if (range.start - start >= size) break;
      start = range.end + 1;
    }
    if (start + size > this.#end) return undefined;
    this.#used.add(start, start + size - 1, true);
    this.#free -= size;
    return { start, size };
  }

  give({ start, size }: GpuRange): void {
    if (this.#used.delete(start, start + size - 1)) this.#free += size;
  }
}

export class ResourcePool {
  readonly #aperture: Space;
  readonly #hidden: Space;
  readonly #freeFences: number[] = [];
  readonly #ids = new Set<number>();

  constructor(gpu: GpuSize) {
    this.#aperture = new Space(HOST_RESERVE.aperture, gpu.aperture);
    this.#hidden = new Space(gpu.aperture + HOST_RESERVE.hidden, gpu.ggtt);
    for (let fence = HOST_RESERVE.fences; fence < gpu.fences; fence++) this.#freeFences.push(fence);
  }

  /** How many more vGPUs of this type the remaining totals allow. Holes between slices can make it one too many. */
  available(type: VgpuType): number {
    return Math.min(
      Math.floor(this.#aperture.free / type.aperture),
      Math.floor(this.#hidden.free / type.hidden),
      Math.floor(this.#freeFences.length / type.fences),
      MAX_VGPUS - this.#ids.size,
    );
  }

  /** @throws MptError NO_SPACE, and then nothing was taken */
  take(type: VgpuType): VgpuResources {
    const id = this.#firstFreeId(type);
    const aperture = this.#aperture.take(type.aperture);
    if (aperture === undefined) throw noSpace(type, 'aperture', type.aperture, this.#aperture.free);
    const hidden = this.#hidden.take(type.hidden);
    if (hidden === undefined) {
      this.#aperture.give(aperture);
      throw noSpace(type, 'hidden memory', type.hidden, this.#hidden.free);
    }
    if (this.#freeFences.length < type.fences) {
      this.#hidden.give(hidden);
      this.#aperture.give(aperture);
      throw noSpace(type, 'fences', type.fences, this.#freeFences.length);
    }
    this.#ids.add(id);
    return { id, aperture, hidden, fences: this.#freeFences.splice(0, type.fences) };
  }

  /** Gives a share back. A second time does nothing. */
  release(resources: VgpuResources): void {
    if (!this.#ids.delete(resources.id)) return;
    this.#aperture.give(resources.aperture);
    this.#hidden.give(resources.hidden);
    this.#freeFences.push(...resources.fences);
    this.#freeFences.sort((a, b) => a - b);
  }

  #firstFreeId(type: VgpuType): VgpuId {
    for (let id = 1; id <= MAX_VGPUS; id++) if (!this.#ids.has(id)) return VgpuId(id);
    throw noSpace(type, 'ids', 1, 0);
  }
}

const noSpace = (type: VgpuType, what: string, size: number, limit: number): MptError =>
  new MptError('NO_SPACE', `the GPU has not enough ${what} left in one piece for ${type.name}`, {
    op: 'create_vgpu',
    size,
    limit,
    hint: 'destroy a vGPU or choose a smaller type',
  });
