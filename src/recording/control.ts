/** What the owner of a device model does with it, as it stands in a recording. */
import type { VgpuId } from '../core/addresses.js';
import { checkedEdid } from '../core/gvt/display/edid.js';
import type { Gvt } from '../core/gvt/gvt.js';
import type { RestoreSpec, VgpuSpec } from '../core/gvt/gvt-options.js';
import type { Vgpu } from '../core/gvt/vgpu.js';
import { badRecording } from './header.js';

export type Control =
  | { readonly do: 'create'; readonly spec: VgpuSpec }
  | { readonly do: 'restore'; readonly spec: RestoreSpec; readonly state: string }
  | { readonly do: 'activate' | 'deactivate' | 'reset' | 'destroy' | 'save' | 'memory-came'; readonly vgpu: number }
  | { readonly do: 'hotplug'; readonly vgpu: number; readonly connected: boolean }
  | { readonly do: 'edid'; readonly vgpu: number; readonly edid: readonly number[] };

export const encodeControl = (control: Control): Uint8Array => Buffer.from(JSON.stringify(control));

/** @throws MptError BAD_RECORDING */
export function decodeControl(bytes: Uint8Array): Control {
  let control: Partial<Record<string, unknown>> | null;
  try {
    control = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<Record<string, unknown>> | null;
  } catch {
    throw badRecording('a control event is no JSON');
  }
  const known = typeof control === 'object' && control !== null && typeof control['do'] === 'string' && Object.hasOwn(DO, control['do']);
  if (!known) throw badRecording('a control event is not known here');
  // What has a length may claim any. The rest is checked where it is used.
  const { edid = [], state = '', vgpu = 0 } = control as { edid?: unknown; state?: unknown; vgpu?: unknown };
  if (!Array.isArray(edid) || typeof state !== 'string' || !Number.isInteger(vgpu)) throw badRecording('a control event is damaged');
  return control as unknown as Control;
}

type Done = { readonly [K in Control['do']]: (gvt: Gvt, control: Control & { do: K }, vgpu: Vgpu) => unknown };

const DO: Done = {
  create: (gvt, { spec }) => gvt.createVgpu(spec),
  restore: (gvt, { spec, state }) => gvt.restoreVgpu(spec, Buffer.from(state, 'base64')),
  activate: (gvt, _control, vgpu) => gvt.activate(vgpu),
  deactivate: (gvt, _control, vgpu) => gvt.deactivate(vgpu),
  reset: (gvt, _control, vgpu) => gvt.reset(vgpu),
  destroy: (gvt, _control, vgpu) => gvt.destroyVgpu(vgpu),
  // It tells the guest what waited to be told, and looks at the clock.
  save: (gvt, _control, vgpu) => gvt.saveVgpu(vgpu),
  'memory-came': (gvt, _control, vgpu) => gvt.memoryMapped(vgpu.id),
  hotplug: (gvt, { connected }, vgpu) => gvt.emulateHotplug(vgpu, connected === true),
  edid: (gvt, { edid }, vgpu) => gvt.setEdid(vgpu, checkedEdid(Uint8Array.from(edid))),
};

/** Does it again. What it failed with is as it was: what the device model called on the way is compared. @throws MptError BAD_RECORDING */
export function applyControl(gvt: Gvt, control: Control): void {
  const about = 'vgpu' in control ? control.vgpu : undefined;
  const vgpu = about === undefined ? undefined : gvt.vgpu(about as VgpuId);
  if ('vgpu' in control && vgpu === undefined) throw badRecording(`a control event is about vGPU ${about}, which there is not`);
  try {
    (DO[control.do] as (gvt: Gvt, control: Control, vgpu: Vgpu | undefined) => unknown)(gvt, control, vgpu);
  } catch {
    // A failure of the recording, or a divergence, which the tape knows.
  }
}
