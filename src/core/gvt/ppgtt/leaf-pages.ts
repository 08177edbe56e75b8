/**
 * The pages behind 2 MiB of a per-process address space: a page table's, or those of one large page. A page is mapped for DMA when
 * the engine first reaches it and stays so until its entry changes; each holds one reference of `dmaMapGuestPage`.
 */
import { type DmaAddress, Gfn, HUGE_PAGE_SIZE, hex, PAGE_SIZE } from '../../addresses.js';
import type { DmaMapper, GuestMemory } from '../../mpt.js';
import { isGone, refusedByHypervisor } from '../guest-error-log.js';
import type { GuestErrorLog } from '../roles.js';
import { ENTRIES } from './entry.js';
import { Spares } from './spares.js';

/** What leaf pages need of the vGPU. */
export interface LeafParts {
  readonly dma: DmaMapper;
  /** Absent when the backend cannot tell: dma_map_guest_page then decides. */
  readonly frames: Pick<GuestMemory, 'isValidGfn'> | undefined;
  readonly log: GuestErrorLog;
  /** Capability dmaHugePage. */
  readonly hugePages: boolean;
  /** Pages with a DMA mapping, of all leaves; counted here. */
  mappedPages: number;
}

/** No page is there: the GPU sees the scratch page. */
export const SCRATCH = -1;
/** Nothing is mapped here. */
const NO_ADDRESSES = new Float64Array(ENTRIES).fill(SCRATCH);
/** All SCRATCH. */
const addressArrays = new Spares(64, () => new Float64Array(ENTRIES).fill(SCRATCH));

export class LeafPages {
  readonly #parts: LeafParts;
  /** DMA address of each page, or SCRATCH. One of its own from the first page on. */
  #addresses = NO_ADDRESSES;
  /** Of these, SCRATCH not counted. */
  #mapped = 0;
  /** One mapping for all of them. */
  #huge = SCRATCH;
  /** That cannot be. */
  #inPieces = false;

  constructor(parts: LeafParts) {
    this.#parts = parts;
  }

  /** DMA address of the page with this number if it was reached before, else SCRATCH. */
  known(index: number): number {
    return this.#huge === SCRATCH ? (this.#addresses[index] as number) : this.#huge + index * PAGE_SIZE;
  }

  /** Maps the frame as the page with this number. @returns its DMA address, or SCRATCH when it cannot be mapped */
  map(index: number, gfn: Gfn): number {
    try {
      if (!this.#valid(gfn)) return SCRATCH;
      const address = this.#parts.dma.dmaMapGuestPage(gfn, PAGE_SIZE);
      if (this.#addresses === NO_ADDRESSES) this.#addresses = addressArrays.take();
      this.#addresses[index] = address;
      this.#mapped++;
      this.#parts.mappedPages++;
      return address;
    } catch (error) {
      refusedByHypervisor(this.#parts.log, error);
      return SCRATCH;
    }
  }

  /**
   * The same for a page of the 2 MiB page that starts at `first`: one mapping of 2 MiB where the hypervisor can, else one for each
   * page that is reached.
   */
  mapHuge(index: number, first: Gfn): number {
    const { dma, hugePages } = this.#parts;
    if (hugePages && !this.#inPieces) {
      try {
        this.#huge = dma.dmaMapGuestPage(first, HUGE_PAGE_SIZE);
        this.#parts.mappedPages += ENTRIES;
        return this.known(index);
      } catch (error) {
        if (isGone(error)) return SCRATCH;
        // Not in one piece, or a part of it is no RAM: each page for itself.
        this.#inPieces = true;
      }
    }
    return this.map(index, Gfn(first + index));
  }

  /** Its entry changed. @returns whether a page was mapped */
  drop(index: number): boolean {
    const address = this.#addresses[index] as number;
    if (address === SCRATCH) return false;
    this.#addresses[index] = SCRATCH;
    this.#mapped--;
    this.#parts.mappedPages--;
    this.#unmap(address);
    return true;
  }

  /** Gives everything back. */
  release(): void {
    if (this.#huge !== SCRATCH) {
      this.#unmap(this.#huge);
      this.#huge = SCRATCH;
      this.#parts.mappedPages -= ENTRIES;
    }
    for (let i = 0; this.#mapped > 0; i++) this.drop(i);
    if (this.#addresses !== NO_ADDRESSES) addressArrays.give(this.#addresses);
    this.#addresses = NO_ADDRESSES;
  }

  #valid(gfn: Gfn): boolean {
    const { frames, log } = this.#parts;
    if (frames === undefined || frames.isValidGfn(gfn)) return true;
    log.guestError(`PPGTT: the frame ${hex(gfn)} is not guest memory`);
    return false;
  }

  #unmap(address: number): void {
    try {
      this.#parts.dma.dmaUnmapGuestPage(address as DmaAddress);
    } catch (error) {
      refusedByHypervisor(this.#parts.log, error);
    }
  }
}
