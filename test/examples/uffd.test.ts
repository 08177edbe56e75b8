/** The backend that was written from the kit alone: userfaultfd write protection on memory of the process. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { BackendModule } from '../../src/backends/module.js';
import { tapSuite } from '../../src/conformance/index.js';

const FOLDER = new URL('../../../examples/uffd/', import.meta.url);
const TEMPLATE = new URL('../../../templates/backend/', import.meta.url);

t.test('it has the files of the kit', async (t) => {
  const files = readdirSync(fileURLToPath(FOLDER));
  for (const file of readdirSync(fileURLToPath(TEMPLATE))) t.ok(files.includes(file), file);
});

t.test('it passes the suite', async (t) => {
  const { uffd } = (await import(new URL('index.mjs', FOLDER).href)) as { uffd: BackendModule };
  const probe = uffd.probe();
  if (!probe.available) {
    t.pass('uffd', { skip: probe.reason });
    return;
  }
  const report = tapSuite(t, { name: uffd.name, open: (options = {}) => uffd.open({ ...options }) });
  t.equal(report.totals.fail, 0, 'failures');
  t.ok(report.totals.pass >= 500, `${report.totals.pass} cases passed`);
  const sync = report.cases.filter(({ id, status }) => id.startsWith('mpt/page-track/sync-') && status === 'pass');
  t.ok(sync.length >= 15, `${sync.length} cases of level sync passed`);
});
