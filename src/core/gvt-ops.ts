/**
 * What the device model offers to a backend: the `intel_gvt_ops` table (facts: gvt.h of Linux 4.19 and 5.15). A
 * backend receives it in `hostInit` and never sees more of the core.
 *
 * Handlers never throw. They answer a status of Linux's errno convention because that is what the hypervisors'
 * emulation threads act on: anything but OK puts the vGPU in failsafe or is logged; the guest's access completes in
 * either case.
 */
import type { Gfn, Gpa, VgpuId } from './addresses.js';
import type { AccessValue } from './io-request.js';

export const Status = { OK: 0, ENXIO: -6, EFAULT: -14, ENODEV: -19, EINVAL: -22, ENOSPC: -28, EBADRQC: -56 } as const;
export type Status = (typeof Status)[keyof typeof Status];

export interface GvtOps {
  /** cfg read of 1, 2 or 4 bytes at `offset`; EINVAL for other sizes or past 4096. */
  emulateCfgRead(vgpu: VgpuId, offset: number, value: AccessValue, size: number): Status;
  /** cfg write, same checks. Works whether or not the vGPU is active. */
  emulateCfgWrite(vgpu: VgpuId, offset: number, value: AccessValue, size: number): Status;
  /** MMIO read at a guest-physical address (not a BAR offset) of 1, 2, 4 or 8 bytes. */
  emulateMmioRead(vgpu: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status;
  emulateMmioWrite(vgpu: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status;
  /**
   * A write to a tracked page (level `trap`), already present in guest memory.
   * @returns ENXIO when the gfn is not tracked by this vGPU.
   */
  writeProtectHandler(vgpu: VgpuId, gpa: Gpa, value: AccessValue, size: number): Status;
  /** Page-level report (level `sync`): the guest wrote somewhere in this frame since the last synchronisation. */
  pageWritten(vgpu: VgpuId, gfn: Gfn): Status;
  /**
   * Guest memory went, or something else is there now, while the vGPU is attached (a client's DMA_UNMAP): what was kept of where
   * guest memory lies is to be looked up anew. Called between guest accesses, never inside one. DMA mappings stay, and answer NOT_RAM
   * where nothing is any more.
   */
  memoryUnmapped?(vgpu: VgpuId): void;
  /** Guest memory came where there was none, while the vGPU is attached (a client's DMA_MAP). */
  memoryMapped?(vgpu: VgpuId): void;
}

/** A table that accepts everything and does nothing: for hosts that only move memory. */
export const NULL_GVT_OPS: GvtOps = {
  emulateCfgRead: () => Status.ENODEV,
  emulateCfgWrite: () => Status.ENODEV,
  emulateMmioRead: () => Status.ENODEV,
  emulateMmioWrite: () => Status.ENODEV,
  writeProtectHandler: () => Status.ENXIO,
  pageWritten: () => Status.ENXIO,
};
