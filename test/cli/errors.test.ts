/** Bad input through the command line: one line that names what, where and the limit; the documented exit code. */
import { spawnSync } from 'node:child_process';
import { chmodSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { MPT, mpt, mptAsNobody } from './mpt.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-errors-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const config = (name: string, value: unknown): string => file(name, JSON.stringify(value));

const cases: { name: string; args: string[]; code: number; says: RegExp }[] = [
  { name: 'unknown backend', args: ['run', '--backend', 'kvn'], code: 2, says: /^mpt: UNKNOWN_BACKEND: .*'kvn'.*did you mean kvm\?/ },
  { name: 'unknown backend in conformance', args: ['conformance', '--backend', 'xem'], code: 2, says: /UNKNOWN_BACKEND: .*'xem'/ },
  { name: 'unknown fallback', args: ['run', '--fallback', 'simm'], code: 2, says: /UNKNOWN_BACKEND: .*did you mean sim\?/ },
  {
    name: 'missing config',
    args: ['run', '--config', join(folder, 'none.json')],
    code: 2,
    says: /IO: config: .*none\.json cannot be read; errno 2 ENOENT/,
  },
  { name: 'config is a folder', args: ['run', '--config', folder], code: 2, says: /IO: config: .*cannot be read; errno 21 EISDIR/ },
  {
    name: 'config is not JSON',
    args: ['run', '--config', file('bad.json', '{ "backend": ')],
    code: 2,
    says: /BAD_CONFIG: .*bad\.json is not JSON/,
  },
  {
    name: 'config is an array',
    args: ['run', '--config', config('array.json', [])],
    code: 2,
    says: /BAD_CONFIG: .*array\.json: \/ is \[\], must be object/,
  },
  {
    name: 'unknown property',
    args: ['run', '--config', config('prop.json', { ramMib: 16 })],
    code: 2,
    says: /no property 'ramMib'; did you mean ramMiB\?/,
  },
  {
    name: 'unknown backend in config',
    args: ['run', '--config', config('be.json', { backend: 'kvmm' })],
    code: 2,
    says: /\/backend is "kvmm", allowed are auto, xen, acrn, kvm, vfio-user, sim; did you mean kvm\?/,
  },
  {
    name: 'unknown option of a backend',
    args: ['run', '--config', config('opt.json', { backend: 'kvm', options: { devise: 1 } })],
    code: 2,
    says: /\/options has no property 'devise'; did you mean device\?/,
  },
  {
    name: 'options without a backend',
    args: ['run', '--config', config('auto.json', { options: { device: '/dev/kvm' } })],
    code: 2,
    says: /options need a backend by name/,
  },
  {
    name: 'options of another backend',
    args: ['run', '--backend', 'sim', '--config', config('other.json', { backend: 'kvm', options: { device: '/dev/kvm' } })],
    code: 2,
    says: /BAD_CONFIG: .*\/options has no property 'device'/,
  },
  {
    name: 'RAM too small in config',
    args: ['run', '--backend', 'sim', '--config', config('ram.json', { ramMiB: 4 })],
    code: 2,
    says: /\/ramMiB is 4, must be >= 5/,
  },
  {
    name: 'RAM too small',
    args: ['run', '--backend', 'sim', '--ram', '4'],
    code: 2,
    says: /INVALID_ARGUMENT: run: 4 MiB of guest RAM are not in 5\.\.3072 \(size 4, limit 5\)/,
  },
  { name: 'RAM too large', args: ['run', '--backend', 'sim', '--ram', '4096'], code: 2, says: /limit 3072/ },
  { name: 'RAM is no number', args: ['run', '--ram', 'lots'], code: 2, says: /--ram <mib>.*'lots' is invalid.*whole number/ },
  { name: 'unknown vGPU type', args: ['run', '--backend', 'sim', '--type', 'GVTg_V4_3'], code: 2, says: /BAD_TYPE: .*GVTg_V4_3/ },
  {
    name: 'missing device',
    args: ['run', '--config', config('dev.json', { backend: 'kvm', options: { device: '/dev/kvm-none' } })],
    code: 3,
    says: /UNAVAILABLE: \[kvm\] .*\/dev\/kvm-none cannot be opened, errno 2 ENOENT/,
  },
  {
    name: 'a device that is not KVM',
    args: ['run', '--config', config('null.json', { backend: 'kvm', options: { device: '/dev/zero' } })],
    code: 3,
    says: /UNAVAILABLE: \[kvm\] .*\/dev\/zero is not a KVM device, errno 25 ENOTTY/,
  },
  {
    name: 'picture in a missing folder',
    args: ['run', '--backend', 'sim', '--picture', join(folder, 'no/such/card.png')],
    code: 2,
    says: /IO: picture: .*card\.png cannot be written; errno 2 ENOENT/,
  },
  {
    name: 'picture is a folder',
    args: ['run', '--backend', 'sim', '--picture', folder],
    code: 2,
    says: /IO: picture: .* is a directory; name a file/,
  },
  { name: 'no case matches', args: ['conformance', '--backend', 'sim', 'mpt/nothing'], code: 4, says: /NOTHING_RAN: .*'mpt\/nothing'/ },
  {
    name: 'unknown reporter',
    args: ['conformance', '--backend', 'sim', '--reporter', 'xml'],
    code: 2,
    says: /--reporter <name>.*'xml' is invalid/,
  },
  { name: 'unknown command', args: ['rum'], code: 2, says: /unknown command 'rum'/ },
  { name: 'unknown flag', args: ['run', '--pictur', 'x'], code: 2, says: /unknown option '--pictur'/ },
];

for (const { name, args, code, says } of cases)
  t.test(name, (t) => {
    const outcome = mpt(...args);
    t.equal(outcome.code, code, 'exit code');
    t.match(outcome.stderr, says);
    t.notMatch(outcome.stderr, /\n\s+at /, 'no stack trace');
    const lines = outcome.stderr.trim().split('\n');
    t.ok(lines.length === 1 || (lines.length === 2 && lines[1]?.startsWith('(Did you mean')), `one line: ${outcome.stderr}`);
    t.end();
  });

t.test('an unreadable device', (t) => {
  const device = file('locked', '');
  chmodSync(device, 0);
  chmodSync(folder, 0o755);
  // Root reads everything: the command runs as nobody then.
  const { code, stderr } = mptAsNobody('run', '--config', config('locked.json', { backend: 'kvm', options: { device } }));
  t.equal(code, 3);
  t.match(stderr, /^mpt: UNAVAILABLE: \[kvm\] .*locked cannot be opened, errno 13 EACCES; join the kvm group or run as root\n$/);
  t.end();
});

t.test('--json gives the error as one document too', (t) => {
  const { code, stdout } = mpt('run', '--backend', 'sim', '--ram', '4', '--json');
  t.equal(code, 2);
  t.match(JSON.parse(stdout), { error: { code: 'INVALID_ARGUMENT', op: 'run', size: 4, limit: 5 } });
  t.end();
});

t.test('help shows an example and the exit codes', (t) => {
  for (const command of ['backends', 'run', 'conformance']) {
    const { code, stdout } = mpt(command, '--help');
    t.equal(code, 0);
    t.match(stdout, /Example:\n {2}mpt /);
  }
  const { code, stdout } = mpt('--help');
  t.equal(code, 0);
  t.match(stdout, /Exit codes:/);
  t.end();
});

t.test('a picture never replaces a device, a pipe or what a link names', (t) => {
  const pipe = join(folder, 'pipe');
  t.equal(spawnSync('mkfifo', [pipe]).status, 0);
  const refused = mpt('run', '--backend', 'sim', '--picture', pipe);
  t.equal(refused.code, 2);
  t.match(refused.stderr, /^mpt: IO: picture: [^\n]*pipe[^\n]*\n$/);
  t.ok(lstatSync(pipe).isFIFO(), 'the pipe is still one');
  const target = file('target.png', 'old');
  const link = join(folder, 'link.png');
  symlinkSync(target, link);
  t.equal(mpt('run', '--backend', 'sim', '--picture', link).code, 0);
  t.ok(lstatSync(link).isSymbolicLink(), 'the link is still one');
  t.same([...readFileSync(target).subarray(1, 4)].map((byte) => String.fromCharCode(byte)).join(''), 'PNG', 'its target was written');
  t.notOk(
    readdirSync(folder).some((name) => name.endsWith('.part')),
    'nothing is left over',
  );
  t.end();
});

t.test('a reader that goes away, or a full stdout, is no stack trace', (t) => {
  const shell = (script: string): { code: number | null; stderr: string } => {
    const { status, stderr } = spawnSync('bash', ['-c', script, process.execPath, MPT], { encoding: 'utf8', timeout: 60_000 });
    return { code: status, stderr };
  };
  t.same(shell('set -o pipefail; "$0" "$1" run --help | head -1 >/dev/null'), { code: 0, stderr: '' });
  const full = shell('"$0" "$1" backends --json >/dev/full');
  t.equal(full.code, 2);
  t.match(full.stderr, /^mpt: IO: [^\n]*errno 28 ENOSPC[^\n]*\n$/);
  t.end();
});

t.test('wrong usage with --json is one document too', (t) => {
  const { code, stdout } = mpt('run', '--json', '--bogus');
  t.equal(code, 2);
  t.match(JSON.parse(stdout), { error: { code: 'INVALID_ARGUMENT', message: /unknown option '--bogus'/ } });
  t.end();
});

t.test('a limit that the guest runs into is named', (t) => {
  const { code, stderr } = mpt('run', '--config', config('pin.json', { backend: 'sim', options: { pinLimitPages: 1 } }));
  t.equal(code, 1);
  t.match(stderr, /^mpt: TIMEOUT: [^\n]*last complaint was: [^\n]*\n$/);
  t.end();
});
