/** RangeSet and DmaTable against naive models, with fixed seeds. */
import t from 'tap';
import { DmaAddress, Gfn, HUGE_PAGE_SIZE, PAGE_SIZE } from '../../src/core/addresses.js';
import { DmaTable } from '../../src/core/dma-table.js';
import { RangeSet } from '../../src/core/ranges.js';
import { refused } from './expect.js';
import { Random } from './random.js';

const HUGE_FRAMES = HUGE_PAGE_SIZE / PAGE_SIZE;

t.test('RangeSet: every answer equals a scan of an unsorted list', async (t) => {
  const random = new Random(0x5eed);
  for (let round = 0; round < 20; round++) {
    const set = new RangeSet<number>();
    const model: { start: number; end: number; value: number }[] = [];
    let differences = 0;
    for (let step = 0; step < 300; step++) {
      const start = random.below(120);
      const end = start + random.below(12);
      const clash = model.some((range) => range.start <= end && start <= range.end);
      const exact = model.find((range) => range.start === start && range.end === end);
      const overlapping = model.filter((range) => range.start <= end && start <= range.end).sort((a, b) => a.start - b.start)[0];
      const found = model.find((range) => range.start <= start && start <= range.end);
      if (set.overlapping(start, end)?.value !== overlapping?.value) differences++;
      if (set.exact(start, end)?.value !== exact?.value) differences++;
      if (set.find(start)?.value !== found?.value) differences++;
      if (!clash) {
        set.add(start, end, step);
        model.push({ start, end, value: step });
      } else if (random.below(2) === 0) {
        const victim = exact ?? random.pick(model);
        if (!set.delete(victim.start, victim.end)) differences++;
        model.splice(model.indexOf(victim), 1);
      } else if (set.delete(start, end) !== (exact !== undefined)) differences++;
      else if (exact !== undefined) model.splice(model.indexOf(exact), 1);
      if (set.size !== model.length) differences++;
    }
    t.equal(differences, 0, `round ${round}`);
    t.same(
      [...set],
      model.sort((a, b) => a.start - b.start),
      'in ascending order',
    );
    set.clear();
    t.equal(set.size, 0);
    t.equal(set.find(5), undefined);
  }
});

t.test('RangeSet: both ends belong to a range, neighbours do not, up to 2^52', async (t) => {
  const set = new RangeSet<string>();
  const top = 2 ** 52 - 1;
  set.add(0, 0, 'first');
  set.add(0x1_0000_0000, 0x1_0000_0fff, 'middle');
  set.add(top - 0xfff, top, 'last');
  t.equal(set.find(0)?.value, 'first');
  t.equal(set.find(1), undefined);
  t.equal(set.find(0xffff_ffff), undefined);
  t.equal(set.find(0x1_0000_0000)?.value, 'middle');
  t.equal(set.find(0x1_0000_0fff)?.value, 'middle');
  t.equal(set.find(0x1_0000_1000), undefined);
  t.equal(set.find(top)?.value, 'last');
  t.equal(set.find(top + 1), undefined);
  t.equal(set.overlapping(1, 0xffff_ffff), undefined, 'the gap overlaps nothing');
  t.equal(set.overlapping(1, 0x1_0000_0000)?.value, 'middle');
  t.notOk(set.delete(0x1_0000_0000, 0x1_0000_0ffe), 'only exact bounds delete');
  t.equal(set.size, 3);
});

/** What the hypervisor would pin: 4 KiB and 2 MiB mappings by frame, at `gfn * PAGE_SIZE` plus a base. */
class Pinner {
  static readonly BASE = 0x7000_0000_0000;
  readonly pinned: string[] = [];
  failNext: Error | undefined;
  /** Makes the next mapping land elsewhere, as an IOMMU might. */
  moveNext = 0;

  map(gfn: number, size: number): DmaAddress {
    this.#fail();
    this.pinned.push(`${gfn}:${size}`);
    const address = Pinner.BASE + gfn * PAGE_SIZE + this.moveNext;
    this.moveNext = 0;
    return DmaAddress(address);
  }

  unmap(gfn: number, size: number): void {
    this.#fail();
    const at = this.pinned.indexOf(`${gfn}:${size}`);
    if (at < 0) throw new Error(`unmap of ${gfn}:${size}, which is not pinned`);
    this.pinned.splice(at, 1);
  }

  #fail(): void {
    const error = this.failNext;
    this.failNext = undefined;
    if (error !== undefined) throw error;
  }
}

t.test('DmaTable: references, growth, pin and limit equal a model', async (t) => {
  const random = new Random(0xd3a);
  const limit = 3 * HUGE_FRAMES;
  for (let round = 0; round < 10; round++) {
    const pinner = new Pinner();
    const table = new DmaTable(limit, pinner);
    const model = new Map<number, { size: number; references: number }>();
    const pages = (): number => [...model.values()].reduce((sum, { size }) => sum + size / PAGE_SIZE, 0);
    let refusals = 0;
    for (let step = 0; step < 400; step++) {
      const large = random.below(4) === 0;
      const gfn = large || random.below(2) === 0 ? random.below(5) * HUGE_FRAMES : random.below(64);
      const address = DmaAddress(Pinner.BASE + gfn * PAGE_SIZE);
      const entry = model.get(gfn);
      const action = random.below(5);
      if (action <= 1) {
        const size = large ? HUGE_PAGE_SIZE : PAGE_SIZE;
        const grown = Math.max(size, entry?.size ?? 0);
        if (pages() + (grown - (entry?.size ?? 0)) / PAGE_SIZE > limit) {
          refusals++;
          refused(t, 'LIMIT', () => table.map(Gfn(gfn), size));
        } else {
          if (table.map(Gfn(gfn), size) !== address) t.fail('another address for the same frame');
          model.set(gfn, { size: grown, references: (entry?.references ?? 0) + 1 });
        }
      } else if (entry === undefined) {
        refused(t, 'NOT_MAPPED', () => (action === 2 ? table.pin(address) : table.unmap(address)));
      } else if (action === 2) {
        table.pin(address);
        entry.references++;
      } else {
        table.unmap(address);
        if (--entry.references === 0) model.delete(gfn);
      }
      if (table.pinnedPages !== pages()) t.fail(`step ${step}: ${table.pinnedPages} pages, model has ${pages()}`);
    }
    t.same(
      [...pinner.pinned].sort(),
      [...model].map(([gfn, { size }]) => `${gfn}:${size}`).sort(),
      `round ${round}: what is pinned is what is mapped, ${refusals} refusals`,
    );
    table.clear();
    t.same(pinner.pinned, [], 'clear unpins everything');
    t.equal(table.pinnedPages, 0);
  }
});

t.test('DmaTable: require accepts exactly the bytes inside one mapping', async (t) => {
  const table = new DmaTable(2000, new Pinner());
  const small = table.map(Gfn(1), PAGE_SIZE);
  table.map(Gfn(2), PAGE_SIZE);
  const large = table.map(Gfn(HUGE_FRAMES), HUGE_PAGE_SIZE);
  // A 4 KiB mapping inside the large one must not cut it in two.
  table.map(Gfn(HUGE_FRAMES + 3), PAGE_SIZE);
  const good: readonly [number, number][] = [
    [small, PAGE_SIZE],
    [small + PAGE_SIZE - 1, 1],
    [large, HUGE_PAGE_SIZE],
    [large + HUGE_PAGE_SIZE - 1, 1],
    [large + 3 * PAGE_SIZE + 5, 2 * PAGE_SIZE],
  ];
  for (const [address, length] of good) t.doesNotThrow(() => table.require(DmaAddress(address), length), `${address}+${length}`);
  const bad: readonly [number, number][] = [
    [small, PAGE_SIZE + 1],
    [small + PAGE_SIZE - 1, 2],
    [small - 1, 1],
    [small - 1, 2],
    [small, 0],
    [small, -1],
    [small, 0.5],
    [small, Number.NaN],
    [small + 0.5, 1],
    [large - 1, 2],
    [large, HUGE_PAGE_SIZE + 1],
    [large + HUGE_PAGE_SIZE, 1],
    [large + HUGE_PAGE_SIZE - 1, 2],
    [Number.NaN, 1],
    [-1, 1],
    [0, 1],
    [2 ** 53, 1],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    [Number.POSITIVE_INFINITY, 1],
  ];
  for (const [address, length] of bad) refused(t, 'NOT_MAPPED', () => table.require(DmaAddress(address), length), `${address}+${length}`);
});

t.test('DmaTable: a failure of the hypervisor changes nothing', async (t) => {
  const pinner = new Pinner();
  const table = new DmaTable(2000, pinner);
  pinner.failNext = new Error('no');
  t.throws(() => table.map(Gfn(0), PAGE_SIZE), { message: 'no' });
  t.equal(table.pinnedPages, 0);
  const address = table.map(Gfn(0), PAGE_SIZE);
  pinner.failNext = new Error('no');
  t.throws(() => table.unmap(address), { message: 'no' });
  t.equal(table.pinnedPages, 1, 'still mapped: the caller may try again');
  pinner.failNext = new Error('no');
  t.throws(() => table.map(Gfn(0), HUGE_PAGE_SIZE), { message: 'no' });
  t.same(pinner.pinned, ['0:4096']);
  pinner.moveNext = HUGE_PAGE_SIZE;
  refused(t, 'BUSY', () => table.map(Gfn(0), HUGE_PAGE_SIZE), 'growth that moves');
  t.same(pinner.pinned, ['0:4096']);
  refused(t, 'NOT_MAPPED', () => table.require(address, PAGE_SIZE + 1), 'did not grow');
  table.map(Gfn(1), PAGE_SIZE);
  pinner.failNext = new Error('first');
  t.throws(() => table.clear(), { message: 'first' });
  t.equal(pinner.pinned.length, 1, 'clear went on after the failure');
  t.equal(table.pinnedPages, 0);
  table.map(Gfn(5), PAGE_SIZE);
  table.drop();
  t.equal(table.pinnedPages, 0, 'drop forgets without calling');
  t.equal(pinner.pinned.length, 2);
});
