/** The device model while it is recorded: everything that comes to it from outside is a step of the tape. */
import type { Gfn, Gpa, VgpuId } from '../core/addresses.js';
import { Gvt } from '../core/gvt/gvt.js';
import type { GvtOptions, RestoreSpec, VgpuSpec } from '../core/gvt/gvt-options.js';
import type { Vgpu } from '../core/gvt/vgpu.js';
import type { Status } from '../core/gvt-ops.js';
import type { AccessValue } from '../core/io-request.js';
import { type Control, encodeControl } from './control.js';
import { SLICE_MAX, Tag, who } from './events.js';
import type { RecordingTape } from './recording-tape.js';
import type { TapedHost } from './taped-host.js';

export class RecordedGvt extends Gvt {
  readonly #tape: RecordingTape;

  /** @param host over the same tape */
  constructor(tape: RecordingTape, host: TapedHost, options: GvtOptions) {
    super(host, { ...options, now: () => tape.now() });
    this.#tape = tape;
  }

  // --- guest accesses -------------------------------------------------------------------------------------------------

  override emulateCfgRead(id: VgpuId, offset: number, value: AccessValue, size: number): Status {
    const step = this.#tape.step(Tag.CFG_READ, who(id, size), offset);
    return this.#read(step, super.emulateCfgRead(id, offset, value, size), value, size);
  }

  override emulateCfgWrite(id: VgpuId, offset: number, value: AccessValue, size: number): Status {
    const step = this.#tape.step(Tag.CFG_WRITE, who(id, size), offset, value[0]);
    return this.#done(step, super.emulateCfgWrite(id, offset, value, size));
  }

  override emulateMmioRead(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const step = this.#tape.step(Tag.MMIO_READ, who(id, size), gpa);
    return this.#read(step, super.emulateMmioRead(id, gpa, value, size), value, size);
  }

  override emulateMmioWrite(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const step = this.#tape.write(who(id, size), gpa, value[0] as number, value[1] as number);
    return this.#done(step, super.emulateMmioWrite(id, gpa, value, size));
  }

  override writeProtectHandler(id: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status {
    const step = this.#tape.step(Tag.WP, who(id, size), gpa, value[0], size === 8 ? value[1] : 0);
    return this.#done(step, super.writeProtectHandler(id, gpa, value, size));
  }

  override pageWritten(id: VgpuId, gfn: Gfn): Status {
    if (this.#tape.reported(id, gfn)) return super.pageWritten(id, gfn);
    const step = this.#tape.step(Tag.PAGE_WRITTEN, id, gfn);
    return this.#done(step, super.pageWritten(id, gfn));
  }

  override memoryUnmapped(id: VgpuId): void {
    const step = this.#tape.step(Tag.UNMAPPED, id);
    super.memoryUnmapped(id);
    if (step) this.#tape.end(0);
  }

  override runSlice(asked: number): void {
    const budget = Math.min(asked, SLICE_MAX);
    const step = this.#tape.slice(budget, this.hasWork);
    super.runSlice(budget);
    if (step) this.#tape.end(0);
  }

  #read(step: boolean, status: Status, value: AccessValue, size: number): Status {
    if (step) this.#tape.end(status, value, status === 0 ? size : 0);
    return status;
  }

  #done(step: boolean, status: Status): Status {
    if (step) this.#tape.end(status);
    return status;
  }

  // --- its owner ------------------------------------------------------------------------------------------------------

  override createVgpu(spec: VgpuSpec): Vgpu {
    return this.#control({ do: 'create', spec }, () => super.createVgpu(spec));
  }

  override saveVgpu(vgpu: Vgpu): Uint8Array {
    return this.#control({ do: 'save', vgpu: vgpu.id }, () => super.saveVgpu(vgpu));
  }

  override memoryMapped(id: VgpuId): void {
    if (this.vgpu(id) !== undefined) this.#control({ do: 'memory-came', vgpu: id }, () => super.memoryMapped(id));
  }

  override restoreVgpu(spec: RestoreSpec, state: Uint8Array): Vgpu {
    return this.#control({ do: 'restore', spec, state: Buffer.from(state).toString('base64') }, () => super.restoreVgpu(spec, state));
  }

  override activate(vgpu: Vgpu): void {
    this.#control({ do: 'activate', vgpu: vgpu.id }, () => super.activate(vgpu));
  }

  override deactivate(vgpu: Vgpu): void {
    this.#control({ do: 'deactivate', vgpu: vgpu.id }, () => super.deactivate(vgpu));
  }

  override reset(vgpu: Vgpu): void {
    this.#control({ do: 'reset', vgpu: vgpu.id }, () => super.reset(vgpu));
  }

  override destroyVgpu(vgpu: Vgpu): void {
    this.#control({ do: 'destroy', vgpu: vgpu.id }, () => super.destroyVgpu(vgpu));
  }

  override emulateHotplug(vgpu: Vgpu, connected: boolean): void {
    this.#control({ do: 'hotplug', vgpu: vgpu.id, connected }, () => super.emulateHotplug(vgpu, connected));
  }

  override setEdid(vgpu: Vgpu, edid: Uint8Array): void {
    this.#control({ do: 'edid', vgpu: vgpu.id, edid: [...edid] }, () => super.setEdid(vgpu, edid));
  }

  #control<T>(control: Control, run: () => T): T {
    const step = this.#tape.step(Tag.CONTROL, 0, 0, 0, 0, 0, encodeControl(control));
    try {
      return run();
    } finally {
      if (step) this.#tape.end(0);
    }
  }
}
