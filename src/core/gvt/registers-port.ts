/**
 * Fuses of the display engine, and the digital ports A-E (facts: gvt.md 4.8, 4.18; i915.md). Clocks, transcoders, watermarks and the
 * ports' PLLs are storage: drivers read back what they wrote.
 */
import { Status } from '../gvt-ops.js';
import { AUX_CONTROL, DDI, DDI_PORTS, DDI_STRIDE, sendsIdle } from './display/ddi.js';
import { ENABLE } from './display/pipes.js';
import type { AfterHandler, RegisterDefinition } from './registers.js';

/** PORT_CLK_SEL: no clock. */
const NO_CLOCK = 0xe000_0000;
const DDI_IDLE = 0x80;
/** DP_TP_STATUS, from DP_TP_CTL on: the idle pattern was sent. */
const TO_STATUS = DDI.TRANSPORT_STATUS - DDI.TRANSPORT;
const IDLE_DONE = 1 << 25;

/** DDI buffer: idle (7) while not enabled (31). */
const ddiBuffer: AfterHandler = ({ registers, display }, offset) => {
  const value = registers.get(offset);
  if ((value & ENABLE) !== 0) registers.set(offset, value & ~DDI_IDLE);
  else {
    registers.set(offset, value | DDI_IDLE);
    display.portOff((offset - DDI.BUFFER) / DDI_STRIDE);
  }
  return Status.OK;
};

/** The idle pattern has been sent often enough as soon as it is asked for. */
const transport: AfterHandler = ({ registers }, offset) => {
  registers.set(offset + TO_STATUS, sendsIdle(registers.get(offset)) ? IDLE_DONE : 0);
  return Status.OK;
};

export const auxControl: AfterHandler = ({ display }, offset, raw, _unit, old) => {
  display.auxControl(offset, raw, old);
  return Status.OK;
};

const perPort = { count: DDI_PORTS, stride: DDI_STRIDE } as const;

export const PORT_REGISTERS: readonly RegisterDefinition[] = [
  // What is fused off is the vGPU's: Display.populate.
  { name: 'FUSE_STRAP', offset: 0x4_2014, writable: 0 },
  { name: 'PORT_CLK_SEL', offset: 0x4_6100, count: DDI_PORTS, reset: NO_CLOCK },
  { name: 'DDI_BUF_CTL', offset: DDI.BUFFER, ...perPort, reset: DDI_IDLE, after: ddiBuffer },
  { name: 'DP_TP_CTL', offset: DDI.TRANSPORT, ...perPort, after: transport },
  { name: 'DP_TP_STATUS', offset: DDI.TRANSPORT_STATUS, ...perPort, writable: 0 },
  { name: 'DPA_AUX_CH_CTL', offset: AUX_CONTROL.A, after: auxControl },
  { name: 'EDP_PSR_IIR', offset: 0x6_4838, writable: 0, clearable: 0xffff_ffff },
];
