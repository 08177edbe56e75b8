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

/** Where the hash that a table begins with puts a key of 32 bits, in a table of 2^17 slots. */
const HOME_BITS = 17;
const home = (key: number): number => Math.imul(key, 0x9e37_79b1) >>> (32 - HOME_BITS);
const FRAMES = 2 ** 20;
const MAPPED = 2 ** 16;

t.test('frames that a guest chose to lie together cost what others do', async (t) => {
  const byHome = Array.from({ length: FRAMES }, (_, frame) => frame).sort((a, b) => home(a) - home(b));
  // All in as few slots as there are; and each in its own, so that none has a free one behind it.
  const own = byHome.filter((frame, i) => i === 0 || home(frame) !== home(byHome[i - 1] as number));
  for (const [what, frames] of [
    ['few slots', byHome.slice(0, MAPPED)],
    ['slots in a row', own.slice(0, MAPPED)],
  ] as const) {
    const table = new NumberTable();
    for (const frame of frames) table.set(frame, frame);
    table.delete(frames[0] as number);
    table.set(frames[0] as number, frames[0] as number);
    // Half full by chance, it is about 70.
    t.ok(table.longestRun < 400, `${what}: the longest run has ${table.longestRun}`);
    for (let i = 0; i < frames.length; i += 2) table.delete(frames[i] as number);
    t.equal(table.size, frames.length / 2);
    t.ok(
      frames.every((frame, i) => table.get(frame) === (i % 2 === 0 ? -1 : frame)),
      what,
    );
    for (const frame of frames) table.delete(frame);
    t.equal(table.size, 0);
  }
});
