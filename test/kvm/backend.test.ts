/** The kvm backend on the real /dev/kvm: probe, host pages and forged frames, dma, several machines, use after close. */
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { KVM_CONST, KVM_IOCTL } from '../../src/backends/kvm/abi.js';
import type { KvmBackend } from '../../src/backends/kvm/backend.js';
import { kvm } from '../../src/backends/kvm/index.js';
import { probeKvm } from '../../src/backends/kvm/probe.js';
import { type Gfn, Gpa, Hva, Mfn, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { libcSyscalls } from '../../src/native/libc.js';
import { isTyped, refused } from '../core/expect.js';
import {
  attach,
  bootAgent,
  describe,
  dword,
  END_PORT,
  IMAGE_GPA,
  MIB,
  nextOrLate,
  noKvm,
  RAM,
  runBytes,
  SMALL_RAM,
  setup,
} from './support.js';

const skip = noKvm;
const FRAME = 0x20;
const PAGE = FRAME * PAGE_SIZE;
const MMIO = 0xf000_0000;
/** out END_PORT, al; hlt */
const END = [0xe6, END_PORT, 0xf4];

t.test('a device that is no KVM is refused with its reason and leaves no descriptor', async (t) => {
  const fds = readdirSync('/proc/self/fd');
  for (const [device, reason] of [
    ['/nonexistent/kvm', /ENOENT.*load the kvm/],
    ['/dev/null', /not a KVM device.*ENOTTY/],
    ['/', /EISDIR/],
  ] as const) {
    const probe = kvm.probe({ device });
    t.equal(probe.available, false);
    t.match(probe.reason, reason);
    t.match(
      refused(t, 'UNAVAILABLE', () => kvm.open({ device })),
      { backend: 'kvm', message: device },
    );
  }
  t.same(readdirSync('/proc/self/fd'), fds);
});

t.test('the probe answers what an opened backend declares', { skip }, async (t) => {
  for (const pageTrack of ['trap', 'sync'] as const) {
    const probe = probeKvm(libcSyscalls, undefined, pageTrack);
    const backend = kvm.open({ pageTrack });
    t.same(backend.capabilities, probe.capabilities);
    t.equal(backend.capabilities.pageTrack, pageTrack);
    t.equal(backend.version, probe.version);
    backend.close();
  }
});

t.test('a KVM that lacks an extension is refused or declares less', { skip }, async (t) => {
  const lacking = (extension: number): typeof libcSyscalls => ({
    ...libcSyscalls,
    ioctl: (fd, request, value) =>
      request === KVM_IOCTL.KVM_CHECK_EXTENSION && value === extension ? 0 : libcSyscalls.ioctl(fd, request, value),
  });
  for (const name of [
    'KVM_CAP_USER_MEMORY',
    'KVM_CAP_IRQCHIP',
    'KVM_CAP_SIGNAL_MSI',
    'KVM_CAP_EXT_CPUID',
    'KVM_CAP_SET_TSS_ADDR',
  ] as const) {
    const probe = probeKvm(lacking(KVM_CONST[name]));
    t.equal(probe.available, false);
    t.match(probe.reason, name);
  }
  t.equal(probeKvm(lacking(KVM_CONST.KVM_CAP_IRQFD)).capabilities?.msiEventfd, false);
  t.equal(probeKvm(lacking(KVM_CONST.KVM_CAP_IRQ_ROUTING)).capabilities?.msiEventfd, false);
  const noReadOnly = lacking(KVM_CONST.KVM_CAP_READONLY_MEM);
  t.equal(probeKvm(noReadOnly).capabilities?.pageTrack, 'sync', 'the dirty log instead');
  t.not(probeKvm(noReadOnly, undefined, 'trap').capabilities?.pageTrack, 'trap', 'asked for by name it is still not there');
  const old = {
    ...libcSyscalls,
    ioctl: (fd: number, request: number, value: number) =>
      request === KVM_IOCTL.KVM_GET_API_VERSION ? 11 : libcSyscalls.ioctl(fd, request, value),
  };
  t.match(probeKvm(old), { available: false, reason: /API 11/ });
});

t.test('host pages in the guest: read and written without an exit, gone after unmapping', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const { agent, seen } = bootAgent(machine);
  const pages = backend.allocateHostPages(2);
  t.equal(backend.fromVirtToMfn(pages.hva), pages.mfn);
  const gfn = (MMIO / PAGE_SIZE) as Gfn;
  new DataView(pages.bytes.buffer).setUint32(PAGE_SIZE, 0xfeed_f00d, true);
  handle.mapGfnToMfn(gfn, pages.mfn, 2, true);
  t.equal(agent.read(MMIO + PAGE_SIZE, 4), 0xfeed_f00d);
  agent.write(MMIO, 4, 0x1357_9bdf);
  t.equal(new DataView(pages.bytes.buffer).getUint32(0, true), 0x1357_9bdf);
  t.same(seen, []);
  refused(t, 'BUSY', () => pages.release(), 'while it is mapped');
  refused(t, 'OVERLAP', () => handle.setTrapArea(Gpa(MMIO), Gpa(MMIO + 0xfff), true), 'a trap area on it');
  t.equal(handle.isValidGfn(gfn), false, 'it is no RAM');
  refused(t, 'NOT_RAM', () => handle.readGpa(Gpa(MMIO), new Uint8Array(1)));
  const { bytes } = pages;
  handle.mapGfnToMfn(gfn, pages.mfn, 2, false);
  t.equal(agent.read(MMIO, 4), 0x1122_3344, 'an MMIO access again');
  pages.release();
  pages.release();
  t.equal(bytes.length, 0, 'a kept view is empty');
  refused(t, 'CLOSED', () => pages.bytes);
  refused(t, 'INVALID_ADDRESS', () => handle.mapGfnToMfn(gfn, pages.mfn, 2, true), 'released pages');
  backend.close();
});

t.test('a forged frame gives the guest nothing of this process', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const pages = backend.allocateHostPages(2);
  const ramMfn = handle.gfnToMfn(0 as Gfn);
  const lastMfn = handle.gfnToMfn((MIB / PAGE_SIZE - 1) as Gfn);
  const gfn = (MMIO / PAGE_SIZE) as Gfn;
  const heap = [...readFileSync('/proc/self/maps', 'utf8').matchAll(/^(\w+)-\w+ rw.*/gm)].map(([, start]) =>
    Number.parseInt(start ?? '', 16),
  );
  t.ok(heap.length > 10);
  const ours = [pages.hva as number, ramMfn * PAGE_SIZE];
  const forged = heap.filter((hva) => !ours.includes(hva)).map((hva) => [hva / PAGE_SIZE, 1] as const);
  const edges: readonly (readonly [mfn: number, nr: number])[] = [
    [pages.mfn, 3],
    [pages.mfn - 1, 2],
    [pages.mfn + 2, 1],
    [ramMfn, MIB / PAGE_SIZE + 1],
    [lastMfn, 2],
    [lastMfn + 1, 1],
    [0, 1],
    [2 ** 40 - 1, 1],
  ];
  for (const [mfn, nr] of [...forged, ...edges]) {
    // Two of our own mappings may stand side by side; a range is refused unless one of them holds it wholly.
    refused(t, 'INVALID_ADDRESS', () => handle.mapGfnToMfn(gfn, Mfn(mfn), nr, true), `${mfn.toString(16)}+${nr}`);
  }
  for (const hva of [...heap.filter((hva) => !ours.includes(hva)), pages.hva + 2 * PAGE_SIZE])
    refused(t, 'INVALID_ADDRESS', () => backend.fromVirtToMfn(Hva(hva)), `hva ${hva.toString(16)}`);
  t.equal(machine.slots.count, 1, 'no slot was made');
  handle.mapGfnToMfn(gfn, ramMfn, 1, true);
  handle.mapGfnToMfn(gfn, ramMfn, 1, false);
  backend.close();
});

t.test('RAM of another VM is not lent: its owner may close first', { skip }, async (t) => {
  const { backend, machine, handle } = setup();
  const other = backend.createMachine({ ram: SMALL_RAM });
  const neighbour = attach(backend, other, 2);
  const mfn = neighbour.gfnToMfn(0 as Gfn);
  const error = refused(t, 'INVALID_ADDRESS', () => handle.mapGfnToMfn((MMIO / PAGE_SIZE) as Gfn, mfn, 1, true));
  t.equal(error.address, mfn);
  t.equal(machine.slots.count, 1);
  backend.close();
});

t.test('dma addresses show the guest’s own pages and die with the mapping', { skip }, async (t) => {
  const { backend, machine, handle } = setup({ ram: [{ gpa: 0, size: 4 * MIB }], options: { pinLimitPages: 520 } });
  const small = handle.dmaMapGuestPage(FRAME as Gfn, PAGE_SIZE);
  const large = handle.dmaMapGuestPage(512 as Gfn, 0x20_0000);
  handle.writeGpa(Gpa(PAGE), Uint8Array.of(1, 2, 3));
  const view = handle.view(small, 3);
  t.same([...view], [1, 2, 3]);
  view[0] = 9;
  t.equal(dword(handle, PAGE), 0x0003_0209, 'live in both directions');
  handle.view(large, 0x20_0000)[0x1f_ffff] = 7;
  const last = new Uint8Array(1);
  handle.readGpa(Gpa(4 * MIB - 1), last);
  t.equal(last[0], 7);
  refused(t, 'NOT_RAM', () => handle.dmaMapGuestPage(1024 as Gfn, PAGE_SIZE), 'past the RAM');
  refused(t, 'LIMIT', () => {
    for (let gfn = 0; gfn < 20; gfn++) handle.dmaMapGuestPage(gfn as Gfn, PAGE_SIZE);
  });
  machine.close();
  t.equal(view.length, 0, 'a kept view is empty after the VM went');
  refused(t, 'VM_GONE', () => handle.view(small, 1));
  handle.detachVgpu();
  backend.close();
});

t.test('several machines run side by side', { skip }, async (t) => {
  const backend = kvm.open() as KvmBackend;
  backend.hostInit(NULL_GVT_OPS);
  const machines = [1, 2, 3].map(() => backend.createMachine({ ram: SMALL_RAM }));
  t.equal(new Set(machines.map(({ vmId }) => vmId)).size, 3);
  // mov cx, 0; mov al, n; out 0x10, al; loop
  for (const [i, machine] of machines.entries()) machine.boot(IMAGE_GPA, Uint8Array.from([0xb0, i + 1, 0xe6, 0x10, 0xeb, 0xfc]));
  for (let round = 0; round < 20; round++)
    machines.forEach((machine, i) => {
      const request = nextOrLate(machine, 2000);
      if (request === undefined || request.value[0] !== i + 1) t.fail(`machine ${i}: ${request && describe(request)}`);
      if (request !== undefined) machine.requests.complete(request);
    });
  machines[1]?.close();
  t.same(runBytes(machines[2] as (typeof machines)[0], [0xe6, 0x11, ...END]), ['pio w1 0x11 = 0x0'], 'closing one leaves the others');
  backend.close();
});

t.test('after close nothing reaches a descriptor of someone else', { skip }, async (t) => {
  const { backend, machine, handle } = setup({ ram: SMALL_RAM });
  machine.boot(IMAGE_GPA, Uint8Array.from([0xe4, 0x10, ...END])); // in al, 0x10
  const request = nextOrLate(machine, 2000);
  machine.close();
  machine.close();
  // Takes the numbers of the descriptors that were just closed.
  const successor = backend.createMachine({ ram: SMALL_RAM });
  successor.boot(IMAGE_GPA, Uint8Array.from([0xe6, 0x11, ...END]));
  if (request !== undefined) {
    try {
      machine.requests.complete(request);
    } catch (error) {
      if (isTyped(t, error, 'complete after close')) t.ok(['CLOSED', 'VM_GONE'].includes(error.code), error.message);
    }
  }
  try {
    t.equal(machine.requests.next(20), undefined, 'next after close');
  } catch (error) {
    if (isTyped(t, error, 'next after close')) t.ok(['CLOSED', 'VM_GONE'].includes(error.code), error.message);
  }
  for (const call of [
    () => handle.readGpa(Gpa(0), new Uint8Array(4)),
    () => handle.injectMsi(0xfee0_0000, 0x41),
    () => handle.armMsi(0xfee0_0000, 0x41),
  ])
    refused(t, 'VM_GONE', call);
  handle.detachVgpu();
  const first = nextOrLate(successor, 2000);
  t.equal(first && describe(first), 'pio w1 0x11 = 0x0', 'the other machine’s access is its own');
  backend.close();
});

t.test('RAM that no process can hold is refused, and what was taken is given back', { skip }, async (t) => {
  const backend = kvm.open();
  const before = readdirSync('/proc/self/fd').length;
  for (const ram of [
    [{ gpa: 0, size: 2 ** 50 }],
    [
      { gpa: 0, size: MIB },
      { gpa: 2 ** 40, size: 2 ** 50 },
    ],
  ]) {
    try {
      backend.createMachine({ ram });
      t.fail('2^50 bytes were mapped');
    } catch (error) {
      if (isTyped(t, error, '2^50 bytes')) t.match(error, { op: 'create_machine', backend: 'kvm', code: /^(NO_MEMORY|LIMIT)$/ });
    }
  }
  t.equal(readdirSync('/proc/self/fd').length, before);
  t.doesNotThrow(() => backend.createMachine({ ram: RAM }).close());
  backend.close();
});
