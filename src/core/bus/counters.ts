/** What every served device counts, in this order, since its vGPU was created. */
export const DEVICE_COUNTERS = ['clients', 'reads', 'writes', 'bytes_read', 'bytes_written', 'resets'] as const;
export const Counter = { CLIENTS: 0, READS: 1, WRITES: 2, BYTES_READ: 3, BYTES_WRITTEN: 4, RESETS: 5 } as const;
