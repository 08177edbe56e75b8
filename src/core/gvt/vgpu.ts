/** One vGPU: ties its parts together and owns its states (active, failsafe) and resets (facts: gvt.md 4.3, 4.4, 4.9). */
import type { Bdf, VgpuId } from '../addresses.js';
import type { Capabilities } from '../capabilities.js';
import type { MptVgpuOps } from '../mpt.js';
import type { Picture, PixelMemory } from '../vfio/device.js';
import { VgpuClock } from './clock.js';
import { ALL_ENGINES, type GpuSize, ggttEntries } from './device-info.js';
import { composePicture } from './display/compose.js';
import type { Connector } from './display/connector.js';
import { decodeCursorPlane } from './display/cursor-plane.js';
import { Display } from './display/display.js';
import { monitorEdid } from './display/monitors.js';
import { exchangeOpRegion, type OpRegionPages } from './display/opregion-pages.js';
import { PIPES } from './display/pipes.js';
import type { Plane } from './display/plane.js';
import { decodePrimaryPlane } from './display/primary-plane.js';
import { Scanout } from './display/scanout.js';
import { Ggtt } from './ggtt.js';
import { GuestErrors } from './guest-error-log.js';
import { Interrupts } from './interrupts.js';
import { Mmio } from './mmio.js';
import { PageTrack } from './page-track.js';
import { PciConfig } from './pci-config.js';
import { Ppgtt } from './ppgtt/ppgtt.js';
import { SHADOW_LIMITS } from './ppgtt/shadow.js';
import { adoptPvinfo, PVINFO, PVINFO_BASE, populatePvinfo } from './pvinfo.js';
import type { RegisterContext } from './register-context.js';
import { broadwellRegisters } from './register-table.js';
import { RegisterFile } from './registers.js';
import type { VgpuResources } from './resources.js';
import {
  ENGINES,
  type EngineId,
  type EngineName,
  type EngineTurns,
  FAILSAFE_REASONS,
  type FailsafeReason,
  type GuestErrorLog,
  newStatistics,
  type ScanoutMemory,
  type VgpuStatistics,
} from './roles.js';
import type { Schedule } from './scheduler/schedule.js';
import { SavedCounters } from './state/counters.js';
import { optional, type Saved, type StateStream } from './state/stream.js';
import { Submission } from './submission/submission.js';
import type { TraceLog } from './trace/trace-log.js';
import { VgpuTrace } from './trace/vgpu-trace.js';
import type { VgpuType } from './types.js';

/** End of what a full GT reset restores (facts: gvt.md 4.4). */
const GT_RESET_END = 0x4_4200;

export interface VgpuParts {
  readonly type: VgpuType;
  readonly resources: VgpuResources;
  readonly gpu: GpuSize;
  /** PCI function in the guest. */
  readonly bdf: Bdf;
  readonly handle: MptVgpuOps;
  readonly capabilities: Capabilities;
  /** False: fused off, and no monitor. */
  readonly display: boolean;
  readonly connector: Connector;
  /** Where the backend takes one. */
  readonly opregion: OpRegionPages | undefined;
  /** Nanoseconds, never going back. */
  readonly now: () => number;
  /** Of the GPU's engines. */
  readonly schedule: Schedule;
  /** Nanoseconds between two context switches that the guest is told of, at most; 0: each at once. */
  readonly switchPace: number;
  /** Somebody wants to see what happens. */
  readonly trace?: TraceLog | undefined;
  /** Guest mistakes that pass the rate limit. */
  readonly tell?: (what: string) => void;
  readonly onHang: (vgpu: Vgpu, engine: EngineName, why: string) => void;
  readonly onFailsafe: (vgpu: Vgpu, reason: FailsafeReason) => void;
  readonly onDisplayReady: (vgpu: Vgpu, ready: boolean) => void;
}

/** Made by `Gvt.createVgpu`. */
export class Vgpu implements RegisterContext, Saved {
  readonly id: VgpuId;
  readonly type: VgpuType;
  readonly resources: VgpuResources;
  /** The GPU that it is a part of. */
  readonly gpu: GpuSize;
  /** PCI function in the guest. */
  readonly bdf: Bdf;
  /** The hypervisor's side of this vGPU. */
  readonly handle: MptVgpuOps;
  readonly statistics: VgpuStatistics = newStatistics();
  readonly log: GuestErrorLog;
  readonly config: PciConfig;
  readonly registers: RegisterFile;
  readonly ggtt: Ggtt;
  readonly scanout: ScanoutMemory;
  readonly ppgtt: Ppgtt;
  readonly interrupts: Interrupts;
  readonly submission: Submission;
  readonly display: Display;
  readonly pageTrack: PageTrack;
  readonly mmio: Mmio;
  pvNotified = false;

  readonly #turns: EngineTurns;
  readonly #trace: VgpuTrace | undefined;
  readonly #clock: VgpuClock;
  readonly #opregion: OpRegionPages | undefined;
  readonly #onFailsafe: VgpuParts['onFailsafe'];
  readonly #onDisplayReady: VgpuParts['onDisplayReady'];
  /** Not saved: the operator activates a vGPU that was restored. */
  #active = false;
  #failsafe: FailsafeReason | undefined;

  constructor(parts: VgpuParts) {
    const { type, resources, gpu, handle, capabilities } = parts;
    const { aperture, hidden } = resources;
    const { statistics } = this;
    this.#clock = new VgpuClock(parts.now);
    this.#opregion = parts.opregion;
    this.gpu = gpu;
    this.bdf = parts.bdf;
    this.id = resources.id;
    this.type = type;
    this.resources = resources;
    this.handle = handle;
    this.#onFailsafe = parts.onFailsafe;
    this.#onDisplayReady = parts.onDisplayReady;
    const log = new GuestErrors(statistics, parts.now, parts.tell);
    this.log = log;
    const trace = parts.trace === undefined ? undefined : new VgpuTrace(parts.trace, this.id, type.name);
    this.#trace = trace;
    // Where the guest sees a VFIO device, the OpRegion is a region of that.
    const offered = parts.opregion !== undefined || (parts.display && capabilities.barAccess);
    const onAsls = offered ? { onAsls: (address: number) => parts.opregion?.moveTo(address, log) } : {};
    this.config = new PciConfig({ gpu, aperture, traps: capabilities.setTrapArea ? handle : undefined, log, ...onAsls });
    this.registers = new RegisterFile(broadwellRegisters(), this);
    const frames = capabilities.isValidGfn ? handle : undefined;
    this.ggtt = new Ggtt({ aperture, hidden, dma: handle, frames, log });
    this.scanout = new Scanout(this.ggtt, handle, frames);
    this.interrupts = new Interrupts({ registers: this.registers, msi: this.config, sender: handle, statistics, log, trace });
    this.display = new Display({
      registers: this.registers,
      events: this.interrupts,
      now: this.#clock.now,
      edid: parts.display ? monitorEdid(type.resolution, parts.connector) : undefined,
      connector: parts.connector,
    });
    this.pageTrack = new PageTrack(handle, log);
    this.ppgtt = new Ppgtt({
      dma: handle,
      memory: handle,
      tracker: handle,
      frames,
      pageTrack: this.pageTrack,
      level: capabilities.pageTrack,
      tablesMax: SHADOW_LIMITS.TABLES_MAX,
      hugePages: capabilities.dmaHugePage,
      statistics,
      log,
      mappedPages: 0,
    });
    this.#turns = parts.schedule.join(this.id, type.weight, statistics);
    this.#turns.allow(false);
    this.submission = new Submission({
      registers: this.registers,
      commands: this.registers,
      memory: this.ggtt,
      processes: this.ppgtt,
      events: this.interrupts,
      turns: this.#turns,
      onHang: (engine, why) => parts.onHang(this, engine, why),
      statistics,
      log,
      pacing: parts.switchPace > 0 ? { now: () => this.now(), longest: parts.switchPace } : undefined,
      trace,
    });
    this.mmio = new Mmio({
      bars: this.config.bars,
      registers: this.registers,
      ggtt: this.ggtt,
      aperture,
      ggttEntries: ggttEntries(gpu),
      state: this,
      statistics,
      log,
    });
    populatePvinfo(this.registers, resources);
  }

  /** Work may be submitted and runs. */
  get active(): boolean {
    return this.#active;
  }

  /** The guest did something that its vGPU cannot recover from; only a device reset leaves this state. */
  get failsafe(): boolean {
    return this.#failsafe !== undefined;
  }

  get failsafeReason(): FailsafeReason | undefined {
    return this.#failsafe;
  }

  get fenceCount(): number {
    return this.resources.fences.length;
  }

  /** The engine has something to do that `runSlice` would do. */
  get hasWork(): boolean {
    return this.#active && this.#failsafe === undefined && this.submission.hasWork;
  }

  /** An interrupt that waits for the guest is raised, again if it was: where the state came from it may have been lost. */
  activate(): void {
    this.#active = true;
    this.#turns.allow(true);
    this.#trace?.told('activate');
    this.interrupts.check();
  }

  /** Stops scheduling. Work that is queued stays queued. */
  deactivate(): void {
    this.#active = false;
    this.#trace?.told('deactivate');
    this.#turns.allow(false);
  }

  /** The engine has commands to execute. */
  busy(engine: EngineId): boolean {
    return this.#active && this.#failsafe === undefined && this.submission.busy(engine);
  }

  /** Executes pending commands, at most about `budget`. @returns what was used; 0 when it is no use to go on at once */
  runSlice(budget: number): number {
    return this.hasWork ? this.submission.runSlice(budget) : 0;
  }

  /** Ends the display's frames that are due, and tells of context switches that waited. */
  tick(): void {
    if (!this.#active || this.#failsafe !== undefined) return;
    this.display.tick();
    this.submission.tick();
  }

  /** Nanoseconds until `tick` tells of a context switch. */
  get untilSwitch(): number {
    return this.#active && this.#failsafe === undefined ? this.submission.untilTick : Number.POSITIVE_INFINITY;
  }

  /** Nanoseconds until `tick` ends a frame. */
  get untilTick(): number {
    return this.#active && this.#failsafe === undefined ? this.display.untilTick : Number.POSITIVE_INFINITY;
  }

  /** What the first pipe that shows a plane shows: primary plane, sprite and cursor. Undefined when none does. */
  queryPlane(pixels?: PixelMemory): Picture | undefined {
    return composePicture(this.registers, this.scanout, pixels);
  }

  /** The first primary plane that is enabled and makes a picture. */
  primaryPlane(): Plane | undefined {
    for (const pipe of PIPES) {
      const plane = decodePrimaryPlane(this.registers, this.scanout, pipe);
      if (plane !== undefined) return plane;
    }
    return undefined;
  }

  /** The first cursor that is enabled and makes a picture. */
  cursorPlane(): Plane | undefined {
    for (const pipe of PIPES) {
      const plane = decodeCursorPlane(this.registers, this.scanout, pipe);
      if (plane !== undefined) return plane;
    }
    return undefined;
  }

  /** Which pixel of the cursor points, as the guest told it in PVINFO; all ones: it did not. */
  cursorHotSpot(): [x: number, y: number] {
    return [this.registers.get(PVINFO_BASE + PVINFO.CURSOR_X_HOT), this.registers.get(PVINFO_BASE + PVINFO.CURSOR_Y_HOT)];
  }

  /** Device-model reset: everything as after creation; the vGPU stays attached and active. */
  reset(): void {
    this.#trace?.told('device reset');
    this.#stopEngines();
    this.ppgtt.clear();
    this.pageTrack.clear();
    this.ggtt.reset();
    this.registers.restore();
    populatePvinfo(this.registers, this.resources);
    this.display.reset();
    this.config.reset();
    this.#failsafe = undefined;
    this.pvNotified = false;
  }

  /** Gives back what it holds of the hypervisor, before detach. Never throws. */
  release(): void {
    this.#active = false;
    this.#turns.allow(false);
    this.#stopEngines();
    this.ppgtt.clear();
    this.pageTrack.clear();
    this.ggtt.reset();
    this.config.reset();
  }

  /** Gives back what the guest had of the host's pages, and forgets the guest's; after detach. @throws what releasing the pages throws */
  releasePages(): void {
    this.ggtt.dropPages();
    this.#opregion?.release();
  }

  // --- saved state ------------------------------------------------------------------------------------------------

  /** Its sections by name, in the order in which they are restored. */
  get sections(): readonly (readonly [name: string, part: Saved])[] {
    return [
      ['vgpu', this],
      ['config', this.config],
      ['opregion', { exchange: (state) => exchangeOpRegion(state, this.#opregion, this.log) }],
      ['registers', { exchange: (state) => this.#exchangeRegisters(state) }],
      ['ggtt', this.ggtt],
      ['ppgtt', this.ppgtt],
      ['submission', this.submission],
      ['display', this.display],
      // Last: what is restored counts as well.
      ['statistics', new SavedCounters(this.statistics)],
    ];
  }

  /** What belongs to none of its parts. Whether it is active is the operator's to say. */
  exchange(state: StateStream): void {
    state.within('clock', () => this.#clock.exchange(state));
    this.pvNotified = state.bool('pv-notified', this.pvNotified);
    this.#failsafe = optional(state, 'failsafe', this.#failsafe, (reason) => {
      const stored = state.text('reason', reason ?? '', 64);
      return FAILSAFE_REASONS.find((known) => known === stored) ?? state.refuse(`no reason is named '${stored}'`);
    });
  }

  #exchangeRegisters(state: StateStream): void {
    this.registers.exchange(state);
    // In failsafe the page is the guest's to write.
    if (!state.restoring || this.failsafe) return;
    const wrong = adoptPvinfo(this.registers, this.resources);
    if (wrong !== undefined) state.refuse(`PVINFO describes another vGPU at 0x${wrong.toString(16)}`);
  }

  // --- RegisterContext --------------------------------------------------------------------------------------------

  ownsGgttAddress(address: number): boolean {
    return this.ggtt.owns(address);
  }

  now(): number {
    return this.#clock.now();
  }

  /** Registers and GGTT become plain memory and nothing runs any more; the first reason stays. */
  enterFailsafe(reason: FailsafeReason): void {
    if (this.#failsafe !== undefined) return;
    this.#failsafe = reason;
    this.#turns.stop();
    this.#trace?.told('failsafe', `{"reason":"${reason}"}`);
    this.#onFailsafe(this, reason);
  }

  resetEngines(mask: number): void {
    this.#trace?.told('engine reset', `{"engines":${mask & ALL_ENGINES}}`);
    this.submission.reset(mask & ALL_ENGINES);
  }

  resetGt(): void {
    this.#trace?.told('GT reset');
    this.#stopEngines();
    this.ppgtt.invalidate();
    this.registers.restore(GT_RESET_END);
    populatePvinfo(this.registers, this.resources);
    this.display.populate();
  }

  /** Forgets views of guest memory: each is looked up anew at its next use. */
  dropViews(): void {
    this.ggtt.dropPages();
    this.ppgtt.invalidate();
    this.ppgtt.pages.forget();
  }

  displayReady(ready: boolean): void {
    this.#onDisplayReady(this, ready);
  }

  #stopEngines(): void {
    this.#turns.stop();
    this.submission.reset(ALL_ENGINES);
    for (const { id } of ENGINES) this.submission.setEnabled(id, false);
  }
}
