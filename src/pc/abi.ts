/** Numbers of the interpreted PC. */

/** Local APIC page (Intel SDM volume 3, "Local APIC Registers": default base). */
export const LAPIC_BASE = 0xfee0_0000;

/** Guest instructions between two looks at the clock and the stop flag: a few ten microseconds. */
export const INSTRUCTIONS_PER_CHECK = 4096;
/** Longest sleep of a halted vCPU between two looks at the stop flag. */
export const HALT_SLICE_MS = 1;
