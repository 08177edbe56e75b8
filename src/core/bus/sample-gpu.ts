/** mdpy and mbochs as GPU drivers: a GPU is a budget, of instances or of video memory (facts: gvt.md 7.7, 7.8). */
import type { DeviceMemories } from '../device-memory.js';
import { MptError } from '../errors.js';
import { SAMPLE_KINDS, type SampleKindName, type SampleType, sampleExhausted } from '../samples/index.js';
import { describeView, type ViewDescription } from '../vfio/description.js';
import { DEVICE_COUNTERS } from './counters.js';
import type { GpuDriver, VgpuConfiguration, VgpuRequest } from './driver.js';
import { type DeviceHost, SeatedVgpu } from './seated-vgpu.js';

export interface SampleSeat {
  readonly device: SampleKindName;
  /** `mbochs-small`. */
  readonly type: string;
}

export interface SampleGpuOptions {
  readonly gpu: string;
  readonly kind: SampleKindName;
  readonly host: DeviceHost<SampleSeat>;
  /** For the one device of a type that is looked at, and closed again, to describe the type. */
  readonly memories: DeviceMemories;
  /** What all instances together may take: mdpy instances, bytes of mbochs memory. Default: the original's. */
  readonly capacity?: number;
  readonly hotUnplug?: boolean;
  readonly requiresGroup?: boolean;
}

interface SampleConfiguration extends VgpuConfiguration {
  readonly sample: SampleType;
}

export class SampleGpu implements GpuDriver {
  readonly name: SampleKindName;
  readonly gpu: string;
  readonly configurations: readonly SampleConfiguration[];
  readonly hotUnplug: boolean;
  readonly settings = [];
  readonly #host: DeviceHost<SampleSeat>;
  readonly #capacity: number;
  #used = 0;
  readonly #ids = new IdPool();

  constructor({ gpu, kind, host, memories, capacity, hotUnplug = false, requiresGroup = false }: SampleGpuOptions) {
    const found = SAMPLE_KINDS.find(({ name }) => name === kind);
    if (found === undefined) throw new MptError('INVALID_ARGUMENT', `there is no kind ${kind}`, { op: 'create_gpu' });
    this.name = kind;
    this.gpu = gpu;
    this.hotUnplug = hotUnplug;
    this.#host = host;
    this.#capacity = capacity ?? found.capacity;
    this.configurations = found.types.map((sample) => ({
      name: sample.name.slice(kind.length + 1),
      description: sample.description,
      deviceApi: 'vfio-pci',
      requiresGroup,
      weight: 1,
      view: once(() => describeSample(sample, memories)),
      sample,
    }));
  }

  available(configuration: VgpuConfiguration): number {
    return Math.floor((this.#capacity - this.#used) / this.#sample(configuration).cost);
  }

  create({ configuration }: VgpuRequest): SeatedVgpu<SampleSeat> {
    const sample = this.#sample(configuration);
    const { cost } = sample;
    if (this.available(configuration) < 1) {
      const smaller = this.configurations.some((other) => other.sample.cost < cost) ? ', or choose a smaller type' : '';
      throw sampleExhausted(this.name, cost, this.#capacity - this.#used, `remove a vGPU${smaller}`);
    }
    this.#used += cost;
    const id = this.#ids.take();
    return new SeatedVgpu<SampleSeat>({
      id,
      seat: () => ({ device: this.name, type: sample.name }),
      host: this.#host,
      resources: sample.attributes,
      counters: DEVICE_COUNTERS,
      extensions: { foreground: true, vendor: { group: 'vendor', attributes: sample.attributes } },
      release: () => {
        this.#used -= cost;
        this.#ids.give(id);
      },
    });
  }

  #sample(configuration: VgpuConfiguration): SampleType {
    return (configuration as SampleConfiguration).sample;
  }
}

/** Numbers from 1; those that were given back come first. */
class IdPool {
  #next = 1;
  readonly #back: number[] = [];

  take(): number {
    return this.#back.pop() ?? this.#next++;
  }

  give(id: number): void {
    this.#back.push(id);
  }
}

function describeSample(sample: SampleType, memories: DeviceMemories): ViewDescription {
  const device = sample.create(memories, () => {});
  try {
    return describeView(device);
  } finally {
    device.close();
  }
}

const once = <T>(make: () => T): (() => T) => {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
};
