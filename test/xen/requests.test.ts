/** Accesses of every shape that Xen sends, made by real instructions in a domain. */
import t, { type Test } from 'tap';
import { XenBackend } from '../../src/backends/xen/backend.js';
import { Gfn, Gpa, PAGE_SIZE } from '../../src/core/mpt.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { asm, BAR, counting, failure, MIB, peek, type Rig, rig, runCode, SCRATCH, skip } from './support.js';

const PORT = 0x9a0;

/** Runs `body` on a fresh domain of each kind. */
const onBoth = (name: string, body: (t: Test, rig: Rig) => void): void => {
  for (const guest of ['hvm', 'pvh'] as const)
    t.test(`${name}, ${guest}`, { skip }, (t) => {
      const it = rig({ xen: { guest } });
      try {
        it.handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xffff), true);
        body(t, it);
      } finally {
        it.close();
      }
      t.end();
    });
};

const accesses = (it: Rig): string =>
  it.recorder.accesses
    .map(
      ({ kind, write, address, size, low }) =>
        `${kind} ${write ? 'w' : 'r'} ${address.toString(16)} ${size}${write ? ` ${low.toString(16)}` : ''}`,
    )
    .join('\n');

const words = (values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

onBoth('rep movsd from registers to RAM: one access each, the data behind the pointer', (t, it) => {
  counting(it.recorder);
  runCode(it, asm.cld, asm.esi(BAR + 0x10), asm.edi(SCRATCH), asm.ecx(4), asm.repMovsd);
  t.equal(accesses(it), [0x10, 0x14, 0x18, 0x1c].map((at) => `mmio r ${(BAR + at).toString(16)} 4`).join('\n'));
  t.same(peek(it.handle, SCRATCH, 16), words([0x1000, 0x1001, 0x1002, 0x1003]));
});

onBoth('rep movsd downwards', (t, it) => {
  it.handle.writeGpa(Gpa(SCRATCH), words([1, 2, 3, 4]));
  runCode(it, asm.std, asm.esi(SCRATCH + 12), asm.edi(BAR + 12), asm.ecx(4), asm.repMovsd, asm.cld);
  t.equal(accesses(it), [12, 8, 4, 0].map((at) => `mmio w ${(BAR + at).toString(16)} 4 ${at / 4 + 1}`).join('\n'));
});

onBoth('rep movsd from registers to registers', (t, it) => {
  counting(it.recorder);
  runCode(it, asm.cld, asm.esi(BAR), asm.edi(BAR + 0x100), asm.ecx(2), asm.repMovsd);
  t.same(
    it.recorder.accesses.filter(({ write }) => write).map(({ address, low }) => [address, low]),
    [
      [BAR + 0x100, 0x1000],
      [BAR + 0x104, 0x1001],
    ],
  );
});

onBoth('rep stosd: the same value to each register', (t, it) => {
  runCode(it, asm.cld, asm.eax(0xabcd_ef01), asm.edi(BAR + 0xff8), asm.ecx(4), asm.repStosd);
  t.equal(
    accesses(it),
    [0xff8, 0xffc, 0x1000, 0x1004].map((at) => `mmio w ${(BAR + at).toString(16)} 4 abcdef01`).join('\n'),
    'across a page end',
  );
});

onBoth('rep movsb of odd counts across a page of RAM', (t, it) => {
  it.handle.writeGpa(Gpa(SCRATCH + PAGE_SIZE - 3), Uint8Array.of(1, 2, 3, 4, 5, 6, 7));
  runCode(it, asm.cld, asm.esi(SCRATCH + PAGE_SIZE - 3), asm.edi(BAR), asm.ecx(7), asm.repMovsb);
  const bytes = it.recorder.accesses.flatMap(({ address, size, low, high }) =>
    [...new Uint8Array(Uint32Array.of(low, high).buffer).subarray(0, size)].map((byte, i) => [address + i - BAR, byte]),
  );
  t.same(
    bytes,
    [1, 2, 3, 4, 5, 6, 7].map((byte, i) => [i, byte]),
  );
});

onBoth('rep insd and rep outsd: the port stays, the memory moves', (t, it) => {
  counting(it.recorder);
  runCode(it, asm.cld, asm.edx(PORT), asm.edi(SCRATCH), asm.ecx(3), asm.repInsd);
  t.same(peek(it.handle, SCRATCH, 12), words([0x1000, 0x1001, 0x1002]));
  it.recorder.clear();
  it.handle.writeGpa(Gpa(SCRATCH), words([7, 8, 9]));
  runCode(it, asm.cld, asm.edx(PORT), asm.esi(SCRATCH), asm.ecx(3), asm.repOutsd);
  t.equal(accesses(it), [7, 8, 9].map((value) => `pio w ${PORT.toString(16)} 4 ${value}`).join('\n'));
});

onBoth('a read-modify-write of a tracked page is one read through and one reported write', (t, it) => {
  const page = SCRATCH + 4 * PAGE_SIZE;
  it.handle.writeGpa(Gpa(page), words([41]));
  it.handle.enablePageTrack(Gfn(page / PAGE_SIZE));
  runCode(it, asm.incDword(page));
  const writes = it.recorder.of('wp');
  t.same(
    writes.map(({ address, size, low }) => [address, size, low]),
    [[page, 4, 42]],
  );
  t.same(peek(it.handle, page, 4), words([42]));
});

onBoth('rep stosd into a tracked page is reported write by write', (t, it) => {
  const page = SCRATCH + 4 * PAGE_SIZE;
  it.handle.enablePageTrack(Gfn(page / PAGE_SIZE));
  runCode(it, asm.cld, asm.eax(0x55), asm.edi(page + 8), asm.ecx(3), asm.repStosd);
  t.same(
    it.recorder.of('wp').map(({ address }) => address - page),
    [8, 12, 16],
  );
  t.same(peek(it.handle, page + 8, 12), words([0x55, 0x55, 0x55]));
});

/** `mov eax, 1; mov [data], eax; jmp next command`, where runCode puts it. */
const STORE_ONE = [asm.eax(1), asm.storeEax(SCRATCH + 0x100)] as const;

onBoth('code in a tracked page stands still, without a request, until the page is untracked', (t, it) => {
  const page = Gfn(SCRATCH / PAGE_SIZE);
  it.handle.enablePageTrack(page);
  let waited = 0;
  let untracked = false;
  const { cpuTime } = it.machine.domain.info();
  const before = it.machine.exitCounts();
  it.idle.run = () => {
    if (untracked || ++waited < 20) return;
    t.same({ ...it.machine.exitCounts(), pio: 0 }, { ...before, pio: 0 }, 'Xen told nothing of it');
    t.ok(it.machine.domain.info().cpuTime - cpuTime > 50e6, 'the vCPU did not sleep: it faults again and again');
    t.same(peek(it.handle, SCRATCH + 0x100, 4), words([0]), 'the store has not happened');
    untracked = true;
    it.handle.disablePageTrack(page);
  };
  runCode(it, ...STORE_ONE);
  t.ok(untracked, 'the guest waited for it');
  t.same(peek(it.handle, SCRATCH + 0x100, 4), words([1]));
  t.equal(it.recorder.of('wp').length, 0);
});

t.test('code in a page that is tracked at level sync runs', { skip }, (t) => {
  const it = rig({ xen: { pageTrack: 'sync' } });
  it.handle.enablePageTrack(Gfn(SCRATCH / PAGE_SIZE));
  runCode(it, ...STORE_ONE, asm.incDword(SCRATCH + 0x100));
  t.equal(it.handle.syncPageTrack(), 1);
  t.same(peek(it.handle, SCRATCH + 0x100, 4), words([2]));
  it.close();
  t.end();
});

onBoth('an NMI message reaches the vCPU', (t, it) => {
  it.handle.injectMsi(0xfee0_0000, 0x400);
  const error = failure(() => it.agent.burstRead(BAR, 4, 100));
  t.equal(error.code, 'GUEST_FAULT');
  t.match(error.message, /exception 2 \(NMI\)/);
});

onBoth('messages of modes that Xen does not deliver are refused', (t, it) => {
  for (const data of [0x240, 0x300, 0x500, 0x700]) t.equal(failure(() => it.handle.injectMsi(0xfee0_0000, data)).code, 'BAD_MSI');
});

onBoth('the guest gives memory back: cached mappings are dropped, a pinned page stays what it was', (t, it) => {
  const [gone, kept] = [SCRATCH + 8 * PAGE_SIZE, SCRATCH + 9 * PAGE_SIZE];
  for (const at of [gone, kept]) it.handle.writeGpa(Gpa(at), words([at]));
  const address = it.handle.dmaMapGuestPage(Gfn(gone / PAGE_SIZE), PAGE_SIZE);
  // struct xen_memory_reservation for a 32-bit guest: extent_start, nr_extents, extent_order, mem_flags, domid (DOMID_SELF).
  it.handle.writeGpa(Gpa(SCRATCH), words([SCRATCH + 0x40, 1, 0, 0, 0x7ff0]));
  it.handle.writeGpa(Gpa(SCRATCH + 0x40), words([gone / PAGE_SIZE]));
  const DECREASE_RESERVATION = 1;
  const MEMORY_OP = 12;
  runCode(it, asm.eax(MEMORY_OP), asm.ebx(DECREASE_RESERVATION), asm.ecx(SCRATCH), asm.vmmcall, asm.storeEax(SCRATCH + 0x80));
  t.same(peek(it.handle, SCRATCH + 0x80, 4), words([1]), 'frames that Xen took');
  t.ok((it.machine.exitCounts()['invalidate'] ?? 0) >= 1, 'Xen asked to drop mappings');
  t.equal(failure(() => peek(it.handle, gone, 4)).code, 'NOT_RAM', 'a copy sees that the frame is gone');
  t.equal(it.handle.isValidGfn(Gfn(gone / PAGE_SIZE)), false);
  t.equal(failure(() => it.handle.gfnToMfn(Gfn(gone / PAGE_SIZE))).code, 'NOT_RAM');
  t.same(peek(it.handle, kept, 4), words([kept]), 'its neighbour is still there');
  t.same(Uint8Array.from(it.handle.view(address, 4)), words([gone]), 'the pinned page');
  it.handle.dmaUnmapGuestPage(address);
});

t.test('a write to the VGA window comes through the buffered ring, before the request that follows it', { skip }, (t) => {
  const it = rig({
    ram: [
      { gpa: 0, size: 0xa_0000 },
      { gpa: MIB, size: 3 * MIB },
    ],
  });
  // Any write to a VGA port turns Xen's standard VGA on; from then on it passes single writes to the window on by the ring.
  it.agent.portOut(0x3c4, 1, 7);
  it.agent.portOut(0x3c5, 1, 0);
  it.recorder.clear();
  for (let i = 0; i < 600; i++) it.agent.write(0xa_0000 + i, 1, i & 0xff);
  it.agent.write(0xa_1000, 4, 0x8765_4321);
  it.agent.read(BAR, 4);
  const window = it.recorder.accesses.filter(({ address }) => address < MIB);
  t.equal(it.machine.exitCounts()['buffered'], window.length, 'all came through the ring');
  t.equal(window.length, 601);
  t.ok(
    window.slice(0, 600).every(({ address, low, size }, i) => address === 0xa_0000 + i && low === (i & 0xff) && size === 1),
    'in order, more than the ring holds',
  );
  t.match(window[600], { address: 0xa_1000, size: 4, low: 0x8765_4321 });
  t.equal(it.recorder.accesses.at(-1)?.address, BAR, 'the request that waits comes last');
  it.close();
  t.end();
});

t.test('two vCPUs access at the same time, and each gets its own answers', { skip }, (t) => {
  const it = rig({
    xen: { vcpus: 2 },
    ram: [
      { gpa: 0, size: 0xc_0000 },
      { gpa: MIB, size: 3 * MIB },
    ],
  });
  // Real mode, ds = 0xc000: mov ax, 0xc000; mov ds, ax; xor si, si; 1: mov al, [si]; out 0x99, al; inc si; cmp si, 40; jb 1b; cli; hlt
  const other = [0xb8, 0x00, 0xc0, 0x8e, 0xd8, 0x31, 0xf6, 0x8a, 0x04, 0xe6, 0x99, 0x46, 0x83, 0xfe, 40, 0x72, 0xf6, 0xfa, 0xf4];
  it.handle.writeGpa(Gpa(0x1_2000), Uint8Array.from(other));
  it.handle.setTrapArea(Gpa(0xc_0000), Gpa(0xc_ffff), true);
  it.handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  const { accesses } = it.recorder;
  // Each read is answered with the low byte of its own address.
  Object.defineProperty(it.recorder, 'answer', { get: () => ({ low: (accesses.at(-1)?.address ?? 0) & 0xff, high: 0 }) });
  const seen: number[] = [];
  it.recorder.onAccess = ({ address, write, low }) => {
    if (write && address === 0x99) seen.push(low);
  };
  it.agent.write(0xfee0_0310, 4, 2 << 24);
  it.agent.write(0xfee0_0300, 4, 0x4500);
  it.agent.write(0xfee0_0300, 4, 0x4612);
  const OWN = 60;
  it.agent.burstRead(BAR + 0x77, 1, OWN);
  for (let i = 0; i < 200 && seen.length < 40; i++) it.agent.burstRead(BAR + 0x77, 1, 5);
  t.same(
    seen,
    Array.from({ length: 40 }, (_, i) => i),
    'the second vCPU wrote back what it had read, each value once',
  );
  t.ok(it.recorder.accesses.filter(({ address }) => address === BAR + 0x77).length >= OWN, 'the first one went on');
  t.match(
    failure(() => it.machine.boot(Gpa(0x8000), Uint8Array.of(0xf4))).code,
    'BUSY',
    'a second boot would leave the other vCPU running',
  );
  it.close();
  t.end();
});

t.test('a machine boots again after its guest was stopped inside a port access or a memory access', { skip }, (t) => {
  const it = rig();
  t.equal(failure(() => it.machine.boot(Gpa(0x8000), Uint8Array.of(0xf4))).code, 'BUSY', "an access that was delivered is the caller's");
  it.close();
  for (const [name, image] of [
    // in ax, 0x90; jmp back
    ['port', [0xe5, 0x90, 0xeb, 0xfc]],
    // mov ax, 0xc000; mov ds, ax; 1: mov al, [0]; mov dx, 64; 2: xor cx, cx; loop $; dec dx; jnz 2b; jmp 1b
    ['memory', [0xb8, 0x00, 0xc0, 0x8e, 0xd8, 0xa0, 0, 0, 0xba, 0x40, 0x00, 0x31, 0xc9, 0xe2, 0xfe, 0x4a, 0x75, 0xf9, 0xeb, 0xf1]],
  ] as const) {
    const backend = new XenBackend(libcSyscalls);
    const machine = backend.createMachine({ ram: [{ gpa: 0, size: 0xc_0000 }] });
    machine.boot(Gpa(0x2_0000), Uint8Array.from(image));
    for (let i = 0; i < 3; i++) {
      const request = machine.requests.next(1000);
      t.ok(request, `${name}: access ${i}`);
      if (request !== undefined) machine.requests.complete(request);
    }
    // The guest is inside its next access now, or about to be.
    // mov ax, 0x1234; out 0x91, ax; cli; hlt
    machine.boot(Gpa(0x3_0000), Uint8Array.of(0xb8, 0x34, 0x12, 0xe7, 0x91, 0xfa, 0xf4));
    const first = machine.requests.next(1000);
    t.match(first, { address: 0x91, write: true, size: 2 }, `${name}: the new image runs, and nothing of the old`);
    t.equal(first?.value[0], 0x1234);
    backend.close();
  }
  t.end();
});
