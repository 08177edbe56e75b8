/** The library: the contract, the device model, the backends and how to choose one. */
export {
  BACKENDS,
  type BackendModule,
  findBackend,
  type ProbeResult,
  type Selection,
  type SelectOptions,
  selectBackend,
} from './backends/index.js';
export { type AccessDriver, type DeviceHost, GvtGpu, SampleGpu, type Vgpu, VgpuBus } from './core/bus/index.js';
export { GuestRam, type MappedRegion, mapRegion, type RamRegion } from './core/guest-ram.js';
export { dispatchRequest } from './core/gvt/dispatch.js';
export { Gvt } from './core/gvt/gvt.js';
export type { Machine, MachineSpec, StopToken } from './core/machine.js';
export * from './core/mpt.js';
export { MptBackend } from './core/mpt-backend.js';
export { DEFAULT_LIMITS, type HandleLimits, MptHandle } from './core/mpt-handle.js';
export { DeviceThread } from './device-thread/device-thread.js';
export type { Job, JobContext } from './device-thread/protocol.js';
export { AGENT_GPA, GuestAgent } from './guest/agent.js';
export { GpuDriver } from './guest/gpu-driver.js';
export { testCard } from './guest/test-card.js';
export { stopThread } from './native/thread.js';
export {
  type Divergence,
  openGvt,
  type Recorded,
  type RecordOptions,
  type ReplayOptions,
  type ReplayReport,
  replay,
} from './recording/index.js';
