/** Numbers by page number against a Map. */
import t from 'tap';
import { PageIndex } from '../../src/core/page-index.js';
import { random } from '../gvt/memory-backend.js';

t.test('as a Map', async (t) => {
  const next = random(0x7ab_1e5);
  const index = new PageIndex();
  const map = new Map<number, number>();
  // Few pages, so that they come again; some beyond 32 bits, some the first and the last of their 2 MiB.
  const page = (): number => (next() % 300) * ([1, 511, 512, 2 ** 32, 2 ** 40][next() % 5] as number);
  for (let i = 0; i < 40_000; i++) {
    const at = page();
    if (next() % 3 === 0) {
      index.delete(at);
      map.delete(at);
    } else {
      index.set(at, i);
      map.set(at, i);
    }
    const asked = page();
    if (index.get(asked) !== (map.get(asked) ?? -1)) t.fail(`step ${i}: ${asked} is ${index.get(asked)}, not ${map.get(asked)}`);
    if (i % 10_000 === 9999) {
      t.equal(index.size, map.size);
      t.equal(
        index.leaves,
        new Set([...map.keys()].map((key) => Math.floor(key / 512))).size,
        'tables are given back with their last page',
      );
      index.clear();
      map.clear();
      t.equal(index.size, 0);
      t.equal(index.leaves, 0);
    }
  }
});

t.test('the ends: page 0, the last one, the largest number', async (t) => {
  const index = new PageIndex();
  const pages = [0, 511, 512, 2 ** 40 - 1, Number.MAX_SAFE_INTEGER];
  for (const page of pages) index.set(page, 0x7fff_ffff);
  for (const page of pages) t.equal(index.get(page), 0x7fff_ffff);
  for (const page of [1, 513, 2 ** 40]) t.equal(index.get(page), -1);
  for (const page of pages) index.delete(page);
  index.delete(3);
  t.equal(index.size, 0);
  t.equal(index.leaves, 0);
});
