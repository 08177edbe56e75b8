/** What a device model is given and tells: its options, its host, how vGPUs are asked for, its events. */
import type { Bdf, VgpuId, VmId } from '../addresses.js';
import type { DeviceMemories } from '../device-memory.js';
import type { HostPages, MptHostOps, MptVgpuOps } from '../mpt.js';
import type { MptBackend } from '../mpt-backend.js';
import type { VfioDevice } from '../vfio/device.js';
import type { GpuSize } from './device-info.js';
import type { Connector } from './display/connector.js';
import type { ExplicitResources } from './explicit-resources.js';
import type { VgpuResources } from './resources.js';
import type { EngineName, FailsafeReason } from './roles.js';
import type { TraceLog } from './trace/trace-log.js';
import type { VgpuType } from './types.js';
import type { Vgpu } from './vgpu.js';

export interface GvtOptions extends Partial<GpuSize> {
  /** Clock in nanoseconds that never goes back. Default: the process's monotonic clock. */
  readonly now?: () => number;
  /** Of `sharedSchedule()`, when other threads serve vGPUs of the same GPU. Default: all its vGPUs are this device model's. */
  readonly schedule?: SharedArrayBuffer;
  /**
   * Nanoseconds of processor time of the thread that executes, by which a vGPU pays while it shares an engine. Default: `now`; then one
   * whose thread the host suspends in its turn pays for what others ran.
   */
  readonly threadNs?: () => number;
  /**
   * Milliseconds between two context switches of an engine that its guest is told of, at most, while the guest queues batches faster than it
   * is told. Default 0: each is told at once, which is right where an interrupt costs the guest microseconds.
   */
  readonly switchPaceMs?: number;
  /** Gets what happens on the vGPUs. Absent: nothing is looked at for it. */
  readonly trace?: TraceLog;
  /** Memory for exported planes. Absent: planes cannot be exported. */
  readonly memories?: DeviceMemories;
  /** Told of guest mistakes, at a limited rate. */
  readonly onGuestError?: (vgpu: VgpuId, what: string) => void;
}

export interface VgpuSpec {
  /** Name in the type table, as `GVTg_V4_8`. */
  readonly type: string;
  /** What differs from the type. */
  readonly resources?: ExplicitResources;
  /**
   * What the vGPU has of the GPU, when a `ResourcePool` elsewhere divides it among several device models. Its sizes hold, not the
   * type's, and that pool is where it goes back to.
   */
  readonly share?: VgpuResources;
  readonly vmId: VmId;
  /** PCI function in the guest; default 00:02.0, where drivers expect it. */
  readonly bdf?: Bdf;
  /** False: the display engine is fused off, and the guest's driver only renders. Default: a monitor of the type's resolution. */
  readonly display?: boolean;
  /** What the monitor is connected by. Default: HDMI. */
  readonly connector?: Connector;
}

/** What a vGPU is made of. */
export interface Creation {
  readonly type: VgpuType;
  readonly resources: VgpuResources;
  readonly vmId: VmId;
  readonly bdf: Bdf;
  readonly display: boolean;
  readonly connector: Connector;
}

/** Where a saved vGPU is restored: everything else is in what was saved. */
export interface RestoreSpec {
  readonly vmId: VmId;
  /** Default: the PCI function that it had. */
  readonly bdf?: Bdf;
  /** Its share, when a `ResourcePool` elsewhere divides the GPU: the ranges that its guest knows. */
  readonly share?: VgpuResources;
}

/** Life cycle of vGPUs. Never emitted for a single access. */
export interface GvtEvents {
  created: (vgpu: Vgpu) => void;
  activated: (vgpu: Vgpu) => void;
  deactivated: (vgpu: Vgpu) => void;
  reset: (vgpu: Vgpu) => void;
  destroyed: (vgpu: Vgpu) => void;
  failsafe: (vgpu: Vgpu, reason: FailsafeReason) => void;
  /** An engine stopped at something that it cannot do; the guest's driver is to reset it. */
  hang: (vgpu: Vgpu, engine: EngineName, why: string) => void;
  /** The guest's driver reported its display (PVINFO display_ready). */
  'display-ready': (vgpu: Vgpu, ready: boolean) => void;
}

/** What the device model asks of its host: the host half of the table, and what a backend has besides. */
export interface GvtHost extends MptHostOps {
  readonly name: string;
  readonly capabilities: MptBackend['capabilities'];
  readonly state: MptBackend['state'];
  allocateHostPages(count: number): HostPages;
  presentVgpu(handle: MptVgpuOps, view: () => VfioDevice): void;
}
