/** `ggtt`: a guest's 8-byte store to a GGTT entry, from the access to the mapped page, without the exit. */
import type { Gpa } from '../../../src/core/addresses.js';
import { nowNs, type Open } from '../../ours/sample.js';
import { BAR0, openVgpu, PAGE } from './vgpu.js';

/** As in bench/baseline/gvt/ggtt.c. */
const RAM_BYTES = 16 << 20;
const FRAMES = 1024;
const ENTRIES = 512;

export const open: Open = () => {
  const { gvt, vgpu } = openVgpu(RAM_BYTES);
  const { id } = vgpu;
  const first = BAR0 + 0x80_0000 + (vgpu.resources.aperture.start / PAGE) * 8;
  const value = new Uint32Array(2);
  let turn = 0;
  // Nothing follows the loop in its function: V8 would compile what it has not run yet as an exit, and take it each time.
  const store = (count: number): void => {
    for (let i = 0; i < count; i++, turn++) {
      value[0] = (turn % FRAMES) * PAGE + 1;
      if (gvt.emulateMmioWrite(id, (first + (turn % ENTRIES) * 8) as Gpa, value, 8) !== 0) throw new Error('refused');
    }
  };
  return (count) => {
    const start = nowNs();
    store(count);
    return nowNs() - start;
  };
};
