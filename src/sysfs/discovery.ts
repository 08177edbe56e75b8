/**
 * `vfio-pci/device` of a type: what a VFIO user will find, before there is a vGPU, as it was proposed for libvirt. From the same
 * description of the device that answers VFIO's own calls.
 */
import type { VgpuConfiguration } from '../core/bus/index.js';
import type { ViewDescription } from '../core/vfio/description.js';
import { type Folder, readOnly } from './node.js';

const hex = (value: number): string => `0x${value.toString(16)}`;
const yes = (value: boolean): number => (value ? 1 : 0);

export function addDiscovery(folder: Folder, { view }: VgpuConfiguration): void {
  // Looked at when somebody reads: a device may have to be made for it. How many there are is asked once, at the mount.
  const shape = view();
  folder
    .folder('gfx_plane')
    .add(
      'dmabuf',
      readOnly(() => yes(view().gfxPlane.dmabuf)),
    )
    .add(
      'region',
      readOnly(() => yes(view().gfxPlane.region)),
    );
  const irqs = folder.folder('irqs');
  for (const { index } of shape.irqs) {
    const irq = (): ViewDescription['irqs'][number] => view().irqs[index] as ViewDescription['irqs'][number];
    irqs
      .folder(String(index))
      .add(
        'count',
        readOnly(() => irq().count),
      )
      .add(
        'flags',
        readOnly(() => hex(irq().flags)),
      );
  }
  const regions = folder.folder('regions');
  for (const { index } of shape.regions) {
    const region = (): ViewDescription['regions'][number] => view().regions[index] as ViewDescription['regions'][number];
    regions
      .folder(String(index))
      .add(
        'flags',
        readOnly(() => hex(region().flags)),
      )
      .add(
        'offset',
        readOnly(() => hex(region().offset)),
      )
      .add(
        'size',
        readOnly(() => hex(region().size)),
      );
  }
}
