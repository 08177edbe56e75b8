/** Interrupt registers (facts: gvt.md 4.14): four dwords for each group, and the master. */
import { Status } from '../gvt-ops.js';
import { IER, IIR, IMR, INTERRUPT_GROUPS, ISR, MASTER_IRQ } from './interrupts.js';
import type { AfterHandler, RegisterDefinition } from './registers.js';

const check: AfterHandler = ({ interrupts }) => {
  interrupts.check();
  return Status.OK;
};

/** Acknowledging recomputes the master's bits and injects nothing. */
const sumUp: AfterHandler = ({ interrupts }) => {
  interrupts.sumUp();
  return Status.OK;
};

export const INTERRUPT_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'GEN8_MASTER_IRQ', offset: MASTER_IRQ, writable: 0x8000_0000, after: check },
  ...INTERRUPT_GROUPS.flatMap(({ name, base }): RegisterDefinition[] => [
    { name: `${name}_ISR`, offset: base + ISR, writable: 0 },
    { name: `${name}_IMR`, offset: base + IMR, reset: 0xffff_ffff, after: check },
    { name: `${name}_IIR`, offset: base + IIR, writable: 0, clearable: 0xffff_ffff, after: sumUp },
    { name: `${name}_IER`, offset: base + IER, after: check },
  ]),
];
