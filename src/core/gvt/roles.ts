/**
 * What the parts of the device model take from each other. Each part gets the narrow role, never the whole vGPU, so
 * that submission, engine and display are tested without a guest.
 */
import type { Status } from '../gvt-ops.js';

/** Engines of a Broadwell GT2 and the base of their register block (i915_reg.h: RENDER_RING_BASE, …). */
export const ENGINES = [
  { id: 0, name: 'rcs', base: 0x2000 },
  { id: 1, name: 'bcs', base: 0x2_2000 },
  { id: 2, name: 'vcs', base: 0x1_2000 },
  { id: 3, name: 'vecs', base: 0x1_a000 },
] as const;
export type EngineId = (typeof ENGINES)[number]['id'];
export type Engine = (typeof ENGINES)[number];

/** Interrupt events that parts raise; interrupt.ts knows their group and bit (facts: gvt.md 4.14). */
export type GvtEvent =
  | 'rcs.user'
  | 'rcs.pipe-control'
  | 'rcs.ctx-switch'
  | 'bcs.user'
  | 'bcs.flush'
  | 'bcs.ctx-switch'
  | 'vcs.user'
  | 'vcs.flush'
  | 'vcs.ctx-switch'
  | 'vecs.user'
  | 'vecs.flush'
  | 'vecs.ctx-switch'
  | 'pipe-a.vblank'
  | 'pipe-a.flip'
  | 'pipe-a.sprite-flip'
  | 'pipe-b.vblank'
  | 'pipe-b.flip'
  | 'pipe-b.sprite-flip'
  | 'pipe-c.vblank'
  | 'pipe-c.flip'
  | 'pipe-c.sprite-flip'
  | 'pch.gmbus'
  | 'pch.hotplug-b';

export interface EventSink {
  /** Sets the event's IIR bit unless masked, then injects the MSI if anything is pending and enabled. */
  raise(event: GvtEvent): void;
}

/** Raw storage of the 2 MiB register file: no side effects, dword-aligned offsets. */
export interface RegisterStore {
  get(offset: number): number;
  set(offset: number, value: number): void;
}

/** A register write as a command (LRI) makes it: audited, with the register's side effects. */
export interface RegisterPort {
  /** EBADRQC when commands may not touch this register, EFAULT past the register file. */
  writeFromCommand(offset: number, value: number): Status;
  readFromCommand(offset: number): number;
}

/** One 4 KiB page of GPU-visible memory. `u32` shares the bytes: an index into it is one aligned store. */
export interface GpuPage {
  readonly bytes: Uint8Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

/**
 * Memory as the GPU addresses it: 4 KiB pages through the vGPU's GGTT. Addresses outside the vGPU's own ranges and
 * entries that are not present have no page. Never throws.
 */
export interface GpuMemory {
  /** The page that contains the byte address, or undefined. Not to be kept past the current guest access or slice. */
  page(address: number): GpuPage | undefined;
  /**
   * Copies `length` bytes into `target[offset..]`, across pages: each source byte is read once.
   * @returns false when a page is missing; the target's content is then unspecified
   */
  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean;
}

/** Counters of one vGPU, for reports. Plain numbers, monotonic. */
export interface VgpuStatistics {
  workloads: number;
  commands: number;
  /** Commands that were parsed by length and skipped: never claimed as executed. */
  skippedCommands: number;
  mmioReads: number;
  mmioWrites: number;
  interrupts: number;
  /** Guest mistakes: refused accesses, bad commands, bad descriptors. */
  guestErrors: number;
}

export const newStatistics = (): VgpuStatistics => ({
  workloads: 0,
  commands: 0,
  skippedCommands: 0,
  mmioReads: 0,
  mmioWrites: 0,
  interrupts: 0,
  guestErrors: 0,
});

/** Where guest mistakes are told: counted always, logged at a limited rate. */
export interface GuestErrorLog {
  guestError(what: string): void;
}

/** Why a vGPU went into failsafe (facts: gvt.md 4.9). */
export type FailsafeReason = 'unsupported-guest' | 'insufficient-resource' | 'guest-error';
