/** Numbers of the vfio-user backend; those of the protocol are in src/vfio/protocol.ts. */

/** Frames under page track of one vGPU at once: each keeps a copy of its page. */
export const TRACKED_PAGES_MAX = 16_384;

/**
 * Frame numbers and DMA addresses: each VM has a window of 2^34 frames (64 TiB), and in it the frame has its guest number. Frames beyond
 * are refused. Numbers of VMs come back after 63 of them: what a vGPU may reach is decided by its own maps, not by the number.
 */
export const VM_FRAMES = 2 ** 34;
const VM_NUMBERS = 63;
/** First frame number of a VM's window; not 0, so that no frame has the guest's number. */
export const firstFrameOf = (vmId: number): number => ((vmId % VM_NUMBERS) + 1) * VM_FRAMES;

/** PCI capability list and the MSI capability (PCI Local Bus Specification 3.0, 6.7 and 6.8). */
export const PCI = {
  COMMAND: 0x04,
  COMMAND_MEMORY: 0x2,
  STATUS: 0x06,
  STATUS_CAPABILITIES: 0x10,
  BAR0: 0x10,
  BAR_END: 0x28,
  CAPABILITIES: 0x34,
  MSI: 5,
  MSI_ENABLE: 1,
  MSI_64: 0x80,
} as const;

/** BAR0 of a function whose vGPU has no view of its own: a test double. */
export const PLAIN_BAR_SIZE = 0x10_0000;
