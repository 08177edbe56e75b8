/**
 * The MPT operations of one vGPU on Xen. Frames and DMA addresses are machine addresses, exact and pinned (`grants.ts`);
 * host pages have frame numbers of ours (`host-pages.ts`).
 */
import { type DmaAddress, type Gfn, type Gpa, Mfn, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { VgpuAttachment } from '../../core/mpt.js';
import { DEFAULT_LIMITS, MptHandle } from '../../core/mpt-handle.js';
import { XEN_CONST as C } from './abi.js';
import type { XenBackend } from './backend.js';
import type { XenDomain } from './domain.js';
import { ERRNO } from './failure.js';
import type { Bucket } from './foreign-ram.js';
import type { Grant } from './grants.js';
import type { XenMachine } from './machine.js';
import { injectMsi } from './msi.js';

/** Frames that one memory_mapping domctl may map before Xen answers E2BIG (XenGT's chunk). */
const CHUNK = 64;

/** A page that the vGPU's GPU reaches. */
interface DmaPage {
  readonly grant: Grant;
  readonly bucket: Bucket;
  readonly gpa: number;
}

/** A run of guest frames over consecutive machine frames. */
interface MachineRun {
  readonly gfn: number;
  readonly mfn: number;
  readonly nr: number;
}

/** What one map_gfn_to_mfn set up. */
interface DirectMapping {
  /** What the guest still maps of it: an unmap that failed half-way leaves the rest. */
  readonly runs: MachineRun[];
  /** Pins of the host pages behind it; empty for a BAR. */
  readonly pins: readonly Grant[];
}

export class XenHandle extends MptHandle {
  readonly #xen: XenBackend;
  readonly #vm: XenMachine;
  readonly #domain: XenDomain;
  readonly #dma = new Map<number, DmaPage>();
  readonly #direct = new Map<number, DirectMapping>();
  /** Level `sync`: tracked frames found written and not yet reported. */
  readonly #dirty = new Set<number>();

  constructor(backend: XenBackend, vm: XenMachine, vgpu: VgpuAttachment) {
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit });
    this.#xen = backend;
    this.#vm = vm;
    this.#domain = vm.domain;
    this.#domain.server.claim('pci', vgpu.bdf, vgpu.bdf);
  }

  protected override doDetach(): void {
    this.#dirty.clear();
    const { gone, server } = this.#domain;
    // The guest goes on: what the detach could not take back is tried once more.
    this.releasePins(!gone);
    if (!gone) this.#domain.finish();
    if (gone || server.closed) return;
    try {
      server.unclaim('pci', this.vgpu.bdf, this.vgpu.bdf);
    } catch (error) {
      if (!MptError.is(error, 'VM_GONE')) throw error;
    }
  }

  /**
   * For XenBackend too, when it lets go of the domain: unpins what is still pinned. Grants are dom0's, so they outlive the
   * domain that they are of.
   * @param undo also takes back what the guest would keep: a domain that goes on without us
   */
  releasePins(undo = false): void {
    let failure: unknown;
    const attempt = (run: () => void): void => {
      try {
        run();
      } catch (error) {
        failure ??= error;
      }
    };
    if (undo) {
      for (const [gfn, mapping] of [...this.#direct]) attempt(() => this.#unmapDirect(gfn, mapping));
      if (this.backend.capabilities.pageTrack === 'trap') for (const gfn of this.trackedFrames()) attempt(() => this.#untype(gfn as Gfn));
    }
    for (const page of this.#dma.values()) attempt(() => this.#release(page));
    this.#dma.clear();
    // What a guest that goes on still maps must stay where it is, with the domain that owns it.
    if (undo && !this.#domain.gone && this.#direct.size > 0) this.#xen.hostPages.keep();
    else
      for (const { pins } of this.#direct.values()) {
        attempt(() => this.#unpin(pins));
        this.#noteMapping(pins, false);
      }
    this.#direct.clear();
    if (failure !== undefined && !MptError.is(failure, 'VM_GONE')) throw failure;
  }

  // --- guest memory ---------------------------------------------------------------------------------------------------

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    this.#domain.ram.read(gpa, target, offset, length);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    this.#domain.ram.write(gpa, source, offset, length);
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.#domain.ram.find(gfn * PAGE_SIZE) !== undefined;
  }

  protected override doInjectMsi(address: number, data: number): void {
    injectMsi(this.#xen, this.#domain, address, data);
  }

  // --- frames and dma -------------------------------------------------------------------------------------------------

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    const known = this.#domain.ram.find(gfn * PAGE_SIZE);
    if (known === undefined) throw this.#notRam(gfn);
    const { grants } = this.#domain;
    const grant = grants.map(gfn);
    grants.unmap(grant);
    return Mfn(grant.busAddress / PAGE_SIZE);
  }

  protected override doDmaMap(gfn: Gfn): DmaAddress {
    const gpa = gfn * PAGE_SIZE;
    const bucket = this.#domain.ram.bucket(gpa);
    if (bucket?.find(gpa) === undefined) throw this.#notRam(gfn);
    // Held before the page is pinned: the guest may give the frame up between the two, and then the view shows what it was.
    bucket.hold();
    let grant: Grant;
    try {
      grant = this.#domain.grants.map(gfn);
    } catch (error) {
      bucket.release();
      throw error;
    }
    if (this.#dma.has(grant.busAddress)) {
      // Two frames never share a machine page: the guest changed its grant table under us to name a frame twice.
      this.#release({ grant, bucket, gpa });
      throw new MptError('NOT_RAM', `domain ${this.#domain.domid} changed its grant table while the frame was pinned`, { address: gpa });
    }
    this.#dma.set(grant.busAddress, { grant, bucket, gpa });
    return grant.busAddress as DmaAddress;
  }

  protected override doDmaUnmap(_gfn: Gfn, _size: number, address: DmaAddress): void {
    const { grant, bucket } = this.#dma.get(address) as DmaPage;
    // First what can fail: then the page stays mapped, here as there.
    this.#domain.grants.unmap(grant);
    this.#dma.delete(address);
    bucket.release();
  }

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    const within = address % PAGE_SIZE;
    const { bucket, gpa } = this.#dma.get(address - within) as DmaPage;
    const run = bucket.find(gpa);
    if (run === undefined) throw new MptError('NOT_MAPPED', 'the page is mapped no more', { address, size: length });
    const at = gpa - run.gpa + within;
    return run.bytes.subarray(at, at + length);
  }

  /** The page's grant, for tests. */
  grantOf(address: DmaAddress): Grant | undefined {
    return this.#dma.get(address)?.grant;
  }

  #release({ grant, bucket }: DmaPage): void {
    bucket.release();
    this.#domain.grants.unmap(grant);
  }

  #notRam(gfn: Gfn): MptError {
    return new MptError('NOT_RAM', `the frame is not RAM of domain ${this.#domain.domid}`, { address: gfn * PAGE_SIZE });
  }

  // --- page track -----------------------------------------------------------------------------------------------------

  protected override doEnablePageTrack(gfn: Gfn): void {
    if (!this.doIsValidGfn(gfn)) throw this.#notRam(gfn);
    if (this.backend.capabilities.pageTrack === 'trap') {
      // Xen takes the type only from plain RAM.
      if (this.#trackedElsewhere(gfn)) return;
      this.#domain.claimMemType();
      this.#setMemType(C.HVMMEM_ioreq_server, gfn);
      return;
    }
    // What was written before now belongs to the frames already tracked, not to this one.
    const { dirty } = this.#domain;
    if (dirty.covers(gfn, gfn)) this.#collectDirty();
    else
      this.#domain.paused(() => {
        this.#collectDirty();
        const [first, last] = this.#span(gfn);
        dirty.start(first, last);
      });
    this.#dirty.delete(gfn);
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    if (this.#trackedElsewhere(gfn)) return;
    if (this.backend.capabilities.pageTrack === 'trap') {
      this.#untype(gfn);
      return;
    }
    this.#dirty.delete(gfn);
    const others = this.#siblings().some((handle) => handle.trackedCount > (handle === this ? 1 : 0));
    if (!others) this.#domain.dirty.stop();
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    this.#collectDirty();
    const frames = [...this.#dirty];
    this.#dirty.clear();
    for (const gfn of frames) written(gfn as Gfn);
  }

  #setMemType(type: number, gfn: Gfn): void {
    const result = this.#xen.xen.setMemType(this.#domain.domid, type, gfn, 1);
    if (result < 0) this.#domain.fail('set_mem_type', result, { gfn });
  }

  /** Makes the frame plain RAM again. */
  #untype(gfn: Gfn): void {
    const { xen } = this.#xen;
    const result = this.#domain.undo(() => xen.setMemType(this.#domain.domid, C.HVMMEM_ram_rw, gfn, 1));
    if (result < 0) this.#domain.fail('set_mem_type', result, { gfn });
  }

  /** Moves the log to the handles that track: reading it clears it for everyone. */
  #collectDirty(): void {
    const frames = this.#domain.dirty.take();
    for (const handle of this.#siblings()) for (const gfn of handle.trackedFrames()) if (frames.has(gfn)) handle.#dirty.add(gfn);
  }

  /** First and last of all frames that are tracked in the domain, `gfn` among them. */
  #span(gfn: Gfn): [number, number] {
    let first: number = gfn;
    let last: number = gfn;
    for (const handle of this.#siblings())
      for (const other of handle.trackedFrames()) {
        first = Math.min(first, other);
        last = Math.max(last, other);
      }
    return [first, last];
  }

  #siblings(): readonly XenHandle[] {
    return this.backend.handlesOf(this.vgpu.vmId) as readonly XenHandle[];
  }

  #trackedElsewhere(gfn: Gfn): boolean {
    const handles = this.#siblings();
    return handles.length > 1 && handles.some((handle) => handle !== this && handle.tracks(gfn));
  }

  // --- traps and mappings ---------------------------------------------------------------------------------------------

  protected override doSetTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    const { server } = this.#domain;
    try {
      if (map) server.claim('memory', start, end);
      else server.unclaim('memory', start, end);
    } catch (error) {
      this.#domain.requireAlive();
      throw error;
    }
  }

  protected override doOverlapsRam(start: Gpa, end: Gpa): boolean {
    if (this.#vm.ram.some((region) => region.gpa <= end && start < region.gpa + region.size)) return true;
    const [first, last] = [Math.floor(start / PAGE_SIZE), Math.floor(end / PAGE_SIZE)];
    return this.#siblings().some((handle) => handle.mapOverlapping(first, last));
  }

  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    if (!map) {
      const mapping = this.#direct.get(gfn);
      if (mapping !== undefined) this.#unmapDirect(gfn, mapping);
      return;
    }
    const { hostPages, bars } = this.#xen;
    const pins: Grant[] = [];
    let noted = false;
    try {
      if (hostPages.find(mfn, nr) !== undefined) for (let i = 0; i < nr; i++) pins.push(hostPages.pin(mfn + i));
      // Xen would map any frame of the machine: a forged one must not give the guest what is not meant for it.
      else if (!bars.covers(mfn, nr))
        throw new MptError('INVALID_ADDRESS', 'the frames are neither host pages of this backend nor a BAR of a function that it may map', {
          address: mfn,
          size: nr,
          hint: 'name the PCI function in the backend option mapPciDevices',
        });
      const runs = pins.length === 0 ? [{ gfn, mfn, nr }] : runsOf(gfn, pins);
      this.#noteMapping(pins, true);
      noted = true;
      this.#mapRuns(runs);
      this.#direct.set(gfn, { runs: [...runs], pins });
    } catch (error) {
      for (const pin of pins) hostPages.unpin(pin);
      if (noted) this.#noteMapping(pins, false);
      throw error;
    }
  }

  /** A domain that is not ours outlives a kill of this process with what it maps: the next process must know. */
  #noteMapping(pins: readonly Grant[], mapped: boolean): void {
    if (this.#vm.own || pins.length === 0) return;
    if (mapped) this.#xen.journal.guestMaps(this.#domain.domid);
    else this.#xen.journal.guestUnmaps(this.#domain.domid);
  }

  /** The pins go last: a page that the guest still reaches must not be given back. */
  #unmapDirect(gfn: number, mapping: DirectMapping): void {
    this.#unmapRuns(mapping);
    this.#direct.delete(gfn);
    this.#noteMapping(mapping.pins, false);
    this.#unpin(mapping.pins);
  }

  /** All of them; the first failure is thrown afterwards. */
  #unpin(pins: readonly Grant[]): void {
    let failure: unknown;
    for (const pin of pins) {
      try {
        this.#xen.hostPages.unpin(pin);
      } catch (error) {
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** All or nothing. */
  #mapRuns(runs: readonly MachineRun[]): void {
    const { xen: calls } = this.#xen;
    const { domid } = this.#domain;
    const permitted: MachineRun[] = [];
    const mapped: MachineRun[] = [];
    try {
      for (const run of runs) {
        this.#domain.check('iomem_permission', calls.iomemPermission(domid, run.mfn, run.nr, true), { gfn: run.gfn, size: run.nr });
        permitted.push(run);
        for (let done = 0, chunk = CHUNK; done < run.nr; ) {
          const part = { gfn: run.gfn + done, mfn: run.mfn + done, nr: Math.min(chunk, run.nr - done) };
          const result = calls.memoryMapping(domid, part.gfn, part.mfn, part.nr, true);
          if (result === -ERRNO.E2BIG && part.nr > 1) {
            chunk = part.nr >> 1;
            continue;
          }
          this.#domain.check('memory_mapping', result, { gfn: part.gfn, size: part.nr });
          mapped.push(part);
          done += part.nr;
        }
      }
    } catch (error) {
      for (const { gfn, mfn, nr } of mapped.reverse()) this.#domain.undo(() => calls.memoryMapping(domid, gfn, mfn, nr, false));
      for (const run of permitted.reverse()) this.#forbid(run);
      throw error;
    }
  }

  /** Takes back the domain's right to machine frames, except those that it still maps elsewhere: the right is not counted. */
  #forbid({ mfn, nr }: MachineRun, mapping?: DirectMapping): void {
    const { xen } = this.#xen;
    const others = this.#siblings().flatMap((handle) => [...handle.#direct.values()].filter((other) => other !== mapping));
    const overlapping = others.flatMap(({ runs }) => runs).filter((run) => run.mfn < mfn + nr && mfn < run.mfn + run.nr);
    if (overlapping.length === 0) {
      this.#domain.undo(() => xen.iomemPermission(this.#domain.domid, mfn, nr, false));
      return;
    }
    for (let frame = mfn; frame < mfn + nr; frame++)
      if (!overlapping.some((run) => frame >= run.mfn && frame < run.mfn + run.nr))
        this.#domain.undo(() => xen.iomemPermission(this.#domain.domid, frame, 1, false));
  }

  /** Removes every frame; the first failure is thrown after all were tried. What failed stays among the runs. */
  #unmapRuns(mapping: DirectMapping): void {
    const { xen: calls } = this.#xen;
    const { domid } = this.#domain;
    let failure: { readonly result: number; readonly gfn: number } | undefined;
    for (const run of mapping.runs.splice(0)) {
      for (let done = 0; done < run.nr; done += CHUNK) {
        const part = { gfn: run.gfn + done, mfn: run.mfn + done, nr: Math.min(CHUNK, run.nr - done) };
        const result = calls.memoryMapping(domid, part.gfn, part.mfn, part.nr, false);
        if (result >= 0) {
          this.#forbid(part, mapping);
          continue;
        }
        failure ??= { result, gfn: part.gfn };
        mapping.runs.push(part);
      }
    }
    if (failure === undefined) return;
    this.#domain.fail('memory_mapping', failure.result, { gfn: failure.gfn });
  }
}

/** Joins pinned pages that follow each other in the machine. */
function runsOf(gfn: number, pins: readonly Grant[]): MachineRun[] {
  const runs: { gfn: number; mfn: number; nr: number }[] = [];
  pins.forEach(({ busAddress }, i) => {
    const mfn = busAddress / PAGE_SIZE;
    const last = runs.at(-1);
    if (last !== undefined && last.mfn + last.nr === mfn) last.nr++;
    else runs.push({ gfn: gfn + i, mfn, nr: 1 });
  });
  return runs;
}
