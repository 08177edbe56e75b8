/** Per-process page tables: the walk, both levels of page tracking and none, sharing, what is given back, hostile tables. */

import t, { type Test } from 'tap';
import { Gfn, type Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import { SHADOW_LIMITS } from '../../src/core/gvt/ppgtt/shadow.js';
import { Status } from '../../src/core/gvt-ops.js';
import { random } from './memory-backend.js';
import { view } from './page-bytes.js';
import { IPS, LARGE, LEVELS, narrow, PpgttRig, PRESENT, WRITABLE, wide } from './ppgtt-rig.js';

/** Nothing of the guest's is held any more. */
function mustBeFree(t: Test, r: PpgttRig, what: string): void {
  t.strictSame([r.shadow.frames, r.backend.tracked.size, r.backend.mapped.size, r.shadow.parts.mappedPages], [0, 0, 0, 0], what);
}

t.test('a 48-bit walk, each level by its own index', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level);
    // Address bits 47:39, 38:30, 29:21, 20:12.
    const [i4, i3, i2, i1] = [0x1fe, 0x0aa, 0x155, 0x1ff];
    r.entry(16, i4, 17);
    r.entry(17, i3, 18);
    r.entry(18, i2, 19);
    r.entry(19, i1, 20);
    const address = i4 * 2 ** 39 + i3 * 2 ** 30 + i2 * 2 ** 21 + i1 * 2 ** 12;
    t.equal(r.at(wide(16), address), r.mark(20), `${level}`);
    t.equal(view(r.space(wide(16)).page(address + 0xabc))?.bytes.length, PAGE_SIZE);
    for (const other of [0, address + PAGE_SIZE, address - PAGE_SIZE, address % 2 ** 39, 2 ** 48 + address, -1, Number.NaN, 2 ** 60])
      t.equal(r.at(wide(16), other), undefined, `${level}: ${other}`);
    t.equal(r.shadow.frames, 4);
    t.equal(r.backend.tracked.size, level === null ? 0 : 4);
    t.equal(r.backend.mapped.size, 1, 'only what was reached is mapped');
    r.f.gvt.reset(r.f.vgpu);
    mustBeFree(t, r, `${level}: device reset`);
  }
});

t.test('a 32-bit walk: four directories of 1 GiB', async (t) => {
  const r = new PpgttRig('sync');
  for (let i = 0; i < 4; i++) {
    r.entry(16 + i, 3 + i, 30 + i);
    r.entry(30 + i, 5, 40 + i);
  }
  const root = narrow(16, 17, 18, 19);
  for (let i = 0; i < 4; i++) t.equal(r.at(root, i * 2 ** 30 + (3 + i) * 2 ** 21 + 5 * 4096), r.mark(40 + i));
  t.equal(r.at(root, 2 ** 32 + 3 * 2 ** 21 + 5 * 4096), undefined, '32 bits');
  t.equal(r.at(narrow(0, 17), 3 * 2 ** 21 + 5 * 4096), undefined, 'a directory that is not there');
});

t.test('entries that are not present, at each level; large pages where there are none', async (t) => {
  for (let missing = 0; missing < 4; missing++) {
    const r = new PpgttRig('sync');
    const root = r.tables(16);
    r.entry(19, 0, 20);
    t.equal(r.at(root, 0), r.mark(20));
    r.entry(16 + missing, 0, 17 + missing, WRITABLE);
    t.equal(r.at(root, 0), undefined, `level ${4 - missing}`);
    r.entry(16 + missing, 0, 17 + missing);
    t.equal(r.at(root, 0), r.mark(20));
  }
  const r = new PpgttRig('sync');
  r.entry(16, 0, 17);
  r.entry(17, 0, 0, PRESENT | LARGE);
  t.equal(r.at(wide(16), 0), undefined, '1 GiB');
  t.match(r.f.mistakes, [/large page/]);
});

t.test('frames that are not memory: no page, one mistake', async (t) => {
  const r = new PpgttRig('trap');
  const root = r.tables(16);
  r.entry(19, 0, 0x9_0000);
  t.equal(r.at(root, 0), undefined);
  t.match(r.f.mistakes.pop(), /frame 0x90000 is not guest memory/);
  r.entry(18, 1, 0x9_0000);
  t.equal(r.at(root, 2 ** 21), undefined);
  t.match(r.f.mistakes.pop(), /the table at frame 0x90000/);
  t.equal(r.shadow.frames, 4, 'and no table');
  t.equal(r.at(wide(0x9_0000), 0), undefined, 'a root');
  t.equal(r.backend.mapped.size, 0);
});

t.test('64 KiB pages: each sixteenth entry stands for sixteen pages', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level);
    const root = r.tables(16);
    r.entry(18, 0, 19, PRESENT | WRITABLE | IPS);
    r.entry(19, 0, 64);
    r.entry(19, 16, 96);
    r.entry(19, 17, 200);
    for (let i = 0; i < 32; i++) t.equal(r.at(root, i * 4096), r.mark(i < 16 ? 64 + i : 80 + i), `${level} page ${i}`);
    t.equal(r.backend.mapped.size, 32);
    r.entry(19, 0, 112);
    t.equal(r.at(root, 3 * 4096), r.mark(115));
    r.entry(19, 5, 7, 0);
    t.equal(r.at(root, 5 * 4096), r.mark(117), 'the others do not count');
    t.equal(r.backend.mapped.size, 18, 'the sixteen were given back');
    // The same frame as a table of 4 KiB pages, at another address.
    r.entry(18, 1, 19);
    t.equal(r.at(root, 2 ** 21 + 17 * 4096), r.mark(200));
    t.equal(r.at(root, 17 * 4096), r.mark(97));
    t.equal(r.shadow.frames, 4);
  }
});

t.test('2 MiB pages: one mapping where the hypervisor can, else one for each page reached', async (t) => {
  for (const dmaHugePage of [true, false]) {
    const r = new PpgttRig('sync', { dmaHugePage });
    const root = r.tables(16);
    r.entry(18, 2, 512, PRESENT | WRITABLE | LARGE);
    for (const page of [0, 1, 300, 511]) t.equal(r.at(root, 2 * 2 ** 21 + page * 4096), r.mark(512 + page), `page ${page}`);
    t.strictSame([...r.backend.mapped.values()], dmaHugePage ? [0x20_0000] : [4096, 4096, 4096, 4096]);
    // Bit 12 of such an entry is no address.
    r.store(18 * PAGE_SIZE + 16, (1024 * PAGE_SIZE + (1 << 12) + (PRESENT | WRITABLE | LARGE)) >>> 0);
    t.equal(r.at(root, 2 * 2 ** 21 + 4096), r.mark(1025));
    t.equal(r.backend.mapped.size, 1);
    // Not whole in RAM: each page for itself, those that are.
    r.entry(18, 2, 0x2_0000, PRESENT | WRITABLE | LARGE);
    t.ok(r.space(root).page(2 * 2 ** 21 + 4096), 'in the small region');
    t.equal(r.at(root, 2 * 2 ** 21 + 0x10_0000), undefined, 'behind it');
    r.ppgtt.clear();
    mustBeFree(t, r, 'cleared');
  }
});

t.test('a page that is mapped as 4 KiB first cannot always become a large one: it is split', async (t) => {
  const r = new PpgttRig('sync', { dmaHugePage: true });
  const root = r.tables(16);
  r.entry(19, 0, 512);
  t.equal(r.at(root, 0), r.mark(512));
  r.entry(18, 1, 512, PRESENT | WRITABLE | LARGE);
  t.equal(r.at(root, 2 ** 21), r.mark(512));
  t.equal(r.at(root, 2 ** 21 + 4096), r.mark(513));
  r.ppgtt.clear();
  mustBeFree(t, r, 'references are exact');
});

t.test('shared tables: one shadow, counted', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level);
    const root = r.tables(16);
    r.entry(19, 0, 20);
    for (const index of [1, 2]) r.entry(18, index, 19);
    r.entry(17, 1, 18);
    // A second process shares the directory pointers.
    r.entry(24, 0, 17);
    for (const address of [0, 2 ** 21, 2 * 2 ** 21, 2 ** 30 + 2 ** 21]) {
      t.equal(r.at(root, address), r.mark(20));
      t.equal(r.at(wide(24), address), r.mark(20));
    }
    t.equal(r.shadow.frames, 5);
    r.entry(19, 0, 21);
    for (const address of [0, 2 ** 21, 2 ** 30 + 2 ** 21]) t.equal(r.at(wide(24), address), r.mark(21), 'a change shows everywhere');
    r.entry(18, 1, 0, 0);
    t.equal(r.at(root, 2 ** 21), undefined);
    t.equal(r.at(wide(24), 0), r.mark(21));
    t.equal(r.shadow.frames, 5, 'others still lead there');
    r.entry(16, 0, 0, 0);
    t.equal(r.at(root, 0), undefined);
    t.equal(r.shadow.frames, 5);
    r.entry(24, 0, 0, 0);
    t.equal(r.at(wide(24), 0), undefined);
    t.equal(r.shadow.frames, 2, 'nobody leads there: only the roots are left');
    t.equal(r.backend.mapped.size, 0);
  }
});

t.test('a changed entry is not seen through what was cached before', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level);
    const root = r.tables(16);
    for (let i = 0; i < 512; i++) r.entry(19, i, 32 + (i % 64));
    const next = random(0x7711);
    for (let round = 0; round < 400; round++) {
      const index = next() % 512;
      const gfn = 32 + (next() % 64);
      r.entry(19, index, gfn);
      if (next() % 16 === 0) r.entry(18, 0, 19, PRESENT | (next() % 2 === 0 ? WRITABLE : 0));
      if (r.at(root, index * 4096) !== r.mark(gfn)) t.fail(`${level} round ${round}`);
    }
    t.ok(r.backend.mapped.size <= 64, 'a frame is mapped once');
    r.ppgtt.clear();
    mustBeFree(t, r, `${level}`);
  }
});

t.test('read-only pages: writes go nowhere', async (t) => {
  const r = new PpgttRig('sync');
  const root = r.tables(16);
  r.entry(19, 0, 20, PRESENT);
  r.entry(19, 1, 20);
  const space = r.space(root);
  t.equal(space.page(0)?.load32(1023 * 4), r.mark(20));
  space.pageToWrite(0)?.store32(4092, 7);
  t.equal(r.at(root, 0), r.mark(20));
  t.equal(view(space.pageToWrite(4096))?.bytes, view(space.page(4096))?.bytes, 'the same frame through an entry that allows it');
  r.entry(18, 0, 19, PRESENT);
  r.space(root).pageToWrite(4096)?.store32(4092, 8);
  t.equal(r.backend.words[20 * 1024 + 1023], 0x5000_0014, 'a directory’s entry counts as well');
});

t.test('half-written entries lead nowhere until the next synchronisation', async (t) => {
  const r = new PpgttRig('trap');
  const root = r.tables(16);
  r.entry(19, 0, 20);
  r.entry(19, 1, 21);
  t.equal(r.at(root, 0), r.mark(20));
  const at = 19 * PAGE_SIZE;
  r.storeHalf(at, ((22 << 12) | 3) >>> 0);
  const space = r.ppgtt.space(root);
  t.equal(space.page(0), undefined, 'low half');
  r.storeHalf(at + 4, 0);
  t.equal(space.page(0), undefined, 'both, but one by one');
  t.equal(space.page(4096)?.load32(1023 * 4), r.mark(21), 'its neighbour is not concerned');
  t.equal(r.at(root, 0), r.mark(22), 'synchronised');
  // A whole entry needs no synchronisation, even after a half.
  const other = new PpgttRig('trap');
  const second = other.tables(16);
  other.entry(19, 0, 20);
  t.equal(other.at(second, 0), other.mark(20));
  other.storeHalf(at, 0);
  other.entry(19, 0, 23);
  t.equal(
    other.ppgtt
      .space(second)
      .page(0)
      ?.load32(1023 * 4),
    other.mark(23),
  );
  // Any other write is a torn one.
  const third = new PpgttRig('trap');
  const odd = third.tables(16);
  third.entry(19, 0, 20);
  t.equal(third.at(odd, 0), third.mark(20));
  third.storeByte(at + 1, (24 << 4) & 0xff);
  t.equal(third.ppgtt.space(odd).page(0), undefined);
  t.notOk(third.at(odd, 0) === third.mark(20));
});

t.test('level trap: a leaf table that is written often is no longer tracked, until it is quiet again', async (t) => {
  const r = new PpgttRig('trap');
  const root = r.tables(16);
  r.entry(19, 0, 20);
  t.equal(r.at(root, 0), r.mark(20));
  for (let i = 0; i < SHADOW_LIMITS.OUT_OF_SYNC_WRITES; i++) r.entry(19, 1 + i, 21);
  t.notOk(r.backend.tracked.has(19), 'out of sync');
  const { shadowWrites } = r.f.vgpu.statistics;
  for (let i = 0; i < 100; i++) r.entry(19, i, 30 + (i % 4));
  t.equal(r.f.vgpu.statistics.shadowWrites, shadowWrites, 'no trap any more');
  for (let i = 0; i < 100; i++) t.equal(r.at(root, i * 4096), r.mark(30 + (i % 4)));
  for (let i = 0; i < SHADOW_LIMITS.QUIET_SYNCS; i++) r.ppgtt.synchronise();
  t.ok(r.backend.tracked.has(19), 'quiet');
  r.entry(19, 7, 40);
  t.equal(
    r.ppgtt
      .space(root)
      .page(7 * 4096)
      ?.load32(1023 * 4),
    r.mark(40),
    'and what is written is reported',
  );
  // Directories stay tracked, however often they are written.
  for (let i = 0; i < 20; i++) r.entry(18, 9, 19);
  t.ok(r.backend.tracked.has(18));
});

t.test('a frame that cannot be tracked is compared each time', async (t) => {
  for (const level of ['trap', 'sync'] as const) {
    const r = new PpgttRig(level);
    const root = r.tables(16);
    r.entry(19, 0, 20);
    r.backend.broken.add('track');
    t.equal(r.at(root, 0), r.mark(20));
    t.equal(r.backend.tracked.size, 0);
    r.entry(19, 0, 21);
    t.equal(r.at(root, 0), r.mark(21));
    r.ppgtt.clear();
    mustBeFree(t, r, level);
  }
});

t.test('announced roots', async (t) => {
  const r = new PpgttRig('sync');
  const { f, ppgtt } = r;
  const announce = (code: number, gfn: number): void => {
    f.write(0x7_8838, gfn * 4096);
    f.write(0x7_883c, 0);
    f.write(0x7_8818, code);
  };
  const root = r.tables(16);
  r.entry(19, 0, 20);
  announce(4, 16);
  announce(4, 16);
  t.equal(ppgtt.announced, 1);
  t.equal(r.at(root, 0), r.mark(20));
  announce(5, 16);
  t.equal(r.shadow.frames, 4, 'announced twice');
  announce(5, 16);
  t.equal(ppgtt.announced, 0);
  mustBeFree(t, r, 'the last notification gives its tables back');
  t.equal(f.mistakes.length, 0);
  announce(5, 16);
  announce(4, 0x9_0000);
  announce(4, 0);
  t.equal(f.mistakes.length, 3, 'unknown, not memory, none');
  f.write(0x7_8840, 17 * 4096);
  announce(2, 16);
  t.equal(ppgtt.announced, 1);
  announce(3, 16);
  t.equal(ppgtt.announced, 0);
  // Nobody announced it: a context's word is enough.
  t.equal(r.at(root, 0), r.mark(20));
  // A full GT reset gives the tables back and remembers the roots.
  announce(4, 16);
  f.write(0x941c, 1);
  mustBeFree(t, r, 'GT reset');
  t.equal(ppgtt.announced, 1);
  f.gvt.reset(f.vgpu);
  t.equal(ppgtt.announced, 0);
});

t.test('destroying the vGPU gives everything back', async (t) => {
  const r = new PpgttRig('trap', { dmaHugePage: true });
  const root = r.tables(16);
  r.entry(19, 0, 20);
  r.entry(18, 1, 512, PRESENT | LARGE);
  t.equal(r.at(root, 0), r.mark(20));
  t.equal(r.at(root, 2 ** 21), r.mark(512));
  const space = r.ppgtt.space(root);
  r.f.gvt.destroyVgpu(r.f.vgpu);
  mustBeFree(t, r, 'destroyed');
  t.equal(space.page(0), undefined);
});

t.test('address spaces that were not used for long give their tables back, and have them again when they are', async (t) => {
  const r = new PpgttRig('sync');
  r.entry(19, 0, 20);
  r.entry(18, 0, 19);
  r.entry(17, 0, 18);
  const first = r.space(wide(100));
  for (let i = 0; i < 60; i++) {
    r.entry(100 + i, 0, 17);
    t.equal(r.at(wide(100 + i), 0), r.mark(20));
  }
  t.equal(r.ppgtt.spaces, 32);
  t.equal(r.shadow.frames, 35);
  t.equal(first.page(0)?.load32(1023 * 4), r.mark(20), 'an engine that still goes by an evicted one');
  t.equal(r.ppgtt.spaces, 32);
  r.ppgtt.clear();
  mustBeFree(t, r, 'none is forgotten');
});

t.test('a table that contains itself', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level);
    for (let i = 0; i < 512; i++) r.entry(16, i, 16);
    const next = random(0x5e1f);
    for (let i = 0; i < 200; i++) t.equal(r.at(wide(16), (next() % 2 ** 24) * 2 ** 24), r.backend.words[16 * 1024 + 1023] as number);
    t.equal(r.shadow.frames, 1, 'one frame in four uses');
    t.equal(r.backend.mapped.size, 1);
    for (let i = 0; i < 512; i += 3) r.entry(16, i, 17);
    const ones = 2 ** 39 + 2 ** 30 + 2 ** 21 + 2 ** 12;
    t.equal(r.at(wide(16), ones), r.backend.words[16 * 1024 + 1023] as number);
    r.entry(16, 1, 0, 0);
    t.equal(r.at(wide(16), ones), undefined);
    r.ppgtt.clear();
    mustBeFree(t, r, `${level}`);
  }
});

t.test('tables are bounded whatever is claimed and reached', async (t) => {
  // Each frame leads to 512 others: 512^4 pages are claimed; more tables than the bound are reached, in frames of all kinds.
  const r = new PpgttRig('sync');
  const next = random(0xfa70);
  const bound = 200;
  Object.assign(r.shadow.parts, { tablesMax: bound });
  const { words } = r.backend;
  for (let i = 1024; i < words.length; i += 2) {
    words[i] = ((next() % 2048) * 4096 + 3) >>> 0;
    words[i + 1] = 0;
  }
  let most = 0;
  for (let i = 0; i < 6000; i++) {
    const space = r.ppgtt.space(wide(1 + (next() % 24)));
    space.page((next() % 2 ** 24) * 2 ** 24 + next());
    most = Math.max(most, r.shadow.frames);
  }
  t.ok(most > bound - 8 && most <= bound, `${most} frames`);
  t.ok(r.ppgtt.spaces <= 32);
  r.ppgtt.clear();
  mustBeFree(t, r, 'all given back');
});

t.test('noise in the tables: no exception, references exact, other memory untouched', async (t) => {
  for (const level of LEVELS) {
    const r = new PpgttRig(level, { dmaHugePage: true });
    const next = random(0x0b5e_55ed);
    const frames = 24;
    const guard = r.backend.words.slice(64 * 1024);
    for (let round = 0; round < 4000; round++) {
      const table = 16 + (next() % frames);
      const to = next() % 8 === 0 ? next() : 16 + (next() % frames);
      const bits = [0, 1, 3, 3, 3, 3 | LARGE, 3 | IPS, 1][next() % 8] as number;
      const index = next() % 4 === 0 ? next() % 512 : next() % 8;
      const at = table * PAGE_SIZE + index * 8;
      switch (next() % 8) {
        case 0:
          r.storeHalf(at + (next() % 2) * 4, ((to << 12) | bits) >>> 0);
          break;
        case 1:
          r.storeByte(at + (next() % 8), next() & 0xff);
          break;
        case 2:
          if (next() % 20 === 0) r.ppgtt.invalidate();
          break;
        default:
          r.store(at, ((to << 12) | bits) >>> 0, next() % 64 === 0 ? next() : 0);
      }
      const root = next() % 2 === 0 ? wide(16 + (next() % frames)) : narrow(16 + (next() % frames), 17, 18, 19);
      const space = next() % 3 === 0 ? r.space(root) : r.ppgtt.space(root);
      const address = (next() % 8) * 2 ** 39 + (next() % 8) * 2 ** 30 + (next() % 8) * 2 ** 21 + (next() % 8) * 2 ** 12;
      const page = space.page(next() % 2 === 0 ? address : address % 2 ** 32);
      if (page !== undefined && view(page)?.bytes.length !== PAGE_SIZE) t.fail('a page has its size');
    }
    t.equal(r.f.gvt.defects, 0);
    t.ok(r.f.vgpu.statistics.shadowTables > 50, `${level}: ${r.f.vgpu.statistics.shadowTables} tables`);
    t.ok(r.backend.tracked.size <= frames + 8);
    // Exactly what the tables say now, once everything is synchronised.
    r.ppgtt.clear();
    mustBeFree(t, r, `${level}`);
    t.equal(Buffer.compare(Buffer.from(guard.buffer), Buffer.from(r.backend.words.slice(64 * 1024).buffer)), 0);
  }
});

t.test('a report for a frame that nobody shadows, and one that spans two', async (t) => {
  const r = new PpgttRig('trap');
  const root = r.tables(16);
  r.entry(19, 511, 20);
  t.equal(r.at(root, 511 * 4096), r.mark(20));
  const { gvt, vgpu } = r.f;
  const data = new Uint32Array(2);
  t.equal(gvt.writeProtectHandler(vgpu.id, (40 * PAGE_SIZE) as Gpa, data, 8), Status.ENXIO);
  t.equal(gvt.pageWritten(vgpu.id, Gfn(40)), Status.ENXIO);
  t.equal(gvt.writeProtectHandler(vgpu.id, (20 * PAGE_SIZE - 4) as Gpa, data, 8), Status.OK);
  t.equal(r.ppgtt.space(root).page(511 * 4096), undefined, 'its half is torn');
});

t.test('what the hypervisor refuses costs budget each time', async (t) => {
  const r = new PpgttRig('trap');
  const root = r.tables(16);
  const space = r.space(root);
  space.page(0);
  r.ppgtt.takeCost();
  r.backend.broken.add('dma');
  r.entry(19, 1, 30);
  for (let i = 0; i < 10; i++) t.equal(space.page(PAGE_SIZE), undefined);
  t.ok(r.ppgtt.takeCost() >= 160, 'as a table does');
  r.entry(18, 1, 512, PRESENT | WRITABLE | LARGE);
  for (let i = 0; i < 10; i++) t.equal(space.page(2 ** 21), undefined);
  t.ok(r.ppgtt.takeCost() >= 160, 'of a large page, too');
  r.backend.broken.delete('dma');
  t.ok(space.page(PAGE_SIZE));
  t.equal(r.ppgtt.takeCost(), 1);
});
