/** The project's own scripts: counting TAP, completing a build, and what package.json promises of both. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mpt-tooling-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

/** tap's own variables make a test under it print no summary; these programs stand for themselves. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name)));
const node = (...args: string[]) => spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000, env });

/** Runs a real test file under tap and gives its TAP to the counter. */
function totals(name: string, program: string, ...options: string[]): { status: number | null; lines: string[] } {
  const file = join(folder, `${name}.mjs`);
  const tapFile = join(folder, `${name}.tap`);
  writeFileSync(file, `import t from '${import.meta.resolve('tap')}';\n${program}`);
  writeFileSync(tapFile, node(file).stdout);
  const { status, stdout } = node(join(ROOT, 'scripts/tap-totals.mjs'), ...options, tapFile);
  return { status, lines: stdout.trim().split('\n') };
}

t.test('assertions are counted once, at the leaves', (t) => {
  const nested = `t.test('a', (t) => { t.ok(1); t.ok(1); t.test('b', (t) => { t.ok(1); t.end(); }); t.end(); }); t.ok(1, 'ok 9 - x # SKIP-not');`;
  t.same(totals('nested', nested), { status: 0, lines: ['4 passed, 0 failed, 0 skipped'] });
  t.end();
});

t.test('failures are named and end with 1', (t) => {
  const failing = `t.test('outer', (t) => { t.ok(1); t.equal('ok 1 - no', 'not ok 2 - no', 'inner'); t.end(); });`;
  t.same(totals('failing', failing), { status: 1, lines: ['failed: outer > inner', '1 passed, 1 failed, 0 skipped'] });
  t.end();
});

t.test('skips carry their reason, and some are not accepted', (t) => {
  const skipping = `t.test('on kvm', { skip: '/dev/kvm cannot be opened' }, () => {}); t.test('abi', { skip: 'no gcc' }, () => {}); t.ok(1);`;
  t.same(totals('skipping', `${skipping} t.test('layout', { skip: 'no gcc' }, () => {});`), {
    status: 0,
    lines: ['skipped: /dev/kvm cannot be opened [on kvm]', 'skipped: no gcc [abi and 1 more]', '1 passed, 0 failed, 3 skipped'],
  });
  t.same(totals('refused', skipping, '--no-skip', '/dev/kvm', '--skipped', 'a step (why)', '--failed', '2'), {
    status: 1,
    lines: [
      'failed: on kvm, which must not be skipped here (/dev/kvm cannot be opened)',
      'skipped: a step (why)',
      'skipped: no gcc [abi]',
      '1 passed, 3 failed, 2 skipped',
    ],
  });
  t.end();
});

t.test('a run that broke off, or tested nothing, is a failure', (t) => {
  t.equal(totals('broken', `t.ok(1); process.kill(process.pid, 'SIGKILL');`).status, 1);
  t.equal(totals('empty', '').status, 1);
  const missing = node(join(ROOT, 'scripts/tap-totals.mjs'), join(folder, 'none.tap'));
  t.equal(missing.status, 1);
  t.match(missing.stdout, /\n0 passed, 1 failed, 0 skipped\n$/);
  t.end();
});

t.test('run-tests: each file is a process, and none is forgotten', async (t) => {
  const own = join(folder, 'run-tests');
  mkdirSync(join(own, 'below'), { recursive: true });
  const tap = `import t from '${import.meta.resolve('tap')}';\n`;
  const files = {
    'good.test.js': `${tap}t.test('a', async (t) => { t.ok(1); t.pass('kvm', { skip: 'no kvm' }); }); t.ok(1);`,
    'below/failing.test.js': `${tap}t.test('a', async (t) => { t.equal(1, 2, 'inner'); t.ok(1); }); console.error('said on stderr');`,
    'crash.test.js': `${tap}t.ok(1); t.test('a', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise(() => undefined); });`,
    'hang.test.js': `import { spawn } from 'node:child_process';\nspawn('sleep', ['1000'], { stdio: 'inherit' }); setInterval(() => 0, 1000);`,
    'exit.test.js': `${tap}t.ok(1); t.teardown(() => { process.exitCode = 3; });`,
    'not-a-test.js': 'throw new Error();',
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(own, name), text);
  const result = join(own, 'result.tap');
  const { status, stdout } = node(join(ROOT, 'scripts/run-tests.mjs'), '--tap', result, '--limit', '5', own);
  t.equal(status, 1);
  t.match(stdout, /^ok +[\d.]+ s {2}\S*good\.test\.js$/m);
  t.match(stdout, /^FAILED +[\d.]+ s {2}\S*failing\.test\.js$/m);
  t.match(stdout, /^failed: \S*failing\.test\.js > a > inner$/m);
  t.match(stdout, /^said on stderr$/m);
  t.match(stdout, /^FAILED +[\d.]+ s {2}\S*crash\.test\.js$/m);
  t.match(stdout, /^FAILED +[\d.]+ s {2}\S*hang\.test\.js$/m, 'with what it started');
  t.match(stdout, /^FAILED .*exit\.test\.js: exit 3$/m);
  t.notMatch(stdout, /not-a-test/);
  t.match(stdout, /\n4 passed, 4 failed, 1 skipped\n$/);
  const read = node(join(ROOT, 'scripts/tap-totals.mjs'), result);
  t.equal(read.status, 1);
  t.match(read.stdout, /\n4 passed, 4 failed, 1 skipped\n$/, 'its file says the same');
  t.match(read.stdout, /^skipped: no kvm \[\S*good\.test > a > kvm\]|^skipped: no kvm/m);
  const good = node(join(ROOT, 'scripts/run-tests.mjs'), join(own, 'good.test.js'));
  t.same([good.status, good.stdout.trimEnd().split('\n').at(-1)], [0, '2 passed, 0 failed, 1 skipped']);
});

t.test('copy-assets completes a build and removes what has no source', (t) => {
  const tree = join(folder, 'tree');
  const write = (path: string): void => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), path);
  };
  mkdirSync(join(tree, 'scripts'), { recursive: true });
  cpSync(join(ROOT, 'scripts/copy-assets.mjs'), join(tree, 'scripts/copy-assets.mjs'));
  const sources = [
    'src/cli/config.schema.json',
    'src/cli/daemon/daemon.schema.json',
    'src/cli/vgpu-state.schema.json',
    'src/cli/display/page/index.html',
    'src/cli/mpt.ts',
    'src/cli/display/page/page.mjs',
    'src/guest/agent/agent.S',
    'src/guest/agent/protocol.ts',
    'labs/qemu/guest/init',
    'labs/xen/dom0/init',
    'test/a.test.ts',
  ];
  const kept = ['src/cli/mpt.js', 'src/cli/mpt.d.ts', 'src/guest/agent/protocol.js.map', 'test/a.test.js', 'notes.js'];
  const stale = ['src/cli/old.js', 'src/cli/old.d.ts', 'src/gone/x.js.map', 'test/old.test.js'];
  for (const path of sources) write(path);
  for (const path of [...kept, ...stale]) write(`build/${path}`);
  const { status, stderr } = node(join(tree, 'scripts/copy-assets.mjs'));
  t.equal(stderr, '');
  t.equal(status, 0);
  for (const path of [
    'src/cli/config.schema.json',
    'src/cli/daemon/daemon.schema.json',
    'src/cli/vgpu-state.schema.json',
    'src/cli/display/page/page.mjs',
    'src/cli/display/page/index.html',
    'src/guest/agent/agent.S',
    'labs/qemu/guest/init',
    'labs/xen/dom0/init',
  ])
    t.ok(existsSync(join(tree, 'build', path)), `copied: ${path}`);
  t.notOk(existsSync(join(tree, 'build/src/guest/agent/protocol.ts')), 'no TypeScript');
  for (const path of kept) t.ok(existsSync(join(tree, 'build', path)), `kept: ${path}`);
  for (const path of stale) t.notOk(existsSync(join(tree, 'build', path)), `removed: ${path}`);
  t.ok((statSync(join(tree, 'build/src/cli/mpt.js')).mode & 0o111) === 0o111, 'the command is executable');
  rmSync(join(tree, 'src/guest'), { recursive: true });
  t.not(node(join(tree, 'scripts/copy-assets.mjs')).status, 0, 'a missing asset is an error');
  t.end();
});

t.test('package.json: every entry point is compiled from a source that exists', (t) => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const targets: string[] = [];
  const walk = (node: unknown): void => {
    if (typeof node === 'string') targets.push(node);
    else for (const value of Object.values(node as object)) walk(value);
  };
  walk(manifest.exports);
  walk(manifest.bin);
  t.ok(targets.length >= 5);
  for (const target of targets) {
    const source = target.replace('./build/', '').replace(/(\.d\.ts|\.js)$/, '.ts');
    t.ok(existsSync(join(ROOT, source)), target);
  }
  t.end();
});
