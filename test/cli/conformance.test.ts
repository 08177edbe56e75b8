/** `mpt conformance`: the list, known failures, versions in a result, `diff`, the time limit. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { selectCases } from '../../src/conformance/index.js';
import { mpt } from './mpt.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-conformance-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string, content: string): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const sim = (...args: string[]): ReturnType<typeof mpt> => mpt('conformance', '--backend', 'sim', ...args);

t.test('--list', async (t) => {
  const cases = selectCases('mpt/dma-pin/');
  const { code, stdout } = mpt('conformance', '--list', 'mpt/dma-pin/');
  t.equal(code, 0);
  t.equal(stdout, `${cases.map(({ id, rule }) => `${id}: ${rule}`).join('\n')}\n`);
  const document = JSON.parse(mpt('conformance', '--list', '--reporter', 'json', 'mpt/dma-pin/').stdout) as { id: string }[];
  t.same(
    document.map(({ id }) => id),
    cases.map(({ id }) => id),
  );
  t.match(mpt('conformance', '--list', 'mpt/none'), { code: 4, stderr: /NOTHING_RAN/ });
  t.match(mpt('conformance'), { code: 2, stderr: /required option '--backend <name>' not specified/ });
});

t.test('--expect and diff', async (t) => {
  const before = sim('mpt/host-exit/', '--reporter', 'json');
  t.equal(before.code, 0);
  t.match(JSON.parse(before.stdout), { mpt: /^\d+\./, node: process.version, backend: 'sim', version: /./ });
  const wrong = file('wrong.json', '{"mpt/host-exit/twice": "it is broken"}');
  const after = sim('mpt/host-exit/', '--reporter', 'json', '--expect', wrong);
  t.equal(after.code, 1, 'an unexpected pass fails');
  t.match(sim('mpt/host-exit/', '--expect', wrong).stdout, /not ok \d+ - mpt\/host-exit\/twice/);
  const [a, b] = [file('a.json', before.stdout), file('b.json', after.stdout)];
  t.match(mpt('conformance', 'diff', a, b), { code: 1, stdout: /^regressions: 1\n {2}mpt\/host-exit\/twice: pass -> fail/ });
  t.match(mpt('conformance', 'diff', b, a), { code: 0, stdout: /fixed: 1\n/ });
  t.same(JSON.parse(mpt('conformance', 'diff', '--json', a, a).stdout).regressions, []);
});

t.test('wrong files and numbers', async (t) => {
  const unknown = file('unknown.json', '{"mpt/no/case": "why"}');
  t.match(sim('mpt/host-exit/', '--expect', unknown), { code: 2, stderr: /BAD_CONFIG: .*'mpt\/no\/case'/ });
  t.match(mpt('conformance', 'diff', unknown, unknown), { code: 2, stderr: /BAD_CONFIG: .*unknown\.json is no result/ });
  t.match(mpt('conformance', 'diff', join(folder, 'absent'), unknown), { code: 2, stderr: /IO: / });
  for (const ms of ['0', '-1', '1.5', 'x']) t.match(sim('--case-timeout', ms), { code: 2, stderr: /whole number of milliseconds/ }, ms);
  const late = sim('mpt/inject-msi/wakes-a-halted-guest', '--case-timeout', '1');
  t.equal(late.code, 1, 'a case past its limit fails');
  t.match(late.stdout, /within 1 ms|the limit is 1 ms/);
});
