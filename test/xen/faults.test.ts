/**
 * Every call that a whole life of a vGPU makes to Xen fails once, one run a call: in a domain of ours and in one that was there
 * before. What fails must say so by a typed error, and after the close nothing may be left over of the run.
 */
import t, { type Test } from 'tap';
import { XenBackend } from '../../src/backends/xen/backend.js';
import { openXenCalls } from '../../src/backends/xen/calls.js';
import { createDomain, destroyDomain, type XenMachine } from '../../src/backends/xen/machine.js';
import { Recorder } from '../../src/conformance/recorder.js';
import { Gfn, Gpa, MptError, PAGE_SIZE } from '../../src/core/mpt.js';
import { AGENT_PORT } from '../../src/guest/agent.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { FaultyXen } from './faulty-xen.js';
import { attach, BAR, bootAgent, figures, peek, RAM, SCRATCH, skip } from './support.js';

const [EINVAL, ESRCH] = [22, 3];
const TRACKED = SCRATCH + 4 * PAGE_SIZE;
const HOLE = 0x2000;

/** A life: attach, all that a vGPU can do, detach, close. `domid` is the domain to take up, or undefined for one of its own. */
function live(backend: XenBackend, domid: number | undefined): void {
  const recorder = new Recorder();
  backend.hostInit(recorder);
  const ports = [[AGENT_PORT, AGENT_PORT + 7]] as const;
  const machine = (domid === undefined ? backend.createMachine({ ram: RAM }) : backend.openMachine(domid, { ports })) as XenMachine;
  const handle = attach(backend, machine.vmId);
  const agent = bootAgent(machine, recorder, { timeoutMs: 5000 });
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  handle.enablePageTrack(Gfn(TRACKED / PAGE_SIZE));
  handle.enablePageTrack(Gfn(TRACKED / PAGE_SIZE + 1));
  agent.write(TRACKED, 4, 0x1234);
  agent.read(BAR, 4);
  peek(handle, TRACKED, 4);
  handle.gfnToMfn(Gfn(SCRATCH / PAGE_SIZE));
  const kept = handle.dmaMapGuestPage(Gfn(SCRATCH / PAGE_SIZE + 1), PAGE_SIZE);
  handle.dmaMapGuestPage(Gfn(SCRATCH / PAGE_SIZE + 2), PAGE_SIZE);
  const pages = backend.allocateHostPages(2);
  handle.mapGfnToMfn(Gfn(HOLE), pages.mfn, 2, true);
  handle.mapGfnToMfn(Gfn(HOLE + 16), pages.mfn, 1, true);
  handle.injectMsi(0xfee0_0000, 0x41);
  handle.mapGfnToMfn(Gfn(HOLE), pages.mfn, 2, false);
  handle.dmaUnmapGuestPage(kept);
  handle.disablePageTrack(Gfn(TRACKED / PAGE_SIZE));
  // What is left is released by the detach and the close.
  handle.detachVgpu();
  machine.close();
}

interface Run {
  readonly faults: FaultyXen;
  readonly errors: readonly unknown[];
}

/** @param at number of the call that fails; -1 for none */
function run(domid: number | undefined, at: number, errno: number): Run {
  const faults = new FaultyXen();
  const errors: unknown[] = [];
  faults.failCall(at, errno);
  let backend: XenBackend | undefined;
  try {
    backend = new XenBackend(libcSyscalls, {}, faults.wrap);
    live(backend, domid);
  } catch (error) {
    errors.push(error);
  }
  try {
    backend?.close();
  } catch (error) {
    errors.push(error);
  }
  return { faults, errors };
}

function sweep(t: Test, domid: () => number | undefined, errno: number): void {
  const { calls } = openXenCalls(libcSyscalls, '4.17');
  const clean = run(domid(), -1, 0);
  t.same(clean.errors, [], 'without a failure');
  const { log } = clean.faults;
  t.ok(log.length > 50, `${log.length} calls`);
  t.same(clean.faults.leftovers(), [], 'nothing left over without a failure');
  let silent = 0;
  for (const [index, name] of log.entries()) {
    const place = `call ${index}, ${name}`;
    const domain = domid();
    const before = figures(calls);
    const { faults, errors } = run(domain, index, errno);
    if (errors.length === 0) silent++;
    for (const error of errors) if (!MptError.is(error) || error.code === 'INTERNAL') t.fail(`${place}: ${(error as Error).stack}`);
    const left = faults.leftovers();
    if (left.length > 0) t.fail(`${place}: left over: ${left.join(', ')}; errors ${errors.join(' | ')}`);
    const after = figures(calls);
    if (after.domains.join() !== before.domains.join()) t.fail(`${place}: domains ${before.domains}, then ${after.domains}`);
    if (after.fds !== before.fds) t.fail(`${place}: ${before.fds} descriptors, then ${after.fds}`);
  }
  t.comment(`${log.length} calls, ${silent} of their failures change nothing that the caller sees`);
  t.pass('swept');
  calls.close();
}

for (const [name, errno] of [
  ['EINVAL', EINVAL],
  ['ESRCH', ESRCH],
] as const)
  t.test(`each call fails once with ${name}, own domain`, { skip, timeout: 240_000 }, (t) => {
    sweep(t, () => undefined, errno);
    t.end();
  });

t.test('each call fails once with EINVAL, a domain that was there before', { skip, timeout: 240_000 }, (t) => {
  const owner = new XenBackend(libcSyscalls, { guest: 'pvh' });
  let domid = -1;
  // A domain that has run is not booted again: each run gets a new one.
  sweep(
    t,
    () => {
      if (domid >= 0) destroyDomain(owner, domid);
      domid = createDomain(owner, RAM, 'pvh', 1);
      return domid;
    },
    EINVAL,
  );
  destroyDomain(owner, domid);
  owner.close();
  t.end();
});
