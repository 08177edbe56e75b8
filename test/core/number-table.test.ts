/** The table of numbers against a Map, with keys that collide. */
import t from 'tap';
import { NumberTable } from '../../src/core/number-table.js';
import { random } from '../gvt/memory-backend.js';

t.test('as a Map', async (t) => {
  const next = random(0x7ab_1e5);
  const table = new NumberTable();
  const map = new Map<number, number>();
  // Few keys, so that they come again; some beyond 32 bits, some a table's length apart.
  const key = (): number => (next() % 300) * ([1, 64, 4096, 2 ** 32, 2 ** 40][next() % 5] as number);
  for (let i = 0; i < 40_000; i++) {
    const at = key();
    if (next() % 3 === 0) {
      table.delete(at);
      map.delete(at);
    } else {
      table.set(at, i);
      map.set(at, i);
    }
    const asked = key();
    if (table.get(asked) !== (map.get(asked) ?? -1)) t.fail(`step ${i}: ${asked} is ${table.get(asked)}, not ${map.get(asked)}`);
    if (i % 10_000 === 9999) {
      t.equal(table.size, map.size);
      table.clear();
      map.clear();
      t.equal(table.size, 0);
    }
  }
});

t.test('the ends: 0, the largest integer, 32 bits of value', async (t) => {
  const table = new NumberTable();
  for (const key of [0, Number.MAX_SAFE_INTEGER, 2 ** 52]) table.set(key, 0xffff_ffff);
  for (const key of [0, Number.MAX_SAFE_INTEGER, 2 ** 52]) t.equal(table.get(key), 0xffff_ffff);
  t.equal(table.get(1), -1);
  table.set(0, 5);
  t.equal(table.get(0), 5);
  t.equal(table.size, 3);
});
