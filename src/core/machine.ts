/** A VM that this process creates itself, where the hypervisor lets it: for `mpt run`, the suite, tests and benchmarks. */
import type { Gpa, VmId } from './addresses.js';
import { MptError } from './errors.js';
import type { RamRegion } from './guest-ram.js';
import type { RequestSource } from './io-request.js';

export interface MachineSpec {
  /** Guest RAM, any order, disjoint, 4 KiB aligned. The first region starts at 0 when an image is to run. */
  readonly ram: readonly RamRegion[];
}

/** How a VM that exists already is taken up. */
export interface OpenMachineSpec {
  /** Ports, first and last, that are delivered to this machine although no vGPU owns them. */
  readonly ports?: readonly (readonly [first: number, last: number])[];
}

/**
 * What another thread needs to stop a device thread that blocks in the hypervisor: structured-cloneable. Set the flag
 * with `Atomics.store(new Int32Array(flag), 0, 1)`, then signal the thread (`native/thread.ts`). Valid while the machine is
 * open: later the signal is no longer blocked in that thread.
 */
export interface StopToken {
  readonly flag: SharedArrayBuffer;
  /** Kernel thread id to signal; 0 when the flag alone is enough. */
  readonly tid: number;
  /** Process id of that thread. */
  readonly pid: number;
}

export interface Machine {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
  readonly requests: RequestSource;
  readonly stopToken: StopToken;
  /**
   * Copies `image` to `gpa` (16-byte aligned, below 1 MiB, inside RAM) and makes vCPU 0 ready to execute its first
   * byte in real mode with CS = gpa >> 4, IP = 0. The guest runs inside `requests.next()`; where the hypervisor schedules
   * it beside this process (Xen, ACRN) it also runs between two of them, from the first one on.
   */
  boot(gpa: Gpa, image: Uint8Array): void;
  /** Exits counted since creation by kind, for reports. Keys are the backend's own names (`mmio`, `pio`, `intr`, …). */
  exitCounts(): Readonly<Record<string, number>>;
  /** Destroys the VM, or lets go of one that existed before. Attached vGPUs answer VM_GONE from now on. Idempotent. */
  close(): void;
}

const BOOT_LIMIT = 0x10_0000;

/** For a backend's `boot`. @throws MptError INVALID_ADDRESS unless real mode reaches the image: 16-byte aligned, below 1 MiB */
export function checkBootImage(gpa: Gpa, image: Uint8Array): void {
  if (!Number.isInteger(gpa) || gpa < 0 || gpa % 16 !== 0 || gpa + image.length > BOOT_LIMIT)
    throw new MptError('INVALID_ADDRESS', 'a boot image is 16-byte aligned and ends below 1 MiB', {
      op: 'boot',
      address: gpa,
      size: image.length,
    });
}
