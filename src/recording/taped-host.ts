/** Backend, handle and pages as the device model sees them when a tape runs. */
import { type DmaAddress, type Gfn, type Gpa, type Hva, Mfn, PAGE_SIZE } from '../core/addresses.js';
import type { Capabilities } from '../core/capabilities.js';
import type { PageView } from '../core/gvt/gpu-page.js';
import type { GvtHost } from '../core/gvt/gvt-options.js';
import type { GpuPage } from '../core/gvt/roles.js';
import type { GvtOps } from '../core/gvt-ops.js';
import type { HostPages, MptVgpuOps, VgpuAttachment } from '../core/mpt.js';
import type { MptBackend } from '../core/mpt-backend.js';
import type { VfioDevice } from '../core/vfio/device.js';
import { dmaKey, hashBytes } from './page-copies.js';
import { CALL, Look, type Tape } from './tape.js';

/** What a replay knows of the backend that was recorded. */
export interface HostFacts {
  readonly name: string;
  readonly capabilities: Readonly<Capabilities>;
}

/** What is on the tape of an operation's answer. */
const answered = (answer: unknown): number => (typeof answer === 'number' ? answer : 0);

export class TapedHost implements GvtHost {
  readonly name: string;
  readonly capabilities: Readonly<Capabilities>;
  readonly #tape: Tape;
  readonly #inner: GvtHost | undefined;
  #state: MptBackend['state'] = 'created';

  /** @param inner the backend that is recorded; none in a replay */
  constructor(tape: Tape, { name, capabilities }: HostFacts, inner?: GvtHost) {
    this.name = name;
    this.capabilities = capabilities;
    this.#tape = tape;
    this.#inner = inner;
  }

  get state(): MptBackend['state'] {
    return this.#inner?.state ?? this.#state;
  }

  hostInit(ops: GvtOps): void {
    this.#call(CALL.host_init, 0, 0, 0, (inner) => inner.hostInit(ops));
    this.#state = 'initialized';
  }

  hostExit(): void {
    this.#call(CALL.host_exit, 0, 0, 0, (inner) => inner.hostExit());
    this.#state = 'exited';
  }

  attachVgpu(vgpu: VgpuAttachment): MptVgpuOps {
    let handle: MptVgpuOps | undefined;
    this.#call(CALL.attach_vgpu, vgpu.id, vgpu.vmId, vgpu.bdf, (inner) => {
      handle = inner.attachVgpu(vgpu);
    });
    return new TapedHandle(this.#tape, vgpu.id, handle);
  }

  fromVirtToMfn(hva: Hva): Mfn {
    return Mfn(this.#call(CALL.from_virt_to_mfn, 0, hva, 0, (inner) => inner.fromVirtToMfn(hva)));
  }

  dom0Ready(): void {
    this.#call(CALL.dom0_ready, 0, 0, 0, (inner) => inner.dom0Ready());
  }

  /** Where they lie in the process is nobody's business but the backend's: only their frame is on the tape. */
  allocateHostPages(count: number): HostPages {
    let pages: HostPages | undefined;
    const mfn = this.#call(CALL.allocate_host_pages, 0, count, 0, (inner) => {
      pages = inner.allocateHostPages(count);
      return pages.mfn;
    });
    return {
      mfn: Mfn(mfn),
      hva: pages?.hva ?? (0 as Hva),
      count,
      bytes: pages?.bytes ?? new Uint8Array(Math.min(count, PAGES_MAX) * PAGE_SIZE),
      release: () => void this.#tape.call(CALL.release_host_pages, 0, mfn, count, 0, 0, () => answered(pages?.release())),
    };
  }

  /** How the vGPU is shown is the transport's matter. */
  presentVgpu(handle: MptVgpuOps, view: () => VfioDevice): void {
    const { inner } = handle as TapedHandle;
    if (inner !== undefined) this.#inner?.presentVgpu(inner, view);
  }

  #call(op: number, vgpu: number, a: number, b: number, run: (inner: GvtHost) => unknown | undefined): number {
    return this.#tape.call(op, vgpu, a, b, 0, 0, () => answered(run(this.#inner as GvtHost)));
  }
}

/** Of host pages, in a replay: an OpRegion has two. */
const PAGES_MAX = 1024;

export class TapedHandle implements MptVgpuOps {
  /** The handle that is recorded; none in a replay. */
  readonly inner: MptVgpuOps | undefined;
  readonly #tape: Tape;
  readonly #vgpu: number;

  constructor(tape: Tape, vgpu: number, inner: MptVgpuOps | undefined) {
    this.#tape = tape;
    this.#vgpu = vgpu;
    this.inner = inner;
  }

  detachVgpu(): void {
    this.#call(CALL.detach_vgpu, 0, 0, 0, 0, (inner) => inner.detachVgpu());
  }

  injectMsi(address: number, data: number): void {
    this.#call(CALL.inject_msi, address, data, 0, 0, (inner) => inner.injectMsi(address, data));
  }

  enablePageTrack(gfn: Gfn): void {
    this.#call(CALL.enable_page_track, gfn, 0, 0, 0, (inner) => inner.enablePageTrack(gfn));
  }

  disablePageTrack(gfn: Gfn): void {
    this.#call(CALL.disable_page_track, gfn, 0, 0, 0, (inner) => inner.disablePageTrack(gfn));
  }

  syncPageTrack(): number {
    return this.#tape.sync(this.#vgpu, () => (this.inner as MptVgpuOps).syncPageTrack());
  }

  isValidGfn(gfn: Gfn): boolean {
    return this.#call(CALL.is_valid_gfn, gfn, 0, 0, 0, (inner) => Number(inner.isValidGfn(gfn))) !== 0;
  }

  gfnToMfn(gfn: Gfn): Mfn {
    return Mfn(this.#call(CALL.gfn_to_mfn, gfn, 0, 0, 0, (inner) => inner.gfnToMfn(gfn)));
  }

  mapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    this.#call(CALL.map_gfn_to_mfn, gfn, mfn, nr, Number(map), (inner) => inner.mapGfnToMfn(gfn, mfn, nr, map));
  }

  setTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    this.#call(CALL.set_trap_area, start, end, Number(map), 0, (inner) => inner.setTrapArea(start, end, map));
  }

  setPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    this.#call(CALL.set_pvmmio, start, end, Number(map), 0, (inner) => inner.setPvmmio(start, end, map));
  }

  dmaMapGuestPage(gfn: Gfn, size: number): DmaAddress {
    return this.#call(CALL.dma_map_guest_page, gfn, size, 0, 0, (inner) => inner.dmaMapGuestPage(gfn, size)) as DmaAddress;
  }

  dmaUnmapGuestPage(address: DmaAddress): void {
    this.#call(CALL.dma_unmap_guest_page, address, 0, 0, 0, (inner) => inner.dmaUnmapGuestPage(address));
  }

  dmaPinGuestPage(address: DmaAddress): void {
    this.#call(CALL.dma_pin_guest_page, address, 0, 0, 0, (inner) => inner.dmaPinGuestPage(address));
  }

  setOpregion(pages: HostPages): void {
    this.#call(CALL.set_opregion, pages.mfn, pages.count, hashBytes(pages.bytes), 0, (inner) => inner.setOpregion(pages));
  }

  setEdid(port: number, edid: Uint8Array): void {
    this.#call(CALL.set_edid, port, edid.length, hashBytes(edid), 0, (inner) => inner.setEdid(port, edid));
  }

  getVfioDevice(): void {
    this.#call(CALL.get_vfio_device, 0, 0, 0, 0, (inner) => inner.getVfioDevice());
  }

  putVfioDevice(): void {
    this.#call(CALL.put_vfio_device, 0, 0, 0, 0, (inner) => inner.putVfioDevice());
  }

  // --- memory ---------------------------------------------------------------------------------------------------------

  readGpa(gpa: Gpa, target: Uint8Array, offset = 0, length = target.length - offset): void {
    this.#tape.look(Look.READ, gpa, target, offset, length, () => this.inner?.readGpa(gpa, target, offset, length));
  }

  writeGpa(gpa: Gpa, source: Uint8Array, offset = 0, length = source.length - offset): void {
    const hash = hashBytes(source, offset, offset + length);
    this.#call(CALL.write_gpa, gpa, length, hash, 0, (inner) => inner.writeGpa(gpa, source, offset, length));
  }

  copyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void {
    this.#tape.look(Look.COPY, address, target, offset, length, () => this.inner?.copyFrom(address, target, offset, length));
  }

  /** What is there now, not live: a tape does not see what is done with live memory. */
  view(address: DmaAddress, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.copyFrom(address, bytes, 0, length);
    return bytes;
  }

  page(address: DmaAddress): GpuPage {
    const view = this.#tape.view(address, () => (this.inner as MptVgpuOps).view(address, PAGE_SIZE));
    return new TapedPage(this.#tape, dmaKey(address), view);
  }

  #call(op: number, a: number, b: number, c: number, d: number, run: (inner: MptVgpuOps) => unknown): number {
    return this.#tape.call(op, this.#vgpu, a, b, c, d, () => answered(run(this.inner as MptVgpuOps)));
  }
}

/** Loads see what the tape has; stores reach the guest, where there is one, and the tape. */
class TapedPage implements GpuPage {
  readonly block = undefined;
  readonly start = 0;
  readonly #tape: Tape;
  readonly #key: number;
  readonly #view: PageView | undefined;

  constructor(tape: Tape, key: number, view: PageView | undefined) {
    this.#tape = tape;
    this.#key = key;
    this.#view = view;
  }

  get gone(): boolean {
    return this.#tape.gone(this.#key, this.#view);
  }

  load8(offset: number): number {
    return this.#tape.load(this.#key, this.#view).bytes[offset] as number;
  }

  load32(offset: number): number {
    return this.#tape.load(this.#key, this.#view).u32[offset >>> 2] as number;
  }

  load(offset: number, target: Uint8Array, at: number, length: number): void {
    target.set(this.#tape.load(this.#key, this.#view).bytes.subarray(offset, offset + length), at);
  }

  store8(offset: number, value: number): void {
    this.#view?.store8(offset, value);
    this.#tape.store(this.#key, offset, 1, value & 0xff, 0);
  }

  store32(offset: number, value: number): void {
    this.#view?.store32(offset, value);
    this.#tape.store(this.#key, offset & ~3, 4, value >>> 0, 0);
  }

  store64(offset: number, low: number, high: number): void {
    this.#view?.store64(offset, low, high);
    this.#tape.store(this.#key, offset & ~7, 8, low >>> 0, high >>> 0);
  }

  fill32(offset: number, end: number, value: number): void {
    this.#view?.fill32(offset, end, value);
    this.#tape.fill(this.#key, offset & ~3, end & ~3, value >>> 0);
  }

  store(offset: number, source: Uint8Array, from: number, to: number): void {
    this.#view?.store(offset, source, from, to);
    this.#tape.bytes(this.#key, offset, source, from, to);
  }
}
