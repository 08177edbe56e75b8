/** The cursor of a pipe, which lies on all other planes (i915_reg.h: CURCNTR, …; facts: gvt.md 4.15). */
import type { RegisterStore, ScanoutMemory } from '../roles.js';
import { ENABLE, PIPE_STRIDE, type Pipe, pipeEnabled } from './pipes.js';
import { checkedPlane, type Plane, surfaceBase } from './plane.js';

/** Registers of pipe A. */
const CURCNTR = 0x7_0080;
const CURBASE = 0x7_0084;
/** Place on the screen, sign and magnitude: y in bits 31:16, x in 15:0. */
const CURPOS = 0x7_0088;
/** Fewer rows than columns: enable in bit 31, rows less 1 in 7:0. */
const CUR_FBC_CTL = 0x7_00a0;
const MODE_MASK = 0x3f;
const ROTATE_180 = 1 << 15;
const SIGN = 0x8000;

/** CURCNTR bits 5:0: pixels a side of the ARGB cursors. Those of two colours and of XOR are not decoded. */
const MODES: ReadonlyMap<number, number> = new Map([
  [0x27, 64],
  [0x22, 128],
  [0x23, 256],
]);

const signed = (value: number): number => ((value & SIGN) === 0 ? value & ~SIGN : -(value & ~SIGN & 0xffff));

/** The cursor that the pipe shows, or undefined: off, of another mode, or out of bounds. */
export function decodeCursorPlane(registers: RegisterStore, memory: ScanoutMemory, pipe: Pipe): Plane | undefined {
  const get = (register: number): number => registers.get(register + pipe * PIPE_STRIDE);
  const control = get(CURCNTR);
  const width = MODES.get(control & MODE_MASK);
  if (!pipeEnabled(registers, pipe) || width === undefined) return undefined;
  const [position, rows] = [get(CURPOS), get(CUR_FBC_CTL)];
  const plane = {
    pipe,
    format: 'ARGB8888',
    width,
    height: (rows & ENABLE) === 0 ? width : Math.min(width, (rows & 0xff) + 1),
    x: 0,
    y: 0,
    left: signed(position & 0xffff),
    top: signed(position >>> 16),
    rotated: (control & ROTATE_180) !== 0,
    stride: width * 4,
    tiling: 'linear',
    base: surfaceBase(get(CURBASE)),
  } as const;
  return checkedPlane(plane, memory);
}
