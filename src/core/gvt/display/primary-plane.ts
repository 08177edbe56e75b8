/** The primary plane of a pipe: what its registers say (facts: gvt.md 4.15; i915_reg.h: DSPCNTR, …). It fills the screen. */
import type { RegisterStore, ScanoutMemory } from '../roles.js';
import { ENABLE, PIPE, PIPE_STRIDE, type Pipe, pipeEnabled } from './pipes.js';
import { checkedPlane, type Plane, type PlaneFormatName, surfaceBase } from './plane.js';

/** Registers of pipe A. */
const DSPCNTR = 0x7_0180;
const DSPSTRIDE = 0x7_0188;
const DSPSURF = 0x7_019c;
/** First pixel shown: y in bits 28:16, x in 12:0. */
const DSPOFFSET = 0x7_01a4;
const OFFSET_MASK = 0x1fff;
const TILED_X = 1 << 10;
const ROTATE_180 = 1 << 15;

/** DSPCNTR bits 29:26. */
const FORMATS: Readonly<Record<number, PlaneFormatName>> = {
  2: 'C8',
  5: 'RGB565',
  6: 'XRGB8888',
  8: 'XBGR2101010',
  10: 'XRGB2101010',
  14: 'XBGR8888',
};

/** Pixels of the pipe's picture. */
export function screenSize(registers: RegisterStore, pipe: Pipe): { readonly width: number; readonly height: number } {
  const source = registers.get(PIPE.SOURCE_SIZE + pipe * PIPE_STRIDE);
  return { width: ((source >>> 16) & 0xffff) + 1, height: (source & 0xffff) + 1 };
}

/** The plane that the pipe shows, or undefined: off, of a format that is not decoded, or out of bounds. */
export function decodePrimaryPlane(registers: RegisterStore, memory: ScanoutMemory, pipe: Pipe): Plane | undefined {
  const get = (register: number): number => registers.get(register + pipe * PIPE_STRIDE);
  const control = get(DSPCNTR);
  if (!pipeEnabled(registers, pipe) || (control & ENABLE) === 0) return undefined;
  const format = FORMATS[(control >>> 26) & 0xf];
  if (format === undefined) return undefined;
  const offset = get(DSPOFFSET);
  const plane = {
    pipe,
    format,
    ...screenSize(registers, pipe),
    x: offset & OFFSET_MASK,
    y: (offset >>> 16) & OFFSET_MASK,
    left: 0,
    top: 0,
    rotated: (control & ROTATE_180) !== 0,
    stride: get(DSPSTRIDE),
    tiling: (control & TILED_X) === 0 ? 'linear' : 'x',
    base: surfaceBase(get(DSPSURF)),
  } as const;
  return checkedPlane(plane, memory);
}
