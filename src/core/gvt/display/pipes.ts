/** Registers of the pipes (i915_reg.h; Intel OSRC Broadwell vol. 2c) that several parts of the display look at. */
import type { GvtEvent, RegisterStore } from '../roles.js';

export type Pipe = 0 | 1 | 2;
export const PIPES = [0, 1, 2] as const;
/** Bytes between the register blocks of two pipes. */
export const PIPE_STRIDE = 0x1000;

/** Registers of pipe A. */
export const PIPE = {
  VTOTAL: 0x6_000c,
  VBLANK: 0x6_0010,
  SOURCE_SIZE: 0x6_001c,
  TRANSCODER_FUNCTION: 0x6_0400,
  SCAN_LINE: 0x7_0000,
  CONFIG: 0x7_0008,
  FRAME_COUNT: 0x7_0040,
  FLIP_COUNT: 0x7_0044,
} as const;

/** Enable bit of pipes, planes, sprites. */
export const ENABLE = 0x8000_0000;

/** Pipe that a register of the 0x7x000 blocks belongs to. */
export const pipeOf = (offset: number): Pipe => ((offset >>> 12) & 3) as Pipe;

export const pipeEnabled = (registers: RegisterStore, pipe: Pipe): boolean =>
  (registers.get(PIPE.CONFIG + pipe * PIPE_STRIDE) & ENABLE) !== 0;

/** Events of each pipe. */
export const PIPE_EVENTS = [
  { vblank: 'pipe-a.vblank', flip: 'pipe-a.flip', spriteFlip: 'pipe-a.sprite-flip' },
  { vblank: 'pipe-b.vblank', flip: 'pipe-b.flip', spriteFlip: 'pipe-b.sprite-flip' },
  { vblank: 'pipe-c.vblank', flip: 'pipe-c.flip', spriteFlip: 'pipe-c.sprite-flip' },
] as const satisfies readonly Readonly<Record<string, GvtEvent>>[];
