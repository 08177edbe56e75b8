/** Palette and gamma of a pipe (i915_reg.h: LGC_PALETTE, GAMMA_MODE): 256 entries of 8 bits a colour. */
import type { RegisterStore } from '../roles.js';
import { PIPE_STRIDE, type Pipe } from './pipes.js';

const PALETTE = 0x4_a000;
const PALETTE_STRIDE = 0x800;
const ENTRIES = 256;
/** Pipe A's; bits 1:0: 0 is the palette, others are tables of more bits. */
const GAMMA_MODE = 0x4_a480;
const GAMMA_MODE_STRIDE = 0x800;
const GAMMA_MODE_MASK = 3;
/** DSPCNTR: the plane's colours pass the pipe's gamma. */
const DSPCNTR = 0x7_0180;
const GAMMA_ENABLE = 1 << 30;

/** The palette as pixels of red, green, blue, 255. An entry has red in bits 23:16, green in 15:8, blue in 7:0. */
export function paletteOf(registers: RegisterStore, pipe: Pipe): Uint32Array {
  return Uint32Array.from({ length: ENTRIES }, (_, i) => {
    const entry = registers.get(PALETTE + pipe * PALETTE_STRIDE + 4 * i);
    return 0xff00_0000 | ((entry & 0xff) << 16) | (entry & 0xff00) | ((entry >>> 16) & 0xff);
  });
}

/** The palette when the primary plane's colours pass through it; undefined when they do not, or through a larger table. */
export function gammaOf(registers: RegisterStore, pipe: Pipe): Uint32Array | undefined {
  if ((registers.get(DSPCNTR + pipe * PIPE_STRIDE) & GAMMA_ENABLE) === 0) return undefined;
  if ((registers.get(GAMMA_MODE + pipe * GAMMA_MODE_STRIDE) & GAMMA_MODE_MASK) !== 0) return undefined;
  return paletteOf(registers, pipe);
}

/** Puts each colour of `count` pixels through its column of the palette. */
export function applyGamma(pixels: Uint32Array, from: number, count: number, palette: Uint32Array): void {
  for (let i = from; i < from + count; i++) {
    const pixel = pixels[i] as number;
    pixels[i] =
      0xff00_0000 |
      ((palette[(pixel >>> 16) & 0xff] as number) & 0xff_0000) |
      ((palette[(pixel >>> 8) & 0xff] as number) & 0xff00) |
      ((palette[pixel & 0xff] as number) & 0xff);
  }
}
