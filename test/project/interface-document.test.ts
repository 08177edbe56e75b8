/** docs/mpt-interface.md is the table of src/core/mpt.ts, and docs/backends.md knows every backend and operation. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { BACKENDS } from '../../src/backends/index.js';
import { MPT_OPERATIONS, type MptOperation } from '../../src/core/mpt.js';

const read = (name: string): string => readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8');
/** Cells of each table row, without backquotes. */
const rows = (text: string): string[][] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim().replaceAll('`', '')),
    );

t.test('docs/mpt-interface.md', async (t) => {
  const documented = rows(read('mpt-interface.md')).filter(([number = '']) => /^\d+$/.test(number));
  const expected = (MPT_OPERATIONS as readonly MptOperation[]).map(({ name, method, on, capability = '' }, i) => [
    `${i + 1}`,
    name,
    method,
    on,
    capability,
  ]);
  t.same(
    documented.map((cells) => cells.slice(0, 5)),
    expected,
    'names, order, objects and capabilities',
  );
  t.same(
    documented.filter((cells) => (cells[5] ?? '').length < 10).map(([, name]) => name),
    [],
    'each says what it does',
  );
});

t.test('docs/backends.md', async (t) => {
  const firsts = rows(read('backends.md')).map(([first]) => first);
  // A backend that was tried in several ways has a row for each.
  for (const { name } of BACKENDS)
    t.ok(
      firsts.some((first) => first === name || first.startsWith(`${name}-`)),
      name,
    );
  for (const { name } of MPT_OPERATIONS) t.ok(firsts.includes(name), name);
});
