/** inject_msi, broken. */
import type { SimMachine } from '../../../src/backends/sim/index.js';
import { MSI_ADDRESS } from '../../../src/conformance/layout.js';
import { IoRequest } from '../../../src/core/io-request.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, broken, onBackend, onHandle, onRequests, type Patch, recodeHandle, silentHandle, vagueHandle, vmOf } from '../patch.js';

/** The message that is delivered instead; undefined for none. */
const delivers = (change: (address: number, data: number) => readonly [number, number] | undefined): Patch =>
  onHandle('doInjectMsi', (original) => (address, data) => {
    const message = change(address, data);
    if (message !== undefined) original(...message);
  });
/** Takes a message that must be refused, and delivers something else. */
const takes = (
  when: (address: number, data: number) => boolean,
  instead: (address: number, data: number) => readonly [number, number],
): Patch =>
  onHandle(
    'injectMsi',
    (original) => (address, data) => (when(address, data) ? original(...instead(address, data)) : original(address, data)),
  );

/** Every VM of the backend. */
const vms =
  (use: (all: readonly SimMachine[]) => Patch): Patch =>
  (backend) => {
    const machines: SimMachine[] = [];
    backend.events.on('vm-created', (vm) => machines.push(vm));
    use(machines)(backend);
  };

/** Messages wait until the next exit of the guest. */
const atNextExit: Patch = (backend) => {
  const waiting: (() => void)[] = [];
  all(
    onHandle('doInjectMsi', (original) => (address, data) => void waiting.push(() => original(address, data))),
    onRequests('complete', (original) => (request) => {
      for (const run of waiting.splice(0)) run();
      original(request);
    }),
  )(backend);
};

export const MSI_MUTANTS: readonly Mutant[] = mutantsOf('inject_msi', [
  ['lost', 'No message is delivered.', 'inject-msi/counted-1', delivers(() => undefined)],
  [
    'second-lost',
    'Only the first message is delivered.',
    'inject-msi/counted-2',
    onHandle('doInjectMsi', (original) => {
      let sent = 0;
      return (address, data) => (sent++ === 0 ? original(address, data) : undefined);
    }),
  ],
  [
    'every-sixteenth-lost',
    'Every sixteenth message is lost.',
    'inject-msi/counted-17',
    onHandle('doInjectMsi', (original) => {
      let sent = 0;
      return (address, data) => (++sent % 16 === 0 ? undefined : original(address, data));
    }),
  ],
  ['wrong-vector', 'The next vector is raised.', 'inject-msi/vector-0x20', delivers((address, data) => [address, data + 1])],
  [
    'two-vectors',
    'The next vector is raised too.',
    'inject-msi/vector-0x20',
    onHandle('doInjectMsi', (original) => (address, data) => {
      original(address, data);
      original(address, data + 1);
    }),
  ],
  [
    'seven-bits',
    'The highest bit of the vector is dropped.',
    'inject-msi/vector-0xef',
    delivers((address, data) => [address, data & ~0x80]),
  ],
  ['even-only', 'Odd vectors are rounded down.', 'inject-msi/vector-0x21', delivers((address, data) => [address, data & ~1])],
  [
    'wrong-vm',
    'The message goes to another VM.',
    'isolation/interrupts',
    vms((machines) =>
      onHandle('doInjectMsi', (original, handle) => (address, data) => {
        const other = machines.find((vm) => vm !== vmOf(handle) && !vm.closed);
        if (other === undefined) original(address, data);
        else other.lapic.message(address, data);
      }),
    ),
  ],
  [
    'every-vm',
    'The message goes to every VM.',
    'isolation/interrupts',
    vms((machines) =>
      onHandle('doInjectMsi', () => (address, data) => {
        for (const vm of machines) vm.lapic.message(address, data);
      }),
    ),
  ],
  [
    'burst-lost',
    'Of messages that are pending together only the first is kept.',
    'inject-msi/vectors-independent',
    (backend) => {
      let pending = false;
      all(
        onHandle('doInjectMsi', (original) => (address, data) => {
          if (!pending) original(address, data);
          pending = true;
        }),
        onRequests('complete', (original) => (request) => {
          pending = false;
          original(request);
        }),
      )(backend);
    },
  ],
  [
    'lowest-priority-lost',
    'Messages of lowest priority are dropped.',
    'inject-msi/delivered-lowest-priority',
    delivers((address, data) => ((data & 0x700) === 0x100 ? undefined : [address, data])),
  ],
  [
    'level-lost',
    'Messages with the level bit are dropped.',
    'inject-msi/delivered-level-assert-bit',
    delivers((address, data) => ((data & 0x4000) === 0 ? [address, data] : undefined)),
  ],
  [
    'broadcast-lost',
    'Messages to the broadcast destination are dropped.',
    'inject-msi/broadcast-destination',
    delivers((address, data) => ((address & 0xff000) === 0xff000 ? undefined : [address, data])),
  ],
  ['spinning', 'A guest that makes no exit takes no interrupt.', 'inject-msi/reaches-a-spinning-guest', atNextExit],
  ['halted', 'A halted guest is not woken.', 'inject-msi/wakes-a-halted-guest', atNextExit],
  [
    'reported',
    'The message is also reported as a guest access.',
    'inject-msi/no-access-reported',
    (backend) => {
      const forged = Object.assign(new IoRequest(), { write: true, address: MSI_ADDRESS });
      let messages = 0;
      all(
        onHandle('doInjectMsi', (original) => (address, data) => {
          messages++;
          original(address, data);
        }),
        onRequests('next', (original) => (ms) => {
          if (messages === 0) return original(ms);
          messages = 0;
          return forged;
        }),
        onRequests('complete', (original) => (request) => (request === forged ? undefined : original(request))),
      )(backend);
    },
  ],
  [
    'vector-16-refused',
    'Vector 16 is refused.',
    'inject-msi/vector-16-accepted',
    onHandle('injectMsi', (original, handle) => (address, data) => {
      if ((data & 0xff) === 16) throw handle.backend.error('BAD_MSI', 'reserved', { op: 'inject_msi' });
      original(address, data);
    }),
  ],
  [
    'nmi-needs-vector',
    'The vector of an NMI is looked at.',
    'inject-msi/nmi-needs-no-vector',
    onHandle('injectMsi', (original, handle) => (address, data) => {
      if (data === 0x400) throw handle.backend.error('BAD_MSI', 'reserved', { op: 'inject_msi' });
      original(address, data);
    }),
  ],
  [
    'end-inclusive',
    'The address behind the window is taken.',
    'inject-msi/address-one-past',
    takes(
      (address) => address === 0xfef0_0000,
      (_, data) => [MSI_ADDRESS, data],
    ),
  ],
  [
    'starts-early',
    'The address before the window is taken.',
    'inject-msi/address-one-before',
    takes(
      (address) => address === 0xfedf_ffff,
      (_, data) => [MSI_ADDRESS, data],
    ),
  ],
  [
    '32-bit',
    'An address above 4 GiB is truncated.',
    'inject-msi/address-above-32-bits',
    takes(
      (address) => address > 2 ** 32,
      (address, data) => [address % 2 ** 32, data],
    ),
  ],
  [
    'signed',
    'A negative address is taken as unsigned.',
    'inject-msi/address-negative',
    takes(
      (address) => address < 0,
      (address, data) => [address + 2 ** 32, data],
    ),
  ],
  [
    'fraction',
    'A fraction of an address is rounded.',
    'inject-msi/address-fraction',
    takes(
      (address) => address % 1 !== 0 && !Number.isNaN(address),
      (address, data) => [Math.floor(address), data],
    ),
  ],
  [
    'nan',
    'NaN is an address.',
    'inject-msi/address-nan',
    takes(
      (address) => Number.isNaN(address),
      (_, data) => [MSI_ADDRESS, data],
    ),
  ],
  [
    'vector-15',
    'The last reserved vector is taken.',
    'inject-msi/data-vector-15',
    takes(
      (_, data) => data === 15,
      (address) => [address, 16],
    ),
  ],
  [
    'mode-hides-vector',
    'The vector of lowest-priority messages is not checked.',
    'inject-msi/data-vector-15-lowest-priority',
    takes(
      (_, data) => data === 0x10f,
      (address) => [address, 0x110],
    ),
  ],
  [
    '17-bits',
    'Data above 16 bits is truncated.',
    'inject-msi/data-17-bits',
    takes(
      (_, data) => data > 0xffff,
      (address, data) => [address, data & 0xffff],
    ),
  ],
  [
    'wrong-code',
    'A bad message answers INVALID_ARGUMENT.',
    'inject-msi/address-zero',
    recodeHandle('injectMsi', 'BAD_MSI', 'INVALID_ARGUMENT'),
  ],
  ['unnamed', 'The error does not name the address.', 'inject-msi/address-ram', vagueHandle('injectMsi', 'BAD_MSI', 'address')],
  [
    'refused-delivered',
    'A refused message raises its vector all the same.',
    'inject-msi/refused-message-not-delivered',
    onHandle('injectMsi', (original, handle) => (address, data) => {
      try {
        original(address, data);
      } catch (error) {
        vmOf(handle).lapic.message(MSI_ADDRESS, data & 0xff);
        throw error;
      }
    }),
  ],
  [
    'silent-vm-gone',
    'A message to a destroyed VM is dropped silently.',
    'vm-gone/inject-msi-refused',
    silentHandle('injectMsi', 'VM_GONE'),
  ],
  [
    'armed-undeclared',
    'Arming works although it is not declared.',
    'capability/arm-msi-honest',
    all(
      onBackend('require', (original) => (capability, op) => {
        if (op !== 'arm_msi') original(capability, op);
      }),
      (backend) =>
        onHandle('doInjectMsi', (original, handle) => {
          Object.defineProperty(handle, 'doArmMsi', { value: () => 3 });
          return original;
        })(backend),
    ),
  ],
  ['fails', 'A good message is refused.', 'inject-msi/vector-16-accepted', broken('doInjectMsi', 'HYPERVISOR')],
]);
