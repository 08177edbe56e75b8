/** Memory in blocks, over whose pages blits go in one piece, against memory of which each page has a view of its own. */
import t from 'tap';
import { makeJob } from '../../src/core/gvt/engine/blit-job.js';
import { isDone, runBlit } from '../../src/core/gvt/engine/blit-rows.js';
import { ROP } from '../../src/core/gvt/engine/rop.js';
import { Tiling } from '../../src/core/gvt/engine/surface.js';
import type { GpuMemory } from '../../src/core/gvt/roles.js';
import { random } from './memory-backend.js';
import { PpgttRig, wide } from './ppgtt-rig.js';

const PAGE = 4096;
const APERTURE = 128 * 0x10_0000;
/** Pages of the surface, and frames that they may lie in; tables of the process lie below. */
const PAGES = 48;
const FIRST_FRAME = 64;
const FRAMES = 1024;
const PT = 19;
const ALL_BITS = 0xffff_ffff;
/** The page that a process may not write. */
const READ_ONLY = 7;

/** A guest with the same surface in its GGTT and in a process: pieces of pages that follow one another, up and down, and alone. */
function guest(seed: number, blocks: boolean): { rig: PpgttRig; memories: readonly GpuMemory[]; bytes: Uint8Array } {
  const rig = new PpgttRig('trap');
  rig.backend.blocks = blocks;
  const next = random(seed);
  const root = rig.tables(16);
  for (let page = 0, frame = 0, left = 0; page < PAGES; page++, left--) {
    if (left <= 0) {
      frame = FIRST_FRAME + (next() % (FRAMES - PAGES));
      left = 1 + (next() % 12);
    }
    const at = left > 10 ? frame-- : frame++;
    rig.f.map(APERTURE + page * PAGE, at);
    rig.entry(PT, page, at, page === READ_ONLY ? 1 : 3);
  }
  const { words } = rig.backend;
  for (let i = FIRST_FRAME * 1024; i < (FIRST_FRAME + FRAMES) * 1024; i++) words[i] = next();
  return {
    rig,
    memories: [rig.f.vgpu.ggtt, rig.space(root)],
    bytes: new Uint8Array(words.buffer, words.byteOffset, words.byteLength),
  };
}

t.test('blits', async (t) => {
  const COLOURS = [0, ALL_BITS, 0x8080_8080, 0x0000_00ff, 0x0102_0304];
  for (let seed = 1; seed <= 40; seed++) {
    const [whole, single] = [guest(seed, true), guest(seed, false)];
    const next = random(seed * 77);
    for (const [space, base] of [
      [0, APERTURE],
      [1, 0],
    ] as const)
      for (let i = 0; i < 6; i++) {
        const pitch = ([512, 4096, 4096 * 3, 1024 + 64] as const)[next() % 4] as number;
        const rows = 1 + (next() % Math.floor((20 * PAGE) / pitch));
        const across = next() % 3 === 0 ? pitch / 4 : 1 + (next() % (pitch / 4));
        const target = { base: base + (next() % 64) * 4, pitch, tiling: Tiling.LINEAR, x1: 0, y1: 0, x2: across, y2: rows };
        const from = i % 2 === 0 ? undefined : { ...target, base: base + (24 + (next() % 3)) * PAGE + (next() % 16), x: 0, y: 0 };
        const operation = {
          rop: from === undefined ? ROP.PATCOPY : ROP.SRCCOPY,
          color: COLOURS[next() % COLOURS.length] as number,
          depth: 4,
          mask: ALL_BITS,
        };
        const budget = 1 + (next() % 100);
        for (const { memories } of [whole, single]) {
          const job = makeJob(target, from, operation);
          if (typeof job === 'string') throw new Error(job);
          while (!isDone(job)) if (runBlit(job, memories[space] as GpuMemory, budget) < 0) throw new Error('not mapped');
        }
      }
    if (Buffer.compare(whole.bytes, single.bytes) !== 0) t.fail(`seed ${seed}: the pictures differ`);
    t.equal(whole.rig.backend.mapped.size, single.rig.backend.mapped.size, 'and the same frames are mapped');
  }
});

t.test('how far a piece goes', async (t) => {
  const { rig } = guest(1, true);
  const { ggtt } = rig.f.vgpu;
  for (const [page, frame] of [100, 101, 102, 200, 201, 199].entries()) {
    rig.f.map(APERTURE + page * PAGE, frame);
    rig.entry(PT, page, frame, page === 1 ? 1 : 3);
  }
  const space = rig.space(wide(16));
  const run = (memory: GpuMemory, address: number, length: number, write = false): number => {
    const first = write ? memory.pageToWrite(address) : memory.page(address);
    return first === undefined ? -1 : memory.run(first, address, length, write);
  };
  for (const [memory, base] of [
    [ggtt, APERTURE],
    [space, 0],
  ] as const) {
    t.equal(run(memory, base, 6 * PAGE), 3 * PAGE);
    t.equal(run(memory, base + 100, 2 * PAGE), 2 * PAGE, 'as much as is asked for');
    t.equal(run(memory, base + 100, 6 * PAGE), 3 * PAGE - 100);
    t.equal(run(memory, base + 3 * PAGE, 6 * PAGE), 2 * PAGE);
    t.equal(run(memory, base + 5 * PAGE + 4, 8), 8);
  }
  t.equal(run(space, 0, 6 * PAGE, true), PAGE, 'not into a page that is read-only');
  t.equal(run(space, PAGE, 6 * PAGE, true), PAGE, 'nor out of it');
  const edge = APERTURE + 64 * 0x10_0000 - PAGE;
  rig.f.map(edge, 300);
  t.equal(run(ggtt, edge, 2 * PAGE), PAGE, 'the aperture ends');
});
