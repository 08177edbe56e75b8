/** A bus whose devices run in this process: real sample devices, and who uses them is the test. */
import {
  type AccessDriver,
  ADDRESS_SPACES,
  type AddressSpace,
  Counter,
  type DeviceHost,
  type RunningVgpu,
  SampleGpu,
  type SampleSeat,
  type Vgpu,
  VgpuBus,
} from '../../src/core/bus/index.js';
import { findSampleType } from '../../src/core/samples/index.js';
import { RegionIndex, type VfioDevice } from '../../src/core/vfio/device.js';
import { ArrayMemories } from '../samples/support.js';

export const UUIDS = Array.from({ length: 300 }, (_, i) => `83b8f4f2-509f-382f-3c1e-e6bfe0fa${(0x1000 + i).toString(16)}`);
/** The first of several that must be there. */
export const first = <T>(list: readonly T[]): T => list[0] as T;
export const uuid = (i: number): string => UUIDS[i] as string;

const regionOf = (space: AddressSpace): number => (space === 'config' ? RegionIndex.CONFIG : ADDRESS_SPACES.indexOf(space) - 1);

export class LocalHost implements DeviceHost<SampleSeat> {
  readonly memories = new ArrayMemories();
  /** The next start fails. */
  broken: Error | undefined;
  readonly priorities: number[] = [];

  open({ type }: SampleSeat, _attachment: unknown, counters: SharedArrayBuffer): RunningVgpu {
    if (this.broken !== undefined) throw this.broken;
    const device: VfioDevice & { close(): void } = findSampleType(type).create(this.memories, () => {});
    new Float64Array(counters)[Counter.CLIENTS] = 1;
    let end: (why: string) => void = () => {};
    const ended = new Promise<string>((resolve) => {
      end = resolve;
    });
    return {
      ended,
      shutdown: async () => {
        device.close();
        end('shut down');
        await ended;
      },
      read: async (space, offset, bytes) => device.read(regionOf(space), offset, bytes),
      write: async (space, offset, bytes) => device.write(regionOf(space), offset, bytes),
      setIrqs: async (request) => device.irqs.set(request),
      reset: async () => device.reset(),
      setPriority: (priority) => this.priorities.push(priority),
    };
  }
}

/** Remembers who was probed. */
export class ListedAccess implements AccessDriver {
  readonly name: string;
  readonly here: string[] = [];
  refuses: Error | undefined;

  constructor(name = 'listed') {
    this.name = name;
  }

  probe({ uuid }: Vgpu): void {
    if (this.refuses !== undefined) throw this.refuses;
    this.here.push(uuid);
  }

  remove({ uuid }: Vgpu): void {
    this.here.splice(this.here.indexOf(uuid), 1);
  }

  address({ uuid }: Vgpu): string | undefined {
    return this.here.includes(uuid) ? `at ${uuid}` : undefined;
  }
}

export interface BusRig {
  readonly bus: VgpuBus;
  readonly host: LocalHost;
  readonly access: ListedAccess;
}

export function busRig(
  options: { readonly hotUnplug?: boolean; readonly requiresGroup?: boolean; readonly capacity?: number } = {},
): BusRig {
  const bus = new VgpuBus();
  const host = new LocalHost();
  const access = new ListedAccess();
  bus.registerGpu(new SampleGpu({ gpu: 'mdpy0', kind: 'mdpy', host, memories: host.memories, ...options }));
  bus.registerAccess(access);
  return { bus, host, access };
}
