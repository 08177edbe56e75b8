/**
 * Base class of an attached vGPU's handle. It owns every rule that does not depend on the hypervisor: argument and
 * range checks and attached → detached (`MptHandleChecks`), page-track idempotence, reference counts and the pin limit of DMA mappings, trap
 * area and mapping overlaps, and release of everything at detach. A backend overrides the methods of `MptHandleHooks`.
 */
import { type DmaAddress, GFN_LIMIT, type Gfn, type Gpa, HUGE_PAGE_SIZE, hex, type Mfn, PAGE_SIZE } from './addresses.js';
import type { DmaBlock } from './dma-block.js';
import { DmaTable } from './dma-table.js';
import { IoKind, type IoRequest } from './io-request.js';
import { type HostPages, type MptVgpuOps, OP_INDEX, type VgpuAttachment } from './mpt.js';
import type { MptBackend } from './mpt-backend.js';
import { fits } from './mpt-checks.js';
import { MptHandleVfio } from './mpt-handle-vfio.js';
import { isPvinfo } from './pvmmio.js';
import { RangeSet } from './ranges.js';

export interface HandleLimits {
  /** Pages that DMA mappings may pin at once. */
  readonly pinnedPages: number;
  /** Trap areas at once. */
  readonly trapAreas: number;
  /** Frames under page track at once. */
  readonly trackedPages: number;
}

export const DEFAULT_LIMITS: HandleLimits = { pinnedPages: GFN_LIMIT, trapAreas: 64, trackedPages: 65_536 };

export abstract class MptHandle extends MptHandleVfio implements MptVgpuOps {
  readonly limits: HandleLimits;
  readonly #tracked = new Set<number>();
  readonly #traps = new RangeSet<true>();
  readonly #maps = new RangeSet<Mfn>();
  readonly #dma: DmaTable;
  #pvmmio: { start: Gpa; end: Gpa } | undefined;

  constructor(backend: MptBackend, vgpu: VgpuAttachment, limits: HandleLimits = DEFAULT_LIMITS) {
    super(backend, vgpu);
    this.limits = limits;
    this.#dma = new DmaTable(limits.pinnedPages, {
      map: (gfn, size) => this.doDmaMap(gfn, size),
      unmap: (gfn, size, address) => this.doDmaUnmap(gfn, size, address),
    });
  }

  // --- life cycle -------------------------------------------------------------------------------------------------

  detachVgpu(): void {
    this.calls[OP_INDEX.detach_vgpu] = (this.calls[OP_INDEX.detach_vgpu] as number) + 1;
    if (this.detached) throw this.fail('DETACHED', 'the handle was detached before', 'detach_vgpu');
    const failures: unknown[] = [];
    const attempt = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        failures.push(error);
      }
    };
    if (this.attached) {
      const pvmmio = this.#pvmmio;
      if (pvmmio !== undefined) attempt(() => this.doSetPvmmio(pvmmio.start, pvmmio.end, false));
      for (const { start, end } of [...this.#traps]) attempt(() => this.doSetTrapArea(start as Gpa, end as Gpa, false));
      for (const { start, end, value } of [...this.#maps]) attempt(() => this.doMapGfnToMfn(start as Gfn, value, end - start + 1, false));
      for (const gfn of [...this.#tracked]) {
        attempt(() => this.doDisablePageTrack(gfn as Gfn));
        // One by one: a backend decides by what is still tracked.
        this.#tracked.delete(gfn);
      }
      attempt(() => this.#dma.clear());
    }
    this.markDetached();
    this.#traps.clear();
    this.#maps.clear();
    this.#tracked.clear();
    this.#dma.drop();
    attempt(() => this.doDetach());
    this.backend.forget(this);
    if (failures.length > 0) throw this.backend.wrap('detach_vgpu', failures[0]);
  }

  // --- guest memory -----------------------------------------------------------------------------------------------

  readGpa(gpa: Gpa, target: Uint8Array, offset = 0, length = target.length - offset): void {
    this.calls[OP_INDEX.read_gpa] = (this.calls[OP_INDEX.read_gpa] as number) + 1;
    this.checkCopy('read_gpa', gpa, target, offset, length);
    try {
      this.doReadGpa(gpa, target, offset, length);
    } catch (error) {
      throw this.backend.wrap('read_gpa', error);
    }
  }

  writeGpa(gpa: Gpa, source: Uint8Array, offset = 0, length = source.length - offset): void {
    this.calls[OP_INDEX.write_gpa] = (this.calls[OP_INDEX.write_gpa] as number) + 1;
    this.checkCopy('write_gpa', gpa, source, offset, length);
    try {
      this.doWriteGpa(gpa, source, offset, length);
    } catch (error) {
      throw this.backend.wrap('write_gpa', error);
    }
  }

  isValidGfn(gfn: Gfn): boolean {
    this.calls[OP_INDEX.is_valid_gfn] = (this.calls[OP_INDEX.is_valid_gfn] as number) + 1;
    this.requireAttached('is_valid_gfn');
    // By name, not by `require`, which looks up any capability: this is called for each page.
    if (!this.backend.capabilities.isValidGfn) this.backend.require('isValidGfn', 'is_valid_gfn');
    if (!Number.isSafeInteger(gfn) || gfn < 0 || gfn >= GFN_LIMIT) return false;
    // Here and where pages are mapped: no closure, which for each page would cost more than the work.
    try {
      return this.doIsValidGfn(gfn);
    } catch (error) {
      throw this.backend.wrap('is_valid_gfn', error);
    }
  }

  // --- interrupts -------------------------------------------------------------------------------------------------

  injectMsi(address: number, data: number): void {
    this.enter('inject_msi');
    this.checkMsi(address, data, 'inject_msi');
    try {
      this.doInjectMsi(address, data);
    } catch (error) {
      throw this.backend.wrap('inject_msi', error);
    }
  }

  /**
   * Arms an event that raises the message from any thread (KVM: irqfd). Later `injectMsi` calls with the same message
   * use it. One message at a time: arming another replaces it.
   * @returns the eventfd to write 8 bytes to; owned by the handle and closed at detach
   */
  armMsi(address: number, data: number): number {
    this.requireAttached('arm_msi');
    this.backend.require('msiEventfd', 'arm_msi');
    this.checkMsi(address, data, 'arm_msi');
    return this.guard('arm_msi', () => this.doArmMsi(address, data));
  }

  // --- page track -------------------------------------------------------------------------------------------------

  enablePageTrack(gfn: Gfn): void {
    const op = 'enable_page_track';
    this.enter(op);
    this.backend.require('pageTrack', op);
    this.checkGfn(op, gfn);
    if (this.#tracked.has(gfn)) return;
    if (this.#tracked.size >= this.limits.trackedPages)
      throw this.fail('LIMIT', 'too many frames are tracked', op, { address: gfn, limit: this.limits.trackedPages });
    // Added first: from the moment the hypervisor protects the page its writes must find their owner.
    this.#tracked.add(gfn);
    try {
      this.doEnablePageTrack(gfn);
    } catch (error) {
      this.#tracked.delete(gfn);
      throw this.backend.wrap(op, error);
    }
  }

  disablePageTrack(gfn: Gfn): void {
    const op = 'disable_page_track';
    this.enter(op);
    this.backend.require('pageTrack', op);
    this.checkGfn(op, gfn);
    if (!this.#tracked.has(gfn)) return;
    this.guard(op, () => this.doDisablePageTrack(gfn));
    this.#tracked.delete(gfn);
  }

  syncPageTrack(): number {
    this.requireAttached('sync_page_track');
    if (this.backend.capabilities.pageTrack !== 'sync' || this.#tracked.size === 0) return 0;
    const { ops } = this.backend;
    let reported = 0;
    this.guard('sync_page_track', () =>
      this.doSyncPageTrack((gfn) => {
        if (!this.#tracked.has(gfn)) return;
        reported++;
        ops.pageWritten(this.vgpu.id, gfn);
      }),
    );
    return reported;
  }

  /** True when the frame is tracked by this vGPU. */
  tracks(gfn: number): boolean {
    return this.#tracked.has(gfn);
  }

  /** The frames tracked by this vGPU, in no particular order. */
  trackedFrames(): IterableIterator<number> {
    return this.#tracked.values();
  }

  /** Frames tracked now. */
  get trackedCount(): number {
    return this.#tracked.size;
  }

  // --- traps and mappings -----------------------------------------------------------------------------------------

  setTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    const op = 'set_trap_area';
    this.enter(op);
    this.backend.require('setTrapArea', op);
    this.checkSpan(op, start, end);
    if (!map) {
      if (this.#traps.exact(start, end) === undefined)
        throw this.fail('NOT_MAPPED', `no trap area is exactly ${hex(start)}-${hex(end)}`, op, { address: start });
      this.guard(op, () => this.doSetTrapArea(start, end, false));
      this.#traps.delete(start, end);
      return;
    }
    if (this.#traps.size >= this.limits.trapAreas)
      throw this.fail('LIMIT', 'too many trap areas', op, { address: start, limit: this.limits.trapAreas });
    for (const handle of this.backend.handlesOf(this.vgpu.vmId)) {
      const other = handle.trapOverlapping(start, end);
      if (other !== undefined)
        throw this.fail('OVERLAP', `${hex(start)}-${hex(end)} overlaps the trap area ${hex(other.start)}-${hex(other.end)}`, op, {
          address: start,
        });
    }
    if (this.guard(op, () => this.doOverlapsRam(start, end)))
      throw this.fail('OVERLAP', `${hex(start)}-${hex(end)} overlaps guest RAM or mapped memory`, op, { address: start });
    this.guard(op, () => this.doSetTrapArea(start, end, true));
    this.#traps.add(start, end, true);
  }

  /** The trap area of this vGPU that shares an address with [start, end]. */
  trapOverlapping(start: number, end: number): { start: number; end: number } | undefined {
    return this.#traps.overlapping(start, end);
  }

  gfnToMfn(gfn: Gfn): Mfn {
    this.enter('gfn_to_mfn');
    this.checkGfn('gfn_to_mfn', gfn);
    return this.guard('gfn_to_mfn', () => this.doGfnToMfn(gfn));
  }

  mapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    const op = 'map_gfn_to_mfn';
    this.enter(op);
    this.backend.require('mapGfnToMfn', op);
    this.checkGfn(op, gfn);
    if (!Number.isSafeInteger(nr) || nr < 1 || gfn + nr > GFN_LIMIT)
      throw this.fail('INVALID_ARGUMENT', 'the number of frames is not in range', op, { address: gfn, size: nr, limit: GFN_LIMIT - gfn });
    if (!Number.isSafeInteger(mfn) || mfn < 0 || mfn + nr > GFN_LIMIT)
      throw this.fail('INVALID_ADDRESS', 'not a host frame', op, { address: mfn, size: nr });
    const last = gfn + nr - 1;
    if (!map) {
      const mapped = this.#maps.exact(gfn, last);
      if (mapped === undefined || mapped.value !== mfn)
        throw this.fail('NOT_MAPPED', 'these frames were not mapped by one call', op, { address: gfn, size: nr });
      this.guard(op, () => this.doMapGfnToMfn(gfn, mfn, nr, false));
      this.#maps.delete(gfn, last);
      return;
    }
    const start = gfn * PAGE_SIZE;
    const end = (last + 1) * PAGE_SIZE - 1;
    for (const handle of this.backend.handlesOf(this.vgpu.vmId))
      if (handle.mapOverlapping(gfn, last) || handle.trapOverlapping(start, end) !== undefined)
        throw this.fail('OVERLAP', 'the frames overlap a mapping or trap area', op, { address: gfn, size: nr });
    if (this.guard(op, () => this.doOverlapsRam(start as Gpa, end as Gpa)))
      throw this.fail('OVERLAP', 'the frames overlap guest RAM', op, { address: gfn, size: nr });
    this.guard(op, () => this.doMapGfnToMfn(gfn, mfn, nr, true));
    this.#maps.add(gfn, last, mfn);
  }

  /** True when a mapping of this vGPU covers any of the frames. */
  mapOverlapping(first: number, last: number): boolean {
    return this.#maps.overlapping(first, last) !== undefined;
  }

  /** True when this vGPU maps any frame of [mfn, mfn + count). */
  mapsHostFrames(mfn: number, count: number): boolean {
    for (const { start, end, value } of this.#maps) if (value < mfn + count && mfn <= value + (end - start)) return true;
    return false;
  }

  /** True while the guest has any of these host pages. A backend that gives them out in other ways too adds those. */
  usesHostPages(pages: HostPages): boolean {
    return this.mapsHostFrames(pages.mfn, pages.count);
  }

  // --- dma --------------------------------------------------------------------------------------------------------

  dmaMapGuestPage(gfn: Gfn, size: number): DmaAddress {
    const op = 'dma_map_guest_page';
    this.calls[OP_INDEX.dma_map_guest_page] = (this.calls[OP_INDEX.dma_map_guest_page] as number) + 1;
    this.requireAttached(op);
    this.checkGfn(op, gfn);
    if (size !== PAGE_SIZE) {
      if (size !== HUGE_PAGE_SIZE) throw this.fail('INVALID_ARGUMENT', 'the size is neither 4096 nor 2097152', op, { address: gfn, size });
      this.backend.require('dmaHugePage', op);
      if (gfn % (HUGE_PAGE_SIZE / PAGE_SIZE) !== 0)
        throw this.fail('INVALID_ARGUMENT', 'a 2 MiB mapping needs a gfn that is a multiple of 512', op, { address: gfn, size });
    }
    try {
      return this.#dma.map(gfn, size);
    } catch (error) {
      throw this.backend.wrap(op, error);
    }
  }

  dmaUnmapGuestPage(address: DmaAddress): void {
    this.calls[OP_INDEX.dma_unmap_guest_page] = (this.calls[OP_INDEX.dma_unmap_guest_page] as number) + 1;
    this.requireAttached('dma_unmap_guest_page');
    try {
      this.#dma.unmap(address);
    } catch (error) {
      throw this.backend.wrap('dma_unmap_guest_page', error);
    }
  }

  dmaPinGuestPage(address: DmaAddress): void {
    this.enter('dma_pin_guest_page');
    this.backend.require('dmaPin', 'dma_pin_guest_page');
    this.guard('dma_pin_guest_page', () => this.#dma.pin(address));
  }

  view(address: DmaAddress, length: number): Uint8Array {
    this.requireAttached('dma_view');
    try {
      this.#dma.require(address, length);
      return this.doDmaView(address, length);
    } catch (error) {
      throw this.backend.wrap('dma_view', error);
    }
  }

  block(address: DmaAddress): DmaBlock | undefined {
    this.requireAttached('dma_view');
    try {
      this.#dma.require(address, PAGE_SIZE);
      return this.doDmaBlock(address);
    } catch (error) {
      throw this.backend.wrap('dma_view', error);
    }
  }

  copyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void {
    this.requireAttached('dma_copy');
    if (!fits(target, offset, length))
      throw this.fail('INVALID_ARGUMENT', 'the buffer does not hold the range', 'dma_copy', { address, size: length });
    try {
      this.#dma.require(address, length);
      this.doDmaCopyFrom(address, target, offset, length);
    } catch (error) {
      throw this.backend.wrap('dma_copy', error);
    }
  }

  /** Pages pinned by DMA mappings now. */
  get pinnedPages(): number {
    return this.#dma.pinnedPages;
  }

  // --- pvmmio -----------------------------------------------------------------------------------------------------

  setPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    const op = 'set_pvmmio';
    this.enter(op);
    this.backend.require('setPvmmio', op);
    this.checkSpan(op, start, end);
    const active = this.#pvmmio;
    if (map && active !== undefined) throw this.fail('OVERLAP', 'pvmmio is already on', op, { address: active.start });
    if (!map && (active === undefined || active.start !== start || active.end !== end))
      throw this.fail('NOT_MAPPED', 'pvmmio is not on for this window', op, { address: start });
    if (map && this.vgpu.pvmmio === undefined)
      throw this.fail('INVALID_ARGUMENT', 'the vGPU was attached without its register file pages', op);
    this.guard(op, () => this.doSetPvmmio(start, end, map));
    this.#pvmmio = map ? { start, end } : undefined;
  }

  // --- routing ----------------------------------------------------------------------------------------------------

  /** True when the access belongs to this vGPU. */
  claims(request: IoRequest): boolean {
    switch (request.kind) {
      case IoKind.MMIO:
        return (
          this.#traps.find(request.address) !== undefined || (this.#pvmmio !== undefined && isPvinfo(this.#pvmmio.start, request.address))
        );
      case IoKind.WP:
        return (
          this.#tracked.has(Math.floor(request.address / PAGE_SIZE)) ||
          this.#tracked.has(Math.floor((request.address + request.size - 1) / PAGE_SIZE)) ||
          (this.#pvmmio !== undefined && request.address >= this.#pvmmio.start && request.address <= this.#pvmmio.end)
        );
      case IoKind.PCI_CONFIG:
        return request.bdf === this.vgpu.bdf;
      default:
        return false;
    }
  }
}
