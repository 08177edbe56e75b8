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

/** What the port sends to a DisplayPort monitor. */
export function mainLinkOf(registers: RegisterStore, port: number): MainLink {
  const [buffer, transport] = [registers.get(DDI.BUFFER + port * DDI_STRIDE), registers.get(DDI.TRANSPORT + port * DDI_STRIDE)];
  if ((buffer & ENABLE) === 0 || (transport & ENABLE) === 0) return { lanes: 0, pattern: 0 };
  return { lanes: ((buffer >>> WIDTH_SHIFT) & WIDTH_MASK) + 1, pattern: PATTERNS[patternCode(transport)] as number };
}
