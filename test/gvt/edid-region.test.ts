/** The EDID region of a vGPU, as a viewer uses it: link down, blob, size, link up. */
import t from 'tap';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { GVT_EDID_REGION, GvtVfioView } from '../../src/core/gvt/vfio-view.js';
import { Errno } from '../../src/core/vfio/device.js';
import { changeMonitor } from '../../src/core/vfio/edid-user.js';
import { get, put, rig as sampleRig } from '../samples/support.js';
import { fixture } from './memory-backend.js';

const [SIZE, LINK, BLOB] = [8, 20, 0x800];
const [UP, DOWN] = [1, 2];
const LARGE = monitorEdid({ width: 1920, height: 1200 });
const SMALL = monitorEdid({ width: 1024, height: 768 });

function rig() {
  const f = fixture();
  return { ...f, view: new GvtVfioView(f.gvt, f.vgpu) };
}

t.test('its header, and the monitor that the type has', async (t) => {
  const { view, gvt, vgpu, time } = rig();
  t.same(view.regions.get(GVT_EDID_REGION), { index: 10, size: 4096, flags: 3, type: { type: 1, subtype: 1 } });
  const header = (): number[] => [0, 4, 8, 12, 16, 20].map((field) => get(view, GVT_EDID_REGION, field, 4));
  t.same(header(), [BLOB, 128, 128, 1024, 768, UP]);
  const blob = new Uint8Array(128);
  t.equal(view.read(GVT_EDID_REGION, BLOB, blob), 0);
  t.same(blob, SMALL);
  gvt.emulateHotplug(vgpu, false);
  t.equal(header().at(-1), DOWN, 'who else unplugs it is seen too');
  time.ns += 1e9;
  gvt.emulateHotplug(vgpu, true);
  t.equal(header().at(-1), UP);
  t.equal(put(view, GVT_EDID_REGION, 12, 4, 1), Errno.EPERM);
  t.equal(put(view, GVT_EDID_REGION, SIZE, 4, 129), Errno.EINVAL);
  t.equal(put(view, GVT_EDID_REGION, LINK, 4, 3), Errno.EINVAL);
  t.equal(view.write(GVT_EDID_REGION, BLOB + 1, new Uint8Array(128)), Errno.EINVAL, 'past the blob');
  t.equal(new GvtVfioView(fixture({ display: false }).gvt, fixture({ display: false }).vgpu).regions.get(GVT_EDID_REGION), undefined);
});

t.test('another monitor', async (t) => {
  const { view, vgpu, read, time, gvt } = rig();
  const live = (): boolean => (read(0xc_4000) & (1 << 21)) !== 0;
  t.equal(put(view, GVT_EDID_REGION, LINK, 4, DOWN), 0);
  t.equal(live(), false);
  t.equal(view.write(GVT_EDID_REGION, BLOB, LARGE), 0);
  t.same(vgpu.display.edid, SMALL, 'until the link is up');
  t.equal(put(view, GVT_EDID_REGION, SIZE, 4, 100), 0);
  t.equal(put(view, GVT_EDID_REGION, LINK, 4, UP), Errno.EINVAL, 'no whole block');
  t.equal(get(view, GVT_EDID_REGION, LINK, 4), DOWN);
  t.equal(put(view, GVT_EDID_REGION, SIZE, 4, 128), 0);
  put(view, GVT_EDID_REGION, BLOB + 127, 1, 0);
  t.equal(put(view, GVT_EDID_REGION, LINK, 4, UP), Errno.EINVAL, 'its checksum is wrong');
  view.write(GVT_EDID_REGION, BLOB, LARGE);
  t.equal(put(view, GVT_EDID_REGION, LINK, 4, UP), 0);
  t.same(vgpu.display.edid, LARGE);
  t.equal(live(), false);
  time.ns += 5e8;
  gvt.runSlice(1);
  t.equal(live(), true);
});

t.test('changeMonitor does it on each device that has a region', async (t) => {
  const { view, vgpu } = rig();
  changeMonitor(view, { connected: true, edid: LARGE });
  t.same(vgpu.display.edid, LARGE);
  t.equal(vgpu.display.connected, true);
  changeMonitor(view, { connected: false });
  t.equal(vgpu.display.connected, false);
  t.throws(() => changeMonitor(view, { connected: true, edid: new Uint8Array(128) }), { code: 'INVALID_ARGUMENT', op: 'set_edid' });
  t.throws(() => changeMonitor(view, { connected: true, edid: new Uint8Array(256) }), { code: 'INVALID_ARGUMENT' });
  const { device } = sampleRig('mbochs-small');
  changeMonitor(device, { connected: true, edid: SMALL });
  const shown = new Uint8Array(128);
  t.equal(device.read(2, 0, shown), 0);
  t.same(shown, SMALL, 'mbochs shows it in BAR2');
  t.throws(() => changeMonitor(sampleRig('mdpy-vga').device, { connected: true }), { code: 'UNSUPPORTED' });
});
