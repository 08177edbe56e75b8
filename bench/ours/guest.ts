/** The guest of the benchmarks: the backend, one region of RAM and the agent, as the C programs have them. */
import type { BackendModule } from '../../src/backends/module.js';
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

async function acrnBy(abi: 'hsm' | 'vhm'): Promise<BackendModule> {
  const { acrn } = await import('../../src/backends/acrn/index.js');
  return { ...acrn, open: () => acrn.open({ abi }) };
}

/** Loaded one by one: a cold start must not pay for the others. */
const BACKENDS: Readonly<Record<string, () => Promise<BackendModule>>> = {
  kvm: async () => (await import('../../src/backends/kvm/index.js')).kvm,
  'acrn-hsm': () => acrnBy('hsm'),
  'acrn-vhm': () => acrnBy('vhm'),
  sim: async () => (await import('../../src/backends/sim/index.js')).sim,
  xen: async () => (await import('../../src/backends/xen/index.js')).xen,
};

let chosen: BackendModule | undefined;
const opened: MptBackend[] = [];

/** Names the backend of everything that is opened here. */
export async function chooseBackend(name: string): Promise<void> {
  chosen = await BACKENDS[name]?.();
  if (chosen === undefined) throw new Error(`no backend is called '${name}'`);
}

export function openBackend(): MptBackend {
  const backend = (chosen as BackendModule).open();
  opened.push(backend);
  return backend;
}

/** What a hypervisor keeps beyond this process goes now. */
export function closeBackends(): void {
  for (const backend of opened) backend.close();
}

/** @param ram bytes, from 0 on */
export function openMachine(ram = RAM_SIZE): { backend: MptBackend; machine: Machine } {
  const backend = openBackend();
  return { backend, machine: backend.createMachine({ ram: [{ gpa: 0, size: ram }] }) };
}

/** A VM with a vGPU attached and no device model. */
export function openHandle(): { machine: Machine; handle: MptHandle } {
  const { backend, machine } = openMachine();
  backend.hostInit(NULL_GVT_OPS);
  return { machine, handle: backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: BDF }) };
}
