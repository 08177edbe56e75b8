/**
 * The pages behind 2 MiB of a per-process address space: a page table's, or those of one large page. A page is mapped for DMA when
 * the engine first reaches it and stays so until its entry changes; each holds one reference of `dmaMapGuestPage`.
 */
import { type DmaAddress, Gfn, HUGE_PAGE_SIZE, hex, PAGE_SIZE } from '../../addresses.js';
import type { DmaMapper, GuestMemory } from '../../mpt.js';
import { viewPage } from '../gpu-page.js';
import { isGone, refusedByHypervisor } from '../guest-error-log.js';
import type { GpuPage, GuestErrorLog } from '../roles.js';
import { ENTRIES } from './entry.js';

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

const SCRATCH = -1;

export class LeafPages {
  readonly #parts: LeafParts;
  /** DMA address of each page, or SCRATCH. Allocated with the first page. */
  #addresses: Float64Array | undefined;
  readonly #pages = new Array<GpuPage | undefined>(ENTRIES).fill(undefined);
  /** One mapping for all of them. */
  #huge = SCRATCH;

  constructor(parts: LeafParts) {
    this.#parts = parts;
  }

  /** The page with this number if it was reached before. */
  known(index: number): GpuPage | undefined {
    const page = this.#pages[index];
    return page !== undefined && !page.gone ? page : undefined;
  }

  /** Maps the frame as the page with this number, or undefined when it cannot be: the GPU then sees scratch, which is no page. */
  map(index: number, gfn: Gfn): GpuPage | undefined {
    const { dma } = this.#parts;
    const addresses = this.#table();
    let address = addresses[index] as number;
    try {
      if (address === SCRATCH) {
        if (!this.#valid(gfn)) return undefined;
        address = dma.dmaMapGuestPage(gfn, PAGE_SIZE);
        addresses[index] = address;
        this.#parts.mappedPages++;
      }
      return this.#view(index, address);
    } catch (error) {
      refusedByHypervisor(this.#parts.log, error);
      return undefined;
    }
  }

  /**
   * The same for a page of the 2 MiB page that starts at `first`: one mapping of 2 MiB where the hypervisor can, else one for each
   * page that is reached.
   */
  mapHuge(index: number, first: Gfn): GpuPage | undefined {
    const { dma, hugePages } = this.#parts;
    if (this.#huge === SCRATCH && this.#addresses === undefined && hugePages) {
      try {
        this.#huge = dma.dmaMapGuestPage(first, HUGE_PAGE_SIZE);
        this.#parts.mappedPages += ENTRIES;
      } catch (error) {
        if (isGone(error)) return undefined;
        // Not in one piece, or a part of it is no RAM: each page for itself.
        this.#table();
      }
    }
    if (this.#huge === SCRATCH) return this.map(index, Gfn(first + index));
    try {
      return this.#view(index, this.#huge + index * PAGE_SIZE);
    } catch (error) {
      refusedByHypervisor(this.#parts.log, error);
      return undefined;
    }
  }

  /** Its entry changed. @returns whether a page was mapped */
  drop(index: number): boolean {
    const addresses = this.#addresses;
    this.#pages[index] = undefined;
    if (addresses === undefined || addresses[index] === SCRATCH) return false;
    this.#unmap(addresses[index] as number);
    addresses[index] = SCRATCH;
    this.#parts.mappedPages--;
    return true;
  }

  /** Gives everything back. */
  release(): void {
    if (this.#huge !== SCRATCH) {
      this.#unmap(this.#huge);
      this.#huge = SCRATCH;
      this.#parts.mappedPages -= ENTRIES;
    }
    if (this.#addresses !== undefined) for (let i = 0; i < ENTRIES; i++) this.drop(i);
    this.#pages.fill(undefined);
  }

  #table(): Float64Array {
    this.#addresses ??= new Float64Array(ENTRIES).fill(SCRATCH);
    return this.#addresses;
  }

  #valid(gfn: Gfn): boolean {
    const { frames, log } = this.#parts;
    if (frames === undefined || frames.isValidGfn(gfn)) return true;
    log.guestError(`PPGTT: the frame ${hex(gfn)} is not guest memory`);
    return false;
  }

  #view(index: number, address: number): GpuPage {
    const page = viewPage(this.#parts.dma, address as DmaAddress);
    this.#pages[index] = page;
    return page;
  }

  #unmap(address: number): void {
    try {
      this.#parts.dma.dmaUnmapGuestPage(address as DmaAddress);
    } catch (error) {
      refusedByHypervisor(this.#parts.log, error);
    }
  }
}
