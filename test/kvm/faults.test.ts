/**
 * Fault injection at the Syscalls seam: every system call of a scenario fails once, with each of five errnos. What is
 * asked each time: the failure comes out as one typed line that carries the errno, the failed step can be repeated, the
 * guest's memory is right in the end, and nothing is left open, mapped, armed or blocked.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { KvmBackend } from '../../src/backends/kvm/backend.js';
import { type Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import type { PageTrackLevel } from '../../src/core/capabilities.js';
import { MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS, Status } from '../../src/core/gvt-ops.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { everyCallFailsOnce, type Outcome, steps } from '../native/fault-sweep.js';
import { FaultySyscalls } from '../native/faulty-syscalls.js';
import { attach, dword, END_PORT, footprint, IMAGE_GPA, nextOrLate, noKvm, SMALL_RAM } from './support.js';

const ERRNOS = { EINTR: 4, ENOMEM: 12, EFAULT: 14, EBUSY: 16, ENODEV: 19 } as const;
const TRACKED = 8 as Gfn;
const HOST_GFN = 0x80 as Gfn;
const MSI = 0xfee0_0000;

/** Calls whose failure need not come out as an error, each with the reason. */
const MAY_BE_IGNORED: Readonly<Record<string, string>> = {
  close: 'Linux has released the descriptor',
  munmap: 'nothing could be done about it',
  timerDelete: 'nothing could be done about it',
  sigmask: 'at the end: cannot fail with these arguments',
  sigtake: 'nothing was pending',
  'timerSet off': 'cannot fail on a timer that exists',
  'ioctl KVM_CHECK_EXTENSION': 'counts as absent',
};
// mov ax, 0x1234; mov [0x8000], ax; mov bx, 0x8000; mov ds, bx; mov [0x1000], ax; mov ax, [0]; mov ds, cx (0); mov [0x9000], ax
const GUEST = [
  ...[0xb8, 0x34, 0x12, 0xa3, 0x00, 0x80, 0xbb, 0x00, 0x80, 0x8e, 0xdb, 0xa3, 0x00, 0x10, 0xa1, 0x00, 0x00],
  ...[0x8e, 0xd9, 0xa3, 0x00, 0x90, 0xe6, END_PORT, 0xf4],
];

function scenario(sys: FaultySyscalls, pageTrack: PageTrackLevel): Outcome {
  const { errors, wrong, outcome, step } = steps();
  const reported: number[] = [];
  const pageWritten = (_: number, gfn: number): Status => {
    reported.push(gfn);
    return Status.OK;
  };
  const ops = { ...NULL_GVT_OPS, pageWritten };
  let backend: KvmBackend | undefined;
  try {
    const opened = step(() => new KvmBackend(sys, { pageTrack }));
    backend = opened;
    step(() => opened.hostInit(ops));
    const machine = step(() => opened.createMachine({ ram: SMALL_RAM }));
    const handle = step(() => attach(opened, machine));
    step(() => handle.enablePageTrack(TRACKED));
    step(() => handle.enablePageTrack((TRACKED + 4) as Gfn));
    const pages = step(() => opened.allocateHostPages(2));
    step(() => handle.mapGfnToMfn(HOST_GFN, pages.mfn, 2, true));
    const dma = step(() => handle.dmaMapGuestPage(TRACKED, PAGE_SIZE));
    if (opened.capabilities.msiEventfd) step(() => handle.armMsi(MSI, 0x41));
    step(() => handle.injectMsi(MSI, 0x41));
    step(() => handle.injectMsi(MSI, 0x42));
    pages.bytes[0] = 0x78;
    step(() => machine.boot(IMAGE_GPA, Uint8Array.from(GUEST)));
    for (let ended = false; !ended; ) {
      const request = step(() => nextOrLate(machine, 1000));
      if (request === undefined) throw new Error('the guest did not end');
      if (request.kind === 3) reported.push(Math.floor(request.address / PAGE_SIZE));
      ended = request.address === END_PORT;
      machine.requests.complete(request);
    }
    step(() => handle.syncPageTrack());
    if (reported.join() !== String(TRACKED)) wrong.push(`written frames reported: ${reported}`);
    const values = [dword(handle, 0x8000), dword(handle, 0x9000), pages.bytes[PAGE_SIZE]];
    if (values.join() !== [0x1234, 0x78, 0x34].join()) wrong.push(`memory holds ${values}`);
    if (handle.view(dma, 2)[0] !== 0x34) wrong.push('the dma view does not show the store');
    step(() => handle.disablePageTrack(TRACKED));
    step(() => handle.dmaUnmapGuestPage(dma));
    step(() => handle.mapGfnToMfn(HOST_GFN, pages.mfn, 2, false));
    step(() => handle.mapGfnToMfn(HOST_GFN, pages.mfn, 1, true));
    try {
      handle.detachVgpu();
    } catch (error) {
      errors.push(error);
    }
    if (opened.attachedCount !== 0) wrong.push('still attached');
    step(() => opened.hostExit());
    step(() => machine.close());
    step(() => pages.release());
  } catch (error) {
    // Without the capability that a failed KVM_CHECK_EXTENSION took away there is nothing to repeat.
    if (!(MptError.is(error, 'UNSUPPORTED') && sys.failed?.name === 'ioctl KVM_CHECK_EXTENSION')) wrong.push(`second failure: ${error}`);
  }
  try {
    backend?.close();
  } catch (error) {
    errors.push(error);
  }
  return outcome;
}

const blocked = (): string => /^SigBlk:.*$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[0] ?? '';

/** What is still held after a run. */
function leaks(sys: FaultySyscalls, before: ReturnType<typeof footprint>, mask: string): string[] {
  const after = footprint();
  const held: string[] = [];
  if (sys.openFds.size > 0) held.push(`descriptors ${[...sys.openFds]}`);
  if (sys.mapped.size > 0) held.push(`mappings ${[...sys.mapped.keys()].map((address) => address.toString(16))}`);
  if (sys.timers.size > 0) held.push('a timer');
  if (after.fds.join() !== before.fds.join()) held.push(`/proc/self/fd: ${before.fds} -> ${after.fds}`);
  if (after.kvmMaps !== before.kvmMaps) held.push(`/proc/self/maps: ${before.kvmMaps} -> ${after.kvmMaps}`);
  if (blocked() !== mask) held.push('the signal mask');
  return held;
}

t.setTimeout(90_000);

for (const pageTrack of ['trap', 'sync'] as const)
  t.test(`every system call fails once, page track by ${pageTrack}`, { skip: noKvm }, async (t) => {
    scenario(new FaultySyscalls(libcSyscalls), pageTrack);
    const mask = blocked();
    const before = footprint();
    everyCallFailsOnce(t, {
      errnos: ERRNOS,
      scenario: (sys) => scenario(sys, pageTrack),
      leaks: (sys) => leaks(sys, before, mask),
      mayBeIgnored: MAY_BE_IGNORED,
      madeAgain: (_, errno) => (errno === ERRNOS.EINTR ? 'may' : 'no'),
    });
  });

t.test('a change of memory slots that fails midway leaves the guest its memory', { skip: noKvm }, async (t) => {
  const sys = new FaultySyscalls(libcSyscalls);
  const backend = new KvmBackend(sys);
  backend.hostInit(NULL_GVT_OPS);
  const machine = backend.createMachine({ ram: SMALL_RAM });
  const handle = attach(backend, machine);
  for (const gfn of [4, 5, 6, 9]) handle.enablePageTrack(gfn as Gfn);
  const call = 'ioctl KVM_SET_USER_MEMORY_REGION';
  const attempts: readonly [what: string, calls: number, run: () => void, undo: () => void][] = [
    ['protect', 4, () => handle.enablePageTrack(12 as Gfn), () => handle.disablePageTrack(12 as Gfn)],
    ['unprotect and join both sides', 4, () => handle.disablePageTrack(9 as Gfn), () => handle.enablePageTrack(9 as Gfn)],
    ['unprotect between read-only frames', 2, () => handle.disablePageTrack(5 as Gfn), () => handle.enablePageTrack(5 as Gfn)],
  ];
  for (const [what, calls, run, undo] of attempts) {
    const from = sys.names.length;
    run();
    t.equal(sys.names.slice(from).filter((name) => name === call).length, calls, `${what}: ${calls} calls`);
    undo();
    for (let nth = 1; nth <= calls; nth++) {
      let seen = 0;
      sys.onCall = ({ index, name }) => {
        if (name === call && ++seen === nth) Object.assign(sys, { failAt: index, errno: ERRNOS.ENOMEM });
      };
      const tracked = [...handle.trackedFrames()].sort().join();
      t.throws(run, { code: 'NO_MEMORY', errno: ERRNOS.ENOMEM }, `${what}, call ${nth}`);
      sys.onCall = undefined;
      t.equal([...handle.trackedFrames()].sort().join(), tracked);
      // mov al, 7; then to each frame: mov [frame], al
      const stores = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13].flatMap((frame) => [0xa2, 0x04, (frame << 4) & 0xff]);
      machine.boot(IMAGE_GPA, Uint8Array.from([0xb0, 0x40 + nth, ...stores, 0xe6, END_PORT]));
      const written = new Set<number>();
      for (let request = nextOrLate(machine, 1000); ; request = nextOrLate(machine, 1000)) {
        if (request === undefined) throw new Error('the guest did not end');
        const end = request.address === END_PORT;
        if (!end) written.add(Math.floor(request.address / PAGE_SIZE));
        machine.requests.complete(request);
        if (end) break;
      }
      t.equal([...written].sort().join(), tracked, 'exactly the tracked frames are reported');
      const byte = new Uint8Array(1);
      for (const frame of [2, 7, 9, 13]) {
        handle.readGpa(Gpa(frame * PAGE_SIZE + 4), byte);
        if (byte[0] !== 0x40 + nth) t.fail(`frame ${frame} lost the store`);
      }
    }
  }
  backend.close();
});
