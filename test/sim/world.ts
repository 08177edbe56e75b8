/** What the tests of the simulation start from. */
import { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Bdf, NULL_GVT_OPS, VgpuId } from '../../src/core/mpt.js';

export const MIB = 0x10_0000;
const HIGH = 2 ** 40;
export const RAM = [
  { gpa: HIGH, size: MIB },
  { gpa: 0, size: MIB },
  { gpa: 4 * MIB, size: 4 * MIB },
];

/** An EDID block that is nothing but valid. */
export function edid(): Uint8Array {
  const bytes = new Uint8Array(128).fill(2);
  bytes[127] = (256 - ((127 * 2) % 256)) % 256;
  return bytes;
}

let lastVgpu = 0;
/** Attaches a vGPU with a number and a PCI address that no other has. */
export function attach(backend: SimBackend, vm: SimMachine): SimHandle {
  const pvmmio = { registerFile: backend.allocateHostPages(512), sharedPage: backend.allocateHostPages(1) };
  return backend.attachVgpu({ id: VgpuId(++lastVgpu), vmId: vm.vmId, bdf: Bdf(0x10 + lastVgpu), pvmmio }) as SimHandle;
}

/** A backend with one VM and one vGPU. */
export function open(options: ConstructorParameters<typeof SimBackend>[0] = {}): {
  backend: SimBackend;
  vm: SimMachine;
  handle: SimHandle;
} {
  const backend = new SimBackend(options);
  backend.hostInit(NULL_GVT_OPS);
  const vm = backend.createMachine({ ram: RAM }) as SimMachine;
  return { backend, vm, handle: attach(backend, vm) };
}
