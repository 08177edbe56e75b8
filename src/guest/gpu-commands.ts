/** Encoding of the commands that the guest driver emits (facts: gvt.md 8.6; gen8 blitter encodings). */
import type { Blit } from './test-card.js';

export const MI = {
  NOOP: 0,
  USER_INTERRUPT: 0x0100_0000,
  BATCH_BUFFER_END: 0x0500_0000,
  /** Three dwords; bit 8 clear: the address is a GGTT address. */
  BATCH_BUFFER_START_GGTT: 0x1880_0001,
  /** Four dwords, post-sync operation "write immediate dword" (bit 14). */
  FLUSH_DW_STORE: 0x1300_4002,
  /** In FLUSH_DW's address dword: the address is a GGTT address. */
  FLUSH_DW_GGTT: 1 << 2,
} as const;

/** 2D commands, client 2: opcode, byte write enables for 32 bits per pixel, length. */
const XY_COLOR_BLT = 0x5400_0000 | (3 << 20) | 5;
const XY_SRC_COPY_BLT = 0x54c0_0000 | (3 << 20) | 8;
/** 32 bits per pixel in bits 25:24, raster operation in 23:16. */
const COLOR_32 = 3 << 24;
const PATCOPY = 0xf0 << 16;
const SRCCOPY = 0xcc << 16;

const corner = (x: number, y: number): number => (y << 16) | x;

/** The blits as a batch that ends with MI_BATCH_BUFFER_END, padded to a qword. @param pitch bytes a row */
export function batchOf(blits: readonly Blit[], framebuffer: number, pitch: number): number[] {
  const dwords: number[] = [];
  for (const blit of blits) {
    const rectangle = [corner(blit.x1, blit.y1), corner(blit.x2, blit.y2), framebuffer, 0];
    if (blit.op === 'fill') dwords.push(XY_COLOR_BLT, COLOR_32 | PATCOPY | pitch, ...rectangle, blit.color);
    else dwords.push(XY_SRC_COPY_BLT, COLOR_32 | SRCCOPY | pitch, ...rectangle, corner(blit.sx, blit.sy), pitch, framebuffer, 0);
  }
  dwords.push(MI.BATCH_BUFFER_END);
  if (dwords.length % 2 !== 0) dwords.push(MI.NOOP);
  return dwords;
}
