/** The ACRN lab without its jobs: usage, skipping, what counts as left behind, and the stand-in's own command line. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { leftovers, type Report } from '../../labs/acrn/standin.js';
import { readTap } from '../../labs/common/tap.js';

const LAB = fileURLToPath(new URL('../../labs/acrn/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mpt-lab-acrn-test-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^_?TAP/.test(name)));
const node = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
  spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 120_000, env: { ...env, ...more } });
const lab = (args: readonly string[], more: NodeJS.ProcessEnv = {}) => node([LAB, ...args], more);

t.test('wrong usage is one line and exit code 2', async (t) => {
  const wrong = [
    ['--nope'],
    ['--job', 'none'],
    ['--job', 'standin', 'true'],
    ['--tap', 'x', 'true'],
    [' '],
    ['--abi', 'xen', 'true'],
    ['--print-standin', '--abi', 'hsm'],
    ['--timeout', '0'],
    ['--out', LAB],
  ];
  for (const args of wrong) {
    const { status, stdout, stderr } = lab(args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, /^lab:acrn: .*\n$/);
  }
  const { status, stdout } = lab(['--help']);
  t.equal(status, 0);
  t.match(stdout, /npm run lab:acrn -- --abi vhm/);
});

const NOTHING: Report = { created: 3, destroyed: 3, leaked: { fds: 0, threads: 0, mappings: 0 }, files: [], ioctls: {} };

t.test('each thing that the stand-in is left with is named', async (t) => {
  t.equal(leftovers(NOTHING), undefined);
  t.equal(leftovers({ ...NOTHING, destroyed: 2 }), 'the stand-in was left with 1 VMs');
  t.equal(leftovers({ ...NOTHING, files: [{}, {}] }), 'the stand-in was left with 2 open files');
  t.equal(
    leftovers({ ...NOTHING, leaked: { fds: 1, threads: 2, mappings: -1 } }),
    'the stand-in was left with 1 fds, 2 threads, -1 mappings',
  );
});

/** Without root, or with `/dev/kvm` away: in namespaces of its own, where those are allowed. */
const inNamespace = (script: string, args: readonly string[]) =>
  spawnSync('unshare', ['--mount', 'sh', '-c', `${script} exec "$@"`, 'sh', process.execPath, LAB, ...args], { encoding: 'utf8', env });

t.test('where something is missing the lab is skipped, with the reason', async (t) => {
  if (inNamespace('true;', ['--help']).status !== 0) return t.pass('skipped', { skip: 'no mount namespaces here' });
  const tap = join(folder, 'skipped.tap');
  const rows: [string, RegExp][] = [
    [`mount -t tmpfs none /dev;`, /^\/dev\/kvm is missing/],
    [
      `[ ! -e /dev/kvm ] || [ ! -e /usr/include/linux/acrn.h ] || mount --bind ${folder} /usr/include/linux;`,
      /linux\/acrn\.h is missing|\/dev\/kvm is missing/,
    ],
  ];
  for (const [script, wanted] of rows) {
    const { status, stdout, stderr } = inNamespace(script, ['--tap', tap, '--json']);
    t.equal(status, 77, script);
    const reason = /^lab:acrn: skipped: (.*)$/m.exec(stderr)?.[1] ?? '';
    t.match(reason, wanted);
    t.same(readTap(readFileSync(tap, 'utf8')), [{ name: 'lab:acrn', status: 'skipped', reason }]);
    t.same(JSON.parse(stdout), { rc: 77, verdict: 'skipped', reason });
  }
});

const printed = lab(['--print-standin']);
const skip = printed.status === 77 ? printed.stderr.trim() : false;

t.test('the stand-in: exit codes, and what it leaves of a command', { skip }, async (t) => {
  const standin = printed.stdout.trim();
  const run = (...args: string[]) => spawnSync(standin, args, { encoding: 'utf8', timeout: 60_000, env });
  t.equal(run('--', 'sh', '-c', 'exit 3').status, 3);
  t.equal(run('--', 'sh', '-c', 'kill -9 $$').status, 128 + 9);
  t.equal(run('--', '/nonexistent').status, 127);
  t.equal(run('--abi', 'none', '--', 'sh', '-c', 'exec 3</dev/acrn_hsm').status === 0, false, 'no device');
  t.equal(run('--abi', 'hsm', '--', 'sh', '-c', 'exec 3</dev/acrn_hsm; [ "$ACRN_STANDIN" = hsm ]').status, 0);
  for (const args of [
    [],
    ['--abi', 'x', '--', 'true'],
    ['--vcpus', '17', '--', 'true'],
    ['--fault', 'fail x', '--', 'true'],
    ['--nope', '--', 'true'],
  ])
    t.equal(run(...args).status, 2, args.join(' '));
  t.equal(run('--help').status, 0);
  const { status, stdout } = lab(['--json', '--abi', 'hsm', 'exec 3</dev/acrn_hsm; exit 5']);
  t.equal(status, 5);
  t.match(JSON.parse(stdout), { rc: 5, standin: { created: 0, leaked: { fds: 0, threads: 0, mappings: 0 }, files: [] } });
});
