/**
 * Guest-physical address space of one VM as its vCPU sees it: RAM regions and host pages mapped by map_gfn_to_mfn or
 * set_pvmmio, each page with flags that say what a guest store to it means. Everything else is MMIO.
 */
import { PAGE_SHIFT, PAGE_SIZE } from '../core/addresses.js';
import { type MappedRegion, mapRegion } from '../core/guest-ram.js';

/** What a guest store to a page means, beyond storing. */
export const PageFlag = {
  /** It is reported with its data (page track level `trap`, pvmmio). */
  TRAP: 1,
  /** It marks the page (page track level `sync`). */
  LOG: 2,
  /** A store happened since the mark was last taken. */
  DIRTY: 4,
} as const;

/** Memory that guest instructions reach without an exit. */
export interface Mapping extends MappedRegion {
  /** `PageFlag` bits, one byte a page. */
  readonly flags: Uint8Array;
}

/** Makes a mapping; `bytes` as for `mapRegion`. */
export const makeMapping = (gpa: number, bytes: Uint8Array, flags = 0): Mapping => ({
  ...mapRegion(gpa, bytes),
  flags: new Uint8Array(bytes.length >>> PAGE_SHIFT).fill(flags),
});

export class AddressSpace {
  #mappings: readonly Mapping[];
  /** Counts changes of the layout: who keeps a mapping looks here whether it is still one. */
  generation = 0;

  constructor(ram: readonly Mapping[]) {
    this.#mappings = ram;
  }

  /** The mapping that contains the byte. */
  find(gpa: number): Mapping | undefined {
    for (const mapping of this.#mappings) if (gpa >= mapping.gpa && gpa - mapping.gpa < mapping.size) return mapping;
    return undefined;
  }

  /** True when any byte of [start, end] is mapped. */
  touches(start: number, end: number): boolean {
    return this.#mappings.some(({ gpa, size }) => gpa <= end && start < gpa + size);
  }

  /** Adds a mapping that overlaps none; the caller has checked. */
  add(mapping: Mapping): void {
    this.#mappings = [...this.#mappings, mapping];
    this.generation++;
  }

  remove(mapping: Mapping): void {
    this.#mappings = this.#mappings.filter((other) => other !== mapping);
    this.generation++;
  }

  setFlag(gfn: number, flag: number, on: boolean): void {
    const gpa = gfn * PAGE_SIZE;
    const mapping = this.find(gpa);
    if (mapping === undefined) return;
    const page = (gpa - mapping.gpa) / PAGE_SIZE;
    const flags = mapping.flags[page] as number;
    mapping.flags[page] = on ? flags | flag : flags & ~flag;
  }

  hasFlag(gfn: number, flag: number): boolean {
    const gpa = gfn * PAGE_SIZE;
    const mapping = this.find(gpa);
    return mapping !== undefined && ((mapping.flags[(gpa - mapping.gpa) / PAGE_SIZE] as number) & flag) !== 0;
  }
}
