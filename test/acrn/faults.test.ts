/**
 * Every system call of a scenario fails once, with each of six errnos: at the Syscalls seam, so that the kernel does not see the
 * call. What is asked each time: one typed line that carries the errno, or a call made again; the failed step can be repeated; guest
 * memory is right in the end; nothing is left open or mapped, here or in the hypervisor.
 */
import { readdirSync } from 'node:fs';
import t from 'tap';
import type { AcrnBackend, AcrnMachine } from '../../src/backends/acrn/index.js';
import { type Gfn, Gpa, PAGE_SIZE } from '../../src/core/addresses.js';
import type { PageTrackLevel } from '../../src/core/capabilities.js';
import { errnoText, MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS, Status } from '../../src/core/gvt-ops.js';
import { IoKind } from '../../src/core/io-request.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { everyCallFailsOnce, type Outcome, steps } from '../native/fault-sweep.js';
import { FaultySyscalls } from '../native/faulty-syscalls.js';
import { ABIS, attach, noAcrn, noStandIn, open, SMALL_RAM, standIn, standInState } from './support.js';

const ERRNOS = { EINTR: 4, EAGAIN: 11, ENOMEM: 12, EFAULT: 14, EBUSY: 16, ENODEV: 19 } as const;
/** Calls that are made again when they answer these. */
const MADE_AGAIN: readonly number[] = [ERRNOS.EINTR, ERRNOS.EAGAIN];
const TRACKED = 8 as Gfn;
const HOST_GFN = 0x80 as Gfn;
const WINDOW = 0x100_0000;
const MSI = 0xfee0_0000;
const END_PORT = 0xf4;
const IMAGE_GPA = Gpa(0x1000);

/** Calls whose failure need not come out as an error, each with the reason. */
const MAY_BE_IGNORED: Readonly<Record<string, string>> = {
  close: 'Linux has released the descriptor',
  munmap: 'nothing could be done about it',
  timerDelete: 'nothing could be done about it',
  'timerSet off': 'cannot fail on a timer that exists',
  'ioctl DESTROY_VM': 'closing the descriptor destroys the VM',
  'ioctl DESTROY_IOREQ_CLIENT': 'it goes with the VM',
};

// mov ax, 0x1234; mov [0x8000], ax; mov bx, 0x8000; mov ds, bx; mov [0x1000], ax; mov ds, cx (0); mov [0x9000], ax; out END_PORT, al; hlt
const GUEST = [
  ...[0xb8, 0x34, 0x12, 0xa3, 0x00, 0x80, 0xbb, 0x00, 0x80, 0x8e, 0xdb, 0xa3, 0x00, 0x10],
  ...[0x8e, 0xd9, 0xa3, 0x00, 0x90, 0xe6, END_PORT, 0xf4],
];

function scenario(sys: FaultySyscalls, abi: 'hsm' | 'vhm', pageTrack: PageTrackLevel): Outcome {
  const { errors, wrong, outcome, step } = steps();
  const reported: number[] = [];
  const pageWritten = (_: number, gfn: number): Status => {
    reported.push(gfn);
    return Status.OK;
  };
  let backend: AcrnBackend | undefined;
  try {
    const opened = step(() => open({ abi, pageTrack }, sys));
    backend = opened;
    step(() => opened.hostInit({ ...NULL_GVT_OPS, pageWritten }));
    const registerFile = step(() => opened.allocateHostPages(512));
    const sharedPage = step(() => opened.allocateHostPages(1));
    const machine = step(() => opened.createMachine({ ram: SMALL_RAM }) as AcrnMachine);
    const handle = step(() => attach(opened, machine, { registerFile, sharedPage }));
    step(() => handle.enablePageTrack(TRACKED));
    const pages = step(() => opened.allocateHostPages(2));
    step(() => handle.mapGfnToMfn(HOST_GFN, pages.mfn, 2, true));
    step(() => handle.setTrapArea(Gpa(WINDOW), Gpa(WINDOW + 0xff_ffff), true));
    step(() => handle.setPvmmio(Gpa(WINDOW), Gpa(WINDOW + 0xff_ffff), true));
    const dma = step(() => handle.dmaMapGuestPage(TRACKED, PAGE_SIZE));
    step(() => handle.armMsi(MSI, 0x41));
    step(() => handle.injectMsi(MSI, 0x42));
    step(() => machine.boot(IMAGE_GPA, Uint8Array.from(GUEST)));
    for (let ended = false; !ended; ) {
      const request = step(() => machine.requests.next(2000));
      if (request === undefined) throw new Error('the guest did not end');
      if (request.kind === IoKind.WP) reported.push(Math.floor(request.address / PAGE_SIZE));
      ended = request.address === END_PORT;
      step(() => machine.requests.complete(request));
    }
    step(() => handle.syncPageTrack());
    if (reported.join() !== String(TRACKED)) wrong.push(`written frames reported: ${reported}`);
    const word = new Uint8Array(2);
    handle.readGpa(Gpa(0x9000), word);
    const values = [handle.view(dma, 2)[0], word[1], pages.bytes[PAGE_SIZE]];
    if (values.join() !== [0x34, 0x12, 0x34].join()) wrong.push(`memory holds ${values}`);
    // The same VM again: paused, reset and started anew.
    step(() => machine.boot(IMAGE_GPA, Uint8Array.of(0xe6, END_PORT, 0xf4)));
    const again = step(() => machine.requests.next(2000));
    if (again === undefined || again.address !== END_PORT) wrong.push('the second boot did not run');
    else step(() => machine.requests.complete(again));
    step(() => handle.disablePageTrack(TRACKED));
    step(() => handle.dmaUnmapGuestPage(dma));
    step(() => handle.setPvmmio(Gpa(WINDOW), Gpa(WINDOW + 0xff_ffff), false));
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
    for (const held of [pages, registerFile, sharedPage]) step(() => held.release());
  } catch (error) {
    wrong.push(`second failure: ${error}`);
  }
  try {
    backend?.close();
  } catch (error) {
    errors.push(error);
  }
  return outcome;
}

function leaks(sys: FaultySyscalls, fds: number): string[] {
  const held: string[] = [];
  if (sys.openFds.size > 0) held.push(`descriptors ${[...sys.openFds]}`);
  if (sys.mapped.size > 0) held.push(`${sys.mapped.size} mappings`);
  const now = readdirSync('/proc/self/fd').length;
  if (now !== fds) held.push(`/proc/self/fd: ${fds} -> ${now}`);
  return held;
}

t.setTimeout(120_000);

for (const abi of ABIS)
  for (const pageTrack of ['trap', 'sync'] as const)
    t.test(`${abi}, page track ${pageTrack}: every system call fails once`, { skip: noAcrn }, async (t) => {
      const fds = readdirSync('/proc/self/fd').length;
      everyCallFailsOnce(t, {
        // The level differs in few calls: one errno shows that they are looked at.
        errnos: pageTrack === 'trap' ? ERRNOS : { EFAULT: ERRNOS.EFAULT },
        scenario: (sys) => scenario(sys, abi, pageTrack),
        leaks: (sys) => leaks(sys, fds),
        mayBeIgnored: MAY_BE_IGNORED,
        timed: true,
        madeAgain: (call, errno) => (call.startsWith('ioctl') && MADE_AGAIN.includes(errno) ? 'must' : 'no'),
      });
    });

/** The same with calls that reach the kernel and are refused there: from one `fail` of the stand-in to the caller's error. */
for (const abi of ABIS)
  t.test(`${abi}: every ioctl fails once in the kernel`, { skip: noStandIn }, async (t) => {
    const fds = readdirSync('/proc/self/fd').length;
    const clean = new FaultySyscalls(libcSyscalls);
    t.same(scenario(clean, abi, 'trap'), { errors: [], wrong: [] }, 'without a fault');
    const ioctls = clean.names.filter((name) => name.startsWith('ioctl')).length;
    t.ok(ioctls > 30, `${ioctls} ioctls`);
    for (const [name, errno] of Object.entries({ EINTR: ERRNOS.EINTR, EFAULT: ERRNOS.EFAULT })) {
      const problems = new Set<string>();
      let told = 0;
      for (let n = 1; n <= ioctls; n++) {
        standIn(`fail any ${name} ${n}`);
        const sys = new FaultySyscalls(libcSyscalls);
        const { errors, wrong } = scenario(sys, abi, 'trap');
        standIn('clear');
        told += errors.length;
        for (const error of errors)
          if (!(error instanceof MptError) || error.code === 'INTERNAL' || !error.message.includes(errnoText(errno)))
            problems.add(`ioctl ${n}: ${error}`);
        for (const problem of [...wrong, ...leaks(sys, fds)]) problems.add(`ioctl ${n}: ${problem}`);
      }
      t.same([...problems], [], `${name} at each of ${ioctls} ioctls`);
      t.ok(MADE_AGAIN.includes(errno) ? told === 0 : told > ioctls / 2, `${name}: ${told} errors were told`);
    }
  });

t.test('the hypervisor is left with nothing', { skip: noStandIn }, async (t) => {
  const { created, destroyed } = standInState();
  t.equal(destroyed, created, 'every VM that was created is gone');
  t.ok(created > 100, `${created} VMs`);
});

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
