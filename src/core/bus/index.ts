/** The vGPU bus and the drivers that it has here. */
export { type BusEvents, type CreateSpec, VgpuBus } from './bus.js';
export { Counter, DEVICE_COUNTERS } from './counters.js';
export {
  type AccessDriver,
  ADDRESS_SPACES,
  type AddressSpace,
  type GpuDriver,
  type RunningVgpu,
  type VgpuConfiguration,
  type VgpuExtensions,
  type VgpuOps,
  type VgpuRequest,
} from './driver.js';
export { E, errnoOf } from './errno.js';
export { GVT_COUNTERS, GvtGpu, type GvtSeat } from './gvt-gpu.js';
export type { BusType } from './placement.js';
export { SampleGpu, type SampleSeat } from './sample-gpu.js';
export type { DeviceHost } from './seated-vgpu.js';
export { COMMON_SETTINGS, PRIORITY, type SettingSpec, VM, WEIGHT } from './settings.js';
export { parseUuid, randomUuid, type Uuid } from './uuid.js';
export { typeName, Vgpu } from './vgpu.js';
