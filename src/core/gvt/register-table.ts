/** The registers of a Broadwell vGPU that are more than storage, compiled. */
import { PVINFO_REGISTERS } from './pvinfo.js';
import { RegisterTable } from './registers.js';
import { ENGINE_REGISTERS } from './registers-engine.js';
import { GT_REGISTERS } from './registers-gt.js';
import { INTERRUPT_REGISTERS } from './registers-interrupt.js';
import { PCH_REGISTERS } from './registers-pch.js';
import { PIPE_REGISTERS } from './registers-pipe.js';
import { PORT_REGISTERS } from './registers-port.js';
import { POWER_REGISTERS } from './registers-power.js';

let compiled: RegisterTable | undefined;

/** Compiled at first use; it is the same for every GPU and never changes. */
export function broadwellRegisters(): RegisterTable {
  compiled ??= new RegisterTable([
    ...PVINFO_REGISTERS,
    ...GT_REGISTERS,
    ...ENGINE_REGISTERS,
    ...INTERRUPT_REGISTERS,
    ...PIPE_REGISTERS,
    ...PORT_REGISTERS,
    ...PCH_REGISTERS,
    ...POWER_REGISTERS,
  ]);
  return compiled;
}
