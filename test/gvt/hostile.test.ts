/** A guest that writes noise into page tables, contexts, rings and batches, and resets what hangs: at each level of page tracking. */
import t from 'tap';
import { SHADOW_LIMITS } from '../../src/core/gvt/ppgtt/shadow.js';
import { BATCH_END, ENGINE_BASES } from './engine-rig.js';
import { BAR0, BAR2, random } from './memory-backend.js';
import { LEVELS, PpgttRig } from './ppgtt-rig.js';

const PAGE = 4096;
/** Frames: status page, contexts (two each), rings, batches, page tables, data. */
const [STATUS, CONTEXTS, RINGS, BATCHES, TABLES, DATA_FRAMES] = [2, 4, 12, 16, 24, 48] as const;
const TABLE_COUNT = 20;
const ENGINES = 4;
const ROUNDS = 1500;

/** Commands with an effect: opcode in its place, length field, and the dwords that are addresses' low halves. */
const COMMANDS: readonly (readonly [header: number, dwords: number, ...addresses: number[]])[] = [
  [0x1000_0002, 4, 1],
  [0x1020_0003, 5, 1],
  [0x1080_0001, 3],
  [0x1100_0001, 3],
  [0x1200_0002, 4, 2],
  [0x1480_0002, 4, 2],
  [0x1500_0001, 3],
  [0x1300_4002, 4, 1],
  [0x1300_c003, 5, 1],
  [0x1700_0003, 5, 1, 3],
  [0x1880_0101, 3, 1],
  [0x18c0_0101, 3, 1],
  [0x1b20_0002, 4, 2],
  [0x0e00_c002, 4, 2],
  [0x0d00_0003, 5],
  [0x7a00_0004, 6, 2],
  [0x5430_0005, 7, 4],
  [0x54f0_0008, 10, 4, 8],
  [0x5080_0008, 10, 4, 8],
  [0x5440_0006, 8, 4, 6],
  [0x40c0_0001, 3],
];

t.test('noise in everything that a guest owns', async (t) => {
  const commands = new Set<number>();
  for (const level of LEVELS) {
    const r = new PpgttRig(level, { dmaHugePage: true });
    const { f, backend } = r;
    const { gvt, vgpu } = f;
    const next = random(0x0dd_ba11);
    const below = (n: number): number => next() % n;
    const base = vgpu.resources.aperture.start;
    const { words } = backend;
    const gpuAddress = (): number => below(8) * 2 ** 21 + below(8) * PAGE + below(512) * 8;

    const begin = (): void => {
      f.configWrite(0x10, 4, BAR0);
      f.configWrite(0x18, 4, BAR2);
      f.configWrite(0x04, 2, 2);
      f.read(0x7_8000);
      f.map(base, 0, DATA_FRAMES + 16);
      for (const engine of ENGINE_BASES) {
        f.write(engine + 0x80, base + STATUS * PAGE);
        f.write(engine + 0x29c, 0x8000_8000);
        f.write(engine + 0xb4, 0);
      }
      for (let i = 0; i < 3; i++) for (let j = 0; j < 8; j++) r.entry(TABLES + i, j, TABLES + i + 1);
      for (let j = 0; j < 8; j++) r.entry(TABLES + 3, j, BATCHES + j);
      for (let j = 0; j < 8; j++) r.entry(TABLES + 2, j, TABLES + 3 + (j % 2));
      for (let j = 0; j < 8; j++) r.entry(TABLES + 4, j, DATA_FRAMES + j);
    };

    const fill = (frame: number, dwords: number): void => {
      for (let at = 0; at < dwords; ) {
        const [header, length, ...addresses] = COMMANDS[below(COMMANDS.length)] as (typeof COMMANDS)[number];
        const command = new Array<number>(length).fill(0);
        command[0] =
          below(12) === 0 ? next() : (header | (below(6) === 0 ? 1 << 22 : 0) | (below(60) === 0 ? next() & 0x3f_ff00 : 0)) >>> 0;
        for (let i = 1; i < length; i++) command[i] = below(8) === 0 ? next() : below(64);
        for (const i of addresses) {
          const far = below(80) === 0;
          command[i] = far ? next() : below(6) === 0 ? base + below(64) * PAGE + below(512) * 8 : gpuAddress();
          command[i + 1] = far ? next() & 0xffff : 0;
        }
        const register = below(20) === 0 ? 0x2000 + below(1024) * 4 : 0x2600 + below(32) * 4;
        if ([0x22, 0x24, 0x29].includes(header >>> 23)) command[1] = register;
        if (header >>> 23 === 0x2a) command[2] = register;
        if (header >>> 23 === 0x1a) for (let i = 1; i < length; i++) command[i] = (0x0810_8000 | below(16) | (below(2) << 10)) >>> 0;
        if (header >>> 23 === 0x1c && below(4) !== 0) command[0] = (header | (5 << 12)) >>> 0;
        for (const dword of command) if (at < dwords) words[frame * 1024 + at++] = dword;
      }
      if (below(2) === 0) words[frame * 1024 + below(dwords)] = BATCH_END;
    };

    begin();
    let hangs = 0;
    let most = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (let i = below(6); i > 0; i--) {
        const at = (TABLES + below(TABLE_COUNT)) * PAGE + below(64) * 8;
        const low =
          ((below(10) === 0 ? next() : below(DATA_FRAMES + 16) * PAGE) & ~0xfff) | ([0, 1, 3, 3, 3, 0x83, 0x803][below(7)] as number);
        if (below(8) === 0) r.storeHalf(at, low >>> 0);
        else r.store(at, low >>> 0, below(64) === 0 ? next() : 0);
      }
      const engine = below(ENGINES);
      const image = (CONTEXTS + engine * 2 + 1) * 1024;
      fill(RINGS + engine, 200);
      fill(BATCHES + below(8), 300);
      words[image + 5] = below(50) * 8;
      words[image + 7] = below(50) * 8;
      words[image + 9] = base + (RINGS + engine) * PAGE;
      words[image + 11] = below(30) === 0 ? next() : 1;
      words[image + 0x64 / 4] = below(8) === 0 ? next() : 0;
      words[image + 0x6c / 4] = below(8) === 0 ? next() : 0;
      for (let i = 0; i < 8; i++) words[image + (0x94 + i * 8) / 4] = i % 2 === 0 ? 0 : (TABLES + below(TABLE_COUNT)) * PAGE;
      if (below(2) === 0) words[image + 0xcc / 4] = TABLES * PAGE;
      const mode = below(2) === 0 ? 1 << 3 : 3 << 3;
      for (const dword of [0, 0, round, base + (CONTEXTS + engine * 2) * PAGE + 0x101 + mode])
        f.write((ENGINE_BASES[engine] as number) + 0x230, dword);
      for (let slice = below(4); slice > 0; slice--) gvt.runSlice(500);
      most = Math.max(most, r.shadow.frames);
      if (vgpu.submission.hung(engine as 0) !== undefined || below(10) === 0) {
        hangs++;
        f.write(0x941c, below(40) === 0 ? 1 : 0x1e);
        f.write((ENGINE_BASES[engine] as number) + 0x3a0, 0xffff_0505);
        for (const engine of ENGINE_BASES) f.write(engine + 0x29c, 0x8000_8000);
      }
      if (below(100) === 0) f.write(0x7_8818, 2 + below(4));
      if (below(150) === 0) {
        gvt.reset(vgpu);
        t.strictSame([r.shadow.frames, backend.mapped.size, backend.tracked.size], [0, 0, 0], `${level}: reset gives everything back`);
        begin();
      }
    }
    t.equal(gvt.defects, 0, `${level}: ${gvt.lastDefect}`);
    t.notOk(vgpu.failsafe);
    t.ok(hangs > 100, `${level}: ${hangs} resets`);
    t.ok(vgpu.statistics.commands > 3000, `${level}: ${JSON.stringify(vgpu.statistics)}`);
    t.ok(vgpu.statistics.shadowTables > 200, `${level}: ${vgpu.statistics.shadowTables} tables`);
    t.ok(most > 3 && most <= SHADOW_LIMITS.TABLES_MAX, `${level}: at most ${most} frames at once`);
    commands.add(vgpu.statistics.commands);
    gvt.destroyVgpu(vgpu);
    t.strictSame([backend.mapped.size, backend.tracked.size], [0, 0], `${level}: destroyed`);
  }
  t.equal(commands.size, 1, 'the guest sees no difference between the levels');
});
