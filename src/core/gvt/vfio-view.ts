/**
 * A vGPU as a VFIO device: what kvmgt presents (facts: gvt.md 3, 7.3-7.5). Regions and interrupts are tables; accesses arrive at the
 * device model as the guest made them, cut into naturally aligned ones.
 *
 * Other than kvmgt: no BAR2 mapping, since the aperture is translated access by access (bars.ts); planes are exported as copies
 * (plane-copy.ts).
 */
import { Gpa, type VgpuId } from '../addresses.js';
import type { DeviceMemories } from '../device-memory.js';
import { checkAccess, MemoryPort, type PortedRegion, Regions } from '../vfio/access.js';
import {
  accessSize,
  checkPlaneQuery,
  DeviceFlag,
  Errno,
  eachAccess,
  type GfxPlane,
  GfxPlaneFlag,
  GfxPlaneType,
  IrqFlag,
  IrqIndex,
  NO_PLANE,
  type Picture,
  type PixelMemory,
  RegionFlag,
  RegionIndex,
  RegionType,
  type VfioDevice,
  type VfioRegion,
} from '../vfio/device.js';
import { EDID_REGION_SIZE, EdidRegion } from '../vfio/edid-region.js';
import { IrqSet } from '../vfio/irqs.js';
import { BAR0_SIZE, PCI_IDENTITY } from './device-info.js';
import { EDID_BLOCK, edidFault } from './display/edid.js';
import { buildOpRegion, OPREGION_SIZE } from './display/opregion.js';
import { PlaneCopy } from './display/plane-copy.js';
import type { Gvt } from './gvt.js';
import { CONFIG_SIZE } from './pci-config.js';
import type { Vgpu } from './vgpu.js';

/** VFIO_PCI_NUM_REGIONS. */
const REGION_COUNT = 9;
const READ_WRITE = RegionFlag.READ | RegionFlag.WRITE;

/** One INTx line, one MSI, as kvmgt has them. */
export const gvtIrqs = (): IrqSet =>
  new IrqSet({
    [IrqIndex.INTX]: { flags: IrqFlag.EVENTFD | IrqFlag.MASKABLE | IrqFlag.AUTOMASKED, count: 1 },
    [IrqIndex.MSI]: { flags: IrqFlag.EVENTFD | IrqFlag.NORESIZE, count: 1 },
  });

export interface VfioViewOptions {
  /** Of `gvtIrqs()`, when the backend that raises them is made before the vGPU. Default: a set of its own. */
  readonly irqs?: IrqSet;
  /** For exported planes. Absent: the kind DMABUF is not supported, as a kernel without it would answer. */
  readonly memories?: DeviceMemories;
}

/** Regions of the device's own: there with a display. */
export const GVT_OPREGION = RegionIndex.FIRST_OWN;
export const GVT_EDID_REGION = RegionIndex.FIRST_OWN + 1;

/** What a region's access is in the device model: widest access, and where the region's first byte lies. */
interface Target {
  readonly region: VfioRegion;
  readonly widest: 4 | 8;
  /** BAR; absent: configuration space. */
  readonly bar?: 0 | 2;
}

export class GvtVfioView implements VfioDevice {
  readonly name: string;
  readonly flags = DeviceFlag.PCI | DeviceFlag.RESET;
  readonly regionCount: number;
  readonly regions: ReadonlyMap<number, VfioRegion>;
  readonly irqs: IrqSet;
  readonly #gvt: Gvt;
  readonly #id: VgpuId;
  readonly #presented: Vgpu;
  readonly #targets: ReadonlyMap<number, Target>;
  /** Those that are not the guest's. */
  readonly #own: Regions;
  /** By DRM plane type; empty where nothing can be exported. */
  readonly #copies: ReadonlyMap<number, PlaneCopy>;
  #lastPlane = 0;
  readonly #value = new Uint32Array(2);

  constructor(gvt: Gvt, vgpu: Vgpu, { irqs = gvtIrqs(), memories }: VfioViewOptions = {}) {
    this.name = vgpu.type.name;
    this.irqs = irqs;
    this.#gvt = gvt;
    this.#id = vgpu.id;
    this.#presented = vgpu;
    const copies = memories === undefined ? [] : [GfxPlaneType.PRIMARY, GfxPlaneType.CURSOR];
    this.#copies = new Map(copies.map((type) => [type, new PlaneCopy(memories as DeviceMemories, () => this.#newPlane())]));
    const region = (index: number, size: number): VfioRegion => ({ index, size, flags: READ_WRITE });
    const targets: Target[] = [
      // kvmgt tells the device's whole extended space; there are no extended capabilities in it.
      { region: region(RegionIndex.CONFIG, CONFIG_SIZE), widest: 4 },
      { region: region(RegionIndex.BAR0, BAR0_SIZE), widest: 8, bar: 0 },
      // As large as the host's aperture in every guest; outside the vGPU's slice each access is refused.
      { region: region(RegionIndex.BAR2, gvt.gpu.aperture), widest: 8, bar: 2 },
    ];
    this.#targets = new Map(targets.map((target) => [target.region.index, target]));
    this.#own = new Regions(vgpu.display.present ? [opRegion(), this.#edidRegion(vgpu)] : []);
    this.regions = new Map([...targets.map(({ region }) => [region.index, region] as const), ...this.#own.table]);
    this.regionCount = REGION_COUNT + this.#own.table.size;
  }

  /**
   * @returns EINVAL outside the regions, EIO for a BAR that the guest has not placed and enabled (as vfio-pci answers), ENODEV once the
   *   vGPU is destroyed; else the status of the device model, whose first refusal ends a longer range
   */
  read(index: number, offset: number, bytes: Uint8Array): Errno {
    if (index >= REGION_COUNT) return this.#vgpu === undefined ? Errno.ENODEV : this.#own.read(index, offset, bytes);
    const target = this.#targets.get(index);
    const status = checkAccess(target?.region, RegionFlag.READ, offset, bytes.length);
    if (target === undefined || status !== Errno.OK || bytes.length === 0) return status;
    const { widest } = target;
    const { length } = bytes;
    if (accessSize(offset, length, widest) === length) return this.#read(target, offset, length, bytes, 0);
    return eachAccess(offset, length, widest, (at, size) => this.#read(target, offset + at, size, bytes, at));
  }

  write(index: number, offset: number, bytes: Uint8Array): Errno {
    if (index >= REGION_COUNT) return this.#vgpu === undefined ? Errno.ENODEV : this.#own.write(index, offset, bytes);
    const target = this.#targets.get(index);
    const status = checkAccess(target?.region, RegionFlag.WRITE, offset, bytes.length);
    if (target === undefined || status !== Errno.OK || bytes.length === 0) return status;
    const { widest } = target;
    const { length } = bytes;
    if (accessSize(offset, length, widest) === length) return this.#write(target, offset, length, bytes, 0);
    return eachAccess(offset, length, widest, (at, size) => this.#write(target, offset + at, size, bytes, at));
  }

  /** Device-model reset; the vGPU stays active. ENODEV once it is destroyed. */
  reset(): Errno {
    const vgpu = this.#vgpu;
    if (vgpu === undefined) return Errno.ENODEV;
    this.#gvt.reset(vgpu);
    return Errno.OK;
  }

  barAddress(bar: number): number | undefined {
    const bars = this.#vgpu?.config.bars;
    const address = bar === 0 ? bars?.bar0 : bar === 2 ? bars?.bar2 : undefined;
    return address === undefined || address === Number.POSITIVE_INFINITY ? undefined : address;
  }

  /** Only DMABUF; primary plane and cursor. Each query copies what the plane shows into the buffer that it names. */
  queryGfxPlane(flags: number, planeType: number): GfxPlane | Errno {
    if (this.#copies.size === 0) return Errno.EINVAL;
    const what = checkPlaneQuery(flags, GfxPlaneFlag.DMABUF);
    if (what === 'probe') return NO_PLANE;
    if (what !== 'query') return what;
    const copy = this.#copies.get(planeType);
    if (copy === undefined) return Errno.EINVAL;
    const vgpu = this.#vgpu;
    if (vgpu === undefined) return Errno.ENODEV;
    const cursor = planeType === GfxPlaneType.CURSOR;
    const plane = cursor ? vgpu.cursorPlane() : vgpu.primaryPlane();
    if (plane === undefined) return NO_PLANE;
    const shown = copy.refresh(plane, vgpu.ggtt);
    if (!cursor || typeof shown === 'number') return shown;
    const [hotX, hotY] = vgpu.cursorHotSpot();
    return { ...shown, x: plane.left, y: plane.top, hotX, hotY };
  }

  getGfxDmabuf(id: number): number {
    for (const copy of this.#copies.values()) if (copy.id === id) return copy.export(id);
    return Errno.ENOENT;
  }

  picture(pixels?: PixelMemory): Picture | undefined {
    return this.#vgpu?.queryPlane(pixels);
  }

  /** Gives up events and buffers; the vGPU is its owner's. Idempotent. */
  close(): void {
    this.irqs.clear();
    for (const copy of this.#copies.values()) copy.close();
  }

  /** One block, as kvmgt takes it. A link that comes up brings the monitor of the blob. */
  #edidRegion(vgpu: Vgpu): PortedRegion {
    const { display, type } = vgpu;
    const onLink = (up: boolean, edid: Uint8Array): Errno => {
      if (up && (edid.length !== EDID_BLOCK || edidFault(edid) !== undefined)) return Errno.EINVAL;
      if (this.#vgpu === undefined) return Errno.ENODEV;
      if (up && !sameBytes(edid, display.edid)) this.#gvt.setEdid(vgpu, edid.slice());
      this.#gvt.emulateHotplug(vgpu, up);
      return Errno.OK;
    };
    const region: VfioRegion = {
      index: GVT_EDID_REGION,
      size: EDID_REGION_SIZE,
      flags: READ_WRITE,
      type: { type: RegionType.GFX, subtype: RegionType.GFX_EDID },
    };
    const edid = display.edid.slice(0, EDID_BLOCK);
    const port = new EdidRegion({ maxSize: EDID_BLOCK, ...type.resolution, edid, onLink, isUp: () => display.connected });
    return { region, port };
  }

  /** 32 bits on the wire, and 0 is no buffer. */
  #newPlane(): number {
    this.#lastPlane = (this.#lastPlane + 1) >>> 0 || 1;
    return this.#lastPlane;
  }

  /** Undefined once it is destroyed; its id may be another vGPU's by then. */
  get #vgpu(): Vgpu | undefined {
    return this.#gvt.vgpu(this.#id) === this.#presented ? this.#presented : undefined;
  }

  #read({ bar }: Target, offset: number, size: number, bytes: Uint8Array, at: number): Errno {
    if (this.#vgpu === undefined) return Errno.ENODEV;
    const value = this.#value;
    let status: Errno;
    if (bar === undefined) status = this.#gvt.emulateCfgRead(this.#id, offset, value, size);
    else {
      const base = this.barAddress(bar);
      if (base === undefined) return Errno.EIO;
      status = this.#gvt.emulateMmioRead(this.#id, Gpa(base + offset), value, size);
    }
    if (status !== Errno.OK) return status;
    for (let i = 0; i < size; i++) bytes[at + i] = (value[i >>> 2] as number) >>> ((i & 3) * 8);
    return Errno.OK;
  }

  #write({ bar }: Target, offset: number, size: number, bytes: Uint8Array, at: number): Errno {
    if (this.#vgpu === undefined) return Errno.ENODEV;
    const value = this.#value;
    value[0] = 0;
    value[1] = 0;
    for (let i = 0; i < size; i++) value[i >>> 2] = (value[i >>> 2] as number) | ((bytes[at + i] as number) << ((i & 3) * 8));
    if (bar === undefined) return this.#gvt.emulateCfgWrite(this.#id, offset, value, size);
    const base = this.barAddress(bar);
    return base === undefined ? Errno.EIO : this.#gvt.emulateMmioWrite(this.#id, Gpa(base + offset), value, size);
  }
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Read-only; whoever starts the guest copies it into the guest's memory and tells its place in ASLS. */
const opRegion = (): PortedRegion => ({
  region: {
    index: GVT_OPREGION,
    size: OPREGION_SIZE,
    flags: RegionFlag.READ,
    type: { type: RegionType.PCI_VENDOR + PCI_IDENTITY.vendor, subtype: RegionType.INTEL_OPREGION },
  },
  port: new MemoryPort(buildOpRegion()),
});
