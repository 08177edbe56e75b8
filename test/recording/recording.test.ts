/** What is recorded replays; what a changed device model does otherwise is told at its place. */
import { statSync } from 'node:fs';
import t from 'tap';
import { Bdf, Gpa } from '../../src/core/addresses.js';
import type { MptError } from '../../src/core/errors.js';
import { PageView } from '../../src/core/gvt/gpu-page.js';
import type { Gvt } from '../../src/core/gvt/gvt.js';
import type { GpuPage } from '../../src/core/gvt/roles.js';
import { sharedSchedule } from '../../src/core/gvt/scheduler/shared-state.js';
import type { Vgpu } from '../../src/core/gvt/vgpu.js';
import { job as runJob } from '../../src/jobs/run.js';
import { openGvt, type ReplayReport, replay } from '../../src/recording/index.js';
import { PageCopies } from '../../src/recording/page-copies.js';
import { RecordingTape } from '../../src/recording/recording-tape.js';
import { Random } from '../core/random.js';
import { BAR0, BAR2, type Fixture, fixture, MemoryBackend, VM } from '../gvt/memory-backend.js';
import { newFile, recorded, same } from './rig.js';

const MIB = 0x10_0000;
const APERTURE = 128 * MIB;
/** GEN8_MASTER_IRQ, and a timestamp. */
const MASTER_IRQ = 0x4_4200;
const TIMESTAMP = 0x2358;

/** Replays against a device model whose vGPU was changed when it was made. */
const replayChanged = (path: string, change: (vgpu: Vgpu) => void): ReplayReport =>
  replay(path, { onDevice: (gvt) => void (gvt as Gvt).on('created', change) });

class Shifted implements GpuPage {
  readonly #real: GpuPage;

  constructor(real: GpuPage) {
    this.#real = real;
  }

  readonly gone = false;
  readonly block = undefined;
  readonly start = 0;
  load8(offset: number): number {
    return this.#real.load8(offset);
  }
  load32(offset: number): number {
    return this.#real.load32(offset);
  }
  load(offset: number, target: Uint8Array, at: number, length: number): void {
    this.#real.load(offset, target, at, length);
  }
  store8(offset: number, value: number): void {
    this.#real.store8(offset, value);
  }
  store32(offset: number, value: number): void {
    this.#real.store32(offset + 4, value);
  }
  store64(offset: number, low: number, high: number): void {
    this.#real.store64(offset, low, high);
  }
  fill32(offset: number, end: number, value: number): void {
    this.#real.fill32(offset, end, value);
  }
  store(offset: number, source: Uint8Array, from: number, to: number): void {
    this.#real.store(offset, source, from, to);
  }
}

/** A guest that does anything: any register, any page, any command, memory that changes under the engine. */
function anything(f: Fixture, seed: number, steps: number): void {
  const next = new Random(seed);
  const { gvt, vgpu, backend, time } = f;
  const value = new Uint32Array(2);
  f.map(APERTURE, 0x10, 64);
  for (let i = 0; i < steps; i++) {
    time.ns += next.below(1e6);
    value[0] = next.word();
    value[1] = next.word();
    const size = next.pick([1, 2, 4, 4, 4, 8]);
    switch (next.below(9)) {
      case 0:
        gvt.emulateCfgRead(vgpu.id, next.below(256), value, next.pick([1, 2, 4]));
        break;
      case 1:
        if (next.below(8) === 0) gvt.emulateCfgWrite(vgpu.id, next.below(256), value, next.pick([1, 2, 4]));
        else f.configWrite(0x04, 2, 2);
        break;
      case 2:
        gvt.emulateMmioRead(vgpu.id, Gpa(BAR0 + next.below(0x10_0000) * next.pick([1, 4])), value, size);
        break;
      case 3:
        gvt.emulateMmioWrite(vgpu.id, Gpa(BAR0 + next.below(0x10_0000) * next.pick([1, 4])), value, size);
        break;
      case 4:
        gvt.emulateMmioWrite(vgpu.id, Gpa(BAR2 + APERTURE + next.below(64 * 4096)), value, size);
        break;
      case 5:
        gvt.emulateMmioRead(vgpu.id, Gpa(BAR2 + APERTURE + next.below(64 * 4096)), value, size);
        break;
      case 6:
        // The guest's own stores.
        for (let n = 0; n < 8; n++) backend.words[0x10 * 1024 + next.below(64 * 1024)] = next.word();
        break;
      case 7:
        value[0] = (next.below(4096) * 4096) | 1;
        value[1] = 0;
        gvt.emulateMmioWrite(vgpu.id, Gpa(BAR0 + 0x80_0000 + (APERTURE / 4096 + next.below(64)) * 8), value, 8);
        break;
      default:
        gvt.runSlice(next.below(4096));
    }
    if (gvt.defects > 0) throw gvt.lastDefect;
    if (next.below(200) === 0) gvt.reset(vgpu);
    if (vgpu.config.bars.bar0 !== BAR0) {
      f.configWrite(0x10, 4, BAR0);
      f.configWrite(0x18, 4, BAR2);
      f.configWrite(0x04, 2, 2);
    }
  }
}

t.test('whatever a guest does replays to the last event', async (t) => {
  for (const seed of [1, 2, 3, 4])
    for (const display of [true, false]) {
      const path = recorded((f) => anything(f, seed, 2000), { display });
      const { steps, events, truncated, recordedMs } = same(t, path);
      t.ok(steps > 1500 && events > steps, `${steps} steps, ${events} events`);
      t.notOk(truncated);
      t.type(recordedMs, 'number');
    }
});

t.test('a changed answer of a register is told at the access that read it', async (t) => {
  const path = recorded((f) => {
    f.read(0x9120);
    f.read(TIMESTAMP);
    f.read(MASTER_IRQ);
    f.read(0x9120);
  });
  const total = same(t, path).steps;
  const { divergence } = replayChanged(path, (vgpu) => vgpu.registers.set(MASTER_IRQ, 0x8000_0000));
  t.match(divergence, { step: total - 1 - 1, what: /^read of 4 bytes of .*MASTER_IRQ.* at BAR0 \+ 0x44200$/i });
  t.equal(divergence?.expected, 'the answer 0x0, status OK');
  t.equal(divergence?.got, 'the answer 0x80000000, status OK');
  t.match(divergence?.history.at(-2), /MASTER_IRQ/i);
  t.match(divergence?.history.join('\n'), /0x2358/);
});

t.test('calls of the interface and stores to guest memory are compared', async (t) => {
  const stores = recorded((f) => {
    f.map(APERTURE, 0x10);
    for (const size of [1, 2, 4, 8]) f.gvt.emulateMmioWrite(f.vgpu.id, Gpa(BAR2 + APERTURE + 64), Uint32Array.of(0x1234_5678, 9), size);
    f.gvt.emulateMmioWrite(f.vgpu.id, Gpa(BAR2 + APERTURE + 61), Uint32Array.of(0x1234_5678, 9), 8);
  });
  same(t, stores);
  // A device model whose stores of dwords go four bytes further.
  const { divergence } = replayChanged(stores, (vgpu) => {
    const page = vgpu.ggtt.page.bind(vgpu.ggtt);
    vgpu.ggtt.page = (address) => {
      const real = page(address);
      return real === undefined ? undefined : new Shifted(real);
    };
  });
  t.match(divergence, { what: /^write of 0x12345678 \(4 bytes\) to BAR2 \+ 0x8000040$/ });
  t.match(divergence?.expected, /^a store of 0x12345678 \(4 bytes\) to DMA address 0x4000010040$/);
  t.match(divergence?.got, /^a store of 0x12345678 \(4 bytes\) to DMA address 0x4000010044$/);

  const calls = recorded((f) => {
    f.map(APERTURE, 0x10, 2);
    for (const page of [0, 4096]) f.gvt.emulateMmioRead(f.vgpu.id, Gpa(BAR2 + APERTURE + page), new Uint32Array(2), 4);
  });
  same(t, calls);
  const fewer = replayChanged(calls, (vgpu) => {
    const write = vgpu.ggtt.writeEntry.bind(vgpu.ggtt);
    vgpu.ggtt.writeEntry = (offset, value, size) => (offset % 16 === 8 ? 0 : write(offset, value, size));
  }).divergence;
  t.match(fewer, {
    what: /^read of 4 bytes of BAR2 \+ 0x8001000/,
    expected: 'is_valid_gfn(vGPU 1, frame 0x11)',
    got: 'nothing more: the step ended with the answer 0x0, status OK',
  });
});

t.test('what the backend refuses is refused again', async (t) => {
  const path = recorded((f) => {
    f.backend.broken.add('dma');
    f.map(APERTURE, 0x10, 2);
    f.backend.broken.delete('dma');
    f.map(APERTURE + 4096, 0x10, 1);
    f.backend.end();
    f.map(APERTURE, 0x20, 1);
    t.throws(() => f.gvt.createVgpu({ type: 'GVTg_V4_8', vmId: 99 as never }), { code: 'VM_NOT_FOUND' });
    f.gvt.destroyVgpu(f.vgpu);
  });
  same(t, path);
});

t.test('the owner’s changes are recorded: monitor, reset, several vGPUs', async (t) => {
  const path = recorded((f) => {
    f.gvt.emulateHotplug(f.vgpu, false);
    f.time.ns += 1e9;
    f.gvt.runSlice(1);
    f.gvt.setEdid(f.vgpu, f.vgpu.display.edid.slice());
    const second = f.gvt.createVgpu({
      type: 'GVTg_V4_8',
      vmId: VM,
      bdf: Bdf(0x18),
    });
    f.gvt.activate(second);
    f.gvt.emulateCfgRead(second.id, 0, new Uint32Array(2), 4);
    f.gvt.deactivate(second);
    const saved = f.gvt.saveVgpu(second);
    f.gvt.destroyVgpu(second);
    f.gvt.activate(f.gvt.restoreVgpu({ vmId: VM }, saved));
    f.gvt.reset(f.vgpu);
    f.gvt.memoryUnmapped(f.vgpu.id);
    f.gvt.memoryMapped(f.vgpu.id);
    f.gvt.destroy();
  });
  same(t, path);
});

t.test('what the device model sees is what is recorded, whatever the guest does in between', async (t) => {
  const put: number[][] = [];
  const writer = { put: (...event: number[]) => void put.push(event), flush: () => undefined, close: () => undefined };
  const tape = new RecordingTape({ writer: writer as never, now: () => 0, onFailure: () => undefined });
  const memory = new Uint8Array(4096);
  const view = PageView.of(memory);
  tape.step(16);
  const { bytes } = tape.load(2, view);
  memory[5] = 7;
  t.equal(bytes[5], 0, 'the look was before');
  t.equal(tape.load(2, view).bytes[5], 7, 'this one is after');
  t.equal(put.filter(([tag]) => tag === 4).length, 2, 'both are in the recording');
  tape.load(2, view);
  t.equal(put.filter(([tag]) => tag === 4).length, 2, 'nothing new is not');
  tape.store(2, 8, 4, 0x55, 0);
  memory[8] = 0x55;
  tape.load(2, view);
  t.equal(put.filter(([tag]) => tag === 4).length, 2, 'nor is what the device model stored itself');
  tape.end(0);
  const outside = tape.load(2, view);
  t.equal(outside, view, 'outside of a step nothing is recorded');
});

t.test('pages that are known are bounded, on both sides alike', async (t) => {
  const copies = new PageCopies(3);
  for (const key of [2, 4, 6]) copies.add(key);
  t.equal(copies.size, 3);
  copies.add(8);
  t.equal(copies.size, 1);
  t.equal(copies.get(2), undefined);
});

/** `mpt run` on the simulation, on this thread. */
function runRecorded(): string {
  const path = newFile();
  const context = {
    stopFlag: new SharedArrayBuffer(12),
    stopped: () => false,
    progress: () => undefined,
    notice: () => undefined,
    takeRequest: () => undefined,
    threadNs: () => 0,
  };
  runJob({ backend: 'sim', options: {}, ramMiB: 16, type: 'GVTg_V4_8', record: path }, context);
  return path;
}

t.test('a whole run: batches, fences, interrupts, a picture', async (t) => {
  const path = runRecorded();
  same(t, path);
  const silent = replayChanged(path, (vgpu) => {
    vgpu.interrupts.raise = () => undefined;
  }).divergence;
  t.match(silent, { expected: /^inject_msi\(vGPU 1, address 0xfee00000, data 0x[0-9a-f]+\)$/ });
});

t.test('a recording that reaches its limit: good up to there, and the device goes on', async (t) => {
  for (const [limit, least] of [
    [1000, 0],
    [150_000, 1000],
  ] as const) {
    const path = newFile();
    const told: MptError[] = [];
    const f = fixture({ make: (backend, all) => openGvt(backend, all, { path, limit, onFailure: (error) => told.push(error) }).device });
    const random = new Random(limit);
    for (let i = 0; i < 100_000; i++) f.write(MASTER_IRQ + 4 * (i % 40), random.below(2 ** 32));
    t.match(told, [{ code: 'LIMIT', limit, message: /is as large as it may be .*; set --record-limit$/ }], 'told once');
    t.equal(told.length, 1);
    t.ok(statSync(path).size <= limit);
    f.write(0x1_2040, 0x1234);
    t.equal(f.read(0x1_2040), 0x1234, 'the device goes on');
    const { divergence, recordedMs, steps } = replay(path);
    t.strictSame([divergence, recordedMs], [null, null], 'what is there replays');
    t.ok(steps >= least, `${steps} steps`);
  }
});

t.test('a recording that cannot be made', async (t) => {
  const backend = new MemoryBackend();
  const open = (path: string) => () => openGvt(backend, {}, { path, onFailure: () => undefined });
  t.throws(open('/nonexistent/x.mptrec'), { code: 'IO', errno: 2 });
  t.throws(open('/dev/full'), { code: 'IO', errno: 28 });
  const shared = { schedule: sharedSchedule() };
  t.throws(() => openGvt(backend, shared, { path: '/nonexistent/x.mptrec', onFailure: () => undefined }), { code: 'UNSUPPORTED' });
  t.equal(backend.state, 'created', 'the backend is as before');
});
