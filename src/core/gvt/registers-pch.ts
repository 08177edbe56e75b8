/** Platform controller hub registers: GMBUS, AUX, hotplug, clocks, sideband (facts: gvt.md 4.8, 4.18; i915.md). */
import { Status } from '../gvt-ops.js';
import { AUX_CONTROL } from './display/ddi.js';
import { GMBUS } from './display/gmbus.js';
import type { AfterHandler, ReadHandler, RegisterDefinition, WriteHandler } from './registers.js';
import { auxControl } from './registers-port.js';

const gmbusCommand: AfterHandler = ({ display }, _offset, raw) => {
  display.gmbus.command(raw);
  return Status.OK;
};
const gmbusStatus: ReadHandler = ({ display }) => display.gmbus.readStatus();
const gmbusRelease: WriteHandler = ({ display }, _offset, value) => {
  display.gmbus.writeStatus(value);
  return Status.OK;
};
const gmbusRead: ReadHandler = ({ display }) => display.gmbus.readData();
const gmbusWrite: WriteHandler = ({ display }, _offset, value) => {
  display.gmbus.writeData(value);
  return Status.OK;
};

/** Sideband status: not busy, success. */
const sidebandStatus: AfterHandler = ({ registers }, offset) => {
  registers.set(offset, registers.get(offset) & ~7);
  return Status.OK;
};

/** PCH_PORT_HOTPLUG: short and long pulse of ports B, C, D; a 1 clears. */
const PULSES = 0x0003_0303;

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
  // What is fused off and which ports there are is the vGPU's: Display.populate.
  { name: 'SFUSE_STRAP', offset: 0xc_2014, writable: 0 },
  { name: 'PCH_PORT_HOTPLUG', offset: 0xc_4030, clearable: PULSES },
  { name: 'GMBUS0', offset: GMBUS.SELECT },
  { name: 'GMBUS1', offset: GMBUS.COMMAND, after: gmbusCommand },
  { name: 'GMBUS2', offset: GMBUS.STATUS, read: gmbusStatus, write: gmbusRelease },
  { name: 'GMBUS3', offset: GMBUS.DATA, read: gmbusRead, write: gmbusWrite },
  { name: 'GMBUS4', offset: GMBUS.MASK },
  { name: 'GMBUS5', offset: GMBUS.INDEX },
  { name: 'SBI_CTL_STAT', offset: 0xc_6008, after: sidebandStatus },
  // MHz; with 0 the AUX code never sees its timer expire.
  { name: 'PCH_RAWCLK_FREQ', offset: 0xc_6204, reset: 24 },
  { name: 'PCH_DP_AUX_CH_CTL', offset: AUX_CONTROL.B, count: 3, stride: 0x100, after: auxControl },
  ...CONSTANTS.map(([offset, reset]): RegisterDefinition => ({ name: 'PCH_CALIBRATION', offset, reset, writable: 0 })),
];
