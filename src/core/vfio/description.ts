/** What VFIO's info calls tell of a device, as data: for discovery before a device is opened. */
import { type Errno, GfxPlaneFlag, GfxPlaneType, RegionFlag, type VfioDevice, type VfioRegion } from './device.js';

export interface RegionDescription {
  readonly index: number;
  /** `RegionFlag` bits, CAPS among them. */
  readonly flags: number;
  /** Bytes. */
  readonly size: number;
  /** Of the region in the file that a client maps; 0 where it cannot be mapped. */
  readonly offset: number;
}

export interface IrqDescription {
  readonly index: number;
  /** `IrqFlag` bits. */
  readonly flags: number;
  readonly count: number;
}

export interface ViewDescription {
  /** All that can be asked, those of size 0 as well. */
  readonly regions: readonly RegionDescription[];
  readonly irqs: readonly IrqDescription[];
  /** Kinds of planes that QUERY_GFX_PLANE supports. */
  readonly gfxPlane: { readonly dmabuf: boolean; readonly region: boolean };
}

/** The flags that GET_REGION_INFO tells. */
export const regionInfoFlags = (region: VfioRegion | undefined): number =>
  region === undefined ? 0 : region.flags | (region.type === undefined && region.areas === undefined ? 0 : RegionFlag.CAPS);

export function describeView(
  device: Pick<VfioDevice, 'regions' | 'regionCount' | 'irqs'> & { queryGfxPlane(flags: number, planeType: number): unknown | Errno },
): ViewDescription {
  const probe = (kind: number): boolean => typeof device.queryGfxPlane(GfxPlaneFlag.PROBE | kind, GfxPlaneType.PRIMARY) !== 'number';
  return {
    regions: Array.from({ length: device.regionCount }, (_, index) => {
      const region = device.regions.get(index);
      return { index, flags: regionInfoFlags(region), size: region?.size ?? 0, offset: region?.file?.offset ?? 0 };
    }),
    irqs: device.irqs.info.map(({ flags, count }, index) => ({ index, flags, count })),
    gfxPlane: { dmabuf: probe(GfxPlaneFlag.DMABUF), region: probe(GfxPlaneFlag.REGION) },
  };
}
