/** `copies read|write LENGTH`: read_gpa and write_gpa with all their checks, between guest RAM and a heap buffer. */
import { Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import type { MptHandle } from '../../src/core/mpt-handle.js';
import { openHandle, RAM_SIZE } from './guest.js';
import { nowNs, type Open } from './sample.js';

/** As in bench/baseline/copies.c. */
const FIRST = 0x10_0000;
/** Lengths that a device model copies: all run before the measuring, so that the code is compiled for all of them. */
const LENGTHS = [1, 2, 4, 8, 12, 16, 64, 300, PAGE_SIZE, 0x1_0000, 0x10_0000];

export const open: Open = ([direction, text]) => {
  const { handle } = openHandle();
  const length = Number(text);
  const places = length <= PAGE_SIZE ? 4 : 1;
  handle.writeGpa(Gpa(FIRST), new Uint8Array(RAM_SIZE - FIRST).fill(0x5a));
  mixedUse(handle);
  const buffer = new Uint8Array(length).fill(0xa5);
  if (direction === 'read')
    return (count) => {
      const start = nowNs();
      for (let i = 0; i < count; i++) handle.readGpa(Gpa(FIRST + (i & (places - 1)) * PAGE_SIZE), buffer);
      return nowNs() - start;
    };
  return (count) => {
    const start = nowNs();
    for (let i = 0; i < count; i++) handle.writeGpa(Gpa(FIRST + (i & (places - 1)) * PAGE_SIZE), buffer);
    return nowNs() - start;
  };
};

/** What the engines and the submission do with guest memory: parts of buffers, all lengths, any alignment. */
function mixedUse(handle: MptHandle): void {
  const buffer = new Uint8Array(0x20_0000);
  for (let round = 0; round < 2000; round++)
    for (const length of LENGTHS) {
      if (length > PAGE_SIZE && round % 100 !== 0) continue;
      const gpa = Gpa(FIRST + (round & 7) * 516 + (round & 1));
      handle.readGpa(gpa, buffer, round & 63, length);
      handle.writeGpa(gpa, buffer, round & 63, length);
    }
}
