/** A GPU that GVT divides, as a GPU driver: aperture, hidden memory, fences and ids (facts: gvt.md 4.2, 4.3, 5.2). */
import { MptError } from '../errors.js';
import { checkGpuSize, checkModelled, DEFAULT_GPU, type GpuSize, MIB } from '../gvt/device-info.js';
import { type ExplicitResources, vgpuType } from '../gvt/explicit-resources.js';
import { ResourcePool, type VgpuResources } from '../gvt/resources.js';
import { newStatistics } from '../gvt/roles.js';
import { newcomer, setWeight, sharedSchedule } from '../gvt/scheduler/shared-state.js';
import { describeType, typesOf, type VgpuType } from '../gvt/types.js';
import { describeGvt } from '../gvt/vfio-regions.js';
import { DEVICE_COUNTERS } from './counters.js';
import type { GpuDriver, VgpuConfiguration, VgpuRequest } from './driver.js';
import { E } from './errno.js';
import { GVT_SETTINGS } from './gvt-settings.js';
import { type DeviceHost, SeatedVgpu } from './seated-vgpu.js';
import type { SettingValue } from './settings.js';

/** A vGPU of a GPU that GVT divides: plain data, so that it can cross threads. */
export interface GvtSeat {
  readonly device: 'gvt';
  readonly type: string;
  /** What differs from the type. */
  readonly resources: ExplicitResources;
  /** Its share of the GPU. */
  readonly share: VgpuResources;
  readonly gpu: GpuSize;
  /** Its engines' time, which all vGPUs of the GPU share. */
  readonly schedule: SharedArrayBuffer;
  readonly display: boolean;
  /** File for a trace of what the engines do, begun anew at each start, and bytes that it has at most. */
  readonly trace?: string;
  readonly traceLimit?: number;
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

export class GvtGpu implements GpuDriver {
  readonly name = 'i915';
  readonly gpu: string;
  readonly configurations: readonly GvtConfiguration[];
  readonly hotUnplug: boolean;
  readonly settings = GVT_SETTINGS;
  readonly size: GpuSize;
  readonly #host: DeviceHost<GvtSeat>;
  readonly #pool: ResourcePool;
  readonly #schedule = sharedSchedule();

  /** @throws MptError INVALID_ARGUMENT for an impossible GPU, UNSUPPORTED for one whose vGPUs could not be served */
  constructor({ gpu, host, size = {}, exports, hotUnplug = false, requiresGroup = false }: GvtGpuOptions) {
    this.gpu = gpu;
    this.hotUnplug = hotUnplug;
    this.size = checkModelled(checkGpuSize({ ...DEFAULT_GPU, ...size }));
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
    const explicit = explicitOf(settings);
    const type = checkedType(configuration.name, explicit, this.size);
    const display = (settings.get('display') as boolean | undefined) ?? true;
    const trace = traceOf(settings);
    const share = this.#pool.take(type);
    newcomer(this.#schedule, share.id);
    let weight = type.weight;
    return new SeatedVgpu<GvtSeat>({
      id: share.id,
      seat: () => ({
        device: 'gvt',
        type: configuration.name,
        resources: { ...explicit, weight },
        share,
        gpu: this.size,
        schedule: this.#schedule,
        display,
        ...trace,
      }),
      host: this.#host,
      resources: {
        aperture: type.aperture / MIB,
        hidden: type.hidden / MIB,
        fences: type.fences,
        resolution: `${type.resolution.width}x${type.resolution.height}`,
        display: display ? 1 : 0,
        ...(trace.trace === undefined ? {} : { trace: trace.trace }),
      },
      counters: GVT_COUNTERS,
      extensions: { foreground: true, vendor: { group: 'intel_vgpu', attributes: { vgpu_id: String(share.id) } } },
      setWeight: (value) => {
        weight = value;
        setWeight(this.#schedule, share.id, value);
      },
      release: () => this.#pool.release(share),
    });
  }
}

/**
 * What differs from the type. More than the GPU has is no space, as the kernel answers; less than a guest driver can use is no argument.
 * @throws MptError INVALID_ARGUMENT, NO_SPACE
 */
function checkedType(name: string, explicit: ExplicitResources, gpu: GpuSize): VgpuType {
  try {
    return vgpuType(name, explicit, gpu);
  } catch (error) {
    if (!MptError.is(error, 'INVALID_ARGUMENT') || !((error.size ?? 0) > (error.limit ?? Number.POSITIVE_INFINITY))) throw error;
    const { text, op = 'create', size = 0, limit = 0, hint = '' } = error;
    throw new MptError('NO_SPACE', text, { op, size, limit, hint, errno: E.NOSPC });
  }
}

function explicitOf(settings: ReadonlyMap<string, SettingValue>): ExplicitResources {
  const number = (name: string): number | undefined => settings.get(name) as number | undefined;
  const [aperture, hidden, fences, weight] = ['aperture', 'hidden', 'fences', 'weight'].map(number);
  const [width, height] = ((settings.get('resolution') as string | undefined) ?? '').split('x').map(Number);
  return {
    ...(aperture === undefined ? {} : { aperture: aperture * MIB }),
    ...(hidden === undefined ? {} : { hidden: hidden * MIB }),
    ...(fences === undefined ? {} : { fences }),
    ...(weight === undefined ? {} : { weight }),
    ...(width === undefined || height === undefined ? {} : { resolution: { width, height } }),
  };
}

function traceOf(settings: ReadonlyMap<string, SettingValue>): Pick<GvtSeat, 'trace' | 'traceLimit'> {
  const trace = settings.get('trace') as string | undefined;
  const limit = settings.get('trace-limit') as number | undefined;
  return { ...(trace === undefined ? {} : { trace }), ...(limit === undefined ? {} : { traceLimit: limit * MIB }) };
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
