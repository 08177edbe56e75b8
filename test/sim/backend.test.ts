// The simulation as a product: double fetches, several VMs and their isolation, machine frames.
import t from 'tap';
import { SimBackend } from '../../src/backends/sim/backend.js';
import { sim } from '../../src/backends/sim/index.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import { Bdf, DmaAddress, Gfn, Gpa, HUGE_PAGE_SIZE, Hva, Mfn, NULL_GVT_OPS, PAGE_SIZE, VgpuId, VmId } from '../../src/core/mpt.js';
import { attach, edid, MIB, open, RAM } from './world.js';

t.test('the module: probe, options and what open() declares', async (t) => {
  t.match(sim, { name: 'sim', kind: 'simulation' });
  for (const pageTrack of ['trap', 'sync', 'none'] as const) {
    const backend = sim.open({ pageTrack });
    const probe = sim.probe({ pageTrack });
    t.ok(probe.available);
    t.same(probe.capabilities, backend.capabilities);
    t.equal(backend.capabilities.pageTrack, pageTrack === 'none' ? null : pageTrack);
    t.equal(probe.version, backend.version);
    backend.close();
  }
  const absent = Object.entries(sim.probe().capabilities ?? {}).filter(([, value]) => value === false);
  t.same(
    absent,
    [
      ['barAccess', false],
      ['foreignVm', false],
      ['msiEventfd', false],
    ],
    'only the eventfd, other VMs and what set_trap_area makes needless are missing',
  );
  for (const bad of [{ pageTrack: 'often' }, { pinLimitPages: 0 }, { pinLimitPages: 1.5 }, { instructionBudget: -1 }])
    t.throws(() => sim.open(bad as never), { code: 'INVALID_ARGUMENT', backend: 'sim', op: 'open' });
});

t.test('machine frames: unique, consistent between operations, and never the guest frame', async (t) => {
  const { backend, vm, handle } = open();
  const other = backend.createMachine({ ram: RAM }) as SimMachine;
  const otherHandle = attach(backend, other);
  const frames = new Set<number>();
  for (const h of [handle, otherHandle])
    for (const { gpa, size } of RAM)
      for (const gfn of [gpa / PAGE_SIZE, (gpa + size) / PAGE_SIZE - 1]) {
        const mfn = h.gfnToMfn(Gfn(gfn));
        t.not(mfn, gfn);
        frames.add(mfn);
        const address = h.dmaMapGuestPage(Gfn(gfn), PAGE_SIZE);
        t.equal(address, mfn * PAGE_SIZE, 'DMA uses the same frames');
        h.dmaUnmapGuestPage(address);
      }
  const pages = backend.allocateHostPages(3);
  t.equal(backend.fromVirtToMfn(Hva(pages.hva + 2 * PAGE_SIZE + 5)), pages.mfn + 2);
  frames.add(pages.mfn);
  t.equal(frames.size, 13, 'no frame twice');
  t.throws(() => handle.gfnToMfn(Gfn(MIB / PAGE_SIZE)), { code: 'NOT_RAM', hint: /RAM is 0x0-0xfffff, 0x400000/ });

  const huge = handle.dmaMapGuestPage(Gfn((4 * MIB) / PAGE_SIZE), HUGE_PAGE_SIZE);
  t.equal(huge % HUGE_PAGE_SIZE, 0, 'a 2 MiB page is aligned in machine space too');
  handle.writeGpa(Gpa(6 * MIB - 1), Uint8Array.of(0x5a));
  t.equal(handle.view(DmaAddress(huge + HUGE_PAGE_SIZE - 1), 1)[0], 0x5a);
  t.throws(() => handle.view(DmaAddress(huge + HUGE_PAGE_SIZE - 1), 2), { code: 'NOT_MAPPED' });
  t.throws(() => handle.dmaMapGuestPage(Gfn(0), HUGE_PAGE_SIZE), { code: 'NOT_RAM' }, 'the region holds 1 MiB only');
  t.equal(vm.pinnedPages, 512);
  handle.detachVgpu();
  t.equal(vm.pinnedPages, 0, 'detaching unpins');
  t.throws(() => backend.createMachine({ ram: [{ gpa: 0, size: 2 ** 45 }] }), { code: 'NO_MEMORY', backend: 'sim' });
  t.throws(() => backend.createMachine({ ram: [...RAM.slice(1), { gpa: 8 * MIB, size: 2 ** 45 }] }), { code: 'NO_MEMORY' });
  const held = backend.hostMemory.size;
  other.close();
  t.equal(held - backend.hostMemory.size, 6 * MIB, 'a closed VM gives its memory back, a failed one kept none');
  backend.close();
  t.equal(backend.hostMemory.size, 0);
});

t.test('several VMs: memory, DMA addresses and MSIs of one are nothing to the other', async (t) => {
  const { backend, vm, handle } = open();
  const other = backend.createMachine({ ram: RAM }) as SimMachine;
  const otherHandle = attach(backend, other);
  const bytes = Uint8Array.of(1, 2, 3, 4);
  handle.writeGpa(Gpa(0x5000), bytes);
  const seen = new Uint8Array(4);
  otherHandle.readGpa(Gpa(0x5000), seen);
  t.same([...seen], [0, 0, 0, 0]);

  const address = handle.dmaMapGuestPage(Gfn(5), PAGE_SIZE);
  t.same([...handle.view(address, 4)], [1, 2, 3, 4]);
  t.throws(() => otherHandle.view(address, 4), { code: 'NOT_MAPPED' });
  t.throws(() => otherHandle.copyFrom(address, seen, 0, 4), { code: 'NOT_MAPPED' });
  t.throws(() => otherHandle.dmaUnmapGuestPage(address), { code: 'NOT_MAPPED' });
  const sibling = attach(backend, vm);
  t.throws(() => sibling.view(address, 4), { code: 'NOT_MAPPED' }, "nor to another vGPU of the same VM, whose mapping it isn't");
  handle.dmaUnmapGuestPage(address);
  t.throws(() => handle.view(address, 4), { code: 'NOT_MAPPED' }, 'a forged or stale address reaches nothing');

  handle.injectMsi(0xfee0_0000, 0x41);
  t.same(handle.msis, [{ address: 0xfee0_0000, data: 0x41 }]);
  t.same(otherHandle.msis, []);

  const gone: number[] = [];
  backend.events.on('vm-gone', ({ vmId }) => gone.push(vmId));
  backend.destroyVm(vm.vmId);
  t.same(gone, [vm.vmId]);
  t.throws(() => handle.readGpa(Gpa(0), seen), { code: 'VM_GONE' });
  t.throws(() => sibling.injectMsi(0xfee0_0000, 0x41), { code: 'VM_GONE' });
  otherHandle.readGpa(Gpa(0x5000), seen);
  t.throws(() => backend.destroyVm(vm.vmId), { code: 'VM_NOT_FOUND' });
  t.throws(() => backend.vm(VmId(12_345_678)), { code: 'VM_NOT_FOUND' });
  t.throws(() => vm.requests.next(1), { code: 'VM_GONE' });
  handle.detachVgpu();
  t.equal(backend.attachedCount, 2);
  backend.close();
});

t.test('RAM in several regions: copies cross where they touch and refuse holes as a whole', async (t) => {
  const backend = new SimBackend();
  backend.hostInit(NULL_GVT_OPS);
  const vm = backend.createMachine({
    ram: [
      { gpa: 0, size: PAGE_SIZE },
      { gpa: PAGE_SIZE, size: PAGE_SIZE },
      { gpa: 3 * PAGE_SIZE, size: PAGE_SIZE },
    ],
  }) as SimMachine;
  const handle = attach(backend, vm);
  handle.writeGpa(Gpa(PAGE_SIZE - 2), Uint8Array.of(1, 2, 3, 4));
  const bytes = new Uint8Array(4);
  handle.readGpa(Gpa(PAGE_SIZE - 2), bytes);
  t.same([...bytes], [1, 2, 3, 4]);
  t.not(handle.gfnToMfn(Gfn(0)) + 1, handle.gfnToMfn(Gfn(1)), 'neighbours in guest space are none in machine space');
  t.throws(() => handle.writeGpa(Gpa(2 * PAGE_SIZE - 2), bytes), { code: 'NOT_RAM', address: 2 * PAGE_SIZE });
  handle.readGpa(Gpa(2 * PAGE_SIZE - 4), bytes);
  t.same([...bytes], [0, 0, 0, 0], 'nothing of the refused write is there');
  t.ok(handle.isValidGfn(Gfn(3)));
  t.notOk(handle.isValidGfn(Gfn(2)));
  backend.close();
});

t.test('pin limit', async (t) => {
  const { backend, handle, vm } = open({ pinLimitPages: 2 });
  const first = handle.dmaMapGuestPage(Gfn(0), PAGE_SIZE);
  handle.dmaMapGuestPage(Gfn(0), PAGE_SIZE);
  handle.dmaMapGuestPage(Gfn(1), PAGE_SIZE);
  t.throws(() => handle.dmaMapGuestPage(Gfn(2), PAGE_SIZE), { code: 'LIMIT', limit: 2, hint: /pinLimitPages/ });
  handle.dmaUnmapGuestPage(first);
  t.throws(() => handle.dmaMapGuestPage(Gfn(2), PAGE_SIZE), { code: 'LIMIT' }, 'still referenced once');
  handle.dmaUnmapGuestPage(first);
  handle.dmaMapGuestPage(Gfn(2), PAGE_SIZE);
  t.equal(vm.pinnedPages, 2);
  backend.close();
});

// --- double fetches -----------------------------------------------------------------------------------------------------

t.test('memory that changes on its second read catches a double fetch every time', async (t) => {
  const { backend, vm, handle } = open();
  const LENGTH_FIELD = 0x9000;
  const setUp = (): void => {
    vm.watches.clear();
    handle.writeGpa(Gpa(LENGTH_FIELD), Uint8Array.of(4, 0, 0, 0, 1, 2, 3, 4));
    vm.mutateOnSecondRead(Gpa(LENGTH_FIELD), 8, (bytes) => {
      bytes[0] = 0xff;
    });
  };
  const copy = new Uint8Array(8);

  setUp();
  handle.readGpa(Gpa(LENGTH_FIELD), copy);
  t.equal(copy[0], 4, 'the first read sees the original');
  t.equal(vm.doubleFetches, 0);
  handle.readGpa(Gpa(LENGTH_FIELD), copy, 0, 1);
  t.equal(copy[0], 0xff, 'the second one sees what the guest made of it');
  t.equal(vm.doubleFetches, 1);

  setUp();
  handle.readGpa(Gpa(LENGTH_FIELD), copy, 0, 4);
  handle.readGpa(Gpa(LENGTH_FIELD + 4), copy, 4, 4);
  t.same([...copy], [4, 0, 0, 0, 1, 2, 3, 4]);
  t.equal(vm.doubleFetches, 0, 'two reads of different bytes are no double fetch');
  handle.readGpa(Gpa(LENGTH_FIELD - 8), copy);
  handle.readGpa(Gpa(LENGTH_FIELD + 8), copy);
  t.equal(vm.doubleFetches, 0, 'nor are reads beside the range');
  handle.readGpa(Gpa(LENGTH_FIELD - 4), copy);
  t.equal(vm.doubleFetches, 1, 'an overlap is enough');

  setUp();
  const address = handle.dmaMapGuestPage(Gfn(LENGTH_FIELD / PAGE_SIZE), PAGE_SIZE);
  handle.copyFrom(address, copy, 0, 8);
  t.equal(copy[0], 4);
  handle.copyFrom(address, copy, 0, 8);
  t.equal(copy[0], 0xff, 'DMA copies count like read_gpa');
  handle.readGpa(Gpa(LENGTH_FIELD), copy);
  t.equal(vm.doubleFetches, 2);

  const other = backend.createMachine({ ram: RAM }) as SimMachine;
  attach(backend, other).readGpa(Gpa(LENGTH_FIELD), copy);
  t.equal(other.doubleFetches, 0);
  t.equal(vm.doubleFetches, 2, 'another VM has memory of its own');
  t.throws(() => vm.mutateOnSecondRead(Gpa(MIB - 4), 8, () => undefined), { code: 'NOT_RAM' });
  backend.close();
});

// --- the rest of the table ----------------------------------------------------------------------------------------------

t.test('dom0_ready, set_opregion, set_edid and the VFIO device leave a trace', async (t) => {
  const { backend, vm, handle } = open();
  let ready = 0;
  backend.events.on('dom0-ready', () => {
    ready++;
  });
  backend.dom0Ready();
  backend.dom0Ready();
  t.equal(ready, 2);
  t.equal(backend.dom0ReadyCount, 2);

  const opregion = backend.allocateHostPages(2);
  handle.setOpregion(opregion);
  t.equal(handle.opregion, opregion);
  t.throws(() => opregion.release(), { code: 'BUSY' });
  const block = edid();
  handle.setEdid(1, block);
  block[0] = 0;
  t.equal(handle.edid(1)?.[0], 2, 'a copy is kept');
  t.equal(handle.edid(0), undefined);
  handle.getVfioDevice();
  t.equal(handle.vfioReferences, 1);
  handle.putVfioDevice();
  t.throws(() => handle.putVfioDevice(), { code: 'NOT_MAPPED' });
  handle.detachVgpu();
  t.equal(handle.opregion, undefined);
  t.equal(handle.edid(1), undefined);
  opregion.release();
  opregion.release();
  const fresh = attach(backend, vm);
  t.throws(() => fresh.setOpregion(opregion), { code: 'INVALID_ADDRESS' }, 'released pages are nothing to map');
  t.throws(() => fresh.mapGfnToMfn(Gfn(0xc0000), Mfn(0), 1, true), { code: 'INVALID_ADDRESS' });
  backend.close();
  t.throws(() => backend.createMachine({ ram: RAM }), { code: 'CLOSED' });
});

t.test('create, boot, attach, detach, destroy: nothing is left behind', async (t) => {
  const backend = new SimBackend();
  backend.hostInit(NULL_GVT_OPS);
  for (let i = 0; i < 200; i++) {
    const vm = backend.createMachine({ ram: [{ gpa: 0, size: 16 * PAGE_SIZE }] }) as SimMachine;
    vm.boot(Gpa(0x1000), Uint8Array.of(0xe6, 0x80));
    const handle = backend.attachVgpu({ id: VgpuId(1), vmId: vm.vmId, bdf: Bdf(0x10) });
    handle.dmaMapGuestPage(Gfn(1), PAGE_SIZE);
    const request = vm.requests.next(100);
    if (request?.address !== 0x80) throw new Error('the guest did not run');
    vm.requests.complete(request);
    handle.detachVgpu();
    vm.close();
    vm.close();
  }
  t.equal(backend.hostMemory.size, 0);
  t.equal(backend.attachedCount, 0);
  backend.hostExit();
  backend.close();
});
