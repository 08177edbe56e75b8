/** MptHandle's rules for arguments, idempotence, overlap, limits and routing, over a backend that only notes calls. */
import t from 'tap';
import { Bdf, DmaAddress, GFN_LIMIT, Gfn, GPA_LIMIT, Gpa, Hva, Mfn, PAGE_SIZE, VgpuId, VmId } from '../../src/core/addresses.js';
import { NULL_GVT_OPS, Status } from '../../src/core/gvt-ops.js';
import { IoKind } from '../../src/core/io-request.js';
import { msiFault } from '../../src/core/mpt-checks.js';
import type { HandleLimits } from '../../src/core/mpt-handle.js';
import { refused } from './expect.js';
import { EVERYTHING, FakeBackend, type FakeHandle, hostPages, requestOf } from './fake-backend.js';

const VM = VmId(1);
const BAR = 0xf000_0000;
const HUGE = 0x20_0000;

function setup(limits: Partial<HandleLimits> = {}, capabilities = EVERYTHING) {
  const backend = new FakeBackend(capabilities, limits);
  backend.hostInit(NULL_GVT_OPS);
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: VM, bdf: Bdf(0x10) }) as FakeHandle;
  const second = backend.attachVgpu({ id: VgpuId(2), vmId: VM, bdf: Bdf(0x18) }) as FakeHandle;
  const elsewhere = backend.attachVgpu({ id: VgpuId(3), vmId: VmId(2), bdf: Bdf(0x10) }) as FakeHandle;
  backend.taken();
  return { backend, handle, second, elsewhere };
}

t.test('read_gpa and write_gpa check the range before the backend sees it', async (t) => {
  const { backend, handle } = setup();
  const buffer = new Uint8Array(16);
  for (const gpa of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, GPA_LIMIT, GPA_LIMIT - 15, 2 ** 53, 2 ** 64]) {
    refused(t, 'INVALID_ADDRESS', () => handle.readGpa(Gpa(gpa), buffer), `read ${gpa}`);
    refused(t, 'INVALID_ADDRESS', () => handle.writeGpa(Gpa(gpa), buffer), `write ${gpa}`);
  }
  for (const [offset, length] of [
    [0, 0],
    [0, -1],
    [0, 17],
    [1, 16],
    [16, 1],
    [-1, 1],
    [0.5, 1],
    [0, 1.5],
    [Number.NaN, 1],
  ] as const) {
    refused(t, 'INVALID_ARGUMENT', () => handle.readGpa(Gpa(0), buffer, offset, length), `read ${offset}+${length}`);
    refused(t, 'INVALID_ARGUMENT', () => handle.writeGpa(Gpa(0), buffer, offset, length), `write ${offset}+${length}`);
  }
  refused(t, 'INVALID_ARGUMENT', () => handle.readGpa(Gpa(0), new Uint8Array(0)), 'an empty buffer');
  t.same(backend.taken(), []);
  handle.readGpa(Gpa(GPA_LIMIT - 16), buffer);
  handle.readGpa(Gpa(0), buffer, 5);
  handle.writeGpa(Gpa(3), buffer, 2, 4);
  t.same(backend.taken(), [`doReadGpa ${GPA_LIMIT - 16} 0 16`, 'doReadGpa 0 5 11', 'doWriteGpa 3 2 4']);
});

t.test('frames are integers below 2^40', async (t) => {
  const { backend, handle } = setup();
  for (const gfn of [-1, 0.5, Number.NaN, GFN_LIMIT, 2 ** 53]) {
    refused(t, 'INVALID_ADDRESS', () => handle.gfnToMfn(Gfn(gfn)), `gfn_to_mfn ${gfn}`);
    refused(t, 'INVALID_ADDRESS', () => handle.enablePageTrack(Gfn(gfn)), `enable ${gfn}`);
    refused(t, 'INVALID_ADDRESS', () => handle.disablePageTrack(Gfn(gfn)), `disable ${gfn}`);
    refused(t, 'INVALID_ADDRESS', () => handle.dmaMapGuestPage(Gfn(gfn), PAGE_SIZE), `dma ${gfn}`);
    refused(t, 'INVALID_ADDRESS', () => handle.mapGfnToMfn(Gfn(gfn), Mfn(1), 1, true), `map ${gfn}`);
    t.equal(handle.isValidGfn(Gfn(gfn)), false, `is_valid_gfn ${gfn} is false and does not throw`);
  }
  for (const hva of [0, -1, 0.5, Number.NaN, GPA_LIMIT]) refused(t, 'INVALID_ADDRESS', () => backend.fromVirtToMfn(Hva(hva)), `hva ${hva}`);
  t.same(backend.taken(), []);
  t.equal(handle.gfnToMfn(Gfn(GFN_LIMIT - 1)), GFN_LIMIT - 1 + 0x100);
  t.equal(handle.isValidGfn(Gfn(GFN_LIMIT - 1)), false);
});

t.test('an MSI has its address in the APIC window and a valid vector where the mode has one', async (t) => {
  const { backend, handle } = setup();
  const bad: readonly [address: number, data: number][] = [
    [0xfedf_ffff, 0x41],
    [0xfef0_0000, 0x41],
    [0x1_fee0_0000, 0x41],
    [-0x11f_0000, 0x41],
    [0xfee0_0000 + 0.5, 0x41],
    [Number.NaN, 0x41],
    [0xfee0_0000, -1],
    [0xfee0_0000, 0x1_0041],
    [0xfee0_0000, 0],
    [0xfee0_0000, 15],
    [0xfee0_0000, 0x10f],
    [0xfee0_0000, 0xc00f],
    [0xfee0_0000, Number.NaN],
    [0xfee0_0000, 65.5],
  ];
  for (const [address, data] of bad) {
    refused(t, 'BAD_MSI', () => handle.injectMsi(address, data), `${address} ${data}`);
    refused(t, 'BAD_MSI', () => handle.armMsi(address, data), `arm ${address} ${data}`);
  }
  t.same(backend.taken(), []);
  const good: readonly [address: number, data: number][] = [
    [0xfee0_0000, 16],
    [0xfeef_ffff, 0xff],
    [0xfee0_100c, 0x141],
    // NMI, INIT and ExtINT carry no vector.
    [0xfee0_0000, 0x400],
    [0xfee0_0000, 0x700],
    [0xfee0_0000, 0xffff],
  ];
  for (const [address, data] of good) handle.injectMsi(address, data);
  t.equal(handle.armMsi(0xfee0_0000, 0x41), 77);
  t.same(backend.taken(), [...good.map(([address, data]) => `doInjectMsi ${address} ${data}`), `doArmMsi ${0xfee0_0000} 65`]);
});

t.test('page track is idempotent and bounded; sync reports tracked frames only', async (t) => {
  const { backend, handle, second } = setup({ trackedPages: 2 });
  handle.enablePageTrack(Gfn(1));
  handle.enablePageTrack(Gfn(1));
  handle.enablePageTrack(Gfn(2));
  t.equal(refused(t, 'LIMIT', () => handle.enablePageTrack(Gfn(3))).limit, 2);
  handle.enablePageTrack(Gfn(2));
  handle.disablePageTrack(Gfn(9));
  handle.disablePageTrack(Gfn(1));
  handle.disablePageTrack(Gfn(1));
  handle.enablePageTrack(Gfn(3));
  t.same(backend.taken(), ['doEnablePageTrack 1', 'doEnablePageTrack 2', 'doDisablePageTrack 1', 'doEnablePageTrack 3']);
  t.same([...handle.trackedFrames()], [2, 3]);
  const tracked = (gfn: number): boolean => backend.handlesOf(VM).some((attached) => attached.tracks(gfn));
  t.ok(tracked(2) && !tracked(1));
  second.enablePageTrack(Gfn(2));
  handle.disablePageTrack(Gfn(2));
  t.ok(tracked(2), 'the other vGPU tracks it still');
  t.equal(handle.syncPageTrack(), 0, 'nothing to synchronise at level trap');

  const reported: number[] = [];
  const sync = new FakeBackend({ ...EVERYTHING, pageTrack: 'sync' });
  sync.hostInit({
    ...NULL_GVT_OPS,
    pageWritten: (_, gfn) => {
      reported.push(gfn);
      return Status.OK;
    },
  });
  const tracker = sync.attachVgpu({ id: VgpuId(1), vmId: VM, bdf: Bdf(0x10) }) as FakeHandle;
  tracker.written = [4];
  t.equal(tracker.syncPageTrack(), 0, 'nothing tracked');
  tracker.enablePageTrack(Gfn(4));
  tracker.enablePageTrack(Gfn(5));
  tracker.written = [4, 6];
  t.equal(tracker.syncPageTrack(), 1);
  t.same(reported, [4], 'frame 6 is nobody’s');
});

t.test('trap areas: inclusive ends, overlap with every vGPU of the VM and with RAM, exact removal, limit', async (t) => {
  const { backend, handle, second, elsewhere } = setup({ trapAreas: 3 });
  for (const [start, end] of [
    [1, 0],
    [-1, 5],
    [0, GPA_LIMIT],
    [0.5, 1],
    [0, Number.NaN],
  ] as const)
    refused(t, 'INVALID_ADDRESS', () => handle.setTrapArea(Gpa(start), Gpa(end), true), `${start}-${end}`);
  refused(t, 'OVERLAP', () => handle.setTrapArea(Gpa(0x1000), Gpa(0x1fff), true), 'RAM');
  backend.taken();
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  for (const [start, end] of [
    [BAR, BAR + 0xfff],
    [BAR + 0xfff, BAR + 0xfff],
    [BAR - 1, BAR],
    [BAR - 0x1000, BAR + 0x2000],
  ] as const)
    for (const who of [handle, second]) refused(t, 'OVERLAP', () => who.setTrapArea(Gpa(start), Gpa(end), true), `${start}-${end}`);
  elsewhere.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  handle.setTrapArea(Gpa(BAR + 0x1000), Gpa(BAR + 0x1000), true);
  handle.setTrapArea(Gpa(GPA_LIMIT - 1), Gpa(GPA_LIMIT - 1), true);
  refused(t, 'LIMIT', () => handle.setTrapArea(Gpa(BAR + 0x9000), Gpa(BAR + 0x9fff), true));
  for (const [start, end] of [
    [BAR, BAR + 0xffe],
    [BAR + 1, BAR + 0xfff],
    [BAR, BAR + 0x1000],
    [BAR + 0x5000, BAR + 0x5fff],
  ] as const)
    refused(t, 'NOT_MAPPED', () => handle.setTrapArea(Gpa(start), Gpa(end), false), `unmap ${start}-${end}`);
  refused(t, 'NOT_MAPPED', () => second.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), false), 'the other vGPU’s area');
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), false);
  second.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  refused(t, 'OVERLAP', () => handle.mapGfnToMfn(Gfn(BAR / PAGE_SIZE), Mfn(1), 1, true), 'frames under a trap area');
});

t.test('map_gfn_to_mfn: counts, overlap, exact removal', async (t) => {
  const { backend, handle, second } = setup();
  const gfn = Gfn(0xf_0000);
  for (const nr of [0, -1, 0.5, Number.NaN, GFN_LIMIT])
    refused(t, 'INVALID_ARGUMENT', () => handle.mapGfnToMfn(gfn, Mfn(1), nr, true), `nr ${nr}`);
  for (const mfn of [-1, 0.5, Number.NaN, GFN_LIMIT])
    refused(t, 'INVALID_ADDRESS', () => handle.mapGfnToMfn(gfn, Mfn(mfn), 1, true), `mfn ${mfn}`);
  refused(t, 'OVERLAP', () => handle.mapGfnToMfn(Gfn(1), Mfn(1), 1, true), 'RAM');
  backend.taken();
  handle.mapGfnToMfn(gfn, Mfn(0x9000), 4, true);
  for (const who of [handle, second]) {
    refused(t, 'OVERLAP', () => who.mapGfnToMfn(Gfn(gfn + 3), Mfn(0x9100), 2, true));
    refused(t, 'NOT_MAPPED', () => who.mapGfnToMfn(gfn, Mfn(0x9000), 3, false));
    refused(t, 'NOT_MAPPED', () => who.mapGfnToMfn(gfn, Mfn(0x9001), 4, false), 'another frame');
  }
  refused(t, 'NOT_MAPPED', () => second.mapGfnToMfn(gfn, Mfn(0x9000), 4, false), 'the other vGPU’s mapping');
  t.ok(handle.mapsHostFrames(0x9003, 1) && handle.mapsHostFrames(0x8fff, 2));
  t.notOk(handle.mapsHostFrames(0x9004, 1) || handle.mapsHostFrames(0x8fff, 1) || second.mapsHostFrames(0x9000, 4));
  handle.mapGfnToMfn(Gfn(gfn + 4), Mfn(0x9000), 1, true);
  handle.mapGfnToMfn(gfn, Mfn(0x9000), 4, false);
  t.same(
    backend.taken().filter((line) => line.startsWith('doMap')),
    [`doMapGfnToMfn ${gfn} 36864 4 true`, `doMapGfnToMfn ${gfn + 4} 36864 1 true`, `doMapGfnToMfn ${gfn} 36864 4 false`],
  );
});

t.test('dma: sizes, alignment, references, what a view may reach', async (t) => {
  const { backend, handle, second } = setup({ pinnedPages: 513 });
  for (const size of [0, 1, 8192, PAGE_SIZE + 0.5, -PAGE_SIZE, Number.NaN])
    refused(t, 'INVALID_ARGUMENT', () => handle.dmaMapGuestPage(Gfn(0), size), `size ${size}`);
  refused(t, 'INVALID_ARGUMENT', () => handle.dmaMapGuestPage(Gfn(511), HUGE), 'an odd gfn');
  const small = handle.dmaMapGuestPage(Gfn(7), PAGE_SIZE);
  t.equal(handle.dmaMapGuestPage(Gfn(7), PAGE_SIZE), small);
  handle.dmaPinGuestPage(small);
  const large = handle.dmaMapGuestPage(Gfn(512), HUGE);
  t.equal(handle.pinnedPages, 513);
  t.equal(refused(t, 'LIMIT', () => handle.dmaMapGuestPage(Gfn(8), PAGE_SIZE)).limit, 513);
  t.doesNotThrow(() => second.dmaMapGuestPage(Gfn(8), PAGE_SIZE), 'the limit is each vGPU’s own');
  backend.taken();
  t.equal(handle.view(large, PAGE_SIZE).length, PAGE_SIZE);
  refused(t, 'NOT_MAPPED', () => handle.view(small, PAGE_SIZE + 1));
  refused(t, 'NOT_MAPPED', () => second.view(small, 1), 'another vGPU’s page');
  const target = new Uint8Array(8);
  handle.memory.fill(0x77);
  handle.copyFrom(small, target, 2, 4);
  t.same([...target], [0, 0, 0x77, 0x77, 0x77, 0x77, 0, 0]);
  for (const [offset, length] of [
    [0, 9],
    [8, 1],
    [0, 0],
    [-1, 1],
    [Number.NaN, 1],
  ] as const)
    refused(t, 'INVALID_ARGUMENT', () => handle.copyFrom(small, target, offset, length), `${offset}+${length}`);
  for (let i = 0; i < 3; i++) handle.dmaUnmapGuestPage(small);
  refused(t, 'NOT_MAPPED', () => handle.dmaUnmapGuestPage(small), 'once too often');
  refused(t, 'NOT_MAPPED', () => handle.dmaPinGuestPage(small));
  refused(t, 'NOT_MAPPED', () => handle.view(small, 1));
  refused(t, 'NOT_MAPPED', () => handle.dmaUnmapGuestPage(DmaAddress(Number.NaN)));
});

t.test('pvmmio, OpRegion, EDID and VFIO references', async (t) => {
  const { backend, handle } = setup();
  const end = BAR + 0xff_ffff;
  refused(t, 'INVALID_ARGUMENT', () => handle.setPvmmio(Gpa(BAR), Gpa(end), true), 'attached without its pages');
  const shared = { registerFile: hostPages(512), sharedPage: hostPages(1) };
  const vgpu = backend.attachVgpu({ id: VgpuId(4), vmId: VM, bdf: Bdf(0x20), pvmmio: shared });
  refused(t, 'NOT_MAPPED', () => vgpu.setPvmmio(Gpa(BAR), Gpa(end), false), 'off before on');
  vgpu.setPvmmio(Gpa(BAR), Gpa(end), true);
  refused(t, 'OVERLAP', () => vgpu.setPvmmio(Gpa(BAR), Gpa(end), true), 'on twice');
  refused(t, 'NOT_MAPPED', () => vgpu.setPvmmio(Gpa(BAR), Gpa(end - 1), false), 'another window');
  vgpu.setPvmmio(Gpa(BAR), Gpa(end), false);
  for (const count of [1, 3]) refused(t, 'INVALID_ARGUMENT', () => handle.setOpregion(hostPages(count)), `${count} pages`);
  const edid = new Uint8Array(128).fill(2);
  handle.setEdid(4, edid);
  for (const port of [-1, 5, 0.5, Number.NaN]) refused(t, 'INVALID_ARGUMENT', () => handle.setEdid(port, edid), `port ${port}`);
  refused(t, 'INVALID_ARGUMENT', () => handle.setEdid(0, new Uint8Array(127)), 'too short');
  refused(t, 'INVALID_ARGUMENT', () => handle.setEdid(0, new Uint8Array(256)), 'two blocks');
  refused(t, 'INVALID_ARGUMENT', () => handle.setEdid(0, edid.with(127, 3)), 'bad checksum');
  refused(t, 'NOT_MAPPED', () => handle.putVfioDevice());
  handle.getVfioDevice();
  handle.getVfioDevice();
  handle.putVfioDevice();
  t.equal(handle.vfioReferences, 1);
});

t.test('host pages and machines check their sizes', async (t) => {
  const { backend } = setup();
  for (const count of [0, -1, 1.5, Number.NaN, 65_537])
    refused(t, 'INVALID_ARGUMENT', () => backend.allocateHostPages(count), `${count} pages`);
  t.equal(backend.allocateHostPages(65_536).count, 65_536);
  refused(t, 'INVALID_ARGUMENT', () => backend.createMachine({ ram: [] }));
  refused(t, 'OVERLAP', () =>
    backend.createMachine({
      ram: [
        { gpa: 0, size: 0x2000 },
        { gpa: 0x1000, size: 0x1000 },
      ],
    }),
  );
  backend.taken();
  backend.createMachine({
    ram: [
      { gpa: 0x10_0000, size: 0x1000 },
      { gpa: 0, size: 0x1000 },
    ],
  });
  t.same(backend.taken(), [`doCreateMachine 0 ${0x10_0000}`], 'sorted');
});

t.test('an access is routed to the vGPU that owns it', async (t) => {
  const { backend, handle, second, elsewhere } = setup();
  handle.setTrapArea(Gpa(BAR), Gpa(BAR + 0xfff), true);
  second.setTrapArea(Gpa(BAR + 0x1000), Gpa(BAR + 0x1fff), true);
  elsewhere.setTrapArea(Gpa(BAR + 0x8000), Gpa(BAR + 0x8fff), true);
  second.enablePageTrack(Gfn(6));
  const owner = (fields: Parameters<typeof requestOf>[0]): number => {
    const request = requestOf({ vgpu: VgpuId(99), ...fields });
    backend.route(VM, request);
    return request.vgpu;
  };
  t.equal(owner({ kind: IoKind.MMIO, address: BAR }), 1);
  t.equal(owner({ kind: IoKind.MMIO, address: BAR + 0xfff }), 1);
  t.equal(owner({ kind: IoKind.MMIO, address: BAR + 0x1000 }), 2);
  t.equal(owner({ kind: IoKind.MMIO, address: BAR + 0x2000 }), 0);
  t.equal(owner({ kind: IoKind.MMIO, address: BAR - 1 }), 0);
  t.equal(owner({ kind: IoKind.MMIO, address: BAR + 0x8000 }), 0, 'an area of another VM');
  t.equal(owner({ kind: IoKind.PCI_CONFIG, bdf: Bdf(0x10), address: 4 }), 1);
  t.equal(owner({ kind: IoKind.PCI_CONFIG, bdf: Bdf(0x18), address: 4 }), 2);
  t.equal(owner({ kind: IoKind.PCI_CONFIG, bdf: Bdf(0x20), address: 4 }), 0);
  t.equal(owner({ kind: IoKind.PIO, address: BAR }), 0, 'ports belong to nobody');
  t.equal(owner({ kind: IoKind.WP, address: 6 * PAGE_SIZE, size: 4 }), 2);
  t.equal(owner({ kind: IoKind.WP, address: 6 * PAGE_SIZE - 2, size: 4 }), 2, 'ends in the frame');
  t.equal(owner({ kind: IoKind.WP, address: 7 * PAGE_SIZE, size: 4 }), 0);
  second.detachVgpu();
  t.equal(owner({ kind: IoKind.MMIO, address: BAR + 0x1000 }), 0, 'detached');
  const unknown = requestOf({ vgpu: VgpuId(5) });
  backend.route(VmId(9), unknown);
  t.equal(unknown.vgpu, 0);
});

t.test('an MSI in remappable format has no vector to check', (t) => {
  t.equal(msiFault(0xfee0_0218, 0), undefined);
  t.match(msiFault(0xfee0_0208, 0), { what: /vector 0 is reserved/ }, 'not in that format');
  t.match(msiFault(0xfed0_0218, 0), { what: /address/ });
  t.match(msiFault(0xfee0_0218, 0x1_0000), { what: /16 bits/ });
  t.end();
});
