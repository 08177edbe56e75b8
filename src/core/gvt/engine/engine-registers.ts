/** Registers of an engine that the command streamer and the submission go by; offsets from the engine's base (i915_reg.h). */
import type { Engine, EngineId, PpgttRoot, RegisterStore } from '../roles.js';

export const ENGINE_REGISTER = {
  TAIL: 0x30,
  HEAD: 0x34,
  START: 0x38,
  CTL: 0x3c,
  ACTHD_UDW: 0x5c,
  /** Header of the command that was executed last. */
  IPEHR: 0x68,
  INSTDONE: 0x6c,
  ACTHD: 0x74,
  HWS_PGA: 0x80,
  /** Bits of interrupts that are not raised. */
  IMR: 0xa8,
  /** Error bits, and which of them raise no interrupt. */
  EIR: 0xb0,
  EMR: 0xb4,
  BBADDR: 0x140,
  BBADDR_UDW: 0x168,
  /** Roots of the context's page tables: low and high dword each. */
  PDP: 0x270,
  TIMESTAMP: 0x358,
} as const;

export const PDP_REGISTERS = 8;
/** EIR and EMR: a bad instruction. */
export const ERROR_INSTRUCTION = 1;
/** INSTDONE: everything is done, and all but the command streamer is. */
export const ALL_DONE = 0xffff_ffff;
export const RING_NOT_DONE = 0xffff_fffe;

/** Bit of an engine's user interrupt in its IMR: the second engine of a GT group has the upper half. */
const USER_INTERRUPT_BIT: Readonly<Record<EngineId, number>> = { 0: 0, 1: 16, 2: 0, 3: 0 };

/** The guest does not want the engine's user interrupt: nobody sleeps until a batch is done. */
export const userInterruptMasked = ({ id, base }: Engine, registers: RegisterStore): boolean =>
  (registers.get(base + ENGINE_REGISTER.IMR) & (1 << USER_INTERRUPT_BIT[id])) !== 0;

const directories = [0, 0, 0, 0];
const root = { wide: true, directories };

/** The root that the engine's PDP registers name. The object is used again by the next call. */
export function rootOf(registers: RegisterStore, base: number, wide: boolean): PpgttRoot {
  for (let i = 0; i < 4; i++) {
    const at = base + ENGINE_REGISTER.PDP + i * 8;
    directories[i] = (registers.get(at + 4) & 0x3fff) * 0x10_0000 + (registers.get(at) >>> 12);
  }
  root.wide = wide;
  return root;
}
