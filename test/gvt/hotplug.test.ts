/** The monitor comes and goes: live state, interrupt, EDID, and the time that an unplugged one stays away. */
import t from 'tap';
import { MptError } from '../../src/core/errors.js';
import { CONNECTORS } from '../../src/core/gvt/display/connector.js';
import { monitorEdid } from '../../src/core/gvt/display/monitors.js';
import { Random } from '../core/random.js';
import { type Fixture, fixture } from './memory-backend.js';

const [FUSES, PCH_FUSES, ISR, IMR, IIR, HOTPLUG] = [0x4_2014, 0xc_2014, 0xc_4000, 0xc_4004, 0xc_4008, 0xc_4030];
const PORT_B = 1 << 21;
const [DETECT, LONG] = [1 << 4, 2];

/** A guest that listens to port B. */
function rig() {
  const f = fixture();
  f.write(IMR, 0);
  f.write(HOTPLUG, DETECT);
  const taken = (): number => {
    const events = f.read(IIR);
    f.write(IIR, events);
    f.write(HOTPLUG, f.read(HOTPLUG));
    return events;
  };
  return { ...f, taken };
}

t.test('with and without a display', async (t) => {
  const on = fixture();
  t.strictSame([on.read(FUSES), on.read(PCH_FUSES), on.read(ISR)], [0, 4, PORT_B], 'port B, and its monitor');
  t.equal(on.vgpu.display.connected, true);
  const off = fixture({ display: false });
  t.strictSame([off.read(FUSES), off.read(PCH_FUSES), off.read(ISR)], [0x4000_0000, 0x80, 0], 'fused off');
  t.equal(off.vgpu.display.connected, false);
  for (const [op, call] of [
    ['emulate_hotplug', () => off.gvt.emulateHotplug(off.vgpu, true)],
    ['set_edid', () => off.gvt.setEdid(off.vgpu, monitorEdid({ width: 1024, height: 768 }))],
  ] as const)
    t.throws(call, { code: 'UNSUPPORTED', op });
  for (const f of [on, off]) {
    f.write(FUSES, 0xffff_ffff);
    f.write(PCH_FUSES, 0xffff_ffff);
    f.write(ISR, 0xffff_ffff);
  }
  t.strictSame([on.read(FUSES), on.read(PCH_FUSES), on.read(ISR)], [0, 4, PORT_B], 'read-only');
  off.write(0x941c, 1);
  on.write(0x941c, 1);
  t.strictSame([off.read(FUSES), on.read(FUSES)], [0x4000_0000, 0], 'fuses survive a reset of the GT');
});

t.test('unplugged and plugged in', async (t) => {
  const { gvt, vgpu, read, time, taken } = rig();
  gvt.emulateHotplug(vgpu, true);
  t.strictSame([read(ISR), taken()], [PORT_B, 0], 'it was connected already');
  gvt.emulateHotplug(vgpu, false);
  t.equal(read(ISR), 0);
  t.equal(read(HOTPLUG), DETECT | LONG, 'a long pulse at port B');
  t.equal(taken(), PORT_B);
  t.equal(read(HOTPLUG), DETECT, 'cleared by writing ones');
  gvt.emulateHotplug(vgpu, false);
  t.equal(taken(), 0);
  time.ns += 5e8;
  gvt.emulateHotplug(vgpu, true);
  t.strictSame([read(ISR), taken()], [PORT_B, PORT_B]);
});

t.test('a monitor that is plugged in again at once is seen to have been away', async (t) => {
  const { gvt, vgpu, read, time, taken } = rig();
  gvt.emulateHotplug(vgpu, false);
  taken();
  time.ns += 1e8;
  gvt.emulateHotplug(vgpu, true);
  t.equal(vgpu.display.connected, true, 'for who asks the device');
  t.strictSame([read(ISR), taken()], [0, 0], 'not for the guest');
  t.equal(gvt.untilTickMs, 400);
  time.ns += 3.9e8;
  gvt.runSlice(1);
  t.equal(read(ISR), 0);
  time.ns += 1e7;
  gvt.runSlice(1);
  t.strictSame([read(ISR), taken()], [PORT_B, PORT_B], 'half a second after it went');
  t.equal(gvt.untilTickMs, Number.POSITIVE_INFINITY);

  gvt.emulateHotplug(vgpu, false);
  gvt.emulateHotplug(vgpu, true);
  gvt.emulateHotplug(vgpu, false);
  taken();
  time.ns += 1e9;
  gvt.runSlice(1);
  t.strictSame([read(ISR), taken(), vgpu.display.connected], [0, 0, false], 'the last word counts');
});

t.test('another monitor', async (t) => {
  const { gvt, vgpu, read, time, taken } = rig();
  const edid = monitorEdid({ width: 1920, height: 1200 });
  gvt.setEdid(vgpu, edid);
  t.same(vgpu.display.edid, edid);
  t.strictSame([read(ISR), taken()], [0, PORT_B], 'the old one goes');
  time.ns += 5e8;
  gvt.runSlice(1);
  t.strictSame([read(ISR), taken()], [PORT_B, PORT_B], 'the new one comes');
  gvt.emulateHotplug(vgpu, false);
  taken();
  time.ns += 1e9;
  gvt.setEdid(vgpu, monitorEdid({ width: 1024, height: 768 }));
  time.ns += 1e9;
  gvt.runSlice(1);
  t.strictSame([read(ISR), taken()], [0, 0], 'one that is not connected changes unseen');
  t.throws(() => gvt.setEdid(vgpu, new Uint8Array(128)), { code: 'INVALID_ARGUMENT', op: 'set_edid' });
  gvt.destroyVgpu(vgpu);
  t.throws(() => gvt.emulateHotplug(vgpu, true), { code: 'DETACHED' });
  t.throws(() => gvt.setEdid(vgpu, edid), { code: 'DETACHED' });
});

t.test('a guest that does not listen, and one that resets the device', async (t) => {
  const f = fixture();
  f.write(IMR, 0);
  f.gvt.emulateHotplug(f.vgpu, false);
  t.strictSame([f.read(ISR), f.read(IIR), f.read(HOTPLUG)], [0, 0, 0], 'detection is not enabled at the port');
  f.write(IMR, 0xffff_ffff);
  f.write(HOTPLUG, DETECT);
  f.time.ns += 1e9;
  f.gvt.emulateHotplug(f.vgpu, true);
  t.strictSame([f.read(IIR), f.read(HOTPLUG)], [0, DETECT | LONG], 'masked');
  f.gvt.emulateHotplug(f.vgpu, false);
  f.gvt.reset(f.vgpu);
  t.equal(f.vgpu.registers.get(ISR), 0, 'the monitor is the operator’s: it stays away');
  f.time.ns += 1e9;
  f.gvt.emulateHotplug(f.vgpu, true);
  f.gvt.reset(f.vgpu);
  t.equal(f.vgpu.registers.get(ISR), PORT_B);
});

t.test('EDIDs of any content, over either connector, while the cable is pulled and plugged all the time', async (t) => {
  const random = new Random(0xed1d);
  for (const connector of CONNECTORS) {
    const f = fixture({ connector });
    const { gvt, vgpu, write, read, time } = f;
    write(IMR, 0);
    write(HOTPLUG, DETECT);
    let refused = 0;
    for (let round = 0; round < 2000; round++) {
      const blocks = random.below(6);
      const edid = Uint8Array.from({ length: blocks * 128 + (random.below(20) === 0 ? random.below(128) : 0) }, () => random.below(256));
      if (random.below(4) > 0) edid.set([0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00].slice(0, edid.length));
      if (random.below(4) > 0 && blocks > 0) edid[126] = blocks - 1;
      for (let block = 0; block < blocks && random.below(16) > 0; block++) {
        const bytes = edid.subarray(block * 128, block * 128 + 128);
        bytes[127] = 0;
        bytes[127] = -bytes.reduce((sum, byte) => sum + byte, 0);
      }
      const before = vgpu.display.edid;
      try {
        gvt.setEdid(vgpu, edid);
      } catch (error) {
        if (!MptError.is(error, 'INVALID_ARGUMENT')) throw error;
        refused++;
        t.equal(vgpu.display.edid, before, 'one that is refused changes nothing');
        continue;
      }
      if (random.below(2) === 0) gvt.emulateHotplug(vgpu, random.below(2) === 0);
      time.ns += random.below(2) * 6e8;
      gvt.runSlice(1);
      edid.fill(0);
      // The guest reads an offset of it, however the monitor is connected; what was given is copied.
      const live = (read(ISR) & PORT_B) !== 0;
      const offset = random.below(256);
      const wanted = vgpu.display.edid[offset % vgpu.display.edid.length];
      t.equal(connector === 'hdmi' ? byGmbus(f, offset) : byAux(f, offset), live ? wanted : undefined);
    }
    t.ok(refused > 200 && refused < 1800, `${refused} of 2000 are no EDIDs`);
    t.equal(gvt.defects, 0);
  }
});

/** The byte of the EDID at an offset; undefined where nobody answers. */
function byGmbus({ write, read }: Fixture, offset: number): number | undefined {
  write(0xc_5100, 5);
  write(0xc_5104, (0x4600_0000 | (1 << 16) | (offset << 8) | 0xa1) >>> 0);
  const acknowledged = (read(0xc_5108) & (1 << 10)) === 0;
  const byte = read(0xc_510c) & 0xff;
  write(0xc_5104, 0x8000_0000);
  write(0xc_5104, 0);
  return acknowledged ? byte : undefined;
}

function byAux({ write, read }: Fixture, offset: number): number | undefined {
  for (const [size, ...dwords] of [
    [5, 0x4000_5000, offset << 24],
    [4, 0x1000_5000],
  ] as const) {
    for (const [i, dword] of dwords.entries()) write(0xe_4114 + 4 * i, dword >>> 0);
    write(0xe_4110, (0x8000_0000 | (size << 20)) >>> 0);
  }
  return (read(0xe_4110) & 0x1000_0000) === 0 ? (read(0xe_4114) >>> 16) & 0xff : undefined;
}
