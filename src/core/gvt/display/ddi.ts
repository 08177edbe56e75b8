/** Registers of the digital display interfaces, ports A-E (i915_reg.h; Intel OSRC Broadwell vol. 2c), and what they say that a port sends. */
import type { RegisterStore } from '../roles.js';
import type { MainLink } from './dp-sink.js';
import { ENABLE } from './pipes.js';

/** Registers of port A. */
export const DDI = { BUFFER: 0x6_4000, TRANSPORT: 0x6_4040, TRANSPORT_STATUS: 0x6_4044 } as const;
/** Bytes between the blocks of two ports. */
export const DDI_STRIDE = 0x100;
export const DDI_PORTS = 5;
export const PORT_B = 1;

/** Controls of the AUX channels: port A's is with its DDI, those of B, C and D are in the PCH. */
export const AUX_CONTROL = { A: 0x6_4010, B: 0xe_4110 } as const;

/** DDI_BUF_CTL: lanes less 1. */
const WIDTH_SHIFT = 1;
const WIDTH_MASK = 7;
/** DP_TP_CTL: what the link carries. */
const PATTERN_SHIFT = 8;
const PATTERN_MASK = 7;
const IDLE_PATTERN = 2;
/** The training pattern that each code means; idle and normal pixels are none. */
const PATTERNS: readonly number[] = [1, 2, 0, 0, 3, 0, 0, 0];

const patternCode = (transport: number): number => (transport >>> PATTERN_SHIFT) & PATTERN_MASK;

/** DP_TP_CTL says that the idle pattern is sent. */
export const sendsIdle = (transport: number): boolean => (transport & ENABLE) !== 0 && patternCode(transport) === IDLE_PATTERN;

/** What a port sends to a DisplayPort monitor, by its registers. */
export class PortLink implements MainLink {
  readonly #registers: RegisterStore;
  readonly #block: number;

  constructor(registers: RegisterStore, port: number) {
    this.#registers = registers;
    this.#block = port * DDI_STRIDE;
  }

  get lanes(): number {
    const buffer = this.#registers.get(DDI.BUFFER + this.#block);
    const on = (buffer & ENABLE) !== 0 && (this.#transport & ENABLE) !== 0;
    return on ? ((buffer >>> WIDTH_SHIFT) & WIDTH_MASK) + 1 : 0;
  }

  get pattern(): number {
    return PATTERNS[patternCode(this.#transport)] as number;
  }

  get #transport(): number {
    return this.#registers.get(DDI.TRANSPORT + this.#block);
  }
}
