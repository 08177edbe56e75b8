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
  NO_PLANE,
  type Picture,
  type PixelMemory,
  RegionFlag,
  type VfioDevice,
  type VfioRegion,
} from '../vfio/device.js';
import { EdidRegion } from '../vfio/edid-region.js';
import type { IrqSet } from '../vfio/irqs.js';
import type { Connector } from './display/connector.js';
import { EDID_BLOCK, edidFault } from './display/edid.js';
import { buildOpRegion } from './display/opregion.js';
import { PlaneCopy } from './display/plane-copy.js';
import type { Gvt } from './gvt.js';
import { EDID_REGION, GVT_REGION_COUNT, guestTargets, gvtIrqs, gvtShape, OPREGION, type Target } from './vfio-regions.js';
import type { Vgpu } from './vgpu.js';

export { GVT_EDID_REGION, GVT_OPREGION, gvtIrqs } from './vfio-regions.js';

export interface VfioViewOptions {
  /** Of `gvtIrqs()`, when the backend that raises them is made before the vGPU. Default: a set of its own. */
  readonly irqs?: IrqSet;
  /** For exported planes. Absent: the kind DMABUF is not supported, as a kernel without it would answer. */
  readonly memories?: DeviceMemories;
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
    this.#targets = new Map(guestTargets(gvt.gpu).map((target) => [target.region.index, target]));
    this.#own = new Regions(vgpu.display.present ? [opRegion(vgpu.display.connector), this.#edidRegion(vgpu)] : []);
    const shape = gvtShape(gvt.gpu, vgpu.display.present);
    this.regions = shape.regions;
    this.regionCount = shape.regionCount;
  }

  /**
   * @returns EINVAL outside the regions, EIO for a BAR that the guest has not placed and enabled (as vfio-pci answers), ENODEV once the
   *   vGPU is destroyed; else the status of the device model, whose first refusal ends a longer range
   */
  read(index: number, offset: number, bytes: Uint8Array): Errno {
    if (index >= GVT_REGION_COUNT) return this.#vgpu === undefined ? Errno.ENODEV : this.#own.read(index, offset, bytes);
    const target = this.#targets.get(index);
    const status = checkAccess(target?.region, RegionFlag.READ, offset, bytes.length);
    if (target === undefined || status !== Errno.OK || bytes.length === 0) return status;
    const { widest } = target;
    const { length } = bytes;
    if (accessSize(offset, length, widest) === length) return this.#read(target, offset, length, bytes, 0);
    return eachAccess(offset, length, widest, (at, size) => this.#read(target, offset + at, size, bytes, at));
  }

  write(index: number, offset: number, bytes: Uint8Array): Errno {
    if (index >= GVT_REGION_COUNT) return this.#vgpu === undefined ? Errno.ENODEV : this.#own.write(index, offset, bytes);
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
    const shown = copy.refresh(plane, vgpu.scanout);
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
    const edid = display.edid.slice(0, EDID_BLOCK);
    const port = new EdidRegion({ maxSize: EDID_BLOCK, ...type.resolution, edid, onLink, isUp: () => display.connected });
    return { region: EDID_REGION, port };
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

const opRegion = (connector: Connector): PortedRegion => ({ region: OPREGION, port: new MemoryPort(buildOpRegion(connector)) });
