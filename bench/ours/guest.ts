/** The guest of the benchmarks: the KVM backend, one region of RAM and the agent, as the C programs have them. */
import { kvm } from '../../src/backends/kvm/index.js';
import { bdf, VgpuId } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import type { Machine } from '../../src/core/machine.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';
import type { MptHandle } from '../../src/core/mpt-handle.js';
import type { GuestAgent } from '../../src/guest/agent.js';

/** RAM_SIZE of bench/baseline/vm.h. */
export const RAM_SIZE = 0x100_0000;
/** BAR of bench/baseline/exits.c. */
export const BAR = 0xc000_0000;
/** BAR + REGISTER of the same: plain storage in the device model, as most registers are. */
export const REGISTER_GPA = BAR + 0x4_f100;
/** TRACKED of the same. */
export const TRACKED = 0x2_0000;
/** Where the guest finds the vGPU. */
export const BDF = bdf(0, 2, 0);

/** A guest whose accesses are answered. */
export interface Scene {
  readonly agent: GuestAgent;
  /** Accesses that reached the device so far. */
  reported(): number;
}

export function openMachine(): { backend: MptBackend; machine: Machine } {
  const backend = kvm.open();
  return { backend, machine: backend.createMachine({ ram: [{ gpa: 0, size: RAM_SIZE }] }) };
}

/** A VM with a vGPU attached and no device model. */
export function openHandle(): { machine: Machine; handle: MptHandle } {
  const { backend, machine } = openMachine();
  backend.hostInit(NULL_GVT_OPS);
  return { machine, handle: backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: BDF }) };
}
