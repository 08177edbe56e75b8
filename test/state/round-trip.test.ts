/** Saved and restored, a vGPU is the same: its next state too, whatever it stood in. */
import t from 'tap';
import { Gvt } from '../../src/core/gvt/gvt.js';
import { parseDocument } from '../../src/core/gvt/state/document.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { BAR0, fixture, MemoryBackend, VM } from '../gvt/memory-backend.js';
import { BLITS, type Busy, busy } from './busy-fixture.js';
import { sections, withSection } from './forge.js';

/** The vGPU is replaced by one that was restored from its state. @returns the state, and that of the new one */
function renew(f: Busy): { state: Uint8Array; again: Uint8Array } {
  const state = f.gvt.saveVgpu(f.vgpu);
  f.gvt.destroyVgpu(f.vgpu);
  const restored = f.gvt.restoreVgpu({ vmId: VM }, state);
  const again = f.gvt.saveVgpu(restored);
  f.gvt.activate(restored);
  (f as { vgpu: Vgpu }).vgpu = restored;
  return { state, again };
}

/** The 2D command is there twice: as the one that was executed last, and as that of the blit in progress. */
function blitInProgress(state: Uint8Array): boolean {
  const submission = Buffer.from(parseDocument(state).sections.get('submission') as Uint8Array);
  for (let at = 0; at + 9 <= submission.length; at++) {
    const header = submission.readUInt32LE(at);
    if (header >>> 29 === 2 && submission[at + 4] === 1 && submission.readUInt32LE(at + 9) === header) return true;
  }
  return false;
}

const memory = ({ backend }: Busy): Buffer => Buffer.from(backend.words.buffer, backend.words.byteOffset, backend.words.byteLength);

/** Ranges that are not those of the first vGPU. */
const APART = { aperture: { start: 0x1000_0000, size: 0x400_0000 }, hidden: { start: 0x8000_0000, size: 0x1800_0000 } };

for (const display of [true, false])
  for (const blit of display ? BLITS : BLITS.slice(0, 1))
    t.test(`${blit}, ${display ? 'with' : 'without'} a display`, async (t) => {
      const f = busy(blit, display);
      const twin = busy(blit, display);
      t.ok(f.vgpu.hasWork);
      t.strictSame(
        [0, 1, 2, 3].map((engine) => f.vgpu.submission.hung(engine as 0) !== undefined),
        [false, false, false, true],
        'one engine hangs',
      );
      const { state, again } = renew(f);
      t.ok(blitInProgress(state), 'the blit is under way');
      t.strictSame(sections(again), sections(state), 'saved again it is the same');
      t.ok(Buffer.compare(again, state) === 0, 'byte for byte');
      t.equal(f.backend.mapped.size, 0, 'frames are mapped again as they are used');
      t.strictSame(f.backend.traps, twin.backend.traps, 'the BARs are where they were');
      t.strictSame(sections(twin.gvt.saveVgpu(twin.vgpu)), sections(state), 'which is also that of a twin');
      // Both go on, one of them restored once more at each step.
      for (let step = 0; step < 40; step++) {
        if (step === 20) for (const guest of [f, twin]) guest.signal();
        for (const guest of [f, twin]) {
          guest.time.ns += 21e6;
          guest.gvt.runSlice(700);
        }
        renew(f);
      }
      for (const guest of [f, twin]) guest.gvt.runSlice(100_000);
      t.notOk(f.vgpu.hasWork, 'the work is done');
      t.strictSame(
        sections(f.gvt.saveVgpu(f.vgpu), 'statistics'),
        sections(twin.gvt.saveVgpu(twin.vgpu), 'statistics'),
        'the end is that of the twin',
      );
      t.ok(Buffer.compare(memory(f), memory(twin)) === 0, 'and so is guest memory');
      const { interrupts: _, ...counted } = f.vgpu.statistics;
      const { interrupts: __, ...wanted } = twin.vgpu.statistics;
      t.strictSame(counted, wanted, 'statistics go on');
      t.equal(f.gvt.defects, 0);
    });

t.test('failsafe, and a vGPU that was never used', async (t) => {
  const f = Object.assign(fixture({ placed: false }), { signal: () => {} });
  const fresh = renew(f);
  t.ok(Buffer.compare(fresh.again, fresh.state) === 0);
  t.ok(fresh.state.length < 12_000, `${fresh.state.length} bytes`);
  const failed = busy();
  failed.write(0x7_8808, 1);
  t.equal(failed.vgpu.failsafeReason, 'insufficient-resource');
  failed.write(0x7_8000, 0x0bad_cafe);
  const { state, again } = renew(failed);
  t.equal(failed.vgpu.failsafeReason, 'insufficient-resource', 'only a reset leaves it');
  t.equal(failed.read(0x7_8000), 0x0bad_cafe, 'plain memory');
  t.ok(Buffer.compare(again, state) === 0);
  failed.gvt.reset(failed.vgpu);
  t.equal(failed.vgpu.registers.get(0x7_8000), 0x7654_4776);
});

t.test('what the vGPU has of the host', async (t) => {
  const f = busy();
  const state = f.gvt.saveVgpu(f.vgpu);
  t.throws(() => f.gvt.restoreVgpu({ vmId: VM }, state), { code: 'OVERLAP', message: /aperture of the share is another vGPU's/ });
  f.gvt.destroyVgpu(f.vgpu);
  const other = f.gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: 0x18 as never });
  t.throws(() => f.gvt.restoreVgpu({ vmId: VM }, state), { code: 'OVERLAP' }, 'its ranges are another vGPU’s now');
  f.gvt.destroyVgpu(other);
  const back = f.gvt.restoreVgpu({ vmId: VM }, state);
  t.equal(back.id, 1);
  f.gvt.destroyVgpu(back);
  const elsewhere = f.gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: 0x18 as never, share: { ...back.resources, ...APART } });
  const moved = f.gvt.restoreVgpu({ vmId: VM }, state);
  t.strictSame(
    [elsewhere.id, moved.id, moved.registers.get(0x7_800c)],
    [1, 2, 2],
    'its id is another vGPU’s: the guest is told the new one',
  );
  t.strictSame(moved.resources.aperture, back.resources.aperture, 'its ranges are the same');
});

t.test('an interrupt that was not acknowledged comes again, and only then', async (t) => {
  const f = busy();
  f.backend.msis.length = 0;
  renew(f);
  t.strictSame(f.backend.msis, [[0xfee0_0000, 0x41]]);
  for (const group of [0x4_4308, 0x4_4318, 0x4_4338]) f.write(group, 0xffff_ffff);
  f.write(0xc_4008, 0xffff_ffff);
  for (const pipe of [0x4_4408, 0x4_4418, 0x4_4428]) f.write(pipe, 0xffff_ffff);
  f.backend.msis.length = 0;
  renew(f);
  t.strictSame(f.backend.msis, []);
});

t.test('time goes on where it stood, wherever the clock of the machine stands', async (t) => {
  const f = busy();
  const TIMESTAMP = 0x2358;
  f.time.ns += 80_000;
  const [before, state] = [f.read(TIMESTAMP), f.gvt.saveVgpu(f.vgpu)];
  for (const clock of [0, 1e15]) {
    const time = { ns: clock };
    const gvt = new Gvt(new MemoryBackend(), { now: () => time.ns });
    const vgpu = gvt.restoreVgpu({ vmId: VM }, state);
    gvt.activate(vgpu);
    const read = (): number => {
      const value = new Uint32Array(2);
      gvt.emulateMmioRead(vgpu.id, (BAR0 + TIMESTAMP) as never, value, 4);
      return value[0] as number;
    };
    t.equal(read(), before, 'no jump');
    time.ns += 8000;
    t.equal(read(), before + 100, 'ticks of 80 ns');
    t.strictSame(sections(gvt.saveVgpu(vgpu), 'vgpu', 'statistics'), sections(state, 'vgpu', 'statistics'), 'nothing else moves by itself');
    gvt.destroy();
  }
});

t.test('a vGPU that has run for years', async (t) => {
  const clock = (ns: number) => (bytes: Uint8Array) => {
    new DataView(bytes.buffer, bytes.byteOffset).setFloat64(0, ns, true);
    return bytes;
  };
  const f = busy();
  const state = f.gvt.saveVgpu(f.vgpu);
  for (const ns of [2 ** 53 - 1, 2 ** 57]) {
    const time = { ns: 0 };
    const gvt = new Gvt(new MemoryBackend(), { now: () => time.ns });
    const vgpu = gvt.restoreVgpu({ vmId: VM }, withSection(state, 'vgpu', clock(ns)));
    time.ns = 3600e9;
    t.ok(gvt.saveVgpu(vgpu).length > 0, `an hour after ${ns} ns`);
    gvt.destroy();
  }
});

t.test('inside an access nothing is saved', async (t) => {
  const f = fixture();
  let refused: unknown;
  f.gvt.on('failsafe', (vgpu) => {
    try {
      f.gvt.saveVgpu(vgpu);
    } catch (error) {
      refused = error;
    }
  });
  f.vgpu.interrupts.hold();
  f.write(0x7_8808, 1);
  t.match(refused, { code: 'BUSY', op: 'save_vgpu' });
  f.gvt.destroyVgpu(f.vgpu);
  t.throws(() => f.gvt.saveVgpu(f.vgpu), { code: 'DETACHED' });
  f.gvt.destroy();
  t.throws(() => f.gvt.restoreVgpu({ vmId: VM }, new Uint8Array()), { code: 'CLOSED' });
});

t.test('a DisplayPort monitor: its registers, the link, and an EDID that is being read', async (t) => {
  const f = busy('fill', true, 'dp');
  // What it plugged in is there half a second later.
  f.time.ns += 1e9;
  f.vgpu.tick();
  const { edid } = f.vgpu.display;
  const [control, data] = [0xe_4110, 0xe_4114];
  /** A message of the AUX channel. @returns the first four bytes of the reply */
  const send = (size: number, ...dwords: number[]): number => {
    for (const [i, dword] of dwords.entries()) f.write(data + 4 * i, dword);
    f.write(control, (0x8000_0000 | (size << 20)) >>> 0);
    return f.read(data);
  };
  // 2.7 Gb/s, one lane; clock recovery while the port sends pattern 1. Then the EDID's ninth byte, and the message goes on.
  send(6, 0x8001_0001, 0x0a01_0000);
  f.write(0x6_4140, 0x8000_0000);
  f.write(0x6_4100, 0x8000_0000);
  send(5, 0x8001_0200, 0x2100_0000);
  send(5, 0x4000_5000, 0x0800_0000);
  t.equal(send(4, 0x5000_5000) >>> 16, edid[8]);
  const { state, again } = renew(f);
  t.ok(Buffer.compare(again, state) === 0, 'byte for byte');
  t.equal(f.vgpu.display.connector, 'dp');
  t.equal(send(4, 0x5000_5000) >>> 16, edid[9], 'the next byte of the EDID');
  t.equal(send(4, 0x9002_0200) >>> 16, 0x0001, 'the clock of one lane is recovered');
});
