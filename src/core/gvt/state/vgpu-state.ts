/** A vGPU as a document, and back. */
import { hex } from '../../addresses.js';
import { MptError } from '../../errors.js';
import type { GpuSize } from '../device-info.js';
import { vgpuType } from '../explicit-resources.js';
import type { VgpuResources } from '../resources.js';
import type { VgpuType } from '../types.js';
import type { Vgpu } from '../vgpu.js';
import { encodeDocument } from './document.js';
import { DEVICE, type StateHeader } from './header.js';
import { refusal } from './limits.js';
import { StateReader } from './reader.js';
import { StateWriter } from './writer.js';

/** @throws MptError BUSY inside one of its accesses, when what it does is half done */
export function saveState(vgpu: Vgpu): Uint8Array {
  const { id, bdf, type, gpu, resources, display } = vgpu;
  if (vgpu.interrupts.held)
    throw new MptError('BUSY', `vGPU ${id} is in the middle of an access`, { op: 'save_vgpu', hint: 'save it between two' });
  // What waits to be told is not part of the state.
  vgpu.submission.settle();
  const sections = new Map<string, Uint8Array>();
  for (const [name, part] of vgpu.sections) {
    const writer = new StateWriter(name);
    part.exchange(writer);
    sections.set(name, writer.take());
  }
  const { aperture, hidden, fences } = resources;
  return encodeDocument(
    {
      device: DEVICE,
      gpu: { aperture: gpu.aperture, ggtt: gpu.ggtt, fences: gpu.fences },
      vgpu: {
        type: type.name,
        id,
        bdf,
        display: display.present,
        connector: display.connector,
        aperture,
        hidden,
        fences: fences.length,
        weight: type.weight,
        resolution: type.resolution,
      },
    },
    sections,
  );
}

/** The type of the saved vGPU. @throws MptError BAD_STATE when it is of another device, or none that this GPU can have */
export function typeOfState({ device, gpu, vgpu }: StateHeader, here: GpuSize): VgpuType {
  if (device !== DEVICE) throw refusal('restore_vgpu', `the saved vGPU is the device ${device}, and this one is ${DEVICE}`);
  for (const part of ['aperture', 'ggtt', 'fences'] as const)
    if (gpu[part] !== here[part])
      throw refusal('restore_vgpu', `the saved vGPU is of another GPU: its ${part} is ${gpu[part]}, and this one’s ${here[part]}`, {
        size: gpu[part],
        limit: here[part],
        hint: 'restore it on a GPU of the same size',
      });
  const { type, aperture, hidden, fences, weight, resolution } = vgpu;
  try {
    return vgpuType(type, { aperture: aperture.size, hidden: hidden.size, fences, weight, resolution }, here);
  } catch (error) {
    if (!MptError.is(error)) throw error;
    throw refusal('restore_vgpu', `the saved vGPU cannot be one of this GPU: ${error.text}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

/** @throws MptError BAD_STATE when the share has not the ranges that the saved vGPU's guest knows */
export function checkShare({ vgpu }: StateHeader, share: VgpuResources): void {
  for (const part of ['aperture', 'hidden'] as const) {
    const [saved, given] = [vgpu[part], share[part]];
    if (saved.start !== given.start || saved.size !== given.size)
      throw refusal('restore_vgpu', `the guest has its ${part} at ${hex(saved.start)}, and the share has it at ${hex(given.start)}`);
  }
  if (share.fences.length !== vgpu.fences)
    throw refusal('restore_vgpu', `the guest has ${vgpu.fences} fences, and the share has ${share.fences.length}`);
}

/** Fills a new vGPU. @throws MptError BAD_STATE; the vGPU is of no use then */
export function restoreSections(vgpu: Vgpu, sections: ReadonlyMap<string, Uint8Array>): void {
  const names = vgpu.sections.map(([name]) => name);
  const found = [...sections.keys()];
  if (names.length !== found.length || names.some((name, i) => name !== found[i]))
    throw refusal('restore_vgpu', `the saved state has the sections ${found.join(', ')}, and not ${names.join(', ')}`);
  for (const [name, part] of vgpu.sections) {
    const reader = new StateReader(name, sections.get(name) as Uint8Array);
    try {
      part.exchange(reader);
    } catch (error) {
      if (MptError.is(error)) throw error;
      throw new MptError('INTERNAL', `the section '${name}' cannot be restored`, { op: 'restore_vgpu', cause: error });
    }
    reader.end();
  }
}
