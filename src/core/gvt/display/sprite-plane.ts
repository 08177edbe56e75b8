/** The sprite (overlay) plane of a pipe, which lies on the primary one (i915_reg.h: SPRCTL, …; facts: gvt.md 4.15). */
import type { RegisterStore, ScanoutMemory } from '../roles.js';
import { ENABLE, PIPE_STRIDE, type Pipe, pipeEnabled } from './pipes.js';
import { checkedPlane, type Plane, type PlaneFormatName, surfaceBase } from './plane.js';

/** Registers of pipe A. */
const SPRCTL = 0x7_0280;
const SPRSTRIDE = 0x7_0288;
/** Place on the screen: y in bits 31:16, x in 15:0. Size, less 1, and first pixel in the same way. */
const SPRPOS = 0x7_028c;
const SPRSIZE = 0x7_0290;
const SPRSURF = 0x7_029c;
const SPROFFSET = 0x7_02a4;
const OFFSET_MASK = 0x1fff;
const SIZE_MASK = 0x1fff;
const TILED_X = 1 << 10;
const ROTATE_180 = 1 << 15;
/** Red is in the lowest bits. */
const ORDER_RGBX = 1 << 20;

/** SPRCTL bits 27:25; without and with `ORDER_RGBX`. Packed YUV (0) and 16 bits a colour (3) are not decoded. */
const FORMATS: Readonly<Record<number, readonly [PlaneFormatName, PlaneFormatName]>> = {
  1: ['XRGB2101010', 'XBGR2101010'],
  2: ['XRGB8888', 'XBGR8888'],
};

/** The sprite that the pipe shows, or undefined: off, of a format that is not decoded, or out of bounds. */
export function decodeSpritePlane(registers: RegisterStore, memory: ScanoutMemory, pipe: Pipe): Plane | undefined {
  const get = (register: number): number => registers.get(register + pipe * PIPE_STRIDE);
  const control = get(SPRCTL);
  if (!pipeEnabled(registers, pipe) || (control & ENABLE) === 0) return undefined;
  const format = FORMATS[(control >>> 25) & 7]?.[(control & ORDER_RGBX) === 0 ? 0 : 1];
  if (format === undefined) return undefined;
  const [offset, position, size] = [get(SPROFFSET), get(SPRPOS), get(SPRSIZE)];
  const plane = {
    pipe,
    format,
    width: (size & SIZE_MASK) + 1,
    height: ((size >>> 16) & SIZE_MASK) + 1,
    x: offset & OFFSET_MASK,
    y: (offset >>> 16) & OFFSET_MASK,
    left: position & 0xffff,
    top: position >>> 16,
    rotated: (control & ROTATE_180) !== 0,
    stride: get(SPRSTRIDE),
    tiling: (control & TILED_X) === 0 ? 'linear' : 'x',
    base: surfaceBase(get(SPRSURF)),
  } as const;
  return checkedPlane(plane, memory);
}
