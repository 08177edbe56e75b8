/** What an engine's registers and its interrupt tell of why it stopped, as i915's error capture reads them (i915_reg.h). */
import { ENGINE_REGISTER, ERROR_INSTRUCTION } from '../engine/engine-registers.js';
import type { Fault } from '../engine/outcome.js';
import type { Engine, GvtEvent } from '../roles.js';
import type { SubmissionParts } from './submission.js';

/** GEN8_RING_FAULT_REG: valid, type in bits 2:1, engine in bits 14:12. */
const FAULT = 0x4094;
const FAULT_VALID = 1;
/** GEN8_FAULT_TLB_DATA: address bits 43:12; bits 47:44, and bit 4 for the GGTT. */
const FAULT_DATA0 = 0x4b10;
const FAULT_DATA1 = 0x4b14;
const FAULT_GGTT = 1 << 4;
/** The engines' numbers there, by `EngineId`. */
const HARDWARE_IDS = [0, 2, 1, 3] as const;
const ERROR_EVENTS: readonly GvtEvent[] = ['rcs.error', 'bcs.error', 'vcs.error', 'vecs.error'];

/** A page fault is told by registers alone; a bad instruction by EIR and, unless EMR masks it, an interrupt. */
export function tellOfFault({ id, base }: Engine, { registers, events }: SubmissionParts, { address, ggtt }: Fault): void {
  if (address !== undefined) {
    if ((registers.get(FAULT) & FAULT_VALID) !== 0) return;
    registers.set(FAULT_DATA0, Math.floor(address / 4096) % 2 ** 32);
    registers.set(FAULT_DATA1, (Math.floor(address / 2 ** 44) & 0xf) | (ggtt ? FAULT_GGTT : 0));
    registers.set(FAULT, FAULT_VALID | ((HARDWARE_IDS[id] as number) << 12));
    return;
  }
  if ((registers.get(base + ENGINE_REGISTER.EMR) & ERROR_INSTRUCTION) !== 0) return;
  registers.set(base + ENGINE_REGISTER.EIR, registers.get(base + ENGINE_REGISTER.EIR) | ERROR_INSTRUCTION);
  events.raise(ERROR_EVENTS[id] as GvtEvent);
}
