/** Platform controller hub registers: GMBUS, AUX, clocks, sideband (facts: gvt.md 4.8, 4.18; i915.md). No monitor answers. */
import { Status } from '../gvt-ops.js';
import type { AfterHandler, RegisterDefinition } from './registers.js';
import { auxChannel } from './registers-display.js';

const GMBUS2 = 0xc_5108;
/** GMBUS1: clear state (31), start of a message (30). */
const GMBUS_CLEAR = 0x8000_0000;
const GMBUS_START = 0x4000_0000;
/** GMBUS2: hardware ready (11), no acknowledge from the addressed device (10). */
const GMBUS_READY = 0x800;
const GMBUS_NAK = 0x400;

const gmbusCommand: AfterHandler = ({ registers }, _offset, raw) => {
  if ((raw & GMBUS_CLEAR) !== 0) registers.set(GMBUS2, GMBUS_READY);
  else if ((raw & GMBUS_START) !== 0) registers.set(GMBUS2, GMBUS_READY | GMBUS_NAK);
  return Status.OK;
};

/** Sideband status: not busy, success. */
const sidebandStatus: AfterHandler = ({ registers }, offset) => {
  registers.set(offset, registers.get(offset) & ~7);
  return Status.OK;
};

/** Calibration results that drivers wait for. */
const CONSTANTS: readonly (readonly [offset: number, value: number])[] = [
  [0xe_651c, 1 << 17],
  [0xe_661c, 1 << 17],
  [0xe_671c, 1 << 17],
  [0xe_681c, 1 << 17],
  [0xe_6c04, 3],
  [0xe_6e1c, 0x2f << 16],
];

export const PCH_REGISTERS: readonly RegisterDefinition[] = [
  // Bit 7: display fused off in the PCH too.
  { name: 'SFUSE_STRAP', offset: 0xc_2014, reset: 0x80, writable: 0 },
  { name: 'GMBUS1', offset: 0xc_5104, after: gmbusCommand },
  { name: 'GMBUS2', offset: GMBUS2, reset: GMBUS_READY, writable: 0 },
  { name: 'SBI_CTL_STAT', offset: 0xc_6008, after: sidebandStatus },
  // MHz; with 0 the AUX code never sees its timer expire.
  { name: 'PCH_RAWCLK_FREQ', offset: 0xc_6204, reset: 24 },
  { name: 'PCH_DP_AUX_CH_CTL', offset: 0xe_4110, count: 3, stride: 0x100, after: auxChannel },
  ...CONSTANTS.map(([offset, reset]): RegisterDefinition => ({ name: 'PCH_CALIBRATION', offset, reset, writable: 0 })),
];
