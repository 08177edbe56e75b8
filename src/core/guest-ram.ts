/** Guest RAM that the process has mapped for the VM's whole life: several regions with holes between them. */
import { GPA_LIMIT, PAGE_SIZE } from './addresses.js';
import { MptError } from './errors.js';
import { describeRam, type MappedRegion, RamAccess, type RamRegion } from './ram-access.js';

export { type MappedRegion, mapRegion, type RamRegion } from './ram-access.js';

/**
 * Checks a RAM layout: aligned, non-empty, inside 52 bits, disjoint.
 * @returns the regions in ascending order.
 * @throws MptError INVALID_ARGUMENT, OVERLAP
 */
export function checkRamLayout(regions: readonly RamRegion[], op = 'create_machine'): RamRegion[] {
  if (regions.length === 0) throw new MptError('INVALID_ARGUMENT', 'a machine needs at least one RAM region', { op });
  const sorted = [...regions].sort((a, b) => a.gpa - b.gpa);
  let previousEnd = -1;
  for (const { gpa, size } of sorted) {
    const aligned = Number.isSafeInteger(gpa) && Number.isSafeInteger(size) && gpa % PAGE_SIZE === 0 && size % PAGE_SIZE === 0;
    if (!aligned || gpa < 0 || size <= 0 || gpa + size > GPA_LIMIT)
      throw new MptError('INVALID_ARGUMENT', 'a RAM region must be 4 KiB aligned, non-empty and end below 2^52', {
        op,
        address: gpa,
        size,
      });
    if (gpa <= previousEnd) throw new MptError('OVERLAP', 'two RAM regions overlap', { op, address: gpa, size });
    previousEnd = gpa + size - 1;
  }
  return sorted;
}

export class GuestRam<Region extends MappedRegion = MappedRegion> extends RamAccess<Region> {
  readonly regions: readonly Region[];
  /** Region of the last hit: guests stay in one region for long. */
  #last: Region;

  /** `regions` sorted and disjoint, as `checkRamLayout` returns them. */
  constructor(regions: readonly Region[]) {
    super();
    this.regions = regions;
    this.#last = regions[0] as Region;
  }

  find(gpa: number): Region | undefined {
    const last = this.#last;
    if (gpa >= last.gpa && gpa - last.gpa < last.size) return last;
    for (const region of this.regions)
      if (gpa >= region.gpa && gpa - region.gpa < region.size) {
        this.#last = region;
        return region;
      }
    return undefined;
  }

  /** True when any byte of [start, end] is RAM. */
  touches(start: number, end: number): boolean {
    return this.regions.some((region) => region.gpa <= end && start < region.gpa + region.size);
  }

  describe(): string {
    return describeRam(this.regions);
  }
}
