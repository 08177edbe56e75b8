/** Regions and interrupts that a vGPU has as a VFIO device, as kvmgt presents them (facts: gvt.md 7.3, 7.4). */
import { describeView, type ViewDescription } from '../vfio/description.js';
import {
  checkPlaneQuery,
  GfxPlaneFlag,
  IrqFlag,
  IrqIndex,
  NO_PLANE,
  RegionFlag,
  RegionIndex,
  RegionType,
  type VfioRegion,
} from '../vfio/device.js';
import { EDID_REGION_SIZE } from '../vfio/edid-region.js';
import { IrqSet } from '../vfio/irqs.js';
import { BAR0_SIZE, type GpuSize, PCI_IDENTITY } from './device-info.js';
import { OPREGION_SIZE } from './display/opregion.js';
import { CONFIG_SIZE } from './pci-config.js';

/** VFIO_PCI_NUM_REGIONS. */
export const GVT_REGION_COUNT = 9;
const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;

/** Regions of the device's own: there with a display. */
export const GVT_OPREGION = RegionIndex.FIRST_OWN;
export const GVT_EDID_REGION = RegionIndex.FIRST_OWN + 1;

/** Read-only; whoever starts the guest copies it into the guest's memory and tells its place in ASLS. */
export const OPREGION: VfioRegion = {
  index: GVT_OPREGION,
  size: OPREGION_SIZE,
  flags: RegionFlag.READ,
  type: { type: RegionType.PCI_VENDOR + PCI_IDENTITY.vendor, subtype: RegionType.INTEL_OPREGION },
};

export const EDID_REGION: VfioRegion = {
  index: GVT_EDID_REGION,
  size: EDID_REGION_SIZE,
  flags: READ_WRITE,
  type: { type: RegionType.GFX, subtype: RegionType.GFX_EDID },
};

/** One INTx line, one MSI, as kvmgt has them. */
export const gvtIrqs = (): IrqSet =>
  new IrqSet({
    [IrqIndex.INTX]: { flags: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED, count: 1 },
    [IrqIndex.MSI]: { flags: IrqFlag.EVENTFD | IrqFlag.NORESIZE, count: 1 },
  });

/** What a region's access is in the device model: widest access, and where the region's first byte lies. */
export interface Target {
  readonly region: VfioRegion;
  readonly widest: 4 | 8;
  /** BAR; absent: configuration space. */
  readonly bar?: 0 | 2;
}

const guestRegion = (index: number, size: number): VfioRegion => ({ index, size, flags: READ_WRITE });

/** The regions that the guest sees. */
export const guestTargets = (gpu: GpuSize): readonly Target[] => [
  // kvmgt tells the device's whole extended space; there are no extended capabilities in it.
  { region: guestRegion(RegionIndex.CONFIG, CONFIG_SIZE), widest: 4 },
  { region: guestRegion(RegionIndex.BAR0, BAR0_SIZE), widest: 8, bar: 0 },
  // As large as the host's aperture in every guest; outside the vGPU's slice each access is refused.
  { region: guestRegion(RegionIndex.BAR2, gpu.aperture), widest: 8, bar: 2 },
];

/** All regions. @param display without one the device has no regions of its own */
export function gvtShape(gpu: GpuSize, display: boolean): { regions: ReadonlyMap<number, VfioRegion>; regionCount: number } {
  const own = display ? [OPREGION, EDID_REGION] : [];
  const all = [...guestTargets(gpu).map(({ region }) => region), ...own];
  return { regions: new Map(all.map((region) => [region.index, region])), regionCount: GVT_REGION_COUNT + own.length };
}

/** What a vGPU of this GPU will tell a VFIO user. @param exports planes can be exported */
export const describeGvt = (
  gpu: GpuSize,
  { display, exports }: { readonly display: boolean; readonly exports: boolean },
): ViewDescription =>
  describeView({
    ...gvtShape(gpu, display),
    irqs: gvtIrqs(),
    queryGfxPlane: (flags) => {
      const what = checkPlaneQuery(flags, exports ? GfxPlaneFlag.DMABUF : 0);
      return what === 'probe' ? NO_PLANE : what;
    },
  });
