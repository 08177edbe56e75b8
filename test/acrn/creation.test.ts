/** What a VM is created with: which VM of the hypervisor it is, on which CPUs, and RAM of any size in calls that the kernel takes. */
import t from 'tap';
import { AcrnCalls, ARGUMENTS_SIZE } from '../../src/backends/acrn/calls.js';
import { DIALECTS } from '../../src/backends/acrn/dialects.js';
import { identityBytes, VmIdentities } from '../../src/backends/acrn/identities.js';
import type { AcrnMachine } from '../../src/backends/acrn/index.js';
import { type Gfn, type Hva, PAGE_SIZE } from '../../src/core/addresses.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { libcSyscalls } from '../../src/native/libc.js';
import type { Syscalls } from '../../src/native/syscalls.js';
import { refused } from '../core/expect.js';
import { ABIS, attach, MIB, noAcrn, noStandIn, open, RAM, standIn, standInAtRest } from './support.js';

const UUID = 'd2795438-25d6-11e8-864e-cb7a18b34643';
const VCPU_NUM = 4;

t.test('16 bytes: a UUID as it is written, a name as it is', async (t) => {
  t.equal(Buffer.from(identityBytes(UUID)).toString('hex'), 'd279543825d611e8864ecb7a18b34643');
  t.equal(Buffer.from(identityBytes('POST_STD_VM1')).toString('latin1'), 'POST_STD_VM1\0\0\0\0');
});

t.test('each machine takes the first that is free', async (t) => {
  const given = new VmIdentities(['one', UUID], 7);
  t.same([given.take(), given.take()], ['one', UUID]);
  refused(t, 'LIMIT', () => given.take());
  given.release('one');
  t.equal(given.take(), 'one');
  const [ours, others] = [new VmIdentities(undefined, 4_194_304), new VmIdentities(undefined, 4_194_304)];
  const names = Array.from({ length: 1000 }, (_, i) => (i % 2 === 0 ? ours : others).take());
  t.equal(new Set(names).size, 1000, 'names of our own differ, those of two backends too');
  t.ok(
    names.every((name) => name.length <= 15),
    `${names[999]} fits`,
  );
  for (const wrong of [[], [''], ['a name of sixteen'], ['two words'], ['Größe'], [UUID.slice(1)]])
    refused(t, 'INVALID_ARGUMENT', () => new VmIdentities(wrong, 7));
});

/** include/uapi/linux/acrn.h and acrn_common.h: vmid 0, vcpu_num 4, uuid 8, ioreq_buf 32, cpu_affinity 40. */
for (const dialect of DIALECTS)
  t.test(`${dialect.name}: where it stands in CREATE_VM`, async (t) => {
    const bytes = new Uint8Array(ARGUMENTS_SIZE);
    let sent = '';
    const ioctl = (_fd: number, request: number): number => {
      if (request === dialect.requests.CREATE_VM) sent = Buffer.from(bytes.subarray(0, 48)).toString('hex');
      return 0;
    };
    const calls = new AcrnCalls({ ...libcSyscalls, ioctl } as Syscalls, dialect, 99, { bytes, address: 0 });
    calls.createVm({ requestPage: 0x1234_5678_9000 as Hva, identity: identityBytes(UUID), cpus: [1, 33, 63] });
    const fields = ['0000000000000000', UUID.replaceAll('-', ''), '0000000000000000', '0090785634120000', '0200000002000080'];
    t.equal(sent, fields.join(''));
    t.equal(calls.vm.vcpus, dialect.name === 'vhm' ? 1 : 0, 'none was made: a VHM lets us make them');
  });

for (const abi of ABIS) {
  t.test(`${abi}: VMs of a scenario, and CPUs`, { skip: noStandIn }, async (t) => {
    const backend = open({ abi, vms: ['one', UUID], cpus: [0, 2] });
    const [first] = [backend.createMachine({ ram: RAM }) as AcrnMachine, backend.createMachine({ ram: RAM })];
    t.equal(first.calls.vm.vcpus, 2, 'one vCPU for each CPU');
    refused(t, 'LIMIT', () => backend.createMachine({ ram: RAM }));
    const other = open({ abi, vms: ['one'] });
    const error = refused(t, 'HYPERVISOR', () => other.createMachine({ ram: RAM }));
    t.match(error, { message: /CREATE_VM of 'one' failed/, hint: /option vms.*option cpus/ });
    first.close();
    other.createMachine({ ram: RAM }).close();
    backend.createMachine({ ram: RAM }).close();
    other.close();
    backend.close();
    refused(t, 'INVALID_ARGUMENT', () => open({ abi, cpus: [64] }));
    t.match(await standInAtRest(), { files: [] });
  });

  t.test(`${abi}: a VM without a vCPU is refused`, { skip: noAcrn || (abi === 'vhm' && 'a VHM lets us make them') }, async (t) => {
    const dialect = DIALECTS.find(({ name }) => name === abi);
    const sys: Syscalls = {
      ...libcSyscalls,
      ioctl: (fd, request, value) => {
        const result = libcSyscalls.ioctl(fd, request, value);
        if (request === dialect?.requests.CREATE_VM) new DataView(libcSyscalls.view(value, 48)).setUint16(VCPU_NUM, 0, true);
        return result;
      },
    };
    const backend = open({ abi }, sys);
    const error = refused(t, 'HYPERVISOR', () => backend.createMachine({ ram: RAM }));
    t.match(error, { message: /has no vCPU/, hint: /option cpus/ });
    backend.close();
  });

  t.test(`${abi}: more RAM than one call takes`, { skip: noStandIn }, async (t) => {
    const ram = [
      { gpa: 0, size: MIB },
      { gpa: 16 * MIB, size: 640 * MIB },
    ];
    const backend = open({ abi });
    backend.hostInit(NULL_GVT_OPS);
    const machine = backend.createMachine({ ram }) as AcrnMachine;
    t.equal(machine.segments.rows, 1 + 5, 'pieces of 128 MiB');
    const handle = attach(backend, machine);
    const pages = backend.allocateHostPages((200 * MIB) / PAGE_SIZE);
    const there = 0x10_0000 as Gfn;
    standIn('fail set_memseg ENOMEM 2');
    t.throws(() => handle.mapGfnToMfn(there, pages.mfn, pages.count, true), { code: 'NO_MEMORY' }, 'the second piece fails');
    t.equal(machine.segments.rows, 6 + 1, 'the row of the first is gone');
    standIn('fail set_memseg ENOMEM 2');
    standIn('fail unset_memseg EBUSY');
    t.throws(() => handle.mapGfnToMfn(there, pages.mfn, pages.count, true), { code: 'NO_MEMORY' }, 'and cannot be taken back');
    standIn('clear');
    handle.mapGfnToMfn(there, pages.mfn, pages.count, true);
    t.equal(machine.segments.rows, 7 + 1 + 2, 'all the same it can be made again: nothing is mapped over');
    handle.mapGfnToMfn(there, pages.mfn, pages.count, false);
    handle.mapGfnToMfn(there, pages.mfn, 1, true);
    machine.close();
    standIn('fail set_memseg ENOMEM 4');
    t.throws(() => backend.createMachine({ ram }), { code: 'NO_MEMORY' });
    standIn('clear');
    backend.close();
    t.match(await standInAtRest(), { files: [], leaked: { fds: 0, threads: 0, mappings: 0 } });
  });
}
