/**
 * The mediated pass-through (MPT) interface: the only way down from the device model to a hypervisor.
 *
 * `MPT_OPERATIONS` is the table that GVT-g's cores called through (`struct intel_gvt_mpt`): the 17 operations of
 * AcrnGT's table and the six that upstream added later. Here they are methods of two objects: `MptBackend` for what
 * concerns the host, `MptHandle` for what concerns one attached vGPU (the table's `handle` argument). The device model
 * takes the small role that it needs (`GuestMemory`, `InterruptSender`, …), never the whole backend.
 */

import type { Bdf, DmaAddress, Gfn, Gpa, Hva, Mfn, VgpuId, VmId } from './addresses.js';
import type { Capability } from './capabilities.js';
import type { DmaBlock } from './dma-block.js';
import type { GvtOps } from './gvt-ops.js';

export * from './addresses.js';
export * from './capabilities.js';
export * from './errors.js';
export * from './gvt-ops.js';
export * from './io-request.js';

export interface MptOperation {
  /** Name in GVT-g's table; also `MptError.op`. */
  readonly name: string;
  /** Method here. */
  readonly method: string;
  /** Object that has the method. */
  readonly on: 'backend' | 'handle';
  /** Part of AcrnGT's 17, or later upstream addition. */
  readonly table: 'acrn' | 'later';
  /** Capability that must be declared; none for what every backend has. */
  readonly capability?: Capability;
}

/** The table, in the order of the ACRN document, then the later six. */
export const MPT_OPERATIONS = [
  { name: 'host_init', method: 'hostInit', on: 'backend', table: 'acrn' },
  { name: 'host_exit', method: 'hostExit', on: 'backend', table: 'acrn' },
  { name: 'attach_vgpu', method: 'attachVgpu', on: 'backend', table: 'acrn' },
  { name: 'detach_vgpu', method: 'detachVgpu', on: 'handle', table: 'acrn' },
  { name: 'inject_msi', method: 'injectMsi', on: 'handle', table: 'acrn' },
  { name: 'from_virt_to_mfn', method: 'fromVirtToMfn', on: 'backend', table: 'acrn' },
  { name: 'enable_page_track', method: 'enablePageTrack', on: 'handle', table: 'acrn', capability: 'pageTrack' },
  { name: 'disable_page_track', method: 'disablePageTrack', on: 'handle', table: 'acrn', capability: 'pageTrack' },
  { name: 'read_gpa', method: 'readGpa', on: 'handle', table: 'acrn' },
  { name: 'write_gpa', method: 'writeGpa', on: 'handle', table: 'acrn' },
  { name: 'gfn_to_mfn', method: 'gfnToMfn', on: 'handle', table: 'acrn' },
  { name: 'map_gfn_to_mfn', method: 'mapGfnToMfn', on: 'handle', table: 'acrn', capability: 'mapGfnToMfn' },
  { name: 'dma_map_guest_page', method: 'dmaMapGuestPage', on: 'handle', table: 'acrn' },
  { name: 'dma_unmap_guest_page', method: 'dmaUnmapGuestPage', on: 'handle', table: 'acrn' },
  { name: 'set_trap_area', method: 'setTrapArea', on: 'handle', table: 'acrn', capability: 'setTrapArea' },
  { name: 'set_pvmmio', method: 'setPvmmio', on: 'handle', table: 'acrn', capability: 'setPvmmio' },
  { name: 'dom0_ready', method: 'dom0Ready', on: 'backend', table: 'acrn', capability: 'dom0Ready' },
  { name: 'set_opregion', method: 'setOpregion', on: 'handle', table: 'later', capability: 'setOpregion' },
  { name: 'set_edid', method: 'setEdid', on: 'handle', table: 'later', capability: 'setEdid' },
  { name: 'get_vfio_device', method: 'getVfioDevice', on: 'handle', table: 'later', capability: 'vfioDevice' },
  { name: 'put_vfio_device', method: 'putVfioDevice', on: 'handle', table: 'later', capability: 'vfioDevice' },
  { name: 'is_valid_gfn', method: 'isValidGfn', on: 'handle', table: 'later', capability: 'isValidGfn' },
  { name: 'dma_pin_guest_page', method: 'dmaPinGuestPage', on: 'handle', table: 'later', capability: 'dmaPin' },
] as const satisfies readonly MptOperation[];

export type MptOperationName = (typeof MPT_OPERATIONS)[number]['name'];

/** Index of each operation in `MPT_OPERATIONS` and in call counters. */
export const OP_INDEX = Object.fromEntries(MPT_OPERATIONS.map((op, index) => [op.name, index])) as Readonly<
  Record<MptOperationName, number>
>;

/** What a backend learns of a vGPU when it is attached. */
export interface VgpuAttachment {
  readonly id: VgpuId;
  readonly vmId: VmId;
  /** PCI function at which the guest finds the vGPU; its configuration accesses are delivered to it. */
  readonly bdf: Bdf;
  /** Pages that set_pvmmio maps into the guest; needed only for a backend that has it. */
  readonly pvmmio?: { readonly registerFile: HostPages; readonly sharedPage: HostPages };
}

/** Host memory that the guest can be given by map_gfn_to_mfn. */
export interface HostPages {
  readonly mfn: Mfn;
  readonly hva: Hva;
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Gives the pages back. @throws MptError BUSY while any of them is mapped into a guest. */
  release(): void;
}

/** Copying guest memory. Bounds are checked; nothing is copied when any byte is not RAM. */
export interface GuestMemory {
  /**
   * read_gpa: copies `length` guest bytes from `gpa` to `target[offset..]`.
   * @throws MptError INVALID_ADDRESS, INVALID_ARGUMENT (zero length, target too small), NOT_RAM, VM_GONE, DETACHED
   */
  readGpa(gpa: Gpa, target: Uint8Array, offset?: number, length?: number): void;
  /** write_gpa: the other direction, same errors. An aligned write of 1, 2, 4 or 8 bytes is one store. */
  writeGpa(gpa: Gpa, source: Uint8Array, offset?: number, length?: number): void;
  /** is_valid_gfn: the frame is guest RAM. Never throws for a number. */
  isValidGfn(gfn: Gfn): boolean;
}

export interface InterruptSender {
  /**
   * inject_msi: delivers the message that the guest programmed.
   * @param address low address dword, 0xfee00000-0xfeefffff
   * @param data 16 bits; in the fixed and lowest-priority delivery modes the vector is 16 or more
   * @throws MptError BAD_MSI, HYPERVISOR, VM_GONE, DETACHED
   */
  injectMsi(address: number, data: number): void;
}

export interface PageTracker {
  /** enable_page_track: from now on guest writes to the frame are reported. Idempotent. @throws MptError NOT_RAM, LIMIT */
  enablePageTrack(gfn: Gfn): void;
  /** disable_page_track. Idempotent; a frame that is not tracked is no error. */
  disablePageTrack(gfn: Gfn): void;
  /**
   * Level `sync`: calls `GvtOps.pageWritten` once for each tracked frame that the guest wrote since the last call.
   * Level `trap`: nothing to do, answers 0.
   * @returns how many frames were reported
   */
  syncPageTrack(): number;
}

export interface TrapRegistry {
  /**
   * set_trap_area: delivers (map) or no longer delivers (unmap) guest accesses to [start, end], `end` inclusive.
   * @throws MptError OVERLAP with another area or with RAM, NOT_MAPPED when unmapping what is not registered exactly
   */
  setTrapArea(start: Gpa, end: Gpa, map: boolean): void;
}

/** Memory that the GPU reaches by DMA address. What is not mapped is refused: a forged entry reaches nothing. */
export interface DmaSpace {
  /** The bytes of a mapped range, live. The range lies inside one mapping. @throws MptError NOT_MAPPED */
  view(address: DmaAddress, length: number): Uint8Array;
  /** Copies out of a mapped range: for structures that must be read once. @throws MptError NOT_MAPPED */
  copyFrom(address: DmaAddress, target: Uint8Array, offset: number, length: number): void;
  /**
   * The piece of memory that a mapped page lies in, for a device that reaches many pages: one view where `view` would make one for each. Only
   * what is mapped of it is to be touched. Undefined, or not there: on this hypervisor pages do not lie in pieces. @throws MptError NOT_MAPPED
   */
  block?(address: DmaAddress): DmaBlock | undefined;
}

export interface DmaMapper extends DmaSpace {
  /**
   * dma_map_guest_page: pins guest memory and returns the address the GPU uses. Reference-counted per frame: the same
   * frame gives the same address; each map needs its unmap.
   * @param size 4096, or 2 MiB (gfn 2 MiB-aligned) with capability dmaHugePage. Asking a larger size of a mapped frame
   *   grows the mapping; it stays large until the last reference goes.
   * @throws MptError NOT_RAM, LIMIT (pinned pages), INVALID_ARGUMENT, UNSUPPORTED
   */
  dmaMapGuestPage(gfn: Gfn, size: number): DmaAddress;
  /** dma_unmap_guest_page: drops one reference; at zero the address is dead. @throws MptError NOT_MAPPED */
  dmaUnmapGuestPage(address: DmaAddress): void;
  /** dma_pin_guest_page: one more reference on a mapped address. @throws MptError NOT_MAPPED */
  dmaPinGuestPage(address: DmaAddress): void;
}

/** Direct mappings of host memory into the guest. */
export interface FrameMapper {
  /** gfn_to_mfn: host frame behind a guest frame. @throws MptError NOT_RAM */
  gfnToMfn(gfn: Gfn): Mfn;
  /**
   * map_gfn_to_mfn: maps (or removes) `nr` frames of host memory at `gfn`. All or nothing. Unmapping names exactly
   * what one call mapped.
   * @throws MptError OVERLAP, NOT_MAPPED, INVALID_ARGUMENT (nr < 1), NO_MEMORY, LIMIT
   */
  mapGfnToMfn(gfn: Gfn, mfn: Mfn, nr: number, map: boolean): void;
}

/** Everything that can be asked of an attached vGPU's hypervisor: the per-handle half of the table. */
export interface MptVgpuOps extends GuestMemory, InterruptSender, PageTracker, TrapRegistry, DmaMapper, FrameMapper {
  /** detach_vgpu: undoes everything this handle set up, then the handle is dead. */
  detachVgpu(): void;
  /** set_pvmmio (ACRN): register file readable without exit at [start, end], PVINFO keeps trapping. */
  setPvmmio(start: Gpa, end: Gpa, map: boolean): void;
  /** set_opregion: makes the two OpRegion pages known to the guest side. */
  setOpregion(pages: HostPages): void;
  /** set_edid: offers the EDID of `port` for replacement at run time. */
  setEdid(port: number, edid: Uint8Array): void;
  /** get_vfio_device: takes a reference on the VFIO device that presents this vGPU. */
  getVfioDevice(): void;
  /** put_vfio_device: drops it. @throws MptError NOT_MAPPED without a reference */
  putVfioDevice(): void;
}

/** The host half of the table. */
export interface MptHostOps {
  /** host_init: binds backend and core. @throws MptError ALREADY_INITIALIZED */
  hostInit(ops: GvtOps): void;
  /** host_exit: the reverse. @throws MptError BUSY while a vGPU is attached, NOT_INITIALIZED */
  hostExit(): void;
  /** attach_vgpu. @throws MptError NOT_INITIALIZED, VM_NOT_FOUND, ALREADY_ATTACHED */
  attachVgpu(vgpu: VgpuAttachment): MptVgpuOps;
  /** from_virt_to_mfn: frame of a host virtual address. @throws MptError INVALID_ADDRESS */
  fromVirtToMfn(hva: Hva): Mfn;
  /** dom0_ready (ACRN): tells the service VM that the display is up. */
  dom0Ready(): void;
}
