/** The labs without booting: how they read TAP, hand a command over, refuse bad usage and skip where Debian is out of reach. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { cpio } from '../../labs/common/cpio.js';
import { readTap, totalsOf, writeTap } from '../../labs/common/tap.js';
import { jobFile } from '../../labs/xen/initramfs.js';
import { PLAN } from '../../labs/xen/plan.js';

const LAB = fileURLToPath(new URL('../../labs/xen/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mpt-lab-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const env = { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name))), MPT_LAB_CACHE: folder };
const node = (...args: string[]) => spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000, env });

t.test('TAP of a test file: leaves are counted as tap itself counts them', (t) => {
  const file = join(folder, 'nested.mjs');
  const program = `
    t.test('a', (t) => { t.ok(1); t.test('b', (t) => { t.ok(1, 'in # b'); t.equal('---', '...', 'c'); t.end(); }); t.end(); });
    t.test('empty', (t) => t.end());
    t.test('on xen', { skip: 'no /dev/xen' }, () => {});
    t.test('short', (t) => { t.plan(2); t.ok(1); setTimeout(() => {}, 1); });`;
  writeFileSync(file, `import t from '${import.meta.resolve('tap')}';${program}`);
  const tap = node(file).stdout;
  const points = readTap(tap);
  const { passed, failed, skipped } = totalsOf(points);
  t.match(tap, new RegExp(`# \\{ total: ${points.length}, pass: ${passed}, fail: ${failed}, skip: ${skipped} \\}`));
  t.same(
    points.filter(({ status }) => status !== 'passed'),
    [
      { name: 'a > b > c', status: 'failed' },
      { name: 'on xen', status: 'skipped', reason: 'no /dev/xen' },
      { name: 'short > test unfinished', status: 'failed' },
    ],
  );
  t.end();
});

t.test('TAP of the suite, and text that is not all there', (t) => {
  const suite =
    'TAP version 14\n1..3\nok 1 - mpt/a # time=1ms\nok 2 - mpt/b # SKIP no \\# here\nnot ok 3 - mpt/c # time=2ms\n  ---\n  x: 1\n  ...\n';
  t.same(readTap(suite), [
    { name: 'mpt/a', status: 'passed' },
    { name: 'mpt/b', status: 'skipped', reason: 'no # here' },
    { name: 'mpt/c', status: 'failed' },
  ]);
  const failures = (text: string): string[] => readTap(text).flatMap(({ name, status }) => (status === 'failed' ? [name] : []));
  t.same(failures(''), ['no TAP']);
  t.same(failures('ok 1 - a\n'), ['the TAP broke off']);
  t.same(failures('1..3\nok 1 - a\n'), ['3 points planned, 1 seen']);
  t.same(failures('1..1\nok 1 - a\nBail out! no Xen\n'), ['Bail out! no Xen']);
  t.same(failures('# Subtest: a\n    ok 1 - b\n    1..2\nnot ok 1 - a\n1..1\n'), ['a'], 'a plan that was not kept');
  t.same(readTap('1..0 # SKIP no Xen\n'), [{ name: 'everything', status: 'skipped', reason: 'no Xen' }]);
  t.end();
});

t.test('what is written is read back, by the lab and by scripts/tap-totals.mjs', (t) => {
  const points = [
    { name: 'a > b', status: 'passed' },
    { name: 'c # SKIP-not', status: 'failed' },
    { name: 'd', status: 'skipped', reason: 'why # not' },
  ] as const;
  const file = join(folder, 'sum.tap');
  writeFileSync(file, writeTap(points));
  t.same(readTap(readFileSync(file, 'utf8')), points);
  const { stdout } = node(fileURLToPath(new URL('../../../scripts/tap-totals.mjs', import.meta.url)), file);
  t.match(stdout, /^1 passed, 1 failed, 1 skipped$/m);
  t.end();
});

t.test('a command reaches dom0 word by word, and one word is a command line', (t) => {
  const words = ['printf', '%s|', "it's", '$HOME `id`', '', 'a\nb', '*'];
  const run = (command: readonly string[]): string => {
    const file = join(folder, 'job');
    writeFileSync(file, jobFile({ command, folder: "/a 'b'", env: { X: "1 '2'" } }));
    return spawnSync('bash', ['-c', `. '${file}'; echo "$X,$LAB_FOLDER"; "$@"`], { encoding: 'utf8' }).stdout;
  };
  t.equal(run(words), `1 '2',/a 'b'\n${words.slice(2).join('|')}|`);
  t.equal(run(['echo $X | tr 1 3']), "1 '2',/a 'b'\n3 '2'\n");
  t.end();
});

t.test('the archive has a header for each member, all at multiples of four', (t) => {
  const archive = cpio([{ path: 'a' }, { path: 'a/b', content: 'hello', executable: true }]);
  const fields = (at: number): number[] =>
    Array.from({ length: 13 }, (_, i) => parseInt(archive.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16));
  const second = 112; // 110 and 'a\0'
  t.equal(archive.toString('latin1', 0, 6), '070701');
  t.equal(fields(0)[1], 0o40755);
  t.equal(archive.toString('latin1', second, second + 6), '070701');
  t.same([fields(second)[1], fields(second)[6], fields(second)[11]], [0o100755, 5, 4]);
  t.equal(archive.toString('latin1', second + 110, second + 122), 'a/b\0\0\0hello\0'.slice(0, 12));
  t.ok(archive.includes('TRAILER!!!\0'));
  t.end();
});

t.test('wrong usage is one line and exit code 2', (t) => {
  const job = PLAN[0]?.name as string;
  for (const args of [
    ['--nope'],
    ['--timeout', '0', 'true'],
    ['--job', 'nope'],
    ['--job', job, 'true'],
    ['--out', '/proc/x', 'true'],
    ['--tap', 'x', 'true'],
    [' '],
  ]) {
    const { status, stdout, stderr } = node(LAB, ...args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, /^lab:xen: .*\n$/);
  }
  const help = node(LAB, '--help');
  t.equal(help.status, 0);
  for (const { name } of PLAN) t.ok(help.stdout.includes(name), name);
  t.end();
});

t.test('where Debian has no such packages the lab is skipped, with the reason, and leaves nothing', (t) => {
  const config = join(folder, 'apt.conf');
  writeFileSync(config, 'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n');
  const tap = join(folder, 'skipped.tap');
  const { status, stderr } = spawnSync(process.execPath, [LAB, '--tap', tap], { encoding: 'utf8', env: { ...env, APT_CONFIG: config } });
  t.equal(status, 77);
  const reason = /^lab:xen: skipped: (.*)$/m.exec(stderr)?.[1];
  t.same(readTap(readFileSync(tap, 'utf8')), [{ name: 'lab:xen', status: 'skipped', reason }]);
  const cache = join(folder, 'xen');
  t.same(existsSync(cache) ? readdirSync(cache).filter((name) => name !== 'lock') : [], []);
  t.end();
});
