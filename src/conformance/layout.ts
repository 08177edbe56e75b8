/**
 * The guest-physical layout of the suite's machines. It has everything that a copy, a mapping or a tracked page can get
 * wrong: two regions that touch, a hole, a region behind the hole, a region above 4 GiB.
 */
import { bdf, HUGE_PAGE_SIZE, PAGE_SIZE } from '../core/addresses.js';
import type { RamRegion } from '../core/guest-ram.js';

const MIB = 0x10_0000;

/** 0 to 4 MiB: holds the agent. */
export const RAM_LOW: RamRegion = { gpa: 0, size: 4 * MIB };
/** 4 to 16 MiB: touches RAM_LOW, but is a region of its own. */
export const RAM_NEXT: RamRegion = { gpa: 4 * MIB, size: 12 * MIB };
/** 32 to 36 MiB: behind the hole. */
export const RAM_ISLAND: RamRegion = { gpa: 32 * MIB, size: 4 * MIB };
/** 2 MiB at 4 GiB: addresses that a 32-bit calculation truncates. */
export const RAM_HIGH: RamRegion = { gpa: 2 ** 32, size: HUGE_PAGE_SIZE };
/** RAM of every machine that the suite creates, unless the case says otherwise. */
export const RAM_LAYOUT: readonly RamRegion[] = [RAM_LOW, RAM_NEXT, RAM_ISLAND, RAM_HIGH];

/** 16 to 32 MiB: no RAM. Trap areas and direct mappings of the cases go here. */
export const HOLE: RamRegion = { gpa: 16 * MIB, size: 16 * MIB };

/** Last byte of a region. */
export const lastByte = ({ gpa, size }: RamRegion): number => gpa + size - 1;
/** First frame of a region. */
export const firstFrame = ({ gpa }: RamRegion): number => gpa / PAGE_SIZE;
/** Last frame of a region. */
export const lastFrame = ({ gpa, size }: RamRegion): number => (gpa + size) / PAGE_SIZE - 1;

/** The regions by name, so that a boundary becomes a named case. */
export const NAMED_REGIONS: readonly (readonly [string, RamRegion])[] = [
  ['low', RAM_LOW],
  ['next', RAM_NEXT],
  ['island', RAM_ISLAND],
  ['high', RAM_HIGH],
];

/** Guest RAM that no case but the running one uses: 1 MiB, above the agent, with free frames on both sides. */
export const SCRATCH = MIB;
export const SCRATCH_FRAME = SCRATCH / PAGE_SIZE;

/** Where the vGPU of a case stands: 00:02.0, as on real hardware. */
export const VGPU_BDF = bdf(0, 2, 0);
/** A second vGPU in the same VM. */
export const SECOND_BDF = bdf(0, 3, 0);

/** A port that neither the agent nor a PC's interrupt controllers use. */
export const FREE_PORT = 0xa00;

/** A message to local APIC 0, physical destination, fixed delivery, edge. The data's low byte is the vector. */
export const MSI_ADDRESS = 0xfee0_0000;
