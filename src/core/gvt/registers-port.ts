/**
 * Fuses of the display engine, and the digital ports A-E (facts: gvt.md 4.8, 4.18; i915.md). Clocks, transcoders, watermarks and the
 * ports' PLLs are storage: drivers read back what they wrote.
 */
import { Status } from '../gvt-ops.js';
import type { AfterHandler, RegisterDefinition } from './registers.js';

const PORTS = 5;
/** PORT_CLK_SEL: no clock. */
const NO_CLOCK = 0xe000_0000;

/** DDI buffer: idle (7) while not enabled (31). */
const ddiBuffer: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, (value & (1 << 31)) === 0 ? value | 0x80 : value & ~0x80);
  return Status.OK;
};

/** AUX channel with nothing on it: a message that is sent (31) is done (30) with a timeout (28). Status bits clear by 1. */
const AUX_SEND = 0x8000_0000;
const AUX_STATUS = 0x5200_0000;
const AUX_DONE_TIMEOUT = 0x5000_0000;
export const auxChannel: AfterHandler = ({ registers }, offset, raw, _unit, old) => {
  const status = (raw & AUX_SEND) !== 0 ? AUX_DONE_TIMEOUT : old & AUX_STATUS & ~raw;
  registers.set(offset, (raw & ~(AUX_SEND | AUX_STATUS)) | status);
  return Status.OK;
};

export const PORT_REGISTERS: readonly RegisterDefinition[] = [
  // What is fused off is the vGPU's: Display.populate.
  { name: 'FUSE_STRAP', offset: 0x4_2014, writable: 0 },
  { name: 'PORT_CLK_SEL', offset: 0x4_6100, count: PORTS, reset: NO_CLOCK },
  { name: 'DDI_BUF_CTL', offset: 0x6_4000, count: PORTS, stride: 0x100, reset: 0x80, after: ddiBuffer },
  { name: 'DPA_AUX_CH_CTL', offset: 0x6_4010, after: auxChannel },
  { name: 'EDP_PSR_IIR', offset: 0x6_4838, writable: 0, clearable: 0xffff_ffff },
];
