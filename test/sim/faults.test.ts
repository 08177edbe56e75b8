// Fault injection: every operation of the table fails on request.
import t from 'tap';
import type { SimBackend } from '../../src/backends/sim/backend.js';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import type { SimMachine } from '../../src/backends/sim/machine.js';
import {
  Bdf,
  Gfn,
  Gpa,
  type Hva,
  MPT_OPERATIONS,
  type MptError,
  type MptOperationName,
  NULL_GVT_OPS,
  OP_INDEX,
  PAGE_SIZE,
  VgpuId,
} from '../../src/core/mpt.js';
import { edid, open, RAM } from './world.js';

/** A call of each operation that succeeds where nothing was done before. */
type Call = (w: { backend: SimBackend; vm: SimMachine; handle: SimHandle }) => unknown;
const CALLS: Readonly<Record<Exclude<MptOperationName, 'host_init' | 'host_exit' | 'detach_vgpu' | 'dma_pin_guest_page'>, Call>> = {
  attach_vgpu: ({ backend, vm }) => backend.attachVgpu({ id: VgpuId(999), vmId: vm.vmId, bdf: Bdf(0x99) }),
  inject_msi: ({ handle }) => handle.injectMsi(0xfee0_0000, 0x41),
  from_virt_to_mfn: ({ backend, handle }) => backend.fromVirtToMfn(handle.vgpu.pvmmio?.sharedPage.hva as Hva),
  enable_page_track: ({ handle }) => handle.enablePageTrack(Gfn(7)),
  disable_page_track: ({ handle }) => {
    handle.enablePageTrack(Gfn(8));
    handle.disablePageTrack(Gfn(8));
  },
  read_gpa: ({ handle }) => handle.readGpa(Gpa(0), new Uint8Array(8)),
  write_gpa: ({ handle }) => handle.writeGpa(Gpa(0), new Uint8Array(8)),
  gfn_to_mfn: ({ handle }) => handle.gfnToMfn(Gfn(0)),
  map_gfn_to_mfn: ({ backend, handle }) => handle.mapGfnToMfn(Gfn(0xc0000), backend.allocateHostPages(1).mfn, 1, true),
  dma_map_guest_page: ({ handle }) => handle.dmaMapGuestPage(Gfn(3), PAGE_SIZE),
  dma_unmap_guest_page: ({ handle }) => handle.dmaUnmapGuestPage(handle.dmaMapGuestPage(Gfn(4), PAGE_SIZE)),
  set_trap_area: ({ handle }) => handle.setTrapArea(Gpa(0xd000_0000), Gpa(0xd000_0fff), true),
  set_pvmmio: ({ handle }) => handle.setPvmmio(Gpa(0xe000_0000), Gpa(0xe0ff_ffff), true),
  dom0_ready: ({ backend }) => backend.dom0Ready(),
  set_opregion: ({ backend, handle }) => handle.setOpregion(backend.allocateHostPages(2)),
  set_edid: ({ handle }) => handle.setEdid(1, edid()),
  get_vfio_device: ({ handle }) => handle.getVfioDevice(),
  put_vfio_device: ({ handle }) => {
    handle.getVfioDevice();
    handle.putVfioDevice();
  },
  is_valid_gfn: ({ handle }) => handle.isValidGfn(Gfn(0)),
};

t.test('fault injection: every operation fails on request, as a hypervisor would, and works afterwards', async (t) => {
  const w = open();
  t.equal(Object.keys(CALLS).length + 4, MPT_OPERATIONS.length);
  for (const [op, call] of Object.entries(CALLS) as [keyof typeof CALLS, Call][]) {
    const calls = w.backend.calls[OP_INDEX[op]] as number;
    w.backend.faults.inject(op);
    t.throws(() => call(w), { code: 'HYPERVISOR', errno: 5, op, backend: 'sim', message: /injected fault; errno 5 EIO/ }, op);
    t.equal(w.backend.calls[OP_INDEX[op]], calls + 1, `${op} was counted`);
    if (op !== 'dma_unmap_guest_page') t.doesNotThrow(() => call(w), `${op} works again: the failure had no effect`);
  }
  t.equal(w.handle.msiCount, 1);
  t.equal(w.backend.dom0ReadyCount, 1);
  t.equal(w.backend.faults.injected, Object.keys(CALLS).length);
  w.backend.faults.inject('host_exit', { code: 'NO_MEMORY' });
  for (const handle of [...w.backend.handlesOf(w.vm.vmId)]) handle.detachVgpu();
  t.throws(() => w.backend.hostExit(), { code: 'NO_MEMORY', errno: undefined, op: 'host_exit' });
  w.backend.hostExit();
  w.backend.faults.inject('host_init', { errno: 12 });
  t.throws(() => w.backend.hostInit(NULL_GVT_OPS), { code: 'HYPERVISOR', errno: 12 });
  w.backend.hostInit(NULL_GVT_OPS);
  for (const [op, call] of [
    ['create_machine', () => w.backend.createMachine({ ram: RAM })],
    ['allocate_host_pages', () => w.backend.allocateHostPages(1)],
  ] as const) {
    w.backend.faults.inject(op, { errno: 12, code: 'NO_MEMORY' });
    t.throws(call, { code: 'NO_MEMORY', errno: 12, op });
    t.doesNotThrow(call);
  }
  w.backend.close();
});

t.test('fault injection: after, times, clear, and detach that fails half way still releases', async (t) => {
  const { backend, vm, handle } = open();
  const { faults } = backend;
  const read = (): void => handle.readGpa(Gpa(0), new Uint8Array(1));
  faults.inject('read_gpa', { after: 2, times: 2, errno: 14 });
  const outcomes = Array.from({ length: 6 }, () => {
    try {
      read();
      return 'ok';
    } catch (error) {
      return (error as MptError).errno;
    }
  });
  t.same(outcomes, ['ok', 'ok', 14, 14, 'ok', 'ok']);
  faults.inject('read_gpa', { times: Number.POSITIVE_INFINITY });
  for (let i = 0; i < 5; i++) t.throws(read, { code: 'HYPERVISOR' });
  faults.clear('read_gpa');
  t.doesNotThrow(read);
  faults.inject('read_gpa');
  faults.inject('dma_view');
  faults.clear();
  t.doesNotThrow(read);

  const address = handle.dmaMapGuestPage(Gfn(1), PAGE_SIZE);
  for (const [op, call] of [
    ['dma_view', () => handle.view(address, 1)],
    ['dma_copy', () => handle.copyFrom(address, new Uint8Array(1), 0, 1)],
  ] as const) {
    faults.inject(op);
    t.throws(call, { code: 'HYPERVISOR', op });
    t.doesNotThrow(call);
  }
  handle.setTrapArea(Gpa(0xd000_0000), Gpa(0xd000_0fff), true);
  handle.setPvmmio(Gpa(0xe000_0000), Gpa(0xe0ff_ffff), true);
  faults.inject('set_trap_area');
  faults.inject('detach_vgpu');
  t.throws(() => handle.detachVgpu(), { code: 'HYPERVISOR', op: 'set_trap_area' });
  t.equal(vm.pinnedPages, 0, 'what could be released was');
  t.notOk(vm.space.touches(0xe000_0000, 0xe0ff_ffff));
  t.equal(backend.attachedCount, 0);
  t.throws(() => handle.detachVgpu(), { code: 'DETACHED' });

  t.throws(() => faults.inject('read_gpx' as never), { code: 'INVALID_ARGUMENT', hint: /did you mean read_gpa/ });
  t.throws(() => faults.inject('dma_pin_guest_page' as never), { code: 'INVALID_ARGUMENT' }, 'it never reaches the hypervisor');
  t.throws(() => faults.inject('read_gpa', { times: 0 }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => faults.inject('read_gpa', { after: -1 }), { code: 'INVALID_ARGUMENT' });
  const sync = open({ pageTrack: 'sync' });
  sync.handle.enablePageTrack(Gfn(1));
  sync.backend.faults.inject('sync_page_track');
  t.throws(() => sync.handle.syncPageTrack(), { code: 'HYPERVISOR', op: 'sync_page_track' });
  t.equal(sync.handle.syncPageTrack(), 0);
  sync.backend.close();
  backend.close();
});
