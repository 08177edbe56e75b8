/** The backend over a client that connects to a socket: requests, interrupts, memory of each kind, what is refused. */
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { VfioUserBackend } from '../../src/backends/vfio-user/backend.js';
import type { VfioUserHandle } from '../../src/backends/vfio-user/handle.js';
import { PAGE_SIZE } from '../../src/core/addresses.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { IO_KIND_NAMES, type IoRequest } from '../../src/core/io-request.js';
import { Bdf, Gfn, Gpa, NULL_GVT_OPS, VgpuId } from '../../src/core/mpt.js';
import { Errno } from '../../src/core/vfio/device.js';
import { libcSyscalls as sys } from '../../src/native/libc.js';
import { libcSockets } from '../../src/native/sockets.js';
import { VfioUserClient } from '../../src/vfio/client.js';
import { refused } from '../core/expect.js';
import { connectTransport } from './sockets.js';
import { closeFd, counted, eventfd, mappings, memfd, OURS, openFds, TestDevice, unsealable } from './support.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-backend-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
let sockets = 0;

/** A device whose BAR0 can be placed, and whose MSI capability is at 0x40. */
class PlacedDevice extends TestDevice {
  base: number | undefined;
  readonly config = new Uint8Array(256);

  constructor() {
    super();
    this.config.set([0x10], 0x06);
    this.config.set([0x40], 0x34);
    // MSI, 32 bits, one vector enabled: address 0xfee01000, data 0x41.
    this.config.set([5, 0, 1, 0, 0x00, 0x10, 0xe0, 0xfe, 0x41, 0], 0x40);
  }
  override barAddress(): undefined {
    return this.base as undefined;
  }
  override read(region: number, offset: number, bytes: Uint8Array): Errno {
    if (region !== 7) return super.read(region, offset, bytes);
    bytes.set(this.config.subarray(offset, offset + bytes.length));
    return Errno.OK;
  }
}

function open(t: Test) {
  const backend = new VfioUserBackend({ sys, sockets: libcSockets });
  backend.hostInit(NULL_GVT_OPS);
  const machine = backend.serve(join(folder, `${sockets++}.sock`));
  const handle = backend.attachVgpu({ id: VgpuId(1), vmId: machine.vmId, bdf: Bdf(0x10) }) as VfioUserHandle;
  const device = new PlacedDevice();
  t.teardown(() => backend.close());
  const seen: string[] = [];
  /** Takes requests until there are none. */
  const run = (): void => {
    for (let quiet = 0; quiet < 2; ) {
      const request = machine.requests.next(0);
      if (request === undefined) {
        quiet++;
        continue;
      }
      seen.push(text(request));
      if (!request.write) request.value.fill(0x0403_0201);
      machine.requests.complete(request);
    }
  };
  const connect = (onDma?: (address: number, bytes: Uint8Array, write: boolean) => boolean): VfioUserClient => {
    const client = new VfioUserClient(connectTransport(machine.path), { pump: run, ...(onDma === undefined ? {} : { onDma }) });
    client.version();
    return client;
  };
  return { backend, machine, handle, device, seen, run, connect };
}

const text = ({ kind, write, address, size, value, bdf, vgpu }: IoRequest): string =>
  `${IO_KIND_NAMES[kind]} ${write ? `write ${(value[0] as number).toString(16)}` : 'read'} 0x${address.toString(16)} ${size} ${bdf} ${vgpu}`;

t.test('accesses are delivered as the guest made them', async (t) => {
  const { backend, machine, handle, device, seen, connect } = open(t);
  refused(t, 'NOT_INITIALIZED', () => machine.requests.next(0), 'before a device is presented');
  backend.presentVgpu(handle, () => device);
  refused(t, 'BUSY', () => backend.presentVgpu(handle, () => device), 'twice');
  refused(t, 'UNSUPPORTED', () => machine.boot(Gpa(0), new Uint8Array(4)));
  refused(t, 'LIMIT', () => backend.attachVgpu({ id: VgpuId(2), vmId: machine.vmId, bdf: Bdf(0x18) }), 'a second vGPU');
  const client = connect();
  t.throws(() => client.read(0, 0, 4), /errno 5 EIO/, 'while the BAR is not placed');
  t.same(seen, []);
  device.base = 0xe000_0000;
  t.same([...client.read(0, 0x13, 6)], [1, 1, 2, 3, 4, 1]);
  client.write(0, 8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  client.write(7, 6, Uint8Array.of(0xaa, 0xbb, 0xcc));
  t.same(seen.splice(0), [
    'mmio read 0xe0000013 1 16 1',
    'mmio read 0xe0000014 4 16 1',
    'mmio read 0xe0000018 1 16 1',
    'mmio write 4030201 0xe0000008 8 16 1',
    'pci write bbaa 0x6 2 16 1',
    'pci write cc 0x8 1 16 1',
  ]);
  t.same([...client.read(9, 0, 2)], [0xa9, 0xa9], 'what is no guest access the device answers');
  t.same(seen, []);
  t.same([machine.exitCounts()['mmio'], machine.exitCounts()['pci']], [4, 2]);
  machine.requests.stop();
  t.same([machine.requests.stopped, machine.requests.next()], [true, undefined]);
  client.close();
});

t.test('an interrupt goes the way that the guest set up', async (t) => {
  const { backend, handle, device, run, connect } = open(t);
  backend.presentVgpu(handle, () => device);
  refused(t, 'VM_GONE', () => handle.injectMsi(0xfee0_1000, 0x41), 'nobody is connected');
  const messages: [number, number][] = [];
  const client = connect((address, bytes, write) => {
    messages.push([address, Buffer.from(bytes).readUInt32LE(0)]);
    return write && bytes.length === 4;
  });
  const event = eventfd();
  handle.injectMsi(0xfee0_1000, 0x41);
  client.serveRequests();
  t.same(messages.splice(0), [[0xfee0_1000, 0x41]], 'by message while there is no eventfd');
  client.setIrqs(0x24, 1, 0, 1, { fds: [event] });
  handle.injectMsi(0xfee0_1000, 0x41);
  t.equal(counted(event), 1);
  handle.injectMsi(0xfee0_1000, 0x42);
  handle.injectMsi(0xfee0_2000, 0x41);
  client.serveRequests();
  t.same(messages.splice(0), [
    [0xfee0_1000, 0x42],
    [0xfee0_2000, 0x41],
  ]);
  t.equal(counted(event), 0, 'another message is not that vector');
  client.close();
  run();
  refused(t, 'VM_GONE', () => handle.injectMsi(0xfee0_1000, 0x41), 'the client went');
  closeFd(event);
});

t.test('guest memory of each kind', async (t) => {
  const before = [openFds(), mappings(OURS)];
  const { backend, machine, handle, device, run, connect } = open(t);
  backend.presentVgpu(handle, () => device);
  const client = connect();
  const [shared, loose] = [memfd(0x4000), unsealable(0x4000)];
  client.dmaMap(0, 0x4000, shared);
  client.dmaMap(0x4000, 0x4000, loose);
  client.dmaMap(0x8000, 0x4000);
  t.same(machine.ram, [
    { gpa: 0, size: 0x4000 },
    { gpa: 0x4000, size: 0x4000 },
    { gpa: 0x8000, size: 0x4000 },
  ]);
  const dma = handle.dmaMapGuestPage(Gfn(1), 0x1000);
  const view = handle.view(dma, 0x1000);
  view[3] = 9;
  const byte = new Uint8Array(1);
  handle.readGpa(Gpa(0x1003), byte);
  t.equal(byte[0], 9);
  t.match(refused(t, 'NOT_RAM', () => handle.dmaMapGuestPage(Gfn(4), 0x1000)).hint, /can be shortened/);
  t.match(refused(t, 'NOT_RAM', () => handle.dmaMapGuestPage(Gfn(8), 0x1000)).hint, /shares no file/);
  refused(t, 'NOT_RAM', () => handle.dmaMapGuestPage(Gfn(12), 0x1000));
  for (const gfn of [0, 4]) handle.enablePageTrack(Gfn(gfn));
  sys.lseek(shared, 0x10, 0);
  sys.write(shared, Uint8Array.of(1));
  sys.ftruncate(loose, 0);
  t.equal(handle.syncPageTrack(), 1, 'a page whose file was shortened has not been written');
  client.dmaUnmap(0, 0x4000);
  t.equal(handle.syncPageTrack(), 0, 'nor one that was unmapped');
  t.equal(view.length, 0);
  refused(t, 'NOT_RAM', () => handle.view(dma, 0x1000), 'no DMA to it');
  client.dmaMap(0, 0x4000, shared);
  t.equal(handle.view(dma, 0x1000)[3], 9, 'mapped again it is found');
  client.close();
  run();
  t.same(machine.ram, []);
  backend.close();
  for (const fd of [shared, loose]) closeFd(fd);
  t.same([openFds(), mappings(OURS)], before, 'nothing is left');
});

t.test('a vGPU that is detached during an access', async (t) => {
  const { backend, machine, handle, device, run, connect } = open(t);
  backend.presentVgpu(handle, () => device);
  device.base = 0x1000;
  const client = connect();
  client.startRead(0, 0, 4);
  let request: IoRequest | undefined;
  for (let i = 0; i < 10 && request === undefined; i++) request = machine.requests.next(0);
  t.equal(request?.address, 0x1000);
  refused(t, 'INTERNAL', () => machine.requests.next(0), 'one at a time');
  handle.detachVgpu();
  refused(t, 'INTERNAL', () => machine.requests.complete(request as IoRequest));
  t.throws(() => client.pollReply(100), { code: 'VM_GONE' });
  refused(t, 'NOT_INITIALIZED', run);
  client.close();
  machine.close();
  refused(t, 'VM_GONE', () => machine.requests.next(0));
});

t.test('the device model keeps no view of memory that its client took away', async (t) => {
  const backend = new VfioUserBackend({ sys, sockets: libcSockets });
  t.teardown(() => backend.close());
  const machine = backend.serve(join(folder, `${sockets++}.sock`));
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId });
  const client = new VfioUserClient(connectTransport(machine.path), { pump: () => void machine.requests.next(0) });
  client.version();
  const file = memfd(4 * PAGE_SIZE);
  t.teardown(() => closeFd(file));
  for (const page of [0, 1, 2, 3]) writeSync(file, Uint8Array.of(0xa0 + page), 0, 1, page * PAGE_SIZE);
  // A second map of the same file stays all the time: the file's mapping outlives the first one.
  client.dmaMap(0, PAGE_SIZE, file, 0);
  client.dmaMap(0x10_0000, PAGE_SIZE, file, 3 * PAGE_SIZE);
  const { start } = vgpu.resources.aperture;
  t.equal(vgpu.ggtt.writeEntry((start / PAGE_SIZE) * 8, Uint32Array.of(1, 0), 8), 0, 'the entry points to frame 0');
  t.equal(vgpu.ggtt.page(start)?.load8(0), 0xa0);
  client.dmaUnmap(0, PAGE_SIZE);
  t.equal(vgpu.ggtt.page(start), undefined, 'nothing is there');
  client.dmaMap(0, PAGE_SIZE, file, 2 * PAGE_SIZE);
  t.equal(vgpu.ggtt.page(start)?.load8(0), 0xa2, 'what the client maps there now');
  client.close();
});
