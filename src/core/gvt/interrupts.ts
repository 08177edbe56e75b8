/**
 * Interrupt hierarchy of generation 8 (facts: gvt.md 4.14): events set bits of second-level groups (ISR, IMR, IIR,
 * IER), groups are summed up in the master register 0x44200, and the master raises the guest's MSI.
 */
import type { InterruptSender } from '../mpt.js';
import { refusedByHypervisor } from './guest-error-log.js';
import type { EventSink, GuestErrorLog, GvtEvent, RegisterStore, VgpuStatistics } from './roles.js';
import type { VgpuTrace } from './trace/vgpu-trace.js';

/** GEN8_MASTER_IRQ: bit 31 enables, the others sum up the groups. */
export const MASTER_IRQ = 0x4_4200;
const MASTER_ENABLE = 0x8000_0000;

/** Registers of a group, from its base. */
export const ISR = 0;
export const IMR = 4;
export const IIR = 8;
export const IER = 12;

interface Group {
  readonly name: string;
  readonly base: number;
  /** Master bits that the group's pending bits raise: [mask of the group, master bit]. */
  readonly master: readonly (readonly [number, number])[];
}

/** Every second-level group. */
export const INTERRUPT_GROUPS = [
  {
    name: 'GT0',
    base: 0x4_4300,
    master: [
      [0xffff, 0],
      [0xffff_0000, 1],
    ],
  }, // RCS, BCS
  {
    name: 'GT1',
    base: 0x4_4310,
    master: [
      [0xffff, 2],
      [0xffff_0000, 3],
    ],
  }, // VCS0, VCS1
  { name: 'GT2', base: 0x4_4320, master: [[0xffff, 4]] }, // PM, GuC
  { name: 'GT3', base: 0x4_4330, master: [[0xffff, 6]] }, // VECS
  { name: 'PIPE_A', base: 0x4_4400, master: [[0xffff_ffff, 16]] },
  { name: 'PIPE_B', base: 0x4_4410, master: [[0xffff_ffff, 17]] },
  { name: 'PIPE_C', base: 0x4_4420, master: [[0xffff_ffff, 18]] },
  { name: 'DE_PORT', base: 0x4_4440, master: [[0xffff_ffff, 20]] },
  { name: 'DE_MISC', base: 0x4_4460, master: [[0xffff_ffff, 22]] },
  { name: 'PCU', base: 0x4_44e0, master: [[0xffff_ffff, 30]] },
  { name: 'SDE', base: 0xc_4000, master: [[0xffff_ffff, 23]] },
] as const satisfies readonly Group[];

type GroupName = (typeof INTERRUPT_GROUPS)[number]['name'];

/** Group and bit of each event. */
export const INTERRUPT_EVENTS: Readonly<Record<GvtEvent, readonly [GroupName, number]>> = {
  'rcs.user': ['GT0', 0],
  'rcs.error': ['GT0', 3],
  'rcs.pipe-control': ['GT0', 4],
  'rcs.ctx-switch': ['GT0', 8],
  'bcs.user': ['GT0', 16],
  'bcs.error': ['GT0', 19],
  'bcs.flush': ['GT0', 20],
  'bcs.ctx-switch': ['GT0', 24],
  'vcs.user': ['GT1', 0],
  'vcs.error': ['GT1', 3],
  'vcs.flush': ['GT1', 4],
  'vcs.ctx-switch': ['GT1', 8],
  'vecs.user': ['GT3', 0],
  'vecs.error': ['GT3', 3],
  'vecs.flush': ['GT3', 4],
  'vecs.ctx-switch': ['GT3', 8],
  'pipe-a.vblank': ['PIPE_A', 0],
  'pipe-a.flip': ['PIPE_A', 4],
  'pipe-a.sprite-flip': ['PIPE_A', 5],
  'pipe-b.vblank': ['PIPE_B', 0],
  'pipe-b.flip': ['PIPE_B', 4],
  'pipe-b.sprite-flip': ['PIPE_B', 5],
  'pipe-c.vblank': ['PIPE_C', 0],
  'pipe-c.flip': ['PIPE_C', 4],
  'pipe-c.sprite-flip': ['PIPE_C', 5],
  'pch.gmbus': ['SDE', 17],
  'pch.aux-b': ['SDE', 25],
  'pch.hotplug-b': ['SDE', 21],
};

interface EventSite {
  /** Offset of the group's base. */
  readonly base: number;
  readonly bit: number;
}

const SITES: ReadonlyMap<GvtEvent, EventSite> = new Map(
  Object.entries(INTERRUPT_EVENTS).map(([event, [name, bit]]) => {
    const group = INTERRUPT_GROUPS.find((candidate) => candidate.name === name) as Group;
    return [event as GvtEvent, { base: group.base, bit: (1 << bit) >>> 0 }];
  }),
);

/** The master's sources, flat: one row for each (group, mask). */
const SOURCES = INTERRUPT_GROUPS.flatMap(({ base, master }: Group) => master.map(([mask, bit]) => ({ base, mask, bit: 1 << bit })));

/** The guest's MSI capability as the virtual configuration space holds it. */
export interface MsiCapability {
  readonly msiControl: number;
  readonly msiAddress: number;
  readonly msiData: number;
}

/** Control bit 0 enables. Bits 1-15 ask for several messages, 64-bit addresses or masking: none is offered. */
const MSI_ENABLE = 1;

export class Interrupts implements EventSink {
  readonly #registers: RegisterStore;
  readonly #msi: MsiCapability;
  readonly #sender: InterruptSender;
  readonly #statistics: VgpuStatistics;
  readonly #log: GuestErrorLog;
  readonly #trace: VgpuTrace | undefined;
  /** The MSI waits, and whether there is one to send. */
  #held = false;
  #due = false;

  constructor(parts: {
    readonly registers: RegisterStore;
    readonly msi: MsiCapability;
    readonly sender: InterruptSender;
    readonly statistics: VgpuStatistics;
    readonly log: GuestErrorLog;
    readonly trace?: VgpuTrace | undefined;
  }) {
    this.#registers = parts.registers;
    this.#msi = parts.msi;
    this.#sender = parts.sender;
    this.#statistics = parts.statistics;
    this.#log = parts.log;
    this.#trace = parts.trace;
  }

  /** A masked event is lost, not remembered. */
  raise(event: GvtEvent): void {
    const { base, bit } = SITES.get(event) as EventSite;
    const registers = this.#registers;
    if ((registers.get(base + IMR) & bit) !== 0) return;
    registers.set(base + IIR, registers.get(base + IIR) | bit);
    this.#trace?.raised(event);
    this.check();
  }

  /** Something is under way that is told of in one go. */
  get held(): boolean {
    return this.#held;
  }

  hold(): void {
    this.#held = true;
  }

  /** Whether anything is still pending and enabled is looked at now. */
  release(): void {
    this.#held = false;
    if (!this.#due) return;
    this.#due = false;
    this.check();
  }

  /**
   * Recomputes the master's source bits from every group. They are levels: i915 samples them while the enable bit is
   * off, so they follow even then.
   * @returns the source bits
   */
  sumUp(): number {
    const registers = this.#registers;
    let sources = 0;
    for (let i = 0; i < SOURCES.length; i++) {
      const { base, mask, bit } = SOURCES[i] as (typeof SOURCES)[number];
      if ((registers.get(base + IIR) & registers.get(base + IER) & mask) !== 0) sources |= bit;
    }
    registers.set(MASTER_IRQ, (registers.get(MASTER_IRQ) & MASTER_ENABLE) | sources);
    return sources;
  }

  /** Injects the MSI when the master is enabled and any source is pending. No edge memory: each check injects again. */
  check(): void {
    if (this.#held) {
      this.sumUp();
      this.#due = true;
    } else if (this.sumUp() !== 0 && (this.#registers.get(MASTER_IRQ) & MASTER_ENABLE) !== 0) this.#inject();
  }

  /** The inject_msi wrapper of GVT-g (facts: gvt.md 2). */
  #inject(): void {
    const control = this.#msi.msiControl;
    if ((control & MSI_ENABLE) === 0) return;
    if ((control & ~MSI_ENABLE) !== 0) {
      this.#log.guestError(`MSI control 0x${control.toString(16)} asks for more than one plain 32-bit message: interrupt dropped`);
      return;
    }
    try {
      this.#sender.injectMsi(this.#msi.msiAddress, this.#msi.msiData);
      this.#statistics.interrupts++;
      this.#trace?.msi(this.#msi.msiAddress, this.#msi.msiData);
    } catch (error) {
      // A guest that programs a bad message gets no interrupt.
      refusedByHypervisor(this.#log, error);
    }
  }
}
