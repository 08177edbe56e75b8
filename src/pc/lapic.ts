/**
 * Local APIC of the one vCPU, APIC id 0 (Intel SDM volume 3, "Advanced Programmable Interrupt Controller"). Interrupts
 * are edge-triggered messages; the timer and the local pins are registers without a function.
 */
import type { Attention } from './attention.js';

/** Byte offsets in the page. */
const REG = { id: 0x20, version: 0x30, ppr: 0xa0, eoi: 0xb0, ldr: 0xd0, dfr: 0xe0, svr: 0xf0, icrLow: 0x300, currentCount: 0x390 } as const;
const TPR = 0x80;
/** Three 256-bit vectors, each eight dwords 16 bytes apart. */
const VECTORS = { isr: 0x100, tmr: 0x180, irr: 0x200, end: 0x280 } as const;

/** Writable bits of the registers that only store; every other register is read-only or handled by name. */
const STORED: Readonly<Record<number, number>> = {
  [REG.ldr]: 0xff00_0000,
  [REG.dfr]: 0xf000_0000,
  [REG.svr]: 0x1ff,
  128: 0xff, // TPR
  640: 0, // ESR: a write latches errors, of which there are none
  784: 0xff00_0000, // ICR high
  800: 0x3_00ff, // LVT timer
  816: 0x1_07ff, // LVT thermal
  832: 0x1_07ff, // LVT performance counters
  848: 0x1_a7ff, // LVT LINT0
  864: 0x1_a7ff, // LVT LINT1
  880: 0x1_00ff, // LVT error
  896: 0xffff_ffff, // timer initial count
  992: 0xb, // timer divide configuration
};

/** Reset values that are not zero. */
const RESET: readonly (readonly [offset: number, value: number])[] = [
  [REG.version, 0x5_0014],
  [REG.dfr, 0xffff_ffff],
  [REG.svr, 0xff],
  ...[0x320, 0x330, 0x340, 0x350, 0x360, 0x370].map((lvt) => [lvt, 0x1_0000] as const),
];

const ENABLED = 0x100;
const DELIVERY = { fixed: 0, lowest: 1, nmi: 4 } as const;
const SELF = 1;
const ALL = 2;

export class Lapic {
  readonly #attention: Attention;
  readonly #registers = new Uint32Array(0x400 / 16);
  readonly #irr = new Uint32Array(8);
  readonly #isr = new Uint32Array(8);
  /** A vector may be taken now. */
  ready = false;
  /** A non-maskable interrupt waits. */
  nmi = false;

  constructor(attention: Attention) {
    this.#attention = attention;
    this.reset();
  }

  reset(): void {
    this.#registers.fill(0);
    this.#irr.fill(0);
    this.#isr.fill(0);
    for (const [offset, value] of RESET) this.#registers[offset >> 4] = value;
    this.ready = false;
    this.nmi = false;
  }

  /** A register dword; reserved offsets read 0. @param offset 0..4095 in the page, any alignment: the dword that holds it */
  read(offset: number): number {
    const register = offset & 0xff0;
    if (register >= VECTORS.isr && register < VECTORS.end) {
      const index = (register >> 4) & 7;
      if (register < VECTORS.tmr) return this.#isr[index] as number;
      return register < VECTORS.irr ? 0 : (this.#irr[index] as number);
    }
    if (register === REG.ppr) return this.#priority();
    return register < 0x400 ? (this.#registers[register >> 4] as number) : 0;
  }

  /** A dword write at a 16-byte aligned offset; others have no effect, as for the hardware's undefined accesses. */
  write(offset: number, value: number): void {
    if (offset === REG.eoi) this.#endOfInterrupt();
    else if (offset === REG.icrLow) this.#command(value);
    else {
      const mask = STORED[offset];
      if (mask === undefined) return;
      this.#registers[offset >> 4] = value & mask;
      // The model bits of the destination format register always read as ones.
      if (offset === REG.dfr) this.#registers[offset >> 4] = value | 0x0fff_ffff;
      if (offset === TPR || offset === REG.svr) this.#update();
    }
  }

  /**
   * An interrupt message (SDM volume 3, "Message Signalled Interrupts").
   * @returns true when this vCPU is its destination and accepts its kind: fixed, lowest priority or NMI
   */
  message(address: number, data: number): boolean {
    const destination = (address >>> 12) & 0xff;
    return this.#addressed(destination, (address & 4) !== 0) && this.#accept((data >>> 8) & 7, data & 0xff);
  }

  /** Takes the highest pending vector into service. Only when `ready`. */
  acknowledge(): number {
    const vector = highest(this.#irr);
    clearBit(this.#irr, vector);
    setBit(this.#isr, vector);
    this.#update();
    return vector;
  }

  #accept(mode: number, vector: number): boolean {
    if (mode === DELIVERY.nmi) {
      this.nmi = true;
      this.#attention.raised = true;
      return true;
    }
    const enabled = ((this.#registers[REG.svr >> 4] as number) & ENABLED) !== 0;
    if ((mode !== DELIVERY.fixed && mode !== DELIVERY.lowest) || !enabled || vector < 16) return false;
    setBit(this.#irr, vector);
    this.#update();
    return true;
  }

  /** Physical id 0 or broadcast; logical by the flat model's mask or the cluster model's cluster and mask. */
  #addressed(destination: number, logical: boolean): boolean {
    if (!logical) return destination === 0 || destination === 0xff;
    const id = (this.#registers[REG.ldr >> 4] as number) >>> 24;
    const flat = (this.#registers[REG.dfr >> 4] as number) >>> 28 === 0xf;
    if (flat) return (destination & id) !== 0;
    return (destination >> 4 === id >> 4 || destination >> 4 === 0xf) && (destination & id & 0xf) !== 0;
  }

  /** Interrupt command register: messages that reach ourselves; there is no other processor. */
  #command(value: number): void {
    this.#registers[REG.icrLow >> 4] = value & 0xc_cfff;
    const shorthand = (value >>> 18) & 3;
    const destination = (this.#registers[0x310 >> 4] as number) >>> 24;
    const ours = shorthand === SELF || shorthand === ALL || (shorthand === 0 && this.#addressed(destination, (value & 0x800) !== 0));
    if (ours) this.#accept((value >>> 8) & 7, value & 0xff);
  }

  #endOfInterrupt(): void {
    const vector = highest(this.#isr);
    if (vector >= 0) clearBit(this.#isr, vector);
    this.#update();
  }

  /** Processor priority: the higher class of task priority and vector in service. */
  #priority(): number {
    const task = this.#registers[TPR >> 4] as number;
    const service = Math.max(0, highest(this.#isr));
    return task >> 4 >= service >> 4 ? task : service & 0xf0;
  }

  #update(): void {
    const vector = highest(this.#irr);
    const enabled = ((this.#registers[REG.svr >> 4] as number) & ENABLED) !== 0;
    this.ready = enabled && vector >= 0 && vector >> 4 > this.#priority() >> 4;
    if (this.ready) this.#attention.raised = true;
  }
}

function highest(bits: Uint32Array): number {
  for (let i = 7; i >= 0; i--) if (bits[i] !== 0) return i * 32 + 31 - Math.clz32(bits[i] as number);
  return -1;
}

function setBit(bits: Uint32Array, n: number): void {
  bits[n >> 5] = (bits[n >> 5] as number) | (1 << (n & 31));
}

function clearBit(bits: Uint32Array, n: number): void {
  bits[n >> 5] = (bits[n >> 5] as number) & ~(1 << (n & 31));
}
