/**
 * What the parts of the device model take from each other. Each part gets the narrow role, never the whole vGPU, so
 * that submission, engine and display are tested without a guest.
 */
import type { DmaBlock } from '../dma-block.js';
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
export type EngineName = Engine['name'];

/** Interrupt events that parts raise; interrupt.ts knows their group and bit (facts: gvt.md 4.14). */
export type GvtEvent =
  | 'rcs.user'
  | 'rcs.error'
  | 'rcs.pipe-control'
  | 'rcs.ctx-switch'
  | 'bcs.user'
  | 'bcs.error'
  | 'bcs.flush'
  | 'bcs.ctx-switch'
  | 'vcs.user'
  | 'vcs.error'
  | 'vcs.flush'
  | 'vcs.ctx-switch'
  | 'vecs.user'
  | 'vecs.error'
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
  | 'pch.aux-b'
  | 'pch.hotplug-b';

export interface EventSink {
  /** Sets the event's IIR bit unless masked, then injects the MSI if anything is pending and enabled. */
  raise(event: GvtEvent): void;
  /** Until `release()`, events set their bits but the MSI waits: what happens in one go is told at once, by one message. */
  hold(): void;
  release(): void;
}

/** Raw storage of the 2 MiB register file: no side effects, dword-aligned offsets. */
export interface RegisterStore {
  get(offset: number): number;
  set(offset: number, value: number): void;
}

/** A register write as a command (LRI) makes it: audited, with the register's side effects. */
export interface RegisterPort {
  /**
   * @param privileged the command stands in the ring or a GGTT batch. In another batch silicon drops what is for those only: OK
   * @returns EBADRQC when commands may not touch this register, EFAULT past the register file
   */
  writeFromCommand(offset: number, value: number, privileged: boolean): Status;
  readFromCommand(offset: number): number;
}

/**
 * One 4 KiB page of GPU-visible memory: loads and stores go through the methods; each is one aligned access where it says so. Offsets are bytes
 * inside the page.
 */
export interface GpuPage {
  /** The memory went with its VM: there is nothing to load. */
  readonly gone: boolean;
  /** Where the bytes lie, when they may be reached there without these methods; undefined in a recording, which tells of each access. */
  readonly block: DmaBlock | undefined;
  /** Of the page in its block, bytes. */
  readonly start: number;
  load8(offset: number): number;
  /** One load; `offset` is a multiple of 4. */
  load32(offset: number): number;
  /** Bytes from `offset` on, which lie inside the page, to `target[at..]`. */
  load(offset: number, target: Uint8Array, at: number, length: number): void;
  store8(offset: number, value: number): void;
  /** One store; `offset` is a multiple of 4. */
  store32(offset: number, value: number): void;
  /** One store of two dwords, so that no reader sees one without the other; `offset` is a multiple of 8. */
  store64(offset: number, low: number, high: number): void;
  /** The dword again and again in [offset, end), multiples of 4. */
  fill32(offset: number, end: number, value: number): void;
  /** Bytes [from, to) of the source, which lie inside the page from `offset` on. */
  store(offset: number, source: Uint8Array, from: number, to: number): void;
}

/**
 * Memory as the GPU addresses it: 4 KiB pages through the vGPU's GGTT or a context's per-process tables. Addresses outside the vGPU's
 * own ranges and entries that are not present have no page. Never throws.
 */
export interface GpuMemory {
  /**
   * The page that contains the byte address, for reading, or undefined. Not to be kept past the current guest access or slice.
   */
  page(address: number): GpuPage | undefined;
  /** The same for writing. Of a page that the guest made read-only it is another one, which nobody reads: silicon drops such writes. */
  pageToWrite(address: number): GpuPage | undefined;
  /**
   * How far the memory behind an address goes on in one piece, over pages that follow one another in the GPU's addresses and in this process.
   * @param first the page of the address, as `page` or, with `write`, `pageToWrite` gave it
   * @returns bytes, at most `length`; at least the rest of the page
   */
  run(first: GpuPage, address: number, length: number, write: boolean): number;
  /**
   * Copies `length` bytes into `target[offset..]`, across pages: each source byte is read once.
   * @returns false when a page is missing; the target's content is then unspecified
   */
  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean;
}

/** Memory that planes are read from. Never throws. */
export interface ScanoutMemory {
  /** The page that contains the byte address is guest memory. */
  shows(address: number): boolean;
  /** As `GpuMemory.copyIn`. */
  copyIn(address: number, target: Uint8Array, offset: number, length: number): boolean;
}

/** Root of a per-process address space, as a context's PDP registers name it. */
export interface PpgttRoot {
  /** 48-bit addresses: one PML4, in `directories[0]`. Else 32-bit: four page directories of 1 GiB each. */
  readonly wide: boolean;
  /** Guest frames; 0: none. Four of them. */
  readonly directories: ArrayLike<number>;
}

/** The per-process address spaces of a vGPU. */
export interface ProcessMemory {
  /** The root's address space. Kept past a slice, it stays right: what changed is walked again. */
  space(root: PpgttRoot): GpuMemory;
  /** Takes over what the guest changed in its tables. To be called before a workload first uses its address space. */
  synchronise(): void;
  /** Budget that translations and synchronisation have used since it was last asked. */
  takeCost(): number;
}

/** One vGPU's turns at the engines of the GPU, which it shares with other vGPUs. */
export interface EngineTurns {
  /** Budget that may be spent before `goOn` is asked. */
  readonly chunk: number;
  /** Whether the vGPU may run. It loses what it has when it may not. */
  allow(on: boolean): void;
  /** The vGPU takes part from now on, if it may run. */
  start(): void;
  /** It takes no part any more. */
  stop(): void;
  /** Work is there: false when the engine is another's now, and then it waits. What was begun is ended. */
  begin(engine: EngineId): boolean;
  /** False when another is to have the engine now. */
  goOn(engine: EngineId): boolean;
  /** @param more the engine could go on with this vGPU's work at once */
  end(engine: EngineId, more: boolean): void;
  /** Work that waited for the engine is gone: nobody is to wait for it. */
  withdraw(engine: EngineId): void;
}

/** Counters of one vGPU, for reports. Plain numbers, monotonic. */
export interface VgpuStatistics {
  workloads: number;
  commands: number;
  /** Commands that were parsed by length and skipped: never claimed as executed. */
  skippedCommands: number;
  mmioReads: number;
  mmioWrites: number;
  /** Of these, by what was reached: engines, fences and power; display; PCH; PVINFO; GGTT entries; aperture. */
  gtAccesses: number;
  displayAccesses: number;
  pchAccesses: number;
  pvinfoAccesses: number;
  ggttAccesses: number;
  apertureAccesses: number;
  configAccesses: number;
  interrupts: number;
  /** Guest mistakes: refused accesses, bad commands, bad descriptors. */
  guestErrors: number;
  /** Guest page-table pages that were shadowed, each time that one was. */
  shadowTables: number;
  /** Entries of them that the guest changed. */
  shadowEntries: number;
  /** Writes to them that trapped. */
  shadowWrites: number;
  /** Synchronisations of shadow tables. */
  shadowSyncs: number;
  /** Times that an engine stopped at something that it cannot do. */
  hangs: number;
  /** Times that it got an engine. */
  turns: number;
  /** Times that it had work for an engine which was another vGPU's then. */
  turnsWaited: number;
  /** Nanoseconds that it had each engine. */
  rcsNs: number;
  bcsNs: number;
  vcsNs: number;
  vecsNs: number;
}

export const newStatistics = (): VgpuStatistics => ({
  workloads: 0,
  commands: 0,
  skippedCommands: 0,
  mmioReads: 0,
  mmioWrites: 0,
  gtAccesses: 0,
  displayAccesses: 0,
  pchAccesses: 0,
  pvinfoAccesses: 0,
  ggttAccesses: 0,
  apertureAccesses: 0,
  configAccesses: 0,
  interrupts: 0,
  guestErrors: 0,
  shadowTables: 0,
  shadowEntries: 0,
  shadowWrites: 0,
  shadowSyncs: 0,
  hangs: 0,
  turns: 0,
  turnsWaited: 0,
  rcsNs: 0,
  bcsNs: 0,
  vcsNs: 0,
  vecsNs: 0,
});

/** Where guest mistakes are told: counted always, logged at a limited rate. */
export interface GuestErrorLog {
  guestError(what: string): void;
}

/** Why a vGPU went into failsafe (facts: gvt.md 4.9). */
export const FAILSAFE_REASONS = ['unsupported-guest', 'insufficient-resource', 'guest-error'] as const;
export type FailsafeReason = (typeof FAILSAFE_REASONS)[number];
