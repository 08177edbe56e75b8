/** The OpRegion: what a driver finds in it, as a VFIO region and as host pages of the backend. */
import t from 'tap';
import type { SimHandle } from '../../src/backends/sim/handle.js';
import { sim } from '../../src/backends/sim/index.js';
import { buildOpRegion } from '../../src/core/gvt/display/opregion.js';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { GVT_OPREGION, GvtVfioView } from '../../src/core/gvt/vfio-view.js';
import { Errno } from '../../src/core/vfio/device.js';
import { get, put } from '../samples/support.js';
import { fixture } from './memory-backend.js';

const text = (bytes: Uint8Array, at: number, length: number): string => Buffer.from(bytes.subarray(at, at + length)).toString('latin1');

t.test('its content, parsed as i915 does', async (t) => {
  const region = buildOpRegion();
  const view = new DataView(region.buffer);
  t.equal(region.length, 8192);
  t.equal(text(region, 0, 16), 'IntelGraphicsMem');
  t.equal(view.getUint32(0x10, true), 8, 'KiB');
  t.equal(view.getUint32(0x14, true), 0x0200_0000, 'version 2.0');
  t.equal(view.getUint32(0x58, true), 8, 'mailbox 4 alone');
  t.equal(view.getUint32(0x1ac, true), 3, 'the lid is open');

  const vbt = region.subarray(0x400);
  const word = (at: number): number => new DataView(vbt.buffer, vbt.byteOffset).getUint16(at, true);
  t.equal(text(vbt, 0, 4), '$VBT');
  t.equal(word(20), 155);
  const [header, size] = [word(22), word(24)];
  t.equal(header, 48);
  t.equal(vbt.subarray(0, size).reduce((sum, byte) => sum + byte, 0) % 256, 0, 'checksum');
  t.ok(vbt.subarray(size).every((byte) => byte === 0));
  const bdb = word(28);
  t.equal(text(vbt, bdb, 16), 'BIOS_DATA_BLOCK ');
  t.equal(word(bdb + 16), 186);
  t.equal(bdb + word(bdb + 20), size, 'the BDB ends where the VBT does');
  const block = bdb + word(bdb + 18);
  t.equal(vbt[block], 2, 'general definitions');
  t.equal(block + 3 + word(block + 1), size, 'the last block');
  const definitions = block + 3;
  t.equal(vbt[definitions + 4], 33, 'bytes of a child device, for this version');
  const children = (word(block + 1) - 5) / 33;
  t.equal(children, 1);
  const child = definitions + 5;
  t.equal(word(child + 2), 0x60d2, 'HDMI');
  t.equal(vbt[child + 16], 1, 'port B');
  t.equal(vbt[child + 19], 5, 'its DDC pins');
});

t.test('as a region of the VFIO view', async (t) => {
  const { gvt, vgpu } = fixture();
  const view = new GvtVfioView(gvt, vgpu);
  t.same(view.regions.get(GVT_OPREGION), { index: 9, size: 8192, flags: 1, type: { type: 0x8000_8086, subtype: 1 } });
  const bytes = new Uint8Array(8192);
  t.equal(view.read(GVT_OPREGION, 0, bytes), 0);
  t.same(bytes, buildOpRegion());
  t.equal(put(view, GVT_OPREGION, 0x400, 4, 0), Errno.EINVAL, 'read-only');
  t.equal(view.read(GVT_OPREGION, 8190, new Uint8Array(4)), Errno.EINVAL);
  t.equal(get(view, GVT_OPREGION, 0x400, 4), 0x5442_5624);
  gvt.destroyVgpu(vgpu);
  t.equal(view.read(GVT_OPREGION, 0, bytes), Errno.ENODEV);
});

t.test('ASLS', async (t) => {
  const capabilities = { setTrapArea: false, barAccess: true };
  const f = fixture({ capabilities });
  t.equal(f.configRead(0xfc, 4), 0);
  t.equal(f.configWrite(0xfc, 4, 0x1234_5678), 0);
  t.equal(f.configRead(0xfc, 4), 0x1234_5678, 'keeps what the firmware wrote');
  for (const [offset, size] of [
    [0xfc, 2],
    [0xfd, 1],
    [0xfe, 2],
  ] as const)
    t.not(f.configWrite(offset, size, 0), 0, 'whole dwords only');
  f.gvt.reset(f.vgpu);
  t.equal(f.configRead(0xfc, 4), 0);
  const off = fixture({ capabilities, display: false });
  off.configWrite(0xfc, 4, 0x1234_5678);
  t.equal(off.configRead(0xfc, 4), 0, 'no display, no OpRegion');
});

t.test('as host pages of a backend that takes them', async (t) => {
  const backend = sim.open();
  const machine = backend.createMachine({ ram: [{ gpa: 0, size: 0x40_0000 }] });
  const gvt = new Gvt(backend);
  const vgpu = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId });
  const handle = vgpu.handle as unknown as SimHandle;
  t.same(handle.opregion?.bytes, buildOpRegion(), 'set_opregion');
  const value = new Uint32Array(2);
  const asls = (address: number): number => {
    value[0] = address;
    return gvt.emulateCfgWrite(vgpu.id, 0xfc, value, 4);
  };
  const calls = (): number => handle.opregion?.count ?? 0;
  t.equal(asls(0x7000_0000), 0);
  t.equal(handle.mapOverlapping(0x7_0000, 0x7_0001), true, 'mapped where the firmware said');
  asls(0x7100_0000);
  t.equal(handle.mapOverlapping(0x7_0000, 0x7_0001), false, 'moved');
  t.equal(handle.mapOverlapping(0x7_1000, 0x7_1001), true);
  t.equal(asls(0x1000), 0, 'on top of RAM: refused by the hypervisor, told as a mistake');
  t.equal(handle.mapOverlapping(0, 0xf_ffff), false);
  t.ok(vgpu.statistics.guestErrors > 0);
  asls(0x7200_0000);
  gvt.reset(vgpu);
  t.equal(handle.mapOverlapping(0x7_2000, 0x7_2001), false, 'a reset takes it away');
  asls(0x7200_0000);
  t.equal(calls(), 2);
  gvt.destroyVgpu(vgpu);
  const off = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: machine.vmId, display: false });
  t.equal((off.handle as unknown as SimHandle).opregion, undefined, 'none without a display');
  gvt.destroy();
  machine.close();
  backend.close();
});
