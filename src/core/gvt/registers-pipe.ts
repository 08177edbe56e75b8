/** Registers of pipes A-C and their planes (facts: gvt.md 4.8, 4.14, 4.15; i915.md). display/ has what they mean. */
import { Status } from '../gvt-ops.js';
import { ENABLE, PIPE, PIPE_STRIDE, PIPES, pipeOf } from './display/pipes.js';
import type { AfterHandler, ReadHandler, RegisterDefinition } from './registers.js';

const PIPE_ACTIVE = 0x4000_0000;
/** PIPECONF of the transcoder for port A, which is no pipe's. */
const PIPECONF_EDP = 0x7_f008;
const DSPCNTR_FROM_SURF = 0x7_0180 - 0x7_019c;
/** DSPCNTR: flips are asynchronous. */
const ASYNC_FLIP = 1 << 9;

const scanLine: ReadHandler = ({ display }, offset) => display.scanLine(pipeOf(offset));
const frameCount: ReadHandler = ({ display }, offset) => display.frameCount(pipeOf(offset));

/** Active (30) follows enable (31). */
const transcoderConf: AfterHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, (value & ENABLE) !== 0 ? value | PIPE_ACTIVE : value & ~PIPE_ACTIVE);
  return Status.OK;
};

const pipeConf: AfterHandler = (context, offset, raw, unit, old) => {
  transcoderConf(context, offset, raw, unit, old);
  if (((raw ^ old) & ENABLE) !== 0) context.display.pipeSwitched(pipeOf(offset), (raw & ENABLE) !== 0);
  return Status.OK;
};

const touched: AfterHandler = ({ display }, offset) => {
  display.touched(pipeOf(offset));
  return Status.OK;
};

const primarySurface: AfterHandler = ({ registers, display }, offset) => {
  display.flip(pipeOf(offset), 'primary', (registers.get(offset + DSPCNTR_FROM_SURF) & ASYNC_FLIP) !== 0);
  return Status.OK;
};

const spriteSurface: AfterHandler = ({ display }, offset) => {
  display.flip(pipeOf(offset), 'sprite', false);
  return Status.OK;
};

const perPipe = { count: PIPES.length, stride: PIPE_STRIDE } as const;

/** Plane registers that take effect at the end of a frame: name and offset of pipe A's. */
const PLANE_REGISTERS: readonly (readonly [name: string, offset: number])[] = [
  ['CURCNTR', 0x7_0080],
  ['CURBASE', 0x7_0084],
  ['CURPOS', 0x7_0088],
  ['CUR_FBC_CTL', 0x7_00a0],
  ['DSPCNTR', 0x7_0180],
  ['DSPLINOFF', 0x7_0184],
  ['DSPSTRIDE', 0x7_0188],
  ['DSPOFFSET', 0x7_01a4],
  ['SPRCTL', 0x7_0280],
  ['SPRLINOFF', 0x7_0284],
  ['SPRSTRIDE', 0x7_0288],
  ['SPRPOS', 0x7_028c],
  ['SPRSIZE', 0x7_0290],
  ['SPROFFSET', 0x7_02a4],
  ['SPRSCALE', 0x7_0304],
];

export const PIPE_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'LGC_PALETTE_A', offset: 0x4_a000, count: 256, unaligned: true },
  { name: 'LGC_PALETTE_B', offset: 0x4_a800, count: 256, unaligned: true },
  { name: 'LGC_PALETTE_C', offset: 0x4_b000, count: 256, unaligned: true },
  { name: 'PIPEDSL', offset: PIPE.SCAN_LINE, ...perPipe, writable: 0, read: scanLine },
  { name: 'PIPECONF', offset: PIPE.CONFIG, ...perPipe, after: pipeConf },
  { name: 'PIPECONF_EDP', offset: PIPECONF_EDP, after: transcoderConf },
  { name: 'PIPE_FRMCOUNT', offset: PIPE.FRAME_COUNT, ...perPipe, writable: 0, read: frameCount },
  { name: 'PIPE_FLIPCOUNT', offset: PIPE.FLIP_COUNT, ...perPipe },
  { name: 'DSPSURF', offset: 0x7_019c, ...perPipe, after: primarySurface },
  { name: 'DSPSURFLIVE', offset: 0x7_01ac, ...perPipe, writable: 0 },
  { name: 'SPRSURF', offset: 0x7_029c, ...perPipe, after: spriteSurface },
  { name: 'SPRSURFLIVE', offset: 0x7_02ac, ...perPipe, writable: 0 },
  ...PLANE_REGISTERS.map(([name, offset]): RegisterDefinition => ({ name, offset, ...perPipe, narrow: 3, after: touched })),
];
