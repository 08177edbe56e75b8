/** A GPU that GVT divides, as a GPU driver: aperture, hidden memory, fences and ids (facts: gvt.md 4.2, 4.3, 5.2). */
import { MptError } from '../errors.js';
import { checkGpuSize, DEFAULT_GPU, type GpuSize, MIB } from '../gvt/device-info.js';
import { ResourcePool, type VgpuResources } from '../gvt/resources.js';
import { newStatistics } from '../gvt/roles.js';
import { describeType, typesOf, type VgpuType } from '../gvt/types.js';
import { describeGvt } from '../gvt/vfio-regions.js';
import { DEVICE_COUNTERS } from './counters.js';
import type { GpuDriver, VgpuConfiguration, VgpuRequest } from './driver.js';
import { E } from './errno.js';
import { type DeviceHost, SeatedVgpu } from './seated-vgpu.js';
import { type SettingSpec, type SettingValue, wholeNumber, yesOrNo } from './settings.js';

/** A vGPU of a GPU that GVT divides: plain data, so that it can cross threads. */
export interface GvtSeat {
  readonly device: 'gvt';
  /** The GPU's type, or one with sizes of its own. */
  readonly type: VgpuType;
  /** Its share of the GPU. */
  readonly share: VgpuResources;
  readonly gpu: GpuSize;
  readonly display: boolean;
  readonly weight: number;
}

export interface GvtGpuOptions {
  readonly gpu: string;
  readonly host: DeviceHost<GvtSeat>;
  /** What is divided. Default: DEFAULT_GPU. */
  readonly size?: Partial<GpuSize>;
  /** Planes can be exported as dmabufs. */
  readonly exports: boolean;
  readonly hotUnplug?: boolean;
  readonly requiresGroup?: boolean;
}

interface GvtConfiguration extends VgpuConfiguration {
  readonly vgpu: VgpuType;
}

/** What a vGPU's device counts, besides what all do. */
export const GVT_COUNTERS: readonly string[] = [...DEVICE_COUNTERS, ...Object.keys(newStatistics()).map(snakeCase)];

/** MiB of the largest GPU. */
const MIB_MAX = 4096;
const FENCES_MAX = 32;

const SETTINGS: readonly SettingSpec[] = [
  { name: 'aperture', description: 'MiB of aperture (low graphics memory), from 1', live: false, parse: wholeNumber(1, MIB_MAX) },
  { name: 'hidden', description: 'MiB of hidden (high) graphics memory, from 1', live: false, parse: wholeNumber(1, MIB_MAX) },
  { name: 'fences', description: `fence registers, 1 to ${FENCES_MAX}`, live: false, parse: wholeNumber(1, FENCES_MAX) },
  { name: 'display', description: 'a monitor, 1, or a display that is fused off, 0', live: false, parse: yesOrNo },
];

export class GvtGpu implements GpuDriver {
  readonly name = 'i915';
  readonly gpu: string;
  readonly configurations: readonly GvtConfiguration[];
  readonly hotUnplug: boolean;
  readonly settings = SETTINGS;
  readonly size: GpuSize;
  readonly #host: DeviceHost<GvtSeat>;
  readonly #pool: ResourcePool;

  /** @throws MptError INVALID_ARGUMENT for an impossible GPU */
  constructor({ gpu, host, size = {}, exports, hotUnplug = false, requiresGroup = false }: GvtGpuOptions) {
    this.gpu = gpu;
    this.hotUnplug = hotUnplug;
    this.size = checkGpuSize({ ...DEFAULT_GPU, ...size });
    this.#host = host;
    this.#pool = new ResourcePool(this.size);
    this.configurations = typesOf(this.size).map((vgpu) => ({
      name: vgpu.name,
      description: describeType(vgpu),
      deviceApi: 'vfio-pci',
      requiresGroup,
      weight: vgpu.weight,
      view: () => describeGvt(this.size, { display: true, exports }),
      vgpu,
    }));
  }

  available(configuration: VgpuConfiguration): number {
    return Math.max(0, this.#pool.available((configuration as GvtConfiguration).vgpu));
  }

  create({ configuration, settings }: VgpuRequest): SeatedVgpu<GvtSeat> {
    const type = withSizes((configuration as GvtConfiguration).vgpu, settings);
    const display = (settings.get('display') as boolean | undefined) ?? true;
    const share = this.#pool.take(type);
    let weight = (settings.get('weight') as number | undefined) ?? type.weight;
    return new SeatedVgpu<GvtSeat>({
      id: share.id,
      seat: () => ({ device: 'gvt', type, share, gpu: this.size, display, weight }),
      host: this.#host,
      resources: {
        aperture: type.aperture / MIB,
        hidden: type.hidden / MIB,
        fences: type.fences,
        resolution: `${type.resolution.width}x${type.resolution.height}`,
        display: display ? 1 : 0,
      },
      counters: GVT_COUNTERS,
      extensions: { foreground: true, vendor: { group: 'intel_vgpu', attributes: { vgpu_id: String(share.id) } } },
      setWeight: (value) => {
        weight = value;
      },
      release: () => this.#pool.release(share),
    });
  }
}

/** @throws MptError INVALID_ARGUMENT when the sizes make no vGPU */
function withSizes(type: VgpuType, settings: ReadonlyMap<string, SettingValue>): VgpuType {
  const mib = (name: string, otherwise: number): number => ((settings.get(name) as number | undefined) ?? otherwise / MIB) * MIB;
  const sized = {
    ...type,
    aperture: mib('aperture', type.aperture),
    hidden: mib('hidden', type.hidden),
    fences: (settings.get('fences') as number | undefined) ?? type.fences,
  };
  // As AcrnGT requires it.
  if (sized.aperture > sized.hidden)
    throw new MptError('INVALID_ARGUMENT', 'a vGPU has at least as much hidden memory as aperture', {
      op: 'create',
      errno: E.INVAL,
      size: sized.aperture,
      limit: sized.hidden,
    });
  return sized;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
