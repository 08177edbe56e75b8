/**
 * The request page as a hostile neighbour would write it: states, types, sizes, directions and addresses of every kind harm nothing.
 * The kernel is played by a fake char device, so this runs everywhere; what happens on the way through a real system call is for
 * machine.test.ts under the lab's stand-in.
 */
import t from 'tap';
import { ACRN_HYPERVISOR, ACRN_STRUCT, ACRN_CONST as C, HSM_IOCTL, VHM_IOCTL } from '../../src/backends/acrn/abi.js';
import { AcrnCalls, type AcrnDialect } from '../../src/backends/acrn/calls.js';
import { DIALECTS, HSM, VHM } from '../../src/backends/acrn/dialects.js';
import { AcrnIrq } from '../../src/backends/acrn/irq.js';
import { AcrnRequests } from '../../src/backends/acrn/requests.js';
import { RequestWait } from '../../src/backends/acrn/wait.js';
import type { Hva } from '../../src/core/addresses.js';
import { MptError } from '../../src/core/errors.js';
import { GuestRam, mapRegion } from '../../src/core/guest-ram.js';
import { IoKind, type IoRequest } from '../../src/core/io-request.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { Syscalls } from '../../src/native/syscalls.js';
import { Random } from '../core/random.js';

const { acrn_io_request: R } = ACRN_STRUCT;
const VCPUS = 4;
const CLIENT = 7;
const RAM_SIZE = 0x1_0000;

/** A char device that takes everything and completes slots, as the kernel does. */
function rig(dialect: AcrnDialect) {
  const page = new ArrayBuffer(4096);
  const view = new DataView(page);
  const log: string[] = [];
  let failNext = 0;
  const bytes = new Uint8Array(1024);
  const args = new DataView(bytes.buffer);
  const ioctl = (_fd: number, request: number, value: number): number => {
    if (failNext !== 0) {
      const errno = failNext;
      failNext = 0;
      return -errno;
    }
    switch (request) {
      case HSM_IOCTL.CREATE_VM:
      case VHM_IOCTL.CREATE_VM:
        args.setUint16(value + 0, 3, true);
        args.setUint16(value + 4, VCPUS, true);
        return 0;
      case VHM_IOCTL.CREATE_IOREQ_CLIENT:
        return CLIENT;
      case HSM_IOCTL.NOTIFY_REQUEST_FINISH:
      case VHM_IOCTL.NOTIFY_REQUEST_FINISH: {
        const vcpu = args.getUint32(value + 4, true);
        log.push(`finish ${vcpu}`);
        view.setUint32(vcpu * R.size + R.processed, C.ACRN_IOREQ_STATE_COMPLETE, true);
        return 0;
      }
      default:
        return 0;
    }
  };
  const sys = { ...libcSyscalls, ioctl } as Syscalls;
  const calls = new AcrnCalls(sys, dialect, 99, { bytes, address: 0 });
  calls.createVm({ requestPage: 0 as Hva, identity: new Uint8Array(16), cpus: [] });
  calls.createClient();
  for (let i = 0; i < C.ACRN_IO_REQUEST_MAX; i++) view.setUint32(i * R.size + R.processed, C.ACRN_IOREQ_STATE_FREE, true);
  const ram = new GuestRam([mapRegion(0, new Uint8Array(RAM_SIZE))]);
  const requests = new AcrnRequests({
    calls,
    page,
    wait: new RequestWait(),
    stopFlag: new Int32Array(new SharedArrayBuffer(4)),
    route: (request) => {
      request.vgpu = 0 as never;
      return 0;
    },
    memoryAt: (address) => (ram.find(address) === undefined ? undefined : ram),
    run: () => {},
  });
  /** Writes a request into a slot. */
  const ask = (vcpu: number, fields: Partial<Record<Field, number>>, state: number = C.ACRN_IOREQ_STATE_PROCESSING): void => {
    const at = vcpu * R.size;
    for (const [field, value] of Object.entries(fields)) {
      const { offset, wide } = FIELDS[field as Field];
      view.setUint32(at + offset, value >>> 0, true);
      if (wide) view.setUint32(at + offset + 4, Math.floor(value / 2 ** 32) >>> 0, true);
    }
    view.setInt32(at + R.kernel_handled, dialect === VHM ? CLIENT : 0, true);
    view.setUint32(at + R.processed, state, true);
  };
  return { sys, calls, page, view, log, requests, ask, ram, fail: (errno: number) => (failNext = errno) };
}

const FIELDS = {
  type: { offset: R.type, wide: false },
  direction: { offset: R['reqs.mmio_request.direction'], wide: false },
  address: { offset: R['reqs.mmio_request.address'], wide: true },
  size: { offset: R['reqs.mmio_request.size'], wide: true },
  value: { offset: R['reqs.mmio_request.value'], wide: true },
  config: { offset: R['reqs.pci_request.value'], wide: false },
  bus: { offset: R['reqs.pci_request.bus'], wide: false },
  dev: { offset: R['reqs.pci_request.dev'], wide: false },
  func: { offset: R['reqs.pci_request.func'], wide: false },
  reg: { offset: R['reqs.pci_request.reg'], wide: false },
} as const;
type Field = keyof typeof FIELDS;

const [PIO, MMIO, PCI, WP] = [C.ACRN_IOREQ_TYPE_PORTIO, C.ACRN_IOREQ_TYPE_MMIO, C.ACRN_IOREQ_TYPE_PCICFG, ACRN_HYPERVISOR.IOREQ_TYPE_WP];
const READ = 0;
const WRITE = 1;

/** Requests that no access can be. */
const MALFORMED: readonly (readonly [string, Partial<Record<Field, number>>])[] = [
  ['type 4', { type: 4, direction: READ, address: 0x100_0000, size: 4 }],
  ['type 2^32-1', { type: 0xffff_ffff, direction: READ, address: 0x100_0000, size: 4 }],
  ['direction 2', { type: MMIO, direction: 2, address: 0x100_0000, size: 4 }],
  ['size 0', { type: MMIO, direction: READ, address: 0x100_0000, size: 0 }],
  ['size 9', { type: MMIO, direction: READ, address: 0x100_0000, size: 9 }],
  ['size 2^32 + 4', { type: MMIO, direction: READ, address: 0x100_0000, size: 2 ** 32 + 4 }],
  ['an address above 2^52', { type: MMIO, direction: READ, address: 2 ** 52, size: 4 }],
  ['an address that ends above 2^52', { type: MMIO, direction: READ, address: 2 ** 52 - 2, size: 4 }],
  ['a protected page that is read', { type: WP, direction: READ, address: 0x8000, size: 4 }],
  ['a port above 2^16', { type: PIO, direction: READ, address: 0x1_0000, size: 1 }],
  ['a port that ends above 2^16', { type: PIO, direction: READ, address: 0xffff, size: 2 }],
  ['a port of 8 bytes', { type: PIO, direction: READ, address: 0x300, size: 8 }],
  ['a port of 3 bytes', { type: PIO, direction: READ, address: 0x300, size: 3 }],
  ['bus 256', { type: PCI, direction: READ, size: 4, bus: 256, dev: 0, func: 0, reg: 0 }],
  ['device 32', { type: PCI, direction: READ, size: 4, bus: 0, dev: 32, func: 0, reg: 0 }],
  ['function 8', { type: PCI, direction: READ, size: 4, bus: 0, dev: 0, func: 8, reg: 0 }],
  ['register 4096', { type: PCI, direction: READ, size: 4, bus: 0, dev: 0, func: 0, reg: 4096 }],
  ['a register that ends above 4096', { type: PCI, direction: READ, size: 4, bus: 0, dev: 0, func: 0, reg: 4094 }],
  ['a configuration access of 8 bytes', { type: PCI, direction: READ, size: 8, bus: 0, dev: 0, func: 0, reg: 0 }],
];

for (const dialect of DIALECTS)
  t.test(`${dialect.name}: requests that no access can be`, async (t) => {
    for (const [name, fields] of MALFORMED) {
      const { ask, log, requests, view } = rig(dialect);
      ask(1, fields);
      t.equal(requests.next(0), undefined, `${name}: nothing is delivered`);
      t.same(log, ['finish 1'], `${name}: its vCPU goes on`);
      t.equal(view.getUint32(R.size + R['reqs.mmio_request.value'], true), 0xffff_ffff, `${name}: it reads all ones`);
      t.equal(requests.counts().malformed, 1, name);
    }
  });

for (const dialect of DIALECTS)
  t.test(`${dialect.name}: whose requests`, async (t) => {
    const { ask, log, requests, view } = rig(dialect);
    for (const state of [C.ACRN_IOREQ_STATE_PENDING, C.ACRN_IOREQ_STATE_COMPLETE, C.ACRN_IOREQ_STATE_FREE, 4, 0xffff_ffff]) {
      ask(0, { type: MMIO, direction: READ, address: 0x100_0000, size: 4 }, state);
      t.equal(requests.next(0), undefined, `state ${state} is not ours`);
    }
    ask(0, { type: MMIO, direction: READ, address: 0x100_0000, size: 4 });
    view.setInt32(R.kernel_handled, dialect === HSM ? 1 : CLIENT + 1, true);
    t.equal(requests.next(0), undefined, 'another client has it');
    ask(VCPUS, { type: MMIO, direction: READ, address: 0x100_0000, size: 4 });
    t.equal(requests.next(0), undefined, 'the VM has no vCPU of that slot');
    t.same(log, []);
  });

t.test('good requests: pieces, both halves, answers', async (t) => {
  const { ask, log, requests, view } = rig(HSM);
  const take = (): IoRequest => requests.next(0) as IoRequest;
  ask(2, { type: MMIO, direction: WRITE, address: 2 ** 40 + 8, size: 8, value: 0x1_0000_0000 * 0x1234 + 0x89ab_cdef });
  const store = take();
  t.match(store, { kind: IoKind.MMIO, write: true, address: 2 ** 40 + 8, size: 8, vcpu: 2 });
  t.same([...store.value], [0x89ab_cdef, 0x1234]);
  requests.complete(store);
  t.same(log.splice(0), ['finish 2']);
  // A part of a store that crosses a page: three bytes.
  ask(0, { type: MMIO, direction: WRITE, address: 0x100_0ffd, size: 3, value: 0x33_2211 });
  const parts: string[] = [];
  for (let part = requests.next(0); part !== undefined; part = requests.next(0)) {
    parts.push(`${part.size} at ${part.address.toString(16)}: ${(part.value[0] as number).toString(16)}`);
    requests.complete(part);
  }
  t.same(parts, ['2 at 1000ffd: 2211', '1 at 1000fff: 33']);
  t.same(log.splice(0), ['finish 0'], 'finished once');
  ask(0, { type: MMIO, direction: READ, address: 0x100_0000, size: 3, value: 0xffff_ffff });
  for (let part = requests.next(0); part !== undefined; part = requests.next(0)) {
    part.value[0] = part.size === 2 ? 0x1111 : 0x22;
    requests.complete(part);
  }
  t.equal(view.getUint32(R['reqs.mmio_request.value'], true) & 0xff_ffff, 0x22_1111, 'both parts are in the answer');
  ask(3, { type: PCI, direction: READ, size: 2, config: 0, bus: 0xff, dev: 0x1f, func: 7, reg: 0xffe });
  const config = take();
  t.match(config, { kind: IoKind.PCI_CONFIG, bdf: 0xffff, address: 0xffe, size: 2, write: false });
  config.value[0] = 0xbeef;
  requests.complete(config);
  t.equal(view.getUint32(3 * R.size + R['reqs.pci_request.value'], true) & 0xffff, 0xbeef);
  t.equal(view.getUint32(3 * R.size + R['reqs.pci_request.bus'], true), 0xff, 'the bus beside it stays');
});

t.test('a store to RAM is carried out, a load answered: the page was being mapped again, or is protected', async (t) => {
  const { ask, log, requests, view, ram } = rig(HSM);
  ask(0, { type: WP, direction: WRITE, address: 0x8000, size: 4, value: 0xcafe_f00d });
  t.equal(requests.next(0), undefined, 'nobody tracks it');
  ask(1, { type: MMIO, direction: READ, address: 0x8000, size: 4, value: 0 });
  t.equal(requests.next(0), undefined);
  t.equal(view.getUint32(R.size + R['reqs.mmio_request.value'], true), 0xcafe_f00d);
  t.same(log, ['finish 0', 'finish 1']);
  ask(0, { type: MMIO, direction: WRITE, address: RAM_SIZE - 2, size: 4, value: 0x4433_2211 });
  const rest: string[] = [];
  for (let part = requests.next(0); part !== undefined; part = requests.next(0)) {
    rest.push(`${part.size} at ${part.address.toString(16)}: ${(part.value[0] as number).toString(16)}`);
    requests.complete(part);
  }
  const last = new Uint8Array(2);
  ram.read(RAM_SIZE - 2, last, 0, 2);
  t.same([...last], [0x11, 0x22], 'what is in RAM is stored');
  t.same(rest, ['2 at 10000: 4433'], 'what is behind it is an access');
});

t.test('a failed call leaves the request in progress; a guest that ends', async (t) => {
  const { ask, fail, log, requests } = rig(HSM);
  ask(0, { type: MMIO, direction: WRITE, address: 0x100_0000, size: 4, value: 1 });
  const request = requests.next(0) as IoRequest;
  fail(14);
  t.throws(() => requests.complete(request), { code: 'HYPERVISOR', errno: 14 });
  requests.complete(request);
  t.same(log.splice(0), ['finish 0'], 'and can be completed again');
  t.throws(() => requests.complete(request), { code: 'INTERNAL' }, 'once');
  const { PM1A_CNT_PORT, PM1A_S5 } = ACRN_HYPERVISOR;
  ask(0, { type: PIO, direction: WRITE, address: PM1A_CNT_PORT, size: 2, value: PM1A_S5 });
  t.throws(() => requests.next(0), { code: 'GUEST_FAULT' });
  t.throws(() => requests.next(0), { code: 'GUEST_FAULT' }, 'it stays ended');
});

const PCI_LIMITS = [
  ['reqs.pci_request.bus', 256],
  ['reqs.pci_request.dev', 32],
  ['reqs.pci_request.func', 8],
  ['reqs.pci_request.reg', 4096],
] as const;

t.test('a VHM from before irqfd answers 0 to it, as to all that it does not know', async (t) => {
  const old = rig(VHM);
  const opened: number[] = [];
  const sys: Syscalls = {
    ...old.sys,
    eventfd: (initial, flags) => {
      const fd = libcSyscalls.eventfd(initial, flags);
      opened.push(fd);
      return fd;
    },
  };
  t.throws(() => new AcrnIrq(sys, old.calls).arm(0xfee0_0000, 0x41), { code: 'UNSUPPORTED' });
  t.same(opened, [], 'nothing was opened');
  const hsm = rig(HSM);
  const armed = new AcrnIrq(hsm.sys, hsm.calls).arm(0xfee0_0000, 0x41);
  armed.raise();
  armed.close();
});

t.test('random pages: nothing throws, nothing escapes, every request ends', async (t) => {
  const random = new Random(0xac);
  for (const dialect of DIALECTS) {
    const { page, requests, view, ram } = rig(dialect);
    const words = new Uint32Array(page);
    const edges = [0, 1, 2, 3, 4, 8, 9, 16, 0xcf8, 0xcfc, 0xffff, 0xfff8, RAM_SIZE - 1, RAM_SIZE, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    for (let round = 0; round < 20_000; round++) {
      const vcpu = random.below(16);
      for (let word = 0; word < 64; word++)
        words[vcpu * 64 + word] = random.below(3) === 0 ? random.below(2 ** 32) : (edges[random.below(edges.length)] as number);
      view.setUint32(vcpu * R.size + R.type, random.below(5), true);
      view.setUint32(vcpu * R.size + R['reqs.mmio_request.direction'], random.below(3), true);
      if (random.below(4) > 0) {
        // Nearly right: else nothing but what is refused at the first look would come.
        const at = vcpu * R.size;
        view.setUint32(at + R['reqs.mmio_request.size'], random.pick([1, 2, 3, 4, 7, 8]), true);
        view.setUint32(at + R['reqs.mmio_request.size'] + 4, 0, true);
        view.setUint32(at + R['reqs.mmio_request.address'] + 4, random.below(0x10_0001), true);
        if (random.below(2) === 0) words.set([random.below(0x1_0001), 0], (at + R['reqs.mmio_request.address']) / 4);
        for (const [field, limit] of PCI_LIMITS) view.setUint32(at + R[field], random.below(limit + 1), true);
      }
      view.setInt32(vcpu * R.size + R.kernel_handled, dialect === VHM ? CLIENT : 0, true);
      view.setUint32(vcpu * R.size + R.processed, C.ACRN_IOREQ_STATE_PROCESSING, true);
      try {
        for (let request = requests.next(0), n = 0; request !== undefined; request = requests.next(0), n++) {
          if (n > 8 || ![1, 2, 4, 8].includes(request.size) || request.address < 0 || request.address + request.size > 2 ** 52)
            t.fail(`round ${round}: ${request.size} bytes at ${request.address}, piece ${n}`);
          // The page changes under whoever answers.
          words[vcpu * 64 + random.below(32)] = random.below(2 ** 32);
          requests.complete(request);
        }
      } catch (error) {
        if (!MptError.is(error, 'GUEST_FAULT')) throw error;
        requests.restart();
      }
    }
    t.equal(ram.regions[0]?.bytes.length, RAM_SIZE);
    const { malformed, mmio, pio, pci } = requests.counts();
    for (const [name, count] of Object.entries({ malformed, mmio, pio, pci })) t.ok(count > 50, `${dialect.name}: ${count} ${name}`);
  }
});
