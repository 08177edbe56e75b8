/**
 * One guest access, as every hypervisor delivers it: an exit of KVM_RUN, a Xen ioreq, an ACRN request slot, a
 * vfio-user message. The backend fills one object per vCPU and uses it again; nothing keeps a reference to it after
 * `complete()`.
 */
import { Bdf, VgpuId } from './addresses.js';

export const IoKind = {
  /** Port access; `address` is the port. */
  PIO: 0,
  /** Access to a guest-physical address that no RAM backs. */
  MMIO: 1,
  /** PCI configuration access; `bdf` names the function, `address` is the register, 0..4095. */
  PCI_CONFIG: 2,
  /** Write to a page under page track (level `trap`). The data is already in guest memory when it is reported. */
  WP: 3,
} as const;
export type IoKind = (typeof IoKind)[keyof typeof IoKind];

/** Names for logs and counters, indexed by `IoKind`. */
export const IO_KIND_NAMES = ['pio', 'mmio', 'pci', 'wp'] as const;

/**
 * A value of 1, 2, 4 or 8 bytes as two little-endian halves: `[0]` low, `[1]` high. Bytes beyond the access size are
 * zero on writes; handlers of reads may leave them dirty, the backend delivers only `size` bytes.
 */
export type AccessValue = Uint32Array;

export class IoRequest {
  kind: IoKind = IoKind.MMIO;
  write = false;
  /** Byte address: guest-physical (MMIO, WP), port (PIO) or register number (PCI_CONFIG). */
  address = 0;
  /** 1, 2, 4 or 8. */
  size = 4;
  readonly value: AccessValue = new Uint32Array(2);
  bdf: Bdf = Bdf(0);
  /** vCPU index that waits for completion. */
  vcpu = 0;
  /** vGPU that owns the address by trap area, page track or BDF; 0 when none does. */
  vgpu: VgpuId = VgpuId(0);
}

/** How a device thread receives accesses. One producer, one consumer, synchronous. */
export interface RequestSource {
  /**
   * Waits for the next access, at most `timeoutMs` (fractions allowed, default: for ever).
   * @returns the request, to be given to `complete()`, or undefined when the time ran out or a stop was asked.
   * @throws MptError GUEST_FAULT when the guest cannot go on, VM_GONE when the VM disappeared.
   */
  next(timeoutMs?: number): IoRequest | undefined;
  /** Finishes the access: a read's value is taken from `request.value`. The guest goes on. */
  complete(request: IoRequest): void;
  /** True once `stop()` was called. `next()` then returns undefined at once. */
  readonly stopped: boolean;
  /** Makes `next()` return. Callable on the device thread; other threads use the machine's `stopper`. */
  stop(): void;
}
