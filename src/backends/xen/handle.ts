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
import { DirectMappings } from './direct-mappings.js';
import type { XenDomain } from './domain.js';
import type { Bucket } from './foreign-ram.js';
import type { Grant } from './grants.js';
import type { XenMachine } from './machine.js';
import { injectMsi } from './msi.js';

/** A page that the vGPU's GPU reaches. */
interface DmaPage {
  readonly grant: Grant;
  readonly bucket: Bucket;
  readonly gpa: number;
}

export class XenHandle extends MptHandle {
  readonly #xen: XenBackend;
  readonly #vm: XenMachine;
  readonly #domain: XenDomain;
  readonly #dma = new Map<number, DmaPage>();
  readonly #direct: DirectMappings;
  /** Level `sync`: tracked frames found written and not yet reported. */
  readonly #dirty = new Set<number>();

  constructor(backend: XenBackend, vm: XenMachine, vgpu: VgpuAttachment) {
    super(backend, vgpu, { ...DEFAULT_LIMITS, pinnedPages: backend.pinLimit });
    this.#xen = backend;
    this.#vm = vm;
    this.#domain = vm.domain;
    this.#direct = new DirectMappings(backend, vm, () => this.#siblings().map((handle) => handle.#direct));
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
      this.#direct.unmapAll(attempt);
      if (this.backend.capabilities.pageTrack === 'trap') for (const gfn of this.trackedFrames()) attempt(() => this.#untype(gfn as Gfn));
    }
    for (const page of this.#dma.values()) attempt(() => this.#release(page));
    this.#dma.clear();
    this.#direct.drop(attempt, undo && !this.#domain.gone);
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
    if (map) this.#direct.map(gfn, mfn, nr);
    else this.#direct.unmap(gfn);
  }
}
