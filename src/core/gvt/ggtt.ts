/**
 * The vGPU's global graphics translation table (facts: gvt.md 4.10): the guest's view of its entries, the DMA mapping
 * behind each present one, and memory as the GPU addresses it.
 *
 * Only the entries of the vGPU's own aperture and hidden ranges exist: others read 0 and ignore writes. A 4-byte write
 * is half an entry: the entry points nowhere until the other half arrives. Which half is awaited is two bits of state for
 * each entry, so halves of any number of entries may interleave and the memory for it is fixed.
 *
 * A frame is mapped for DMA when its entry is first used, and stays so until the entry changes (docs/decisions/0018-lazy-ppgtt.md): drivers write
 * every entry that they have, and use few.
 */
import { type DmaAddress, Gfn, hex, PAGE_SHIFT, PAGE_SIZE, pageOffset } from '../addresses.js';
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { DmaMapper, GuestMemory } from '../mpt.js';
import { DmaPages } from './gpu-page.js';
import { isGone, refusedByHypervisor } from './guest-error-log.js';
import { PageCache } from './page-cache.js';
import type { GpuRange } from './resources.js';
import type { GpuMemory, GpuPage, GuestErrorLog } from './roles.js';
import type { Saved, StateStream } from './state/stream.js';

/** Entry bit 0: present. Bits 12-45 are the guest frame, the rest is kept as written. */
const PRESENT = 1;
const FRAME_HIGH_MASK = 0x3fff;
/** No page is mapped: the GPU sees the scratch page, which for us is no page at all. */
const SCRATCH = -1;
/** States of an entry: awaited halves, and what cannot be mapped, which is told once and not tried at each use. */
const COMPLETE = 0;
const LOW_WRITTEN = 1;
const HIGH_WRITTEN = 2;
const REFUSED = 3;
/** Views kept of pages: 16 MiB, two surfaces of a full HD screen. */
const CACHED_PAGES = 4096;

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
  readonly #states: Uint8Array;
  /** DMA addresses plus one, 0 for none: memory that was never written takes no room. Not saved: the host's; mapped again. */
  readonly #addresses: Float64Array;
  /** Not saved: views of the host's memory. */
  readonly #pages: DmaPages;
  /** Not saved: of `#pages`, by entry. */
  readonly #cache = new PageCache(CACHED_PAGES);
  /** Not saved: counts `#addresses`. */
  #mapped = 0;
  /** Not saved: an entry is REFUSED. */
  #refused = false;

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
    this.#states = new Uint8Array(entries);
    this.#addresses = new Float64Array(entries);
    this.#pages = new DmaPages(parts.dma);
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
    if (size < 4 || (offset & (size - 1)) !== 0) return Status.EINVAL;
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

  /** Guest store, same rules. */
  writeEntry(offset: number, value: AccessValue, size: number): Status {
    if (size < 4 || (offset & (size - 1)) !== 0) return Status.EINVAL;
    const index = this.#indexOf((offset >>> 3) * PAGE_SIZE);
    if (index < 0) return Status.OK;
    if (size === 8) this.#commit(index, value[0] as number, value[1] as number);
    else this.#writeHalf(index, (offset >>> 2) & 1, value[0] as number);
    return Status.OK;
  }

  /** Failsafe: the entry as plain memory. */
  writePlain(offset: number, value: AccessValue, size: number): void {
    const index = this.#indexOf((offset >>> 3) * PAGE_SIZE);
    if (index < 0 || size < 4 || (offset & (size - 1)) !== 0) return;
    const half = size === 8 ? 0 : (offset >>> 2) & 1;
    this.#guest[index * 2 + half] = value[0] as number;
    if (size === 8) this.#guest[index * 2 + 1] = value[1] as number;
  }

  /** The guest frame that an own, whole and present entry names for the byte address. */
  frameAt(address: number): Gfn | undefined {
    const index = this.#indexOf(address);
    const present = index >= 0 && !isHalf(this.#states[index] as number) && ((this.#guest[index * 2] as number) & PRESENT) !== 0;
    return present ? this.#frame(index) : undefined;
  }

  page(address: number): GpuPage | undefined {
    const index = this.#indexOf(address);
    return index < 0 ? undefined : (this.#cache.get(index) ?? this.#view(index));
  }

  /** GGTT entries have no read-only bit. */
  pageToWrite(address: number): GpuPage | undefined {
    return this.page(address);
  }

  run(first: GpuPage, address: number, length: number): number {
    const start = address - pageOffset(address);
    let n = PAGE_SIZE - pageOffset(address);
    for (; n < length; n += PAGE_SIZE) {
      const index = this.#indexOf(address + n);
      if (index < 0 || !this.#pages.follows(first, address + n - start, this.#address(index))) break;
    }
    return Math.min(n, length);
  }

  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const index = this.#indexOf(address + done);
      const mapping = index < 0 ? SCRATCH : this.#address(index);
      if (mapping === SCRATCH) return false;
      const at = pageOffset(address + done);
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
    for (let index = 0; index < this.#addresses.length && this.#mapped > 0; index++) {
      const address = this.#forget(index);
      // Once the VM is gone, half a million failing calls would only take time.
      if (address !== SCRATCH && attached) attached = this.#release(address);
    }
    // Most of a table may never have been written and takes no memory, which reading does not change.
    const guest = this.#guest;
    for (let i = 0; i < guest.length; i++) if (guest[i] !== 0) guest[i] = 0;
    this.#states.fill(COMPLETE);
    this.#refused = false;
  }

  /** Entries as the guest wrote them, and which of them are half written. */
  exchange(state: StateStream): void {
    state.words('entries', this.#guest);
    this.#exchangeHalves(state);
    if (!state.restoring) return;
    for (let index = 0; index < this.#states.length; index++) {
      const other = this.#guest[index * 2 + (this.#states[index] === LOW_WRITTEN ? 1 : 0)];
      if (this.#states[index] !== COMPLETE && other !== 0) state.refuse(`entry ${index} has the half that it waits for`);
    }
  }

  /** Guest memory came where there was none: what could not be mapped is tried again. */
  memoryCame(): void {
    if (!this.#refused) return;
    this.#refused = false;
    for (let index = 0; index < this.#states.length; index++) if (this.#states[index] === REFUSED) this.#states[index] = COMPLETE;
  }

  /** DMA address behind an own entry, mapped if it was not, or SCRATCH. */
  #address(index: number): number {
    const address = this.#addresses[index] as number;
    return address > 0 ? address - 1 : this.#map(index);
  }

  #exchangeHalves(state: StateStream): void {
    const waiting: number[] = [];
    for (let index = 0; index < this.#states.length; index++) if (isHalf(this.#states[index] as number)) waiting.push(index);
    const last = this.#states.length - 1;
    let next = 0;
    state.list('halves', waiting.length, this.#states.length, (i) => {
      const index = state.u32('entry', waiting[i] ?? 0, last, next);
      next = index + 1;
      this.#states[index] = state.u32('written', this.#states[index] as number, HIGH_WRITTEN, LOW_WRITTEN);
    });
  }

  /** Drops page views: they may show memory that is no longer the guest's. */
  dropPages(): void {
    this.#cache.clear();
    this.#pages.forget();
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
    if (this.#states[index] === other) {
      const kept = this.#guest[index * 2 + (1 - half)] as number;
      if (half === 0) this.#commit(index, value, kept);
      else this.#commit(index, kept, value);
      return;
    }
    this.#unmap(index);
    this.#states[index] = written;
    this.#guest[index * 2 + half] = value;
    this.#guest[index * 2 + (1 - half)] = 0;
  }

  #commit(index: number, low: number, high: number): void {
    // Same frame, other cache bits: the mapping stands.
    if (this.#addresses[index] !== 0 && ((low & PRESENT) === 0 || frameOf(low, high) !== this.#frame(index))) this.#unmap(index);
    this.#states[index] = COMPLETE;
    this.#guest[index * 2] = low;
    this.#guest[index * 2 + 1] = high;
  }

  #frame(index: number): Gfn {
    return frameOf(this.#guest[index * 2] as number, this.#guest[index * 2 + 1] as number);
  }

  /** Maps an entry's frame, once it is whole. @returns the DMA address, or SCRATCH */
  #map(index: number): number {
    if (this.#states[index] !== COMPLETE || ((this.#guest[index * 2] as number) & PRESENT) === 0) return SCRATCH;
    const gfn = this.#frame(index);
    try {
      if (this.#frames === undefined || this.#frames.isValidGfn(gfn)) {
        const address = this.#dma.dmaMapGuestPage(gfn, PAGE_SIZE);
        this.#addresses[index] = address + 1;
        this.#mapped++;
        return address;
      }
      this.#log.guestError(`GGTT: the frame ${hex(gfn)} is not guest memory`);
    } catch (error) {
      refusedByHypervisor(this.#log, error);
    }
    this.#states[index] = REFUSED;
    this.#refused = true;
    return SCRATCH;
  }

  #unmap(index: number): void {
    const address = this.#forget(index);
    if (address !== SCRATCH) this.#release(address);
  }

  /** Points the entry to scratch. @returns the DMA address that it had */
  #forget(index: number): number {
    const address = (this.#addresses[index] as number) - 1;
    if (address < 0) return SCRATCH;
    this.#addresses[index] = 0;
    this.#mapped--;
    this.#cache.drop(index);
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
      return this.#cache.keep(index, this.#pages.page(address));
    } catch {
      // VM_GONE: the memory went with the VM.
      return undefined;
    }
  }
}

const isHalf = (state: number): boolean => state === LOW_WRITTEN || state === HIGH_WRITTEN;

/** Guest frame of an entry: bits 12-45. */
const frameOf = (low: number, high: number): Gfn => Gfn((high & FRAME_HIGH_MASK) * 0x10_0000 + (low >>> 12));
