/** Types and vGPUs as the control socket, `mpt list --json` and the log tell of them. */
import type { BusType, Vgpu, VgpuBus } from '../../core/bus/index.js';

export interface TypeInfo {
  readonly name: string;
  readonly gpu: string;
  readonly description: string;
  readonly deviceApi: string;
  /** vGPUs that can still be created. */
  readonly available: number;
  /** vGPUs that there are. */
  readonly instances: number;
  readonly requiresGroup: boolean;
  readonly hotUnplug: boolean;
}

export interface VgpuInfo {
  readonly uuid: string;
  readonly type: string;
  readonly gpu: string;
  /** The GPU's number for it. */
  readonly id: number;
  readonly vm?: number;
  readonly online: boolean;
  readonly inUse: boolean;
  readonly group: string;
  readonly priority: number;
  readonly weight: number;
  readonly foreground: boolean;
  /** Socket for QEMU; absent while it is offline. */
  readonly socket?: string;
}

export interface VgpuDetails extends VgpuInfo {
  readonly resources: Readonly<Record<string, number | string>>;
  readonly statistics: Readonly<Record<string, number>>;
}

export const typeInfo = (bus: VgpuBus, { name, driver, configuration }: BusType): TypeInfo => ({
  name,
  gpu: driver.gpu,
  description: configuration.description,
  deviceApi: configuration.deviceApi,
  available: driver.available(configuration),
  instances: bus.vgpusOf(driver).filter((vgpu) => vgpu.configuration === configuration).length,
  requiresGroup: configuration.requiresGroup,
  hotUnplug: driver.hotUnplug,
});

export function vgpuInfo(bus: VgpuBus, vgpu: Vgpu): VgpuInfo {
  const { uuid, type, driver, ops, vm, online, inUse, group, priority, weight } = vgpu;
  const [found] = bus.addresses(vgpu);
  return {
    uuid,
    type,
    gpu: driver.gpu,
    id: ops.id,
    ...(vm === undefined ? {} : { vm }),
    online,
    inUse,
    group,
    priority,
    weight,
    foreground: bus.foregroundOf(driver) === vgpu,
    ...(found === undefined ? {} : { socket: found.address }),
  };
}

export const vgpuDetails = (bus: VgpuBus, vgpu: Vgpu): VgpuDetails => ({
  ...vgpuInfo(bus, vgpu),
  resources: vgpu.ops.resources,
  statistics: vgpu.ops.extensions.statistics?.() ?? {},
});
