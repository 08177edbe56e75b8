/** What MptBackend and MptHandle do for every backend: state machine, capabilities, wrapping of failures, call counts. */
import t from 'tap';
import { Bdf, DmaAddress, Gfn, Gpa, Hva, Mfn, PAGE_SIZE, VgpuId, VmId } from '../../src/core/addresses.js';
import type { Capability } from '../../src/core/capabilities.js';
import { MptError } from '../../src/core/errors.js';
import { NULL_GVT_OPS } from '../../src/core/gvt-ops.js';
import { MPT_OPERATIONS, type MptOperationName, OP_INDEX } from '../../src/core/mpt.js';
import type { MptHandle } from '../../src/core/mpt-handle.js';
import { refused } from './expect.js';
import { FakeBackend, type FakeHandle, hostPages, NOTHING } from './fake-backend.js';

const VGPU = { id: VgpuId(1), vmId: VmId(1), bdf: Bdf(0x10), pvmmio: { registerFile: hostPages(512), sharedPage: hostPages(1) } };
const BAR = 0xf000_0000;
const EDID = new Uint8Array(128);

type HandleCall = (handle: MptHandle) => unknown;

/** Each handle operation with good arguments: what must be done before, the call, the method that it ends in. */
const HANDLE_OPERATIONS: Readonly<Partial<Record<MptOperationName, { before?: HandleCall; call: HandleCall; ends: string }>>> = {
  inject_msi: { call: (h) => h.injectMsi(0xfee0_0000, 0x41), ends: 'doInjectMsi' },
  enable_page_track: { call: (h) => h.enablePageTrack(Gfn(5)), ends: 'doEnablePageTrack' },
  disable_page_track: { before: (h) => h.enablePageTrack(Gfn(5)), call: (h) => h.disablePageTrack(Gfn(5)), ends: 'doDisablePageTrack' },
  read_gpa: { call: (h) => h.readGpa(Gpa(0x10), new Uint8Array(8)), ends: 'doReadGpa' },
  write_gpa: { call: (h) => h.writeGpa(Gpa(0x10), new Uint8Array(8)), ends: 'doWriteGpa' },
  gfn_to_mfn: { call: (h) => h.gfnToMfn(Gfn(1)), ends: 'doGfnToMfn' },
  map_gfn_to_mfn: { call: (h) => h.mapGfnToMfn(Gfn(0xf_0000), Mfn(0x9000), 2, true), ends: 'doMapGfnToMfn' },
  dma_map_guest_page: { call: (h) => h.dmaMapGuestPage(Gfn(7), PAGE_SIZE), ends: 'doDmaMap' },
  dma_unmap_guest_page: {
    before: (h) => h.dmaMapGuestPage(Gfn(7), PAGE_SIZE),
    call: (h) => h.dmaUnmapGuestPage(DmaAddress(0x107 * PAGE_SIZE)),
    ends: 'doDmaUnmap',
  },
  set_trap_area: { call: (h) => h.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true), ends: 'doSetTrapArea' },
  set_pvmmio: { call: (h) => h.setPvmmio(Gpa(BAR), Gpa(BAR + 0xff_ffff), true), ends: 'doSetPvmmio' },
  set_opregion: { call: (h) => h.setOpregion(hostPages(2)), ends: 'doSetOpregion' },
  set_edid: { call: (h) => h.setEdid(0, EDID), ends: 'doSetEdid' },
  get_vfio_device: { call: (h) => h.getVfioDevice(), ends: 'doGetVfioDevice' },
  put_vfio_device: { before: (h) => h.getVfioDevice(), call: (h) => h.putVfioDevice(), ends: 'doPutVfioDevice' },
  is_valid_gfn: { call: (h) => h.isValidGfn(Gfn(1)), ends: 'doIsValidGfn' },
  dma_pin_guest_page: {
    before: (h) => h.dmaMapGuestPage(Gfn(7), PAGE_SIZE),
    call: (h) => h.dmaPinGuestPage(DmaAddress(0x107 * PAGE_SIZE)),
    ends: '',
  },
};

/** Operations of a handle that are not in the table: the DMA space, the armed MSI, the synchronisation. */
const BESIDE_THE_TABLE: Readonly<Record<string, HandleCall>> = {
  dma_view: (h) => h.view(DmaAddress(0), 1),
  dma_copy: (h) => h.copyFrom(DmaAddress(0), new Uint8Array(1), 0, 1),
  arm_msi: (h) => h.armMsi(0xfee0_0000, 0x41),
  sync_page_track: (h) => h.syncPageTrack(),
};

function attached(backend = new FakeBackend()): { backend: FakeBackend; handle: FakeHandle } {
  backend.hostInit(NULL_GVT_OPS);
  const handle = backend.attachVgpu(VGPU) as FakeHandle;
  backend.taken();
  return { backend, handle };
}

t.test('the table of handle operations here is complete', async (t) => {
  const wanted = MPT_OPERATIONS.filter(({ on, name }) => on === 'handle' && name !== 'detach_vgpu').map(({ name }) => name);
  t.same(Object.keys(HANDLE_OPERATIONS).sort(), [...wanted].sort());
  t.equal(MPT_OPERATIONS.filter(({ table }) => table === 'acrn').length, 17);
  t.equal(MPT_OPERATIONS.length, 23);
});

t.test('host operations keep the order created, initialized, exited, closed', async (t) => {
  const backend = new FakeBackend();
  t.equal(backend.state, 'created');
  refused(t, 'NOT_INITIALIZED', () => backend.ops, 'ops');
  refused(t, 'NOT_INITIALIZED', () => backend.attachVgpu(VGPU), 'attach before init');
  refused(t, 'NOT_INITIALIZED', () => backend.hostExit(), 'exit before init');
  refused(t, 'NOT_INITIALIZED', () => backend.dom0Ready(), 'dom0_ready before init');
  refused(t, 'INVALID_ARGUMENT', () => backend.hostInit(null as never), 'no table');
  t.same(backend.taken(), [], 'the backend saw none of it');
  t.equal(backend.fromVirtToMfn(Hva(0x5123)), 5, 'from_virt_to_mfn needs no device model');
  backend.hostInit(NULL_GVT_OPS);
  t.equal(backend.state, 'initialized');
  t.equal(backend.ops, NULL_GVT_OPS);
  refused(t, 'ALREADY_INITIALIZED', () => backend.hostInit(NULL_GVT_OPS));
  const handle = backend.attachVgpu(VGPU);
  t.match(refused(t, 'BUSY', () => backend.hostExit()).message, /1 vGPU is still attached/);
  handle.detachVgpu();
  backend.hostExit();
  t.equal(backend.state, 'exited');
  refused(t, 'NOT_INITIALIZED', () => backend.hostExit(), 'exit twice');
  backend.hostInit(NULL_GVT_OPS);
  t.equal(backend.state, 'initialized', 'init again after exit');
  backend.close();
  backend.taken();
  const closed: readonly (() => unknown)[] = [
    () => backend.hostInit(NULL_GVT_OPS),
    () => backend.hostExit(),
    () => backend.attachVgpu(VGPU),
    () => backend.fromVirtToMfn(Hva(0x5000)),
    () => backend.dom0Ready(),
    () => backend.allocateHostPages(1),
    () => backend.createMachine({ ram: [{ gpa: 0, size: PAGE_SIZE }] }),
  ];
  for (const call of closed) refused(t, 'CLOSED', call, String(call));
  backend.close();
  t.same(backend.taken(), [], 'the second close does nothing');
});

t.test('attach checks id, PCI address, VM and doubles', async (t) => {
  const { backend, handle } = attached();
  for (const id of [0, -1, 1.5, 0x1_0000, Number.NaN])
    refused(t, 'INVALID_ARGUMENT', () => backend.attachVgpu({ ...VGPU, id: VgpuId(id) }), `id ${id}`);
  for (const bdf of [-1, 0x1_0000, 0.5, Number.NaN])
    refused(t, 'INVALID_ARGUMENT', () => backend.attachVgpu({ ...VGPU, id: VgpuId(2), bdf: Bdf(bdf) }), `bdf ${bdf}`);
  for (const vmId of [0, 3, -1, Number.NaN])
    refused(t, 'VM_NOT_FOUND', () => backend.attachVgpu({ ...VGPU, id: VgpuId(2), vmId: VmId(vmId) }), `vm ${vmId}`);
  refused(t, 'ALREADY_ATTACHED', () => backend.attachVgpu(VGPU), 'same VM');
  refused(t, 'ALREADY_ATTACHED', () => backend.attachVgpu({ ...VGPU, vmId: VmId(2) }), 'other VM');
  refused(t, 'OVERLAP', () => backend.attachVgpu({ ...VGPU, id: VgpuId(2) }), 'same PCI address');
  t.same(backend.taken(), [], 'the backend saw none of it');
  const other = backend.attachVgpu({ ...VGPU, id: VgpuId(2), vmId: VmId(2) });
  t.equal(backend.attachedCount, 2);
  backend.failures.set('doAttachVgpu', new Error('no'));
  refused(t, 'INTERNAL', () => backend.attachVgpu({ ...VGPU, id: VgpuId(3), bdf: Bdf(1) }));
  backend.failures.clear();
  t.equal(backend.attachedCount, 2, 'a failed attach leaves nothing');
  handle.detachVgpu();
  t.same(backend.handlesOf(VmId(1)), []);
  t.same(backend.handlesOf(VmId(2)), [other]);
  t.ok(backend.attachVgpu(VGPU).attached, 'the id is free again');
});

t.test('every handle operation: reaches the backend, is counted, and answers UNSUPPORTED without its capability', async (t) => {
  for (const operation of MPT_OPERATIONS) {
    const row = HANDLE_OPERATIONS[operation.name];
    if (row === undefined) continue;
    const { backend, handle } = attached();
    row.before?.(handle);
    backend.taken();
    const counted = backend.calls[OP_INDEX[operation.name]];
    row.call(handle);
    if (row.ends !== '')
      t.ok(
        backend.taken().some((line) => line.startsWith(row.ends)),
        `${operation.name} reaches ${row.ends}`,
      );
    t.equal(backend.calls[OP_INDEX[operation.name]], (counted ?? 0) + 1, `${operation.name} is counted`);
    const capability = (operation as { capability?: Capability }).capability;
    if (capability === undefined) continue;
    const without = attached(new FakeBackend(NOTHING));
    const error = refused(t, 'UNSUPPORTED', () => row.call(without.handle), `${operation.name} without ${capability}`);
    t.match(error, { op: operation.name, backend: 'fake' });
    t.same(without.backend.taken(), [], 'the backend is not asked');
  }
  const bare = new FakeBackend(NOTHING);
  for (const [call, op] of [
    [() => bare.dom0Ready(), 'dom0_ready'],
    [() => bare.allocateHostPages(1), 'allocate_host_pages'],
    [() => bare.createMachine({ ram: [{ gpa: 0, size: PAGE_SIZE }] }), 'create_machine'],
  ] as const)
    t.equal(refused(t, 'UNSUPPORTED', call, op).op, op);
  const { handle } = attached(new FakeBackend(NOTHING));
  refused(t, 'UNSUPPORTED', () => handle.armMsi(0xfee0_0000, 0x41), 'arm_msi');
  refused(t, 'UNSUPPORTED', () => handle.dmaMapGuestPage(Gfn(512), 0x20_0000), '2 MiB');
  t.equal(handle.syncPageTrack(), 0);
});

t.test('every handle operation after detach, after the VM went, after close', async (t) => {
  const calls = { ...Object.fromEntries(Object.entries(HANDLE_OPERATIONS).map(([op, { call }]) => [op, call])), ...BESIDE_THE_TABLE };
  const ends: readonly [code: 'DETACHED' | 'VM_GONE', end: (backend: FakeBackend, handle: MptHandle) => void, what: string][] = [
    ['DETACHED', (_, handle) => handle.detachVgpu(), 'detach'],
    ['VM_GONE', (backend) => backend.killVm(VmId(1)), 'VM gone'],
    ['DETACHED', (backend) => backend.close(), 'close'],
    [
      'DETACHED',
      (backend, handle) => {
        backend.killVm(VmId(1));
        handle.detachVgpu();
      },
      'VM gone, then detach',
    ],
  ];
  for (const [code, end, what] of ends) {
    const { backend, handle } = attached();
    end(backend, handle);
    t.notOk(handle.attached);
    backend.taken();
    for (const [op, call] of Object.entries(calls)) {
      const error = refused(t, code, () => call(handle), `${op} after ${what}`);
      t.match(error, { op, backend: 'fake' });
    }
    t.same(backend.taken(), [], `the backend is not called after ${what}`);
    if (code === 'DETACHED') refused(t, 'DETACHED', () => handle.detachVgpu(), `detach after ${what}`);
  }
});

t.test('whatever a backend throws leaves as an MptError with operation and backend', async (t) => {
  const { backend, handle } = attached();
  for (const [op, { before, call, ends }] of Object.entries(HANDLE_OPERATIONS)) {
    if (ends === '') continue;
    before?.(handle);
    const cause = new Error('boom');
    backend.failures.set(ends, cause);
    const plain = refused(t, 'INTERNAL', () => call(handle), `${op}, plain Error`);
    t.match(plain, { op, backend: 'fake' });
    t.equal(plain.cause, cause);
    backend.failures.set(
      ends,
      new MptError('NO_MEMORY', 'the host is full', { errno: 12, address: 0x1000, size: 3, limit: 4, hint: 'wait' }),
    );
    const typed = refused(t, 'NO_MEMORY', () => call(handle), `${op}, MptError`);
    t.equal(typed.message, `[fake] ${op}: the host is full (at 0x1000, size 3, limit 4); errno 12 ENOMEM; wait`);
    backend.failures.set(ends, 'a string');
    refused(t, 'INTERNAL', () => call(handle), `${op}, a string`);
    backend.failures.clear();
  }
  backend.failures.set('doInjectMsi', new Error('first line\nsecond line'));
  refused(t, 'INTERNAL', () => handle.injectMsi(0xfee0_0000, 0x41), 'a foreign message of two lines');
  for (const [name, call, op] of [
    ['doFromVirtToMfn', () => backend.fromVirtToMfn(Hva(0x1000)), 'from_virt_to_mfn'],
    ['doDom0Ready', () => backend.dom0Ready(), 'dom0_ready'],
    ['doAllocateHostPages', () => backend.allocateHostPages(1), 'allocate_host_pages'],
    ['doCreateMachine', () => backend.createMachine({ ram: [{ gpa: 0, size: PAGE_SIZE }] }), 'create_machine'],
  ] as const) {
    backend.failures.set(name, new TypeError('x is undefined'));
    t.match(refused(t, 'INTERNAL', call, op), { op, backend: 'fake' });
  }
  const fresh = new FakeBackend();
  fresh.failures.set('doHostInit', new Error('no'));
  refused(t, 'INTERNAL', () => fresh.hostInit(NULL_GVT_OPS), 'host_init');
  t.equal(fresh.state, 'created', 'a failed init did not happen');
  fresh.failures.clear();
  fresh.hostInit(NULL_GVT_OPS);
  fresh.failures.set('doHostExit', new Error('no'));
  refused(t, 'INTERNAL', () => fresh.hostExit(), 'host_exit');
  t.equal(fresh.state, 'initialized', 'nor did a failed exit');
});

t.test('a failed operation can be repeated: its state did not change', async (t) => {
  const { backend, handle } = attached();
  const failing = (name: string, run: () => void): void => {
    backend.failures.set(name, new Error('no'));
    refused(t, 'INTERNAL', run, name);
    backend.failures.clear();
    run();
  };
  failing('doEnablePageTrack', () => handle.enablePageTrack(Gfn(1)));
  t.equal(handle.trackedCount, 1);
  failing('doDisablePageTrack', () => handle.disablePageTrack(Gfn(1)));
  t.equal(handle.trackedCount, 0);
  failing('doSetTrapArea', () => handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true));
  failing('doSetTrapArea', () => handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), false));
  failing('doMapGfnToMfn', () => handle.mapGfnToMfn(Gfn(0xf_0000), Mfn(0x9000), 2, true));
  failing('doMapGfnToMfn', () => handle.mapGfnToMfn(Gfn(0xf_0000), Mfn(0x9000), 2, false));
  failing('doSetPvmmio', () => handle.setPvmmio(Gpa(BAR), Gpa(BAR + 0xfff), true));
  failing('doSetPvmmio', () => handle.setPvmmio(Gpa(BAR), Gpa(BAR + 0xfff), false));
  failing('doGetVfioDevice', () => handle.getVfioDevice());
  failing('doPutVfioDevice', () => handle.putVfioDevice());
  t.equal(handle.vfioReferences, 0);
  failing('doDmaMap', () => void handle.dmaMapGuestPage(Gfn(7), PAGE_SIZE));
  failing('doDmaUnmap', () => handle.dmaUnmapGuestPage(DmaAddress(0x107 * PAGE_SIZE)));
  t.equal(handle.pinnedPages, 0);
});

/** Sets up one of everything that detach has to undo. */
function occupy(handle: MptHandle): void {
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  handle.setTrapArea(Gpa(BAR + 0x2000), Gpa(BAR + 0x2fff), true);
  handle.mapGfnToMfn(Gfn(0xe_0000), Mfn(0x9000), 2, true);
  handle.enablePageTrack(Gfn(3));
  handle.enablePageTrack(Gfn(4));
  handle.dmaMapGuestPage(Gfn(7), PAGE_SIZE);
  handle.dmaMapGuestPage(Gfn(7), PAGE_SIZE);
  handle.dmaMapGuestPage(Gfn(512), 0x20_0000);
  handle.setPvmmio(Gpa(BAR), Gpa(BAR + 0xff_ffff), true);
}

const UNDONE = [
  `doSetPvmmio ${BAR} ${BAR + 0xff_ffff} false`,
  `doSetTrapArea ${BAR} ${BAR + 0xfff} false`,
  `doSetTrapArea ${BAR + 0x2000} ${BAR + 0x2fff} false`,
  `doMapGfnToMfn ${0xe_0000} ${0x9000} 2 false`,
  'doDisablePageTrack 3',
  'doDisablePageTrack 4',
  'doDmaUnmap 7 4096',
  'doDmaUnmap 512 2097152',
  'doDetach',
];

t.test('detach undoes everything once, in spite of failures', async (t) => {
  const names = new Set(UNDONE.map((line) => line.split(' ')[0] as string));
  for (const broken of [undefined, ...names]) {
    const { backend, handle } = attached();
    occupy(handle);
    backend.taken();
    if (broken === undefined) handle.detachVgpu();
    else {
      backend.failures.set(broken, new Error(`${broken} failed`));
      const error = refused(t, 'INTERNAL', () => handle.detachVgpu(), broken);
      t.match(error, { op: 'detach_vgpu', backend: 'fake' });
      t.match(error.message, broken);
    }
    t.same(backend.taken(), UNDONE, `all of it with ${broken ?? 'nothing'} broken`);
    t.notOk(handle.attached);
    t.equal(handle.trackedCount, 0);
    t.equal(handle.pinnedPages, 0);
    t.equal(backend.attachedCount, 0);
    t.notOk(handle.trapOverlapping(0, 2 ** 52) || handle.mapOverlapping(0, 2 ** 40));
  }
});

t.test('after the VM went, detach calls the backend for its own release only', async (t) => {
  const { backend, handle } = attached();
  occupy(handle);
  backend.killVm(VmId(1));
  backend.taken();
  handle.detachVgpu();
  t.same(backend.taken(), ['doDetach']);
  t.equal(backend.attachedCount, 0);
  const other = attached();
  other.backend.killVm(VmId(2));
  t.ok(other.handle.attached, 'another VM is another matter');
});

t.test('close detaches every vGPU and closes the backend, in spite of failures', async (t) => {
  const { backend, handle } = attached();
  const second = backend.attachVgpu({ ...VGPU, id: VgpuId(2), vmId: VmId(2) });
  occupy(handle);
  backend.taken();
  backend.failures.set('doDisablePageTrack', new Error('no'));
  backend.failures.set('doDetach', new Error('no'));
  backend.close();
  t.same(backend.taken(), [...UNDONE, 'doDetach', 'doClose']);
  t.equal(backend.state, 'closed');
  t.notOk(handle.attached || second.attached);
  const other = new FakeBackend();
  other.failures.set('doClose', new Error('no'));
  t.match(
    refused(t, 'INTERNAL', () => other.close()),
    { op: 'close' },
  );
  t.equal(other.state, 'closed');
});
