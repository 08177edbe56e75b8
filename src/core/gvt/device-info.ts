/**
 * The device that every vGPU is: a Broadwell GT2 as GVT-g presents it (facts: gvt.md 4.1, 8.3, 8.8), and the bounds of
 * the physical GPU that is divided.
 */
import { bdf, PAGE_SIZE } from '../addresses.js';
import { MptError } from '../errors.js';

export const MIB = 0x10_0000;
export const GIB = 0x4000_0000;

/** PCI identity (PCI Local Bus Specification 3.0, 6.2.1). */
export const PCI_IDENTITY = {
  vendor: 0x8086,
  /** Broadwell GT2 ULT: the part with the fewest demands on its driver's probe (facts: gvt.md 8.7). */
  device: 0x1616,
  revision: 9,
  /** Base class 3, sub-class 0, interface 0: VGA-compatible display controller. */
  classCode: 0x03_0000,
  subsystemVendor: 0x8086,
  subsystem: 0x2212,
} as const;

/** Where drivers expect the integrated GPU: 00:02.0. */
export const DEFAULT_BDF = bdf(0, 2, 0);

/** Bytes of BAR0: registers 0-2 MiB, nothing 2-8 MiB, GGTT entries 8-16 MiB. */
export const BAR0_SIZE = 16 * MIB;
/** Bytes of the register file at the start of BAR0. */
export const REGISTER_FILE_SIZE = 2 * MIB;
/** Byte offset of the GGTT's entries in BAR0. */
export const GGTT_OFFSET = 8 * MIB;
/** Bytes of one GGTT entry. */
export const GGTT_ENTRY_SIZE = 8;
/** vGPU ids are 1..7; 0 is nobody's. */
export const MAX_VGPUS = 7;
/** Fence registers of the hardware. */
export const MAX_FENCES = 32;
/** Engines that a vGPU has, as a mask of `EngineId` bits: RCS, BCS, VCS, VECS. */
export const ALL_ENGINES = 0xf;

/** What the host keeps for itself before vGPUs get anything (facts: gvt.md 4.2). */
export const HOST_RESERVE = { aperture: 128 * MIB, hidden: 384 * MIB, fences: 4 } as const;

/** The physical GPU's divisible parts. */
export interface GpuSize {
  /** Bytes of the aperture, which is BAR2's size for each guest; a power of two from 128 MiB to 1 GiB. */
  readonly aperture: number;
  /** Bytes that the GGTT maps: 1, 2 or 4 GiB, above the aperture. The part above it is the hidden memory. */
  readonly ggtt: number;
  /** Fence registers, 4..32. */
  readonly fences: number;
  /** Generation, which names the types: 8 (default) has GVTg_V4_n, 9 has GVTg_V5_n. */
  readonly generation?: Generation;
}

/** Generations of GPUs whose division is known. A vGPU's registers are those of generation 8. */
export const GENERATIONS = [8, 9] as const;
export type Generation = (typeof GENERATIONS)[number];

export const DEFAULT_GPU = { aperture: 512 * MIB, ggtt: 4 * GIB, fences: MAX_FENCES, generation: 8 } as const satisfies GpuSize;

/** GMCH control bits 7:6 by GGTT size (facts: gvt.md 8.3): 2, 4 or 8 MiB of entries. */
export const GMCH_GGTT_SIZE: ReadonlyMap<number, number> = new Map([
  [1 * GIB, 1 << 6],
  [2 * GIB, 2 << 6],
  [4 * GIB, 3 << 6],
]);

/** @throws MptError INVALID_ARGUMENT when such a GPU cannot be presented */
export function checkGpuSize(gpu: GpuSize): Required<GpuSize> {
  const { aperture, ggtt, fences, generation = DEFAULT_GPU.generation } = gpu;
  const refuse = (what: string, size: number, limit: number): MptError =>
    new MptError('INVALID_ARGUMENT', what, { op: 'create_gpu', size, limit });
  if (!Number.isInteger(aperture) || aperture < HOST_RESERVE.aperture || aperture > GIB || !Number.isInteger(Math.log2(aperture)))
    throw refuse('the aperture is not a power of two from 128 MiB to 1 GiB', aperture, GIB);
  if (!GMCH_GGTT_SIZE.has(ggtt) || ggtt <= aperture) throw refuse('the GGTT is not 1, 2 or 4 GiB and above the aperture', ggtt, 4 * GIB);
  if (!Number.isInteger(fences) || fences < HOST_RESERVE.fences || fences > MAX_FENCES)
    throw refuse('the number of fences is not in 4..32', fences, MAX_FENCES);
  if (!GENERATIONS.includes(generation)) throw refuse('the generation is not 8 or 9', generation, 9);
  return { aperture, ggtt, fences, generation };
}

/** @throws MptError UNSUPPORTED for a GPU that can be divided but has other registers than a vGPU here */
export function checkModelled(gpu: Required<GpuSize>): Required<GpuSize> {
  if (gpu.generation === DEFAULT_GPU.generation) return gpu;
  throw new MptError('UNSUPPORTED', `the device model has no registers of generation ${gpu.generation}`, {
    op: 'create_gpu',
    hint: `take generation ${DEFAULT_GPU.generation}`,
  });
}

/** GGTT entries of the GPU. */
export const ggttEntries = (gpu: GpuSize): number => gpu.ggtt / PAGE_SIZE;
