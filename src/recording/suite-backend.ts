/**
 * A backend under the conformance suite, recorded or replayed. It is a backend like any other: the rules of the base classes run in it, and
 * its hooks pass what they are given through the tape.
 */
import { closeSync, openSync } from 'node:fs';
import { DmaAddress, type Gfn, type Gpa, type Hva, Mfn, PAGE_SIZE, type VmId } from '../core/addresses.js';
import type { Capabilities } from '../core/capabilities.js';
import type { GvtOps } from '../core/gvt-ops.js';
import type { Machine, MachineSpec, OpenMachineSpec } from '../core/machine.js';
import type { HostPages, VgpuAttachment } from '../core/mpt.js';
import { MptBackend } from '../core/mpt-backend.js';
import { type HandleLimits, MptHandle } from '../core/mpt-handle.js';
import { hashBytes } from './page-copies.js';
import { SuiteMachine } from './suite-machine.js';
import type { SuiteTape } from './suite-tape.js';

export interface BackendFacts {
  readonly name: string;
  readonly version: string;
  readonly capabilities: Capabilities;
}

export class SuiteBackend extends MptBackend {
  readonly name: string;
  readonly version: string;
  readonly capabilities: Capabilities;
  readonly tape: SuiteTape;
  /** The backend that is recorded; none in a replay. */
  readonly inner: MptBackend | undefined;
  /** Distinguishes the backends of one recording. */
  readonly #number: number;
  readonly #pages = new WeakMap<HostPages, HostPages>();

  constructor(tape: SuiteTape, { name, version, capabilities }: BackendFacts, inner: MptBackend | undefined) {
    super();
    this.tape = tape;
    this.#number = ++tape.backends;
    this.name = name;
    this.version = version;
    // In a replay it comes out of JSON.
    this.capabilities = Object.freeze({ ...capabilities });
    this.inner = inner;
  }

  /** Frames that the last sync_page_track of the inner backend reported. */
  readonly reported: number[] = [];

  protected override doHostInit(_ops: GvtOps): void {
    const { reported } = this;
    // The suite dispatches guest accesses itself; from a backend it hears only of written frames.
    const unused = (): 0 => 0;
    const ops: GvtOps = {
      emulateCfgRead: unused,
      emulateCfgWrite: unused,
      emulateMmioRead: unused,
      emulateMmioWrite: unused,
      writeProtectHandler: unused,
      pageWritten: (_vgpu, gfn) => {
        reported.push(gfn);
        return 0;
      },
    };
    this.#call('host_init', [], (inner) => inner.hostInit(ops));
  }

  protected override doHostExit(): void {
    this.#call('host_exit', [], (inner) => inner.hostExit());
  }

  /** The inner backend knows, and refuses the attach. */
  protected override doHasVm(): boolean {
    return true;
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): MptHandle {
    const { id, vmId, bdf, pvmmio } = vgpu;
    let handle: MptHandle | undefined;
    const limits = this.#call('attach_vgpu', [id, vmId, bdf, pvmmio !== undefined], (inner): HandleLimits => {
      const given = pvmmio && { registerFile: this.innerPages(pvmmio.registerFile), sharedPage: this.innerPages(pvmmio.sharedPage) };
      handle = inner.attachVgpu(given === undefined ? { id, vmId, bdf } : { id, vmId, bdf, pvmmio: given });
      return handle.limits;
    });
    return new SuiteHandle(this, vgpu, limits, handle);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    return Mfn(this.#call('from_virt_to_mfn', [hva], (inner) => inner.fromVirtToMfn(hva)));
  }

  protected override doDom0Ready(): void {
    this.#call('dom0_ready', [], (inner) => inner.dom0Ready());
  }

  protected override doAllocateHostPages(count: number): HostPages {
    let pages: HostPages | undefined;
    const { mfn, hva } = this.#call('allocate_host_pages', [count], (inner) => {
      pages = inner.allocateHostPages(count);
      return { mfn: pages.mfn, hva: pages.hva };
    });
    const bytes = this.tape.watch(this, count * PAGE_SIZE, pages?.bytes);
    const release = (): void => this.#call('release_host_pages', [mfn, count], () => pages?.release());
    const own: HostPages = { mfn, hva, count, bytes, release };
    if (pages !== undefined) this.#pages.set(own, pages);
    return own;
  }

  /** What the inner backend gave for pages of ours. */
  innerPages(pages: HostPages): HostPages {
    return this.#pages.get(pages) ?? pages;
  }

  protected override doCreateMachine(spec: MachineSpec): Machine {
    return this.#machine('create_machine', [spec.ram], (inner) => inner.createMachine(spec));
  }

  protected override doOpenMachine(vm: number | string, spec: OpenMachineSpec): Machine {
    return this.#machine('open_machine', [vm, spec], (inner) => inner.openMachine(vm, spec));
  }

  protected override doClose(): void {
    this.tape.forget(this);
    this.#call('close', [], (inner) => inner.close());
  }

  /** For machines: the VM is gone. */
  closed(vmId: VmId): void {
    this.vmGone(vmId);
  }

  #machine(what: string, args: readonly unknown[], make: (inner: MptBackend) => Machine): Machine {
    let machine: Machine | undefined;
    const facts = this.#call(what, args, (inner) => {
      inner.stopFlag = this.stopFlag;
      machine = make(inner);
      return { vmId: machine.vmId, ram: machine.ram.map(({ gpa, size }) => ({ gpa, size })) };
    });
    return new SuiteMachine(this, this.tape, facts, machine);
  }

  #call<T>(what: string, args: readonly unknown[], run: (inner: MptBackend) => T): T {
    return this.tape.call(what, [this.#number, ...args], () => run(this.inner as MptBackend));
  }
}

class SuiteHandle extends MptHandle {
  readonly #own: SuiteBackend;
  readonly #inner: MptHandle | undefined;
  /** Where events go in a replay. */
  #null: number | undefined;

  constructor(backend: SuiteBackend, vgpu: VgpuAttachment, limits: HandleLimits, inner: MptHandle | undefined) {
    super(backend, vgpu, limits);
    this.#own = backend;
    this.#inner = inner;
  }

  /** A VM that went without our doing is noticed here: what it had went with it. */
  override detachVgpu(): void {
    if (this.attached && !this.#call('attached', [], (inner) => inner.attached)) this.markVmGone();
    super.detachVgpu();
  }

  protected override doDetach(): void {
    if (this.#null !== undefined) closeSync(this.#null);
    this.#null = undefined;
    this.#call('detach_vgpu', [], (inner) => inner.detachVgpu());
  }

  protected override doReadGpa(gpa: Gpa, target: Uint8Array, offset: number, length: number): void {
    const out = [target.subarray(offset, offset + length)];
    this.#call('read_gpa', [gpa, length], (inner) => inner.readGpa(gpa, target, offset, length), out);
  }

  protected override doWriteGpa(gpa: Gpa, source: Uint8Array, offset: number, length: number): void {
    const hash = hashBytes(source, offset, offset + length);
    this.#call('write_gpa', [gpa, length, hash], (inner) => inner.writeGpa(gpa, source, offset, length));
  }

  protected override doIsValidGfn(gfn: Gfn): boolean {
    return this.#call('is_valid_gfn', [gfn], (inner) => inner.isValidGfn(gfn));
  }

  protected override doInjectMsi(address: number, data: number): void {
    this.#call('inject_msi', [address, data], (inner) => inner.injectMsi(address, data));
  }

  /** In a replay nobody listens: a descriptor of the machine is not touched. */
  protected override doArmMsi(address: number, data: number): number {
    const fd = this.#call('arm_msi', [address, data], (inner) => inner.armMsi(address, data));
    if (!this.#own.tape.replaying) return fd;
    this.#null ??= openSync('/dev/null', 'w');
    return this.#null;
  }

  protected override doGfnToMfn(gfn: Gfn): Mfn {
    return Mfn(this.#call('gfn_to_mfn', [gfn], (inner) => inner.gfnToMfn(gfn)));
  }

  /** The inner handle has the same rule, and knows what RAM is. */
  protected override doOverlapsRam(): boolean {
    return false;
  }

  protected override doMapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void {
    this.#call('map_gfn_to_mfn', [gfn, mfn, nr, map], (inner) => inner.mapGfnToMfn(gfn, mfn, nr, map));
  }

  protected override doSetTrapArea(start: Gpa, end: Gpa, map: boolean): void {
    this.#call('set_trap_area', [start, end, map], (inner) => inner.setTrapArea(start, end, map));
  }

  protected override doDmaMap(gfn: Gfn, size: number): DmaAddress {
    return DmaAddress(this.#call('dma_map_guest_page', [gfn, size], (inner) => inner.dmaMapGuestPage(gfn, size)));
  }

  protected override doDmaUnmap(gfn: Gfn, size: number, address: DmaAddress): void {
    this.#call('dma_unmap_guest_page', [gfn, size, address], (inner) => inner.dmaUnmapGuestPage(address));
  }

  protected override doDmaView(address: DmaAddress, length: number): Uint8Array {
    let live: Uint8Array | undefined;
    const out = new Uint8Array(length);
    this.#call(
      'dma_view',
      [address, length],
      (inner) => {
        live = inner.view(address, length);
        out.set(live);
      },
      [out],
    );
    const view = this.#own.tape.watch(this.#own, length, live);
    if (this.#own.tape.replaying) view.set(out);
    return view;
  }

  protected override doDmaCopyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void {
    const out = [target.subarray(offset, offset + length)];
    this.#call('dma_copy', [address, length], (inner) => inner.copyFrom(address, target, offset, length), out);
  }

  protected override doEnablePageTrack(gfn: Gfn): void {
    this.#call('enable_page_track', [gfn], (inner) => inner.enablePageTrack(gfn));
  }

  protected override doDisablePageTrack(gfn: Gfn): void {
    this.#call('disable_page_track', [gfn], (inner) => inner.disablePageTrack(gfn));
  }

  protected override doSyncPageTrack(written: (gfn: Gfn) => void): void {
    const { reported } = this.#own;
    const frames = this.#call('sync_page_track', [], (inner) => {
      reported.length = 0;
      inner.syncPageTrack();
      return reported.slice();
    });
    for (const gfn of frames) written(gfn as Gfn);
  }

  protected override doSetPvmmio(start: Gpa, end: Gpa, map: boolean): void {
    this.#call('set_pvmmio', [start, end, map], (inner) => inner.setPvmmio(start, end, map));
  }

  protected override doSetOpregion(pages: HostPages): void {
    this.#call('set_opregion', [pages.mfn, pages.count], (inner) => inner.setOpregion(this.#own.innerPages(pages)));
  }

  protected override doSetEdid(port: number, edid: Uint8Array): void {
    this.#call('set_edid', [port, hashBytes(edid)], (inner) => inner.setEdid(port, edid));
  }

  protected override doGetVfioDevice(): void {
    this.#call('get_vfio_device', [], (inner) => inner.getVfioDevice());
  }

  protected override doPutVfioDevice(): void {
    this.#call('put_vfio_device', [], (inner) => inner.putVfioDevice());
  }

  #call<T>(what: string, args: readonly unknown[], run: (inner: MptHandle) => T, out?: readonly Uint8Array[]): T {
    return this.#own.tape.call(what, [this.vgpu.id, ...args], () => run(this.#inner as MptHandle), out);
  }
}
