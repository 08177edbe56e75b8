/**
 * `ppgtt build MIB`: the shadow of page tables that map so much, as the engine reaches page after page. `ppgtt resync CHANGED`: a table that
 * is written while nobody tracks it, compared at a synchronisation, and what changed reached again.
 */
import { Gfn, type Gpa, gfnToGpa } from '../../../src/core/addresses.js';
import type { GpuMemory, PpgttRoot } from '../../../src/core/gvt/roles.js';
import { nowNs, type Open } from '../../ours/sample.js';
import { openVgpu, PAGE } from './vgpu.js';

/** As in bench/baseline/gvt/ppgtt.c. */
const RAM_BYTES = 256 << 20;
const TABLES = 0x1000;
const DATA = 0x4000;
const DATA_FRAMES = 0x8000;
const ENTRIES = 512;

/** The first pages of an address space. In a function of its own, see ggtt.ts. */
function reach(space: GpuMemory, pages: number): void {
  for (let page = 0; page < pages; page++) if (space.page(page * PAGE) === undefined) throw new Error(`page ${page} is not mapped`);
}

export const open: Open = ([what, argument]) => {
  const number = Number(argument);
  const tables = what === 'build' ? number / 2 : 1;
  const { vgpu, gvt, ram } = openVgpu(RAM_BYTES);
  const { ppgtt, id } = vgpu;
  const entriesOf = (first: number, count: number): Uint32Array => {
    const words = new Uint32Array(count * 2);
    for (let i = 0; i < count; i++) words[i * 2] = (first + i) * PAGE + 3;
    return words;
  };
  for (let level = 0; level < 2; level++) ram((TABLES + level) * PAGE, entriesOf(TABLES + level + 1, 1));
  ram((TABLES + 2) * PAGE, entriesOf(TABLES + 3, tables));
  for (let i = 0; i < tables; i++) ram((TABLES + 3 + i) * PAGE, entriesOf(DATA + ((i * ENTRIES) % DATA_FRAMES), ENTRIES));
  const root: PpgttRoot = { wide: true, directories: [Gfn(TABLES), 0, 0, 0] };

  if (what === 'build') {
    const each = tables * ENTRIES;
    return (count) => {
      const rounds = Math.ceil(count / each);
      let ns = 0;
      for (let round = 0; round < rounds; round++) {
        const start = nowNs();
        ppgtt.synchronise();
        reach(ppgtt.space(root), each);
        ns += nowNs() - start;
        ppgtt.invalidate();
      }
      return (ns / rounds / each) * count;
    };
  }

  const table = TABLES + 3;
  const space = ppgtt.space(root);
  for (let page = 0; page < ENTRIES; page++) space.page(page * PAGE);
  // Trapped writes put the table out of sync; from then on it is compared.
  const value = new Uint32Array([DATA * PAGE + 3, 0]);
  for (let i = 0; i < 3; i++) gvt.writeProtectHandler(id, gfnToGpa(Gfn(table)), value, 8);
  const versions = [0, ENTRIES].map((first) => new Uint8Array(entriesOf(DATA + first, number).buffer));
  let round = 0;
  return (count) => {
    let ns = 0;
    for (let i = 0; i < count; i++) {
      if (number > 0) vgpu.handle.writeGpa((table * PAGE) as Gpa, versions[round++ & 1] as Uint8Array);
      const start = nowNs();
      ppgtt.synchronise();
      reach(ppgtt.space(root), number);
      ns += nowNs() - start;
    }
    return ns;
  };
};
