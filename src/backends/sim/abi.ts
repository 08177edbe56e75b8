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

/** Messages that a handle keeps for inspection; older ones are dropped. */
export const MSI_LOG_MAX = 1024;
