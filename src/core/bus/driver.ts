/**
 * The two interfaces that drivers register with the vGPU bus, after the vGPU core design that became mdev: drivers of physical GPUs, which
 * divide them, and access drivers, which let a VM reach a vGPU. The bus between them knows who exists and what may be done with it.
 *
 * A vGPU's device runs elsewhere, on a thread of its own, and only while somebody uses it. What concerns the record (create,
 * destroy, resources) is therefore synchronous, and what concerns the running device answers with a promise.
 */

import type { ViewDescription } from '../vfio/description.js';
import type { Errno } from '../vfio/device.js';
import type { IrqSetRequest } from '../vfio/irqs.js';
import type { SettingSpec, SettingValue } from './settings.js';
import type { Vgpu } from './vgpu.js';

/** Where an access goes: the configuration space, or what a BAR decodes. */
export const ADDRESS_SPACES = ['config', 'bar0', 'bar1', 'bar2', 'bar3', 'bar4', 'bar5'] as const;
export type AddressSpace = (typeof ADDRESS_SPACES)[number];

/** One supported configuration of a GPU: a vGPU type. */
export interface VgpuConfiguration {
  /** Without the driver's name: `GVTg_V4_8`. Its directory is `i915-GVTg_V4_8`. */
  readonly name: string;
  /** Lines for people. */
  readonly description: string;
  readonly deviceApi: 'vfio-pci';
  /** A vGPU of this type must be in a group before it goes online. */
  readonly requiresGroup: boolean;
  /** Share of engine time of a vGPU that is given no other. */
  readonly weight: number;
  /** What a VFIO user will find, without a vGPU. */
  readonly view: () => ViewDescription;
}

/** What a vGPU is made of. */
export interface VgpuRequest {
  readonly configuration: VgpuConfiguration;
  /** By the names of the driver's `settings`; what is missing has its default. */
  readonly settings: ReadonlyMap<string, SettingValue>;
}

export interface GpuDriver {
  /** The driver's string, with which the names of its types begin: `i915`. */
  readonly name: string;
  /** The physical GPU's name: `0000:00:02.0`. One path component. */
  readonly gpu: string;
  readonly configurations: readonly VgpuConfiguration[];
  /** A vGPU may be removed while a VM uses it: the VM sees the device go. */
  readonly hotUnplug: boolean;
  /** Vendor-specific resources that a vGPU may be given other than its type's. */
  readonly settings: readonly SettingSpec[];
  /** How many more vGPUs of the configuration there can be. */
  available(configuration: VgpuConfiguration): number;
  /** Takes what the vGPU needs of the GPU. @throws MptError NO_SPACE, LIMIT, INVALID_ARGUMENT; nothing is kept then */
  create(request: VgpuRequest): VgpuOps;
}

/** The device operations of one vGPU. */
export interface VgpuOps {
  /** The GPU's number for it, from 1: `vgpu_id`. */
  readonly id: number;
  /** What it got, for people and programs: MiB, counts. */
  readonly resources: Readonly<Record<string, number | string>>;
  /** Gives back what it took. It is shut down. Never throws. */
  destroy(): void;
  /**
   * Lets the device run.
   * @param attachment what the access driver that serves it needs there
   * @throws MptError when it cannot
   */
  start(attachment: unknown): RunningVgpu;
  /** Tells the GPU's schedule; a device that runs learns of it. */
  setWeight?(weight: number): void;
  readonly extensions: VgpuExtensions;
}

/** A vGPU's device while it runs. */
export interface RunningVgpu {
  /** Resolves when the device is gone, with the reason in one clause. Never rejects. */
  readonly ended: Promise<string>;
  /** Whoever used it has gone, and it will end by itself in a moment: nobody is in the way of a removal any more. */
  abandoned?(): boolean;
  /** Ends it. Resolves when nothing of it runs any more; never rejects. */
  shutdown(): Promise<void>;
  read(space: AddressSpace, offset: number, bytes: Uint8Array): Promise<Errno>;
  write(space: AddressSpace, offset: number, bytes: Uint8Array): Promise<Errno>;
  /** Without events: those are the client's. */
  setIrqs(request: Omit<IrqSetRequest, 'events'>): Promise<Errno>;
  reset(): Promise<Errno>;
  /** Nice value of the thread that it runs on, -20..19. @throws MptError when the system refuses */
  setPriority?(priority: number): void;
}

/** What a driver may have beyond the operations. Absent: its attribute does not exist. */
export interface VgpuExtensions {
  /** Which vGPU of a GPU the GPU's own display shows. */
  readonly foreground?: boolean;
  /** Counters since creation. Cheap: read at each look. */
  readonly statistics?: () => Readonly<Record<string, number>>;
  /** Attributes of the vendor's group: `intel_vgpu/vgpu_id`. */
  readonly vendor?: { readonly group: string; readonly attributes: Readonly<Record<string, string>> };
}

/** Makes vGPUs reachable: the vfio-user server is one. */
export interface AccessDriver {
  readonly name: string;
  /** The vGPU goes online. @throws MptError when it cannot be made reachable; it stays offline then */
  probe(vgpu: Vgpu): void;
  /** It goes offline. Nobody uses it. Never throws. */
  remove(vgpu: Vgpu): void;
  /** Where a VM finds it, for `show`; undefined while it is offline. */
  address(vgpu: Vgpu): string | undefined;
}
