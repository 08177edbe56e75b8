/**
 * `ggtt store`: a guest's 8-byte store to a GGTT entry, without the exit. `ggtt use`: with the first use of the page, for which it is mapped, and which the
 * next store to the entry unmaps.
 */
import type { Gpa } from '../../../src/core/addresses.js';
import { nowNs, type Open } from '../../ours/sample.js';
import { BAR0, openVgpu, PAGE } from './vgpu.js';

/** As in bench/baseline/gvt/ggtt.c. */
const RAM_BYTES = 16 << 20;
const FRAMES = 1024;
const ENTRIES = 512;

export const open: Open = ([what]) => {
  const { gvt, vgpu } = openVgpu(RAM_BYTES);
  const { id, ggtt } = vgpu;
  const aperture = vgpu.resources.aperture.start;
  const used = what === 'use';
  const first = BAR0 + 0x80_0000 + (vgpu.resources.aperture.start / PAGE) * 8;
  const value = new Uint32Array(2);
  let turn = 0;
  // Nothing follows the loop in its function: V8 would compile what it has not run yet as an exit, and take it each time.
  const store = (count: number): void => {
    for (let i = 0; i < count; i++, turn++) {
      value[0] = (turn % FRAMES) * PAGE + 1;
      if (gvt.emulateMmioWrite(id, (first + (turn % ENTRIES) * 8) as Gpa, value, 8) !== 0) throw new Error('refused');
      if (used && ggtt.page(aperture + (turn % ENTRIES) * PAGE) === undefined) throw new Error('not mapped');
    }
  };
  return (count) => {
    const start = nowNs();
    store(count);
    return nowNs() - start;
  };
};
