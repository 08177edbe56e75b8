/** Numbers of the simulated machine: what other backends take from a hypervisor's headers is decided here. */

/**
 * Where host memory lies in the simulated machine address space, in bytes. Every block (a RAM region, a set of host
 * pages) gets addresses of its own that are never given out again, so that a stale or forged address hits nothing.
 */
export const MACHINE_BASE = 2 ** 36;
/** First machine address that is never given out; host virtual addresses start there. */
export const MACHINE_LIMIT = 2 ** 51;
/** `hva = machine address + HVA_OFFSET`. */
export const HVA_OFFSET = MACHINE_LIMIT;

/** pvmmio layout in BAR0 (facts: gvt.md 1.3 #16 and 5.5): register file, PVINFO page inside it, shared page after it. */
export const PVMMIO = {
  registerFileSize: 0x20_0000,
  pvinfoOffset: 0x7_8000,
  sharedPageOffset: 0x20_0000,
} as const;

/** Messages that a handle keeps for inspection; older ones are dropped. */
export const MSI_LOG_MAX = 1024;
