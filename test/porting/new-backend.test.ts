/** `mpt new-backend`: what it writes passes the suite at once, and one broken operation turns exactly its cases red. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t from 'tap';
import type { BackendModule } from '../../src/backends/module.js';
import { type CaseResult, type ConformanceReport, runConformance, selectCases } from '../../src/conformance/index.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const MPT = fileURLToPath(new URL('../../src/cli/mpt.js', import.meta.url));
/** The same file names in each backend. */
const FILES = ['abi.mjs', 'backend.mjs', 'conformance.test.mjs', 'index.mjs', 'machine.mjs', 'probe.mjs', 'requests.mjs'];

const folder = mkdtempSync(join(tmpdir(), 'mpt-port-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
// As if the package were installed there.
mkdirSync(join(folder, 'node_modules'));
symlinkSync(ROOT, join(folder, 'node_modules/mediated-passthrough'));

const mpt = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(process.execPath, [MPT, 'new-backend', ...args], { cwd: folder, encoding: 'utf8' });

async function run(dir: string, name: string): Promise<ConformanceReport> {
  const module = (await import(pathToFileURL(join(folder, dir, 'index.mjs')).href)) as Record<string, BackendModule>;
  const backend = module[name] as BackendModule;
  return runConformance({ name: backend.name, open: (options = {}) => backend.open({ ...options }) });
}
const failures = ({ cases }: ConformanceReport): CaseResult[] => cases.filter(({ status }) => status === 'fail');

t.test('what it writes passes the suite', async (t) => {
  const { status, stdout, stderr } = mpt('my-hv2');
  t.equal(stderr, '');
  t.equal(status, 0);
  t.match(stdout, /node --test my-hv2/);
  t.same(readdirSync(join(folder, 'my-hv2')).sort(), FILES);
  const text = FILES.map((file) => readFileSync(join(folder, 'my-hv2', file), 'utf8')).join('\n');
  t.notMatch(text, /scaffold/i, 'every name is the new one');
  t.notMatch(text, /TODO|FIXME/);
  t.match(text, /Replace/, 'the comments say what to replace');
  const report = await run('my-hv2', 'myHv2');
  t.same(failures(report), []);
  t.ok(report.totals.pass >= 500, `${report.totals.pass} cases passed`);
  t.equal(report.backend, 'my-hv2');
});

t.test('its test runs under node --test', async (t) => {
  const file = join(folder, 'my-hv2/conformance.test.mjs');
  const filtered = readFileSync(file, 'utf8').replace('name: myHv2.name,', "name: myHv2.name, filter: 'mpt/host-exit/',");
  writeFileSync(join(folder, 'my-hv2/some.test.mjs'), filtered);
  const { status, stdout } = spawnSync(process.execPath, ['--test', '--test-reporter=tap', 'my-hv2/some.test.mjs'], {
    cwd: folder,
    encoding: 'utf8',
    // Node tells a test's child process by this; ours is none.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, NODE_OPTIONS: '' },
  });
  t.equal(status, 0, stdout);
  t.match(stdout, new RegExp(`# pass ${selectCases('mpt/host-exit/').length}\\n`));
});

t.test('a broken operation turns its cases red', async (t) => {
  mpt('broken', '--dir', 'b');
  const file = join(folder, 'b/backend.mjs');
  const frame = 'return this.#machine.hostFrame(gfn, PAGE_SIZE);';
  writeFileSync(file, readFileSync(file, 'utf8').replace(frame, frame.replace(';', ' + 0.5;')));
  const module = (await import(pathToFileURL(join(folder, 'b/index.mjs')).href)) as { broken: BackendModule };
  const results = ['mpt/gfn-to-mfn/', 'mpt/read-gpa/', 'mpt/dma/', 'mpt/attach/'].map((filter) =>
    runConformance({ name: 'broken', filter, open: (options = {}) => module.broken.open({ ...options }) }),
  );
  const [red = [], ...others] = results.map(failures);
  t.match(red.find(({ id }) => id === 'mpt/gfn-to-mfn/is-a-frame-number')?.reason, /./, 'it says what was expected');
  t.same(others, [[], [], []], 'no other operation is concerned');
});

t.test('what it refuses', async (t) => {
  for (const name of ['', 'My', '1x', '../x', 'a--b', 'class', 'auto', 'x'.repeat(41)]) {
    const { status, stderr } = mpt(name);
    t.equal(status, 2, `'${name}'`);
    t.match(stderr, /INVALID_ARGUMENT|missing required/);
  }
  t.match(mpt('again', '--dir', 'my-hv2').stderr, /INVALID_ARGUMENT.*my-hv2 is not empty/);
  writeFileSync(join(folder, 'file'), '');
  t.match(mpt('x', '--dir', 'file').stderr, /IO: .*file cannot be written/);
});
