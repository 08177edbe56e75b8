/** The format as it is described: docs/vgpu-state.md has the fields that the parts have, the schema refuses what the program refuses. */
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import t from 'tap';
import { parseDocument } from '../../src/core/gvt/state/document.js';
import { checkHeader } from '../../src/core/gvt/state/header.js';
import { busy } from './busy-fixture.js';
import { describeSections } from './describe.js';

const ROOT = new URL('../../../', import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, ROOT), 'utf8');
const { gvt, vgpu } = busy();
const { header, sections } = parseDocument(gvt.saveVgpu(vgpu));

t.test(
  'docs/vgpu-state.md has every field; a field that is added needs another format version, or an old document is misread',
  async (t) => {
    const [, documented = ''] = read('docs/vgpu-state.md').split('document.test.ts -->\n');
    t.equal(documented.trim(), describeSections());
    t.same(
      [...sections.keys()],
      [...documented.matchAll(/^### (.*)$/gm)].map(([, name]) => name),
      'the sections, in order',
    );
  },
);

t.test('the schema and the program refuse the same headers', async (t) => {
  const validate = new Ajv({ strict: true }).compile(JSON.parse(read('src/cli/vgpu-state.schema.json')) as object);
  const accepted = (value: unknown): boolean => {
    try {
      checkHeader(value);
      return true;
    } catch {
      return false;
    }
  };
  t.ok(validate(header), JSON.stringify(validate.errors));
  const places: (readonly [parent: string[], name: string])[] = [];
  const collect = (value: unknown, path: string[]): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [name, child] of Object.entries(value)) {
      places.push([path, name]);
      if (!Array.isArray(value) || name === '0') collect(child, [...path, name]);
    }
  };
  collect(header, []);
  const value = fc.oneof(
    fc.constantFrom(
      undefined,
      null,
      true,
      false,
      '',
      'mpt-vgpu-state',
      [],
      {},
      0,
      1,
      2,
      7,
      8,
      32,
      33,
      -1,
      0.5,
      65535,
      65536,
      2 ** 26,
      2 ** 26 + 1,
      2 ** 32 - 1,
      2 ** 32,
      2 ** 32 + 1,
    ),
    fc.string({ maxLength: 70 }),
    fc.double(),
    fc.integer(),
  );
  let refused = 0;
  fc.assert(
    fc.property(fc.nat(places.length - 1), value, fc.boolean(), (place, replacement, extra) => {
      const copy = JSON.parse(JSON.stringify(header)) as Record<string, unknown>;
      const [parent, name] = places[place] as (typeof places)[number];
      const at = parent.reduce((object, key) => object[key] as Record<string, unknown>, copy);
      if (extra) at[`${name}x`] = replacement;
      else if (replacement === undefined) delete at[name];
      else at[name] = replacement;
      const document: unknown = JSON.parse(JSON.stringify(copy));
      const valid = accepted(document);
      if (!valid) refused++;
      return validate(document) === valid;
    }),
    { seed: 21, numRuns: 3000 },
  );
  t.ok(refused > 1000 && refused < 3000, `${refused} refused`);
});
