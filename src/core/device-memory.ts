/**
 * Memory that a device shows its guest and its viewers: the role that a composition root injects, since core does no I/O.
 * `native/device-memory.ts` has it on memfd; tests use plain arrays.
 */

/** A device's memory: the bytes, and the file behind them that a client may map. */
export interface DeviceMemory {
  /** Zero at first; a multiple of 8 bytes, 8-byte aligned. Empty after `close()`. */
  readonly bytes: Uint8Array;
  /** Descriptor of the file, which no one can make shorter or longer; stays the memory's. -1 where there is none. */
  readonly fd: number;
  /** Gives it up, once. Mappings that others have stay. */
  close(): void;
}

export interface DeviceMemories {
  /**
   * @param size bytes, a multiple of 4096
   * @param name for messages and /proc
   * @throws MptError NO_MEMORY, LIMIT or HYPERVISOR, and then nothing is kept
   */
  allocate(size: number, name: string): DeviceMemory;
  /**
   * A descriptor of part of a memory, for another process: a dmabuf, or what stands for it on this machine.
   * @param offset bytes, a multiple of 4096
   * @param size bytes, more than 0; is rounded up to whole pages, which lie inside the memory
   * @returns the descriptor, the caller's, or a negative errno
   */
  exportPlane(memory: DeviceMemory, offset: number, size: number): number;
}
