/**
 * What vGPUs take from the physical GPU: ids, a slice of the aperture, a slice of hidden memory, fence registers
 * (facts: gvt.md 4.2, 4.3). The host's reserve stands first in each.
 */
import { PAGE_SIZE, VgpuId } from '../addresses.js';
import { MptError } from '../errors.js';
import { RangeSet } from '../ranges.js';
import { checkGpuSize, type GpuSize, HOST_RESERVE, MAX_VGPUS } from './device-info.js';
import type { VgpuType } from './types.js';

/** Part of the GGTT's address space. */
export interface GpuRange {
  readonly start: number;
  readonly size: number;
}

/** One vGPU's share; given back by `ResourcePool.release`. Plain data, so that it can cross threads. */
export interface VgpuResources {
  readonly id: VgpuId;
  readonly aperture: GpuRange;
  readonly hidden: GpuRange;
  /** Physical fence register behind each of the vGPU's virtual ones. */
  readonly fences: readonly number[];
}

/** First-fit allocation of contiguous address space. */
class Space {
  readonly #what: string;
  readonly #first: number;
  readonly #end: number;
  readonly #used = new RangeSet<true>();

  constructor(what: string, first: number, end: number) {
    this.#what = what;
    this.#first = first;
    this.#end = Math.max(first, end);
  }

  /** The largest piece that is free, in bytes. */
  get largest(): number {
    let largest = 0;
    for (const { size } of this.#holes()) largest = Math.max(largest, size);
    return largest;
  }

  /** How many pieces of this size `take` would give. */
  count(size: number): number {
    let count = 0;
    for (const hole of this.#holes()) count += Math.floor(hole.size / size);
    return count;
  }

  take(size: number): GpuRange | undefined {
    for (const hole of this.#holes()) if (hole.size >= size) return this.claim({ start: hole.start, size });
    return undefined;
  }

  /** Takes exactly this range. @throws MptError INVALID_ARGUMENT, OVERLAP */
  claim({ start, size }: GpuRange): GpuRange {
    const end = start + size;
    const aligned = Number.isSafeInteger(start) && Number.isSafeInteger(size) && start % PAGE_SIZE === 0 && size % PAGE_SIZE === 0;
    if (!aligned || size <= 0 || start < this.#first || end > this.#end)
      throw badShare(
        'INVALID_ARGUMENT',
        `${this.#what} of the share is not whole pages of what the GPU has for vGPUs`,
        start,
        size,
        this.#end,
      );
    if (this.#used.overlapping(start, end - 1) !== undefined)
      throw badShare('OVERLAP', `${this.#what} of the share is another vGPU's`, start, size);
    this.#used.add(start, end - 1, true);
    return { start, size };
  }

  give({ start, size }: GpuRange): void {
    this.#used.delete(start, start + size - 1);
  }

  *#holes(): Generator<GpuRange> {
    let start = this.#first;
    for (const range of this.#used) {
      if (range.start > start) yield { start, size: range.start - start };
      start = range.end + 1;
    }
    if (this.#end > start) yield { start, size: this.#end - start };
  }
}

export class ResourcePool {
  readonly #aperture: Space;
  readonly #hidden: Space;
  readonly #freeFences: number[] = [];
  readonly #ids = new Set<number>();

  /** @throws MptError INVALID_ARGUMENT for an impossible GPU */
  constructor(gpu: GpuSize) {
    const { aperture, ggtt, fences } = checkGpuSize(gpu);
    this.#aperture = new Space('the aperture', HOST_RESERVE.aperture, aperture);
    this.#hidden = new Space('the hidden memory', aperture + HOST_RESERVE.hidden, ggtt);
    for (let fence = HOST_RESERVE.fences; fence < fences; fence++) this.#freeFences.push(fence);
  }

  /** How many more vGPUs of this type can be taken, one after the other. */
  available(type: VgpuType): number {
    return Math.min(
      this.#aperture.count(type.aperture),
      this.#hidden.count(type.hidden),
      Math.floor(this.#freeFences.length / type.fences),
      MAX_VGPUS - this.#ids.size,
    );
  }

  /** @throws MptError NO_SPACE, and then nothing was taken */
  take(type: VgpuType): VgpuResources {
    const id = this.#firstFreeId(type);
    if (this.#freeFences.length < type.fences) throw noSpace(type, 'fences', type.fences, this.#freeFences.length);
    const aperture = this.#aperture.take(type.aperture);
    if (aperture === undefined) throw noSpace(type, 'aperture in one piece', type.aperture, this.#aperture.largest);
    const hidden = this.#hidden.take(type.hidden);
    if (hidden === undefined) {
      this.#aperture.give(aperture);
      throw noSpace(type, 'hidden memory in one piece', type.hidden, this.#hidden.largest);
    }
    this.#ids.add(id);
    return { id, aperture, hidden, fences: this.#freeFences.splice(0, type.fences) };
  }

  /**
   * Takes exactly this share, as another pool of the same GPU gave it.
   * @throws MptError INVALID_ARGUMENT when the GPU has no such share, OVERLAP when a part of it is taken; nothing was taken then
   */
  claim({ id, aperture, hidden, fences }: VgpuResources): VgpuResources {
    if (!Number.isInteger(id) || id < 1 || id > MAX_VGPUS) throw badShare('INVALID_ARGUMENT', 'the id of the share is not in 1..7', id);
    if (this.#ids.has(id)) throw badShare('OVERLAP', "the id of the share is another vGPU's", id);
    for (const [i, fence] of fences.entries())
      if (!this.#freeFences.includes(fence) || fences.indexOf(fence) !== i)
        throw badShare('OVERLAP', 'a fence of the share is not free for vGPUs', fence);
    const ours = { id, aperture: this.#aperture.claim(aperture), fences: [...fences] };
    try {
      const claimed = { ...ours, hidden: this.#hidden.claim(hidden) };
      this.#ids.add(id);
      for (const fence of fences) this.#freeFences.splice(this.#freeFences.indexOf(fence), 1);
      return claimed;
    } catch (error) {
      this.#aperture.give(ours.aperture);
      throw error;
    }
  }

  /**
   * A share at the ranges that a vGPU had: its guest knows them. Its id is another one when it is taken, its fences are whatever is free.
   * @throws MptError NO_SPACE; INVALID_ARGUMENT, OVERLAP for the ranges; nothing was taken then
   */
  takeAgain(
    type: VgpuType,
    { id, aperture, hidden }: { readonly id: number; readonly aperture: GpuRange; readonly hidden: GpuRange },
  ): VgpuResources {
    if (this.#freeFences.length < type.fences) throw noSpace(type, 'fences', type.fences, this.#freeFences.length);
    const free = this.#ids.has(id) ? this.#firstFreeId(type) : VgpuId(id);
    return this.claim({ id: free, aperture, hidden, fences: this.#freeFences.slice(0, type.fences) });
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
  new MptError('NO_SPACE', `the GPU has not enough ${what} left for ${type.name}`, {
    op: 'create_vgpu',
    size,
    limit,
    hint: 'destroy a vGPU or choose a smaller type',
  });

const badShare = (code: 'INVALID_ARGUMENT' | 'OVERLAP', what: string, address: number, size?: number, limit?: number): MptError =>
  new MptError(code, what, {
    op: 'create_vgpu',
    address,
    ...(size === undefined ? {} : { size }),
    ...(limit === undefined ? {} : { limit }),
    hint: 'take the share from a ResourcePool of this GPU',
  });
