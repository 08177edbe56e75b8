/** The main job through the command line, on every backend of this machine. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import t, { type Test } from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import { mpt, mptInNamespace, mptInterrupted, noNamespaces } from './mpt.js';
import { referenceCard } from './reference-card.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-run-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

const reference = referenceCard();
const probe = kvm.probe();
const noKvm = probe.available ? false : probe.reason;
const namespaces = noNamespaces();

function checkRun(t: Test, backend: string): void {
  const file = join(folder, `${backend}.png`);
  const { code, stdout, stderr } = mpt('run', '--backend', backend, '--picture', file, '--json');
  t.equal(stderr, '');
  t.equal(code, 0);
  const result = JSON.parse(stdout);
  t.equal(result.backend, backend);
  t.match(result.device, { vendor: 0x8086, device: 0x1616, bdf: '00:02.0', vgpuId: 1, type: 'GVTg_V4_8' });
  t.equal(result.device.bar0.size, 16 << 20, 'BAR0 was sized by the guest');
  t.equal(result.workloads, 5, 'one workload a group of the card');
  t.ok(result.interrupts >= result.workloads, 'the guest counted an interrupt for each workload');
  t.equal(result.guestErrors, 0);
  t.ok(result.exits.mmio > 1000 && result.exits.pio > 5000, 'the guest really exits');
  const png = readFileSync(file);
  t.equal(result.picture.sha256, createHash('sha256').update(png).digest('hex'), 'sha256 is the file’s');
  const image = decode(png);
  t.match(result.picture, { path: file, width: image.width, height: image.height });
  t.equal(
    Buffer.compare(Buffer.from(image.data.buffer, image.data.byteOffset, image.data.byteLength), Buffer.from(reference)),
    0,
    'every pixel is right',
  );
}

t.test('sim draws the card', (t) => {
  checkRun(t, 'sim');
  t.end();
});

t.test('kvm draws the card', { skip: noKvm }, (t) => {
  checkRun(t, 'kvm');
  t.same(readFileSync(join(folder, 'kvm.png')), readFileSync(join(folder, 'sim.png')), 'the same file as on sim');
  t.end();
});

t.test('for a person: names the backend and why', (t) => {
  const { code, stdout, stderr } = mpt('run', '--backend', 'auto', '--fallback', 'sim');
  t.equal(code, 0);
  t.equal(stderr, '', 'no progress when stderr is no terminal');
  t.match(stdout, probe.available ? /^backend kvm \(first available hypervisor/ : /^backend sim \(fallback, because .*kvm: /);
  t.end();
});

t.test('without /dev/kvm the fallback draws the same picture', { skip: namespaces ?? false }, (t) => {
  const hide = `mount --bind ${join(folder, 'empty')} /dev/kvm`;
  writeFileSync(join(folder, 'empty'), '');
  if (noKvm !== false) return t.end();
  const file = join(folder, 'fallback.png');
  const { code, stdout } = mptInNamespace(hide, 'run', '--backend', 'auto', '--fallback', 'sim', '--picture', file);
  t.equal(code, 0);
  t.match(stdout, /^backend sim \(fallback, because .*kvm: \/dev\/kvm .*errno/);
  t.same(readFileSync(file), readFileSync(join(folder, 'sim.png')));
  const named = mptInNamespace(hide, 'run', '--backend', 'kvm');
  t.equal(named.code, 3, 'a named backend is not replaced');
  const auto = mptInNamespace(hide, 'run', '--backend', 'auto');
  t.equal(auto.code, 3, 'nor is auto without a fallback');
  t.match(auto.stderr, /^mpt: UNAVAILABLE: .*no hypervisor can be used here \(.*kvm: .*--fallback sim\n$/);
  t.end();
});

t.test('a full disk: one line, no half picture', { skip: namespaces ?? false }, (t) => {
  const { code, stderr } = mptInNamespace(
    'mount -t tmpfs -o size=4k none /mnt',
    'run',
    '--backend',
    'sim',
    '--picture',
    '/mnt/card.png',
    '--json',
  );
  t.equal(code, 2);
  t.match(stderr, /^mpt: IO: picture: \/mnt\/card\.png cannot be written; errno 28 ENOSPC\n$/);
  t.end();
});

t.test('Ctrl-C and SIGTERM end a run at once and leave no picture', async (t) => {
  for (const backend of probe.available ? ['sim', 'kvm'] : ['sim'])
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const file = join(folder, 'interrupted.png');
      const { code, stderr, ms } = await mptInterrupted(signal, 'run', '--backend', backend, '--picture', file);
      t.equal(code, 130, `${backend}, ${signal}: exit code`);
      t.match(stderr, /^mpt: STOPPED: [^\n]*\n$/, `${backend}, ${signal}: one line`);
      // No measurement: what hangs does so until it is killed.
      t.ok(ms < 10_000, `${backend}, ${signal}: ended in ${Math.round(ms)} ms`);
      t.notOk(
        readdirSync(folder).some((name) => name.startsWith('interrupted')),
        `${backend}, ${signal}: no file`,
      );
    }
});
