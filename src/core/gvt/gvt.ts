/**
 * The device model of one GPU: creates vGPUs out of its resources and answers what a hypervisor's backend asks of them
 * (facts: gvt.md 3, 4.2-4.4, 4.13).
 */
import { EventEmitter } from 'eventemitter3';
import { Bdf, type Gfn, type Gpa, type VgpuId } from '../addresses.js';
import { MptError } from '../errors.js';
import { type GvtOps, Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { MptVgpuOps } from '../mpt.js';
import { attempt, detach } from './attempt.js';
import { checkGpuSize, checkModelled, DEFAULT_BDF, DEFAULT_GPU, type GpuSize } from './device-info.js';
import { DEFAULT_CONNECTOR } from './display/connector.js';
import type { Display } from './display/display.js';
import { checkedEdid } from './display/edid.js';
import { OpRegionPages } from './display/opregion-pages.js';
import { type ExplicitResources, typeOfShare, vgpuType } from './explicit-resources.js';
import type { Creation, GvtEvents, GvtHost, GvtOptions, RestoreSpec, VgpuSpec } from './gvt-options.js';
import { ResourcePool } from './resources.js';
import { Schedule } from './scheduler/schedule.js';
import { newcomer } from './scheduler/shared-state.js';
import { Slices } from './scheduler/slices.js';
import { parseDocument } from './state/document.js';
import { checkShare, restoreSections, saveState, typeOfState } from './state/vgpu-state.js';
import { typesOf, type VgpuType } from './types.js';
import { GvtVfioView } from './vfio-view.js';
import { Vgpu } from './vgpu.js';

export type * from './gvt-options.js';

/** How long a guest is waited for while another vGPU has the engine: so long it idles when that one has little to do. */
const TURN_WAIT_MS = 0.1;
/** The same while a semaphore is waited for. */
const SEMAPHORE_WAIT_MS = 1;

const monotonic = (): number => performance.now() * 1e6;

export class Gvt extends EventEmitter<GvtEvents> implements GvtOps {
  readonly backend: GvtHost;
  readonly gpu: Required<GpuSize>;
  readonly #options: GvtOptions;
  readonly #pool: ResourcePool;
  /** By id; index 0 stays empty. */
  readonly #byId: (Vgpu | undefined)[] = [undefined];
  #vgpus: Vgpu[] = [];
  readonly #views = new Map<VgpuId, GvtVfioView>();
  readonly #schedule: Schedule;
  readonly #slices: Slices;
  #defects = 0;
  #lastDefect: unknown;
  #destroyed = false;

  /** Binds the backend. @throws MptError INVALID_ARGUMENT for an impossible GPU, UNSUPPORTED for generation 9; what hostInit throws */
  constructor(backend: GvtHost, options: GvtOptions = {}) {
    super();
    const { aperture, ggtt, fences, generation } = { ...DEFAULT_GPU, ...options };
    this.gpu = checkModelled(checkGpuSize({ aperture, ggtt, fences, generation }));
    this.#pool = new ResourcePool(this.gpu);
    this.#options = options;
    const { now = monotonic, threadNs = now } = options;
    this.#schedule = new Schedule({ now, threadNs, ...(options.schedule === undefined ? {} : { buffer: options.schedule }) });
    this.#slices = new Slices(this.#schedule, (vgpu, error) => {
      this.#defect(error);
      vgpu.enterFailsafe('guest-error');
    });
    this.backend = backend;
    backend.hostInit(this);
  }

  /** Types that this GPU offers. */
  get types(): readonly VgpuType[] {
    return typesOf(this.gpu);
  }

  get vgpus(): readonly Vgpu[] {
    return this.#vgpus;
  }

  /** Defects of the device model that were caught on a guest's access; the last one's error is kept. */
  get defects(): number {
    return this.#defects;
  }

  get lastDefect(): unknown {
    return this.#lastDefect;
  }

  /** The vGPU with this id. */
  vgpu(id: VgpuId): Vgpu | undefined {
    return this.#byId[id];
  }

  /** How many more vGPUs of the type, or with these resources, can be created. @throws MptError BAD_TYPE, INVALID_ARGUMENT */
  availableInstances(type: string, resources: ExplicitResources = {}): number {
    return this.#pool.available(vgpuType(type, resources, this.gpu));
  }

  /**
   * Creates a vGPU and attaches it to its VM, inactive.
   * @throws MptError BAD_TYPE, INVALID_ARGUMENT, NO_SPACE, OVERLAP for a share, and what attach_vgpu throws; nothing is kept then
   */
  createVgpu(spec: VgpuSpec): Vgpu {
    this.#requireOpen('create_vgpu');
    const { share, vmId, bdf = DEFAULT_BDF, display = true, connector = DEFAULT_CONNECTOR } = spec;
    const asked = vgpuType(spec.type, spec.resources ?? {}, this.gpu);
    const resources = share === undefined ? this.#pool.take(asked) : this.#pool.claim(share);
    const type = share === undefined ? asked : typeOfShare(asked, share);
    if (share === undefined) newcomer(this.#schedule.state.words.buffer, resources.id);
    return this.#create({ type, resources, vmId, bdf, display, connector });
  }

  /** @param fill called before the vGPU is shown to its VM. @throws what it throws, too; nothing is kept then */
  #create({ type, resources, vmId, bdf, display, connector }: Creation, fill?: (vgpu: Vgpu) => void): Vgpu {
    const { id } = resources;
    let handle: MptVgpuOps | undefined;
    let opregion: OpRegionPages | undefined;
    let vgpu: Vgpu;
    try {
      handle = this.backend.attachVgpu({ id, vmId, bdf });
      if (display) opregion = OpRegionPages.offer(this.backend, handle, connector);
      const { now = monotonic, onGuestError, switchPaceMs = 0 } = this.#options;
      vgpu = new Vgpu({
        type,
        resources,
        gpu: this.gpu,
        bdf,
        handle,
        capabilities: this.backend.capabilities,
        display,
        connector,
        opregion,
        now,
        schedule: this.#schedule,
        switchPace: switchPaceMs * 1e6,
        trace: this.#options.trace,
        ...(onGuestError === undefined ? {} : { tell: (what: string) => this.#guarded(() => onGuestError(id, what)) }),
        onHang: (hung, engine, why) => this.#guarded(() => this.emit('hang', hung, engine, why)),
        onFailsafe: (failed, reason) => this.#guarded(() => this.emit('failsafe', failed, reason)),
        onDisplayReady: (ready, on) => this.#guarded(() => this.emit('display-ready', ready, on)),
      });
      this.#byId[id] = vgpu;
      this.#vgpus = [...this.#vgpus, vgpu];
      fill?.(vgpu);
      this.backend.presentVgpu(handle, () => this.view(vgpu));
    } catch (error) {
      this.#forget(id);
      if (handle !== undefined) detach(handle);
      opregion?.release();
      this.#pool.release(resources);
      throw error;
    }
    this.emit('created', vgpu);
    return vgpu;
  }

  /**
   * The vGPU's state as one document (docs/vgpu-state.md): all that its guest sees or that decides what it does next, and nothing of the
   * host. The vGPU goes on; whoever wants the guest to find it as it was saved deactivates or destroys it before the guest runs again.
   * @throws MptError DETACHED; BUSY inside an access
   */
  saveVgpu(vgpu: Vgpu): Uint8Array {
    this.#require(vgpu, 'save_vgpu');
    return saveState(vgpu);
  }

  /**
   * A new vGPU that goes on where the saved one stood, inactive: in the same VM, or in another one with the same content of RAM, on any
   * backend. When it is activated, an interrupt that the guest has not acknowledged is raised again.
   * @param state of `saveVgpu`; it may come from anywhere: what no guest can have brought about is refused
   * @throws MptError BAD_STATE; OVERLAP when the ranges that its guest knows are another vGPU's; what `createVgpu` throws. Nothing is kept then
   */
  restoreVgpu({ vmId, bdf, share }: RestoreSpec, state: Uint8Array): Vgpu {
    this.#requireOpen('restore_vgpu');
    const { header, sections } = parseDocument(state);
    const type = typeOfState(header, this.gpu);
    if (share !== undefined) checkShare(header, share);
    const resources = share === undefined ? this.#pool.takeAgain(type, header.vgpu) : this.#pool.claim(share);
    const { display, connector } = header.vgpu;
    const creation = { type, resources, vmId, bdf: bdf ?? Bdf(header.vgpu.bdf), display, connector };
    return this.#create(creation, (vgpu) => restoreSections(vgpu, sections));
  }

  /** The vGPU as a VFIO device; the same one each time, closed with the vGPU. @throws MptError DETACHED */
  view(vgpu: Vgpu): GvtVfioView {
    this.#require(vgpu, 'vfio_view');
    let view = this.#views.get(vgpu.id);
    if (view === undefined) {
      const { memories } = this.#options;
      view = new GvtVfioView(this, vgpu, memories === undefined ? {} : { memories });
      this.#views.set(vgpu.id, view);
    }
    return view;
  }

  /** Lets work be submitted. */
  activate(vgpu: Vgpu): void {
    this.#require(vgpu, 'activate_vgpu');
    if (vgpu.active) return;
    vgpu.activate();
    this.emit('activated', vgpu);
  }

  /** Stops the vGPU's scheduling. */
  deactivate(vgpu: Vgpu): void {
    this.#require(vgpu, 'deactivate_vgpu');
    if (!vgpu.active) return;
    vgpu.deactivate();
    this.emit('deactivated', vgpu);
  }

  /** Device-model reset of the whole vGPU; leaves failsafe. */
  reset(vgpu: Vgpu): void {
    this.#require(vgpu, 'reset_vgpu');
    vgpu.reset();
    this.emit('reset', vgpu);
  }

  /**
   * Detaches the vGPU and gives its resources back, whatever fails on the way.
   * @throws MptError DETACHED when it was destroyed before; what detach_vgpu throws, after everything was released
   */
  destroyVgpu(vgpu: Vgpu): void {
    this.#require(vgpu, 'destroy_vgpu');
    // The id goes first: later steps must not find the vGPU any more.
    this.#forget(vgpu.id);
    vgpu.release();
    let failure = detach(vgpu.handle);
    failure = attempt(() => vgpu.releasePages()) ?? failure;
    this.#pool.release(vgpu.resources);
    this.emit('destroyed', vgpu);
    if (failure !== undefined) throw failure;
  }

  /** Destroys all vGPUs and unbinds the backend. Idempotent. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    let failure: unknown;
    for (const vgpu of this.#vgpus) failure ??= attempt(() => this.destroyVgpu(vgpu));
    if (this.backend.state === 'initialized') this.backend.hostExit();
    if (failure !== undefined) throw failure;
  }

  /**
   * Plugs the vGPU's monitor in or out (emulate_hotplug): the guest is interrupted and sees its connector change. A monitor that was
   * unplugged comes back half a second later at the earliest.
   * @throws MptError DETACHED; UNSUPPORTED when the vGPU has no display
   */
  emulateHotplug(vgpu: Vgpu, connected: boolean): void {
    this.#displayOf(vgpu, 'emulate_hotplug').hotplug(connected);
  }

  /**
   * Gives the vGPU another monitor; while one is connected the guest sees it go and the new one come.
   * @param edid one block of 128 bytes, or up to four with their extensions
   * @throws MptError DETACHED, UNSUPPORTED; INVALID_ARGUMENT for what is no EDID
   */
  setEdid(vgpu: Vgpu, edid: Uint8Array): void {
    this.#displayOf(vgpu, 'set_edid').setMonitor(checkedEdid(edid));
  }

  /** Milliseconds until `runSlice` has something to do for a display; infinite while none is on. */
  get untilTickMs(): number {
    return soonestMs(this.#vgpus, 'untilTick');
  }

  /** Milliseconds, a fraction mostly, until `runSlice` tells a guest of a context switch (`switchPaceMs`); infinite while none waits. */
  get untilSwitchMs(): number {
    return soonestMs(this.#vgpus, 'untilSwitch');
  }

  /** Some vGPU has commands to execute: `runSlice` should be called soon. */
  get hasWork(): boolean {
    for (const vgpu of this.#vgpus) if (vgpu.hasWork) return true;
    return false;
  }

  /** The last slice ended by its budget: another is due at once. Otherwise work waits for another vGPU's turn, or for a semaphore. */
  get canGoOn(): boolean {
    return this.#slices.canGoOn && this.hasWork;
  }

  /**
   * Milliseconds, a fraction mostly, that the thread may wait for its guest before commands go on with `runSlice`: 0 after a slice that ended by its
   * budget, little while another vGPU has the engine, more while work waits for a semaphore; infinite when there is none.
   */
  get untilWorkMs(): number {
    if (!this.hasWork) return Number.POSITIVE_INFINITY;
    return this.canGoOn ? 0 : this.#slices.awaitsTurn(this.#vgpus) ? TURN_WAIT_MS : SEMAPHORE_WAIT_MS;
  }

  /**
   * Executes pending commands, about `budget` in all, by the schedule, and raises due vertical blanks. For each idle moment of the device thread.
   */
  runSlice(budget: number): void {
    for (const vgpu of this.#vgpus) this.#guarded(() => vgpu.tick());
    this.#slices.run(this.#vgpus, budget);
  }

  // --- GvtOps -----------------------------------------------------------------------------------------------------

  emulateCfgRead(id: VgpuId, offset: number, value: AccessValue, size: number): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    vgpu.statistics.configAccesses++;
    try {
      return vgpu.config.read(offset, value, size);
    } catch (error) {
      return this.#defect(error);
    }
  }

  emulateCfgWrite(id: VgpuId, offset: number, value: AccessValue, size: number): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    vgpu.statistics.configAccesses++;
    try {
      const status = vgpu.config.write(offset, value, size);
      if (status !== Status.OK) vgpu.log.guestError(`configuration write of ${size} bytes at 0x${offset.toString(16)} refused`);
      return status;
    } catch (error) {
      return this.#defect(error);
    }
  }

  emulateMmioRead(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    try {
      return vgpu.mmio.read(gpa, value, size);
    } catch (error) {
      return this.#defect(error);
    }
  }

  emulateMmioWrite(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    try {
      return vgpu.mmio.write(gpa, value, size);
    } catch (error) {
      return this.#defect(error);
    }
  }

  writeProtectHandler(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    try {
      return vgpu.failsafe ? vgpu.pageTrack.giveUp(gpa, size) : vgpu.pageTrack.written(gpa, value, size);
    } catch (error) {
      return this.#defect(error);
    }
  }

  pageWritten(id: VgpuId, gfn: Gfn): Status {
    const vgpu = this.#byId[id];
    if (vgpu === undefined) return Status.ENODEV;
    try {
      return vgpu.pageTrack.frameWritten(gfn);
    } catch (error) {
      return this.#defect(error);
    }
  }

  memoryUnmapped(id: VgpuId): void {
    this.#guarded(() => this.#byId[id]?.dropViews());
  }

  memoryMapped(id: VgpuId): void {
    this.#byId[id]?.ggtt.memoryCame();
  }

  /** For what runs inside a guest's access but is not its business: a listener that throws must not spoil the access. */
  #guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#defect(error);
    }
  }

  #defect(error: unknown): Status {
    this.#defects++;
    this.#lastDefect = error;
    return Status.EFAULT;
  }

  #requireOpen(op: string): void {
    if (this.#destroyed) throw new MptError('CLOSED', 'the device model was destroyed', { op });
  }

  #require(vgpu: Vgpu, op: string): void {
    if (this.#byId[vgpu.id] !== vgpu) throw new MptError('DETACHED', `vGPU ${vgpu.id} was destroyed`, { op });
  }

  #displayOf(vgpu: Vgpu, op: string): Display {
    this.#require(vgpu, op);
    if (vgpu.display.present) return vgpu.display;
    throw new MptError('UNSUPPORTED', `vGPU ${vgpu.id} has no display`, { op, hint: 'it was created with display: false' });
  }

  #forget(id: VgpuId): void {
    this.#views.get(id)?.close();
    this.#views.delete(id);
    this.#byId[id] = undefined;
    this.#vgpus = this.#vgpus.filter((vgpu) => vgpu.id !== id);
  }
}

function soonestMs(vgpus: readonly Vgpu[], what: 'untilTick' | 'untilSwitch'): number {
  let ns = Number.POSITIVE_INFINITY;
  for (const vgpu of vgpus) ns = Math.min(ns, vgpu[what]);
  return ns / 1e6;
}
