/**
 * scaffold: the numbers.
 *
 * Replace: ioctl and hypercall numbers, structure offsets, flags, each with the header and the line that it comes from. Nothing
 * else in the folder has a bare number.
 */

/**
 * First host frame that is given out. Host frames and DMA addresses are this backend's own numbers: the core only compares them and adds
 * offsets inside one mapping. They must differ from guest frames, and VMs must not share them.
 */
export const FIRST_FRAME = 0x10_0000;
/** Empty frames behind each RAM region, so that running past an end hits nothing; a multiple of 2 MiB keeps the alignment of large pages. */
export const GAP_FRAMES = 512;
