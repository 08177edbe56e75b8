/**
 * The vGPU's global graphics translation table (facts: gvt.md 4.10): the guest's view of its entries, the DMA mapping
 * behind each present one, and memory as the GPU addresses it.
 *
 * Only the entries of the vGPU's own aperture and hidden ranges exist: others read 0 and ignore writes. A 4-byte write
 * is half an entry: the entry points nowhere until the other half arrives. Which half is awaited is two bits of state for
 * each entry, so halves of any number of entries may interleave and the memory for it is fixed.
 */
import { type DmaAddress, Gfn, hex, PAGE_SHIFT, PAGE_SIZE } from '../addresses.js';
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { DmaMapper, GuestMemory } from '../mpt.js';
import { viewPage } from './gpu-page.js';
import { isGone, refusedByHypervisor } from './guest-error-log.js';
import type { GpuRange } from './resources.js';
import type { GpuMemory, GpuPage, GuestErrorLog } from './roles.js';
import type { Saved, StateStream } from './state/stream.js';

/** Entry bit 0: present. Bits 12-45 are the guest frame, the rest is kept as written. */
const PRESENT = 1;
const FRAME_HIGH_MASK = 0x3fff;
/** No page is mapped: the GPU sees the scratch page, which for us is no page at all. */
const SCRATCH = -1;
/** Awaited halves. */
const COMPLETE = 0;
const LOW_WRITTEN = 1;
const HIGH_WRITTEN = 2;
/** Page views kept at once; a 4K surface is 8,100 pages. All are dropped together at this bound. */
const CACHED_PAGES_MAX = 16_384;
/** Entries in a block of views. */
const BLOCK_SHIFT = 9;
const BLOCK_MASK = (1 << BLOCK_SHIFT) - 1;

export class Ggtt implements GpuMemory, Saved {
  readonly #aperture: GpuRange;
  readonly #hidden: GpuRange;
  readonly #apertureEntries: number;
  readonly #dma: DmaMapper;
  /** Absent when the backend cannot tell: dma_map_guest_page then decides. */
  readonly #frames: Pick<GuestMemory, 'isValidGfn'> | undefined;
  readonly #log: GuestErrorLog;
  /** Low and high half of each entry as the guest sees it; aperture entries first. */
  readonly #guest: Uint32Array;
  readonly #halves: Uint8Array;
  /** DMA addresses plus 1: what was never written is 0, takes no memory and is SCRATCH. Not saved: the host's; mapped again. */
  readonly #addresses: Float64Array;
  /** By block of entries, absent while there is none in it. Not saved: views of the host's memory. */
  readonly #pages: ((GpuPage | undefined)[] | undefined)[];
  /** Not saved: counts `#pages`. */
  #cachedPages = 0;
  /** Not saved: counts `#addresses`. */
  #mapped = 0;
  /** Frames that were no guest memory may be by now. Not saved: of the host. */
  #stale = false;

  constructor(parts: {
    readonly aperture: GpuRange;
    readonly hidden: GpuRange;
    readonly dma: DmaMapper;
    readonly frames: Pick<GuestMemory, 'isValidGfn'> | undefined;
    readonly log: GuestErrorLog;
  }) {
    this.#aperture = parts.aperture;
    this.#hidden = parts.hidden;
    this.#dma = parts.dma;
    this.#frames = parts.frames;
    this.#log = parts.log;
    this.#apertureEntries = parts.aperture.size / PAGE_SIZE;
    const entries = this.#apertureEntries + parts.hidden.size / PAGE_SIZE;
    this.#guest = new Uint32Array(entries * 2);
    this.#halves = new Uint8Array(entries);
    this.#addresses = new Float64Array(entries);
    this.#pages = new Array<undefined>(Math.ceil(entries / (BLOCK_MASK + 1))).fill(undefined);
  }

  /** Entries that have a DMA mapping now. */
  get mappedPages(): number {
    return this.#mapped;
  }

  /** True when the byte address lies in the vGPU's own ranges. */
  owns(address: number): boolean {
    return this.#indexOf(address) >= 0;
  }

  /**
   * Guest load from the entries' window.
   * @param offset bytes from the first entry; size 4 or 8, naturally aligned
   * @returns EINVAL for other sizes and alignments
   */
  readEntry(offset: number, value: AccessValue, size: number): Status {
    if (size < 4 || offset % size !== 0) return Status.EINVAL;
    const index = this.#indexOf((offset >>> 3) * PAGE_SIZE);
    if (index < 0) {
      value[0] = 0;
      value[1] = 0;
    } else if (size === 8) {
      value[0] = this.#guest[index * 2] as number;
      value[1] = this.#guest[index * 2 + 1] as number;
    } else {
      value[0] = this.#guest[index * 2 + ((offset >>> 2) & 1)] as number;
      value[1] = 0;
    }
    return Status.OK;
  }

  /** Guest store, same rules. A frame that cannot be mapped leaves the entry on scratch; the write succeeds. */
  writeEntry(offset: number, value: AccessValue, size: number): Status {
    if (size < 4 || offset % size !== 0) return Status.EINVAL;
    const index = this.#indexOf((offset >>> 3) * PAGE_SIZE);
    if (index < 0) return Status.OK;
    if (size === 8) {
      this.#halves[index] = COMPLETE;
      this.#commit(index, value[0] as number, value[1] as number);
    } else this.#writeHalf(index, (offset >>> 2) & 1, value[0] as number);
    return Status.OK;
  }

  /** Failsafe: the entry as plain memory. */
  writePlain(offset: number, value: AccessValue, size: number): void {
    const index = this.#indexOf((offset >>> 3) * PAGE_SIZE);
    if (index < 0 || size < 4 || offset % size !== 0) return;
    const half = size === 8 ? 0 : (offset >>> 2) & 1;
    this.#guest[index * 2 + half] = value[0] as number;
    if (size === 8) this.#guest[index * 2 + 1] = value[1] as number;
  }

  page(address: number): GpuPage | undefined {
    const index = this.#indexOf(address);
    if (index < 0) return undefined;
    const page = this.#pages[index >>> BLOCK_SHIFT]?.[index & BLOCK_MASK];
    return page !== undefined && !page.gone ? page : this.#view(index);
  }

  /** GGTT entries have no read-only bit. */
  pageToWrite(address: number): GpuPage | undefined {
    return this.page(address);
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const index = this.#indexOf(address + done);
      const mapping = index < 0 ? SCRATCH : this.#address(index);
      if (mapping === SCRATCH) return false;
      const at = (address + done) % PAGE_SIZE;
      const piece = Math.min(length - done, PAGE_SIZE - at);
      try {
        this.#dma.copyFrom((mapping + at) as DmaAddress, target, offset + done, piece);
      } catch {
        return false;
      }
      done += piece;
    }
    return true;
  }

  /** All own entries to scratch, their pages unmapped. */
  reset(): void {
    let attached = true;
    for (let index = 0; index < this.#addresses.length; index++) {
      const address = this.#forget(index);
      // Once the VM is gone, half a million failing calls would only take time.
      if (address !== SCRATCH && attached) attached = this.#release(address);
    }
    // Most of a table may never have been written and takes no memory, which reading does not change.
    const guest = this.#guest;
    for (let i = 0; i < guest.length; i++) if (guest[i] !== 0) guest[i] = 0;
    this.#halves.fill(COMPLETE);
  }

  /** Entries as the guest wrote them, and which of them are half written. Their frames are mapped anew. */
  exchange(state: StateStream): void {
    state.words('entries', this.#guest);
    this.#exchangeHalves(state);
    if (!state.restoring) return;
    for (let index = 0; index < this.#halves.length; index++) {
      const other = this.#guest[index * 2 + (this.#halves[index] === LOW_WRITTEN ? 1 : 0)];
      if (this.#halves[index] !== COMPLETE && other !== 0) state.refuse(`entry ${index} has the half that it waits for`);
    }
    this.#mapAll();
  }

  /** Guest memory came where there was none: entries that lead there are mapped when one is next used. */
  memoryCame(): void {
    this.#stale = true;
  }

  /** Maps what is present and not mapped. It is no mistake of the guest when the frame is not there: a VFIO client's memory comes later. */
  #mapAll(): void {
    this.#stale = false;
    for (let index = 0; index < this.#halves.length; index++) {
      const low = this.#guest[index * 2] as number;
      if (this.#halves[index] !== COMPLETE || (low & PRESENT) === 0 || this.#addressOf(index) !== SCRATCH) continue;
      const gfn = frameOf(low, this.#guest[index * 2 + 1] as number);
      if (this.#frames?.isValidGfn(gfn) !== false) this.#map(index, gfn);
    }
  }

  /** DMA address behind an own entry, or SCRATCH. */
  #address(index: number): number {
    if (this.#stale && this.#addressOf(index) === SCRATCH) this.#mapAll();
    return this.#addressOf(index);
  }

  /** The same as it stands. */
  #addressOf(index: number): number {
    return (this.#addresses[index] as number) - 1;
  }

  #exchangeHalves(state: StateStream): void {
    const waiting: number[] = [];
    for (let index = 0; index < this.#halves.length; index++) if (this.#halves[index] !== COMPLETE) waiting.push(index);
    const last = this.#halves.length - 1;
    let next = 0;
    state.list('halves', waiting.length, this.#halves.length, (i) => {
      const index = state.u32('entry', waiting[i] ?? 0, last, next);
      next = index + 1;
      this.#halves[index] = state.u32('written', this.#halves[index] as number, HIGH_WRITTEN, LOW_WRITTEN);
    });
  }

  /** Drops page views: they may show memory that is no longer the guest's. */
  dropPages(): void {
    if (this.#cachedPages === 0) return;
    this.#pages.fill(undefined);
    this.#cachedPages = 0;
  }

  /** Index of the own entry that maps the byte address, or -1. False comparisons let NaN through to -1. */
  #indexOf(address: number): number {
    const aperture = address - this.#aperture.start;
    if (aperture >= 0 && aperture < this.#aperture.size) return aperture >>> PAGE_SHIFT;
    const hidden = address - this.#hidden.start;
    if (hidden >= 0 && hidden < this.#hidden.size) return this.#apertureEntries + (hidden >>> PAGE_SHIFT);
    return -1;
  }

  #writeHalf(index: number, half: number, value: number): void {
    const written = half === 0 ? LOW_WRITTEN : HIGH_WRITTEN;
    const other = half === 0 ? HIGH_WRITTEN : LOW_WRITTEN;
    if (this.#halves[index] === other) {
      this.#halves[index] = COMPLETE;
      const kept = this.#guest[index * 2 + (1 - half)] as number;
      if (half === 0) this.#commit(index, value, kept);
      else this.#commit(index, kept, value);
      return;
    }
    this.#unmap(index);
    this.#halves[index] = written;
    this.#guest[index * 2 + half] = value;
    this.#guest[index * 2 + (1 - half)] = 0;
  }

  #commit(index: number, low: number, high: number): void {
    const address = this.#addressOf(index);
    const gfn = frameOf(low, high);
    const kept =
      address !== SCRATCH &&
      (low & PRESENT) !== 0 &&
      gfn === frameOf(this.#guest[index * 2] as number, this.#guest[index * 2 + 1] as number);
    this.#guest[index * 2] = low;
    this.#guest[index * 2 + 1] = high;
    // Same frame, other cache bits: the mapping stands.
    if (kept) return;
    this.#unmap(index);
    if ((low & PRESENT) !== 0) this.#map(index, gfn);
  }

  #map(index: number, gfn: Gfn): void {
    try {
      if (this.#frames !== undefined && !this.#frames.isValidGfn(gfn)) {
        this.#log.guestError(`GGTT: the frame ${hex(gfn)} is not guest memory`);
        return;
      }
      this.#addresses[index] = this.#dma.dmaMapGuestPage(gfn, PAGE_SIZE) + 1;
      this.#mapped++;
    } catch (error) {
      refusedByHypervisor(this.#log, error);
    }
  }

  #unmap(index: number): void {
    const address = this.#forget(index);
    if (address !== SCRATCH) this.#release(address);
  }

  /** Points the entry to scratch. @returns the DMA address that it had */
  #forget(index: number): number {
    const address = this.#addressOf(index);
    if (address === SCRATCH) return SCRATCH;
    this.#addresses[index] = 0;
    this.#mapped--;
    const block = this.#pages[index >>> BLOCK_SHIFT];
    if (block?.[index & BLOCK_MASK] !== undefined) {
      block[index & BLOCK_MASK] = undefined;
      this.#cachedPages--;
    }
    return address;
  }

  /** @returns false when the VM or the attachment is gone */
  #release(address: number): boolean {
    try {
      this.#dma.dmaUnmapGuestPage(address as DmaAddress);
      return true;
    } catch (error) {
      refusedByHypervisor(this.#log, error);
      return !isGone(error);
    }
  }

  #view(index: number): GpuPage | undefined {
    const address = this.#address(index);
    if (address === SCRATCH) return undefined;
    try {
      const page = viewPage(this.#dma, address as DmaAddress);
      if (this.#cachedPages >= CACHED_PAGES_MAX) this.dropPages();
      const at = index >>> BLOCK_SHIFT;
      const block = this.#pages[at] ?? new Array<undefined>(BLOCK_MASK + 1).fill(undefined);
      block[index & BLOCK_MASK] = page;
      this.#pages[at] = block;
      this.#cachedPages++;
      return page;
    } catch {
      // VM_GONE: the memory went with the VM.
      return undefined;
    }
  }
}

/** Guest frame of an entry: bits 12-45. */
const frameOf = (low: number, high: number): Gfn => Gfn((high & FRAME_HIGH_MASK) * 0x10_0000 + (low >>> 12));
