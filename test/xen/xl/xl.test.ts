/** Domains of the real xl, taken up by `mpt run --domain`. They run in dom0: `npm run lab:xen -- --job xl`. Elsewhere they are skipped. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { skip as noXen } from '../support.js';
import { createPaused, type Done, hasXl, listed, program, xl } from './guest.js';

const { MPT_LAB: lab, MPT_LAB_OUT: out = '/tmp' } = process.env;
// In the laboratory there is an xl: that it does not work is a failure there.
const skip = noXen || (lab === undefined && !hasXl() && 'xl does not run here');

function mpt(domain: string | number, ...args: string[]): Done {
  const done = program(process.execPath, 'build/src/cli/mpt.js', 'run', '--backend', 'xen', '--domain', String(domain), ...args);
  // The laboratory looks there for V8's own aborts.
  if (done.signal !== null) process.stderr.write(`mpt run was killed by ${done.signal}\n${done.stdout}\n${done.stderr}\n`);
  return done;
}

/** Both kinds, one by name and one by number, draw the same. The laboratory compares the files with what sim draws. */
const drawn = new Map<string, string>();

function draws(t: Test, domain: string | number, picture: string): void {
  const path = join(out, picture);
  const { status, signal, stdout, stderr } = mpt(domain, '--picture', path, '--json');
  t.equal(status, 0, signal ?? stderr);
  const result = JSON.parse(stdout) as { backend: string; guestErrors: number; interrupts: number; picture: { sha256: string } };
  t.match(result, { backend: 'xen', guestErrors: 0 });
  t.ok(result.interrupts > 0, 'interrupts reached the guest');
  drawn.set(picture, result.picture.sha256);
}

t.test('a PVH domain of xl, by name', { skip, timeout: 240_000 }, (t) => {
  const name = 'mpt-xl-pvh';
  const domid = createPaused(name, 'pvh');
  t.match(listed(name)?.[3], /^--p---$/, 'xl left it paused');
  draws(t, name, 'by-name.png');
  t.match(listed(name), [String(domid), /^3[0-2]$/, '1', /^--p---$/], 'it is still there, paused as it was found');
  const again = mpt(name);
  t.equal(again.status, 1);
  t.match(again.stderr, new RegExp(`BUSY: .*domain ${domid} has run already.*; create it paused: xl create -p`));
  xl('destroy', name);
  t.equal(listed(name), undefined);
  t.match(mpt(name).stderr, new RegExp(`VM_NOT_FOUND: .*no domain is called '${name}'; there are Domain-0`));
  t.end();
});

t.test('an HVM domain of xl, by number', { skip, timeout: 240_000 }, (t) => {
  const name = 'mpt-xl-hvm';
  const domid = createPaused(name, 'hvm');
  draws(t, domid, 'by-number.png');
  t.match(listed(name), [String(domid), /^3[0-2]$/, '1', /^--p---$/], 'it is still there, paused as it was found');
  xl('destroy', name);
  t.end();
});

t.test('both drew the same', { skip }, (t) => {
  t.equal(drawn.get('by-name.png'), drawn.get('by-number.png'));
  t.match(drawn.get('by-name.png'), /^[0-9a-f]{64}$/);
  t.end();
});
