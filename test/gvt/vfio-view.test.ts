/** A vGPU as a VFIO device: regions, how accesses are cut, interrupts, reset, planes and their copies. */
import t from 'tap';
import { GvtVfioView, gvtIrqs } from '../../src/core/gvt/vfio-view.js';
import { Errno, type GfxPlane, NO_PLANE } from '../../src/core/vfio/device.js';
import { IrqSetFlag } from '../../src/core/vfio/irqs.js';
import { Random } from '../core/random.js';
import { ArrayMemories, get, put, readStatus } from '../samples/support.js';
import { BAR0, BAR2, type Fixture, fixture, VM } from './memory-backend.js';

const MIB = 0x10_0000;
const [REGISTERS, APERTURE, CONFIG] = [0, 2, 7];
/** First byte of the vGPU's slice of BAR2. */
const SLICE = 128 * MIB;
const [DMABUF, PRIMARY] = [2, 1];
const XR24 = 0x3432_5258;

interface Rig extends Fixture {
  readonly view: GvtVfioView;
  readonly memories: ArrayMemories;
}

/** As on vfio-user: the transport delivers the BARs by itself. */
function rig(options: Parameters<typeof fixture>[0] = {}): Rig {
  const f = fixture({ capabilities: { setTrapArea: false }, ...options });
  const memories = new ArrayMemories();
  return { ...f, memories, view: new GvtVfioView(f.gvt, f.vgpu, { memories }) };
}

/** Records what reaches the device model: `r cfg 4 4`. */
function record({ gvt }: Fixture, base = BAR0): string[] {
  const seen: string[] = [];
  const [cfgRead, cfgWrite] = [gvt.emulateCfgRead.bind(gvt), gvt.emulateCfgWrite.bind(gvt)];
  const [mmioRead, mmioWrite] = [gvt.emulateMmioRead.bind(gvt), gvt.emulateMmioWrite.bind(gvt)];
  const hex = (value: number): string => value.toString(16);
  gvt.emulateCfgRead = (id, offset, value, size) => {
    seen.push(`r cfg ${hex(offset)} ${size}`);
    return cfgRead(id, offset, value, size);
  };
  gvt.emulateCfgWrite = (id, offset, value, size) => {
    seen.push(`w cfg ${hex(offset)} ${size} ${hex(value[0] as number)}`);
    return cfgWrite(id, offset, value, size);
  };
  gvt.emulateMmioRead = (id, gpa, value, size) => {
    seen.push(`r ${hex(gpa - base)} ${size}`);
    return mmioRead(id, gpa, value, size);
  };
  gvt.emulateMmioWrite = (id, gpa, value, size) => {
    seen.push(`w ${hex(gpa - base)} ${size} ${hex(value[0] as number)} ${hex(value[1] as number)}`);
    return mmioWrite(id, gpa, value, size);
  };
  return seen;
}

t.test('regions and interrupts', async (t) => {
  const { view } = rig();
  t.equal(view.name, 'GVTg_V4_8');
  t.equal(view.flags, 3, 'PCI and RESET');
  t.equal(view.regionCount, 9);
  t.same(
    [...view.regions.values()].sort((a, b) => a.index - b.index),
    [
      { index: 0, size: 16 * MIB, flags: 3 },
      { index: 2, size: 512 * MIB, flags: 3 },
      { index: 7, size: 4096, flags: 3 },
    ],
  );
  t.equal(rig({ aperture: 256 * MIB }).view.regions.get(APERTURE)?.size, 256 * MIB, 'the host’s aperture');
  t.same(
    view.irqs.info.map(({ count, flags }) => [count, flags]),
    [
      [1, 7],
      [1, 9],
      [0, 0],
      [0, 0],
      [0, 0],
    ],
    'INTx: eventfd, maskable, automasked; MSI: eventfd, no resize',
  );
  const irqs = gvtIrqs();
  const f = fixture();
  t.equal(new GvtVfioView(f.gvt, f.vgpu, { irqs }).irqs, irqs, 'a set that the backend has already');
});

t.test('configuration space', async (t) => {
  const f = rig({ placed: false });
  const { view } = f;
  t.equal(get(view, CONFIG, 0, 4), 0x1616_8086);
  const whole = new Uint8Array(4096);
  t.equal(view.read(CONFIG, 0, whole), 0, 'in one read');
  t.same([...whole.subarray(0, 4), whole[0x90]], [0x86, 0x80, 0x16, 0x16, 5]);
  t.equal(view.read(CONFIG, 0, new Uint8Array(256)), 0);
  t.equal(readStatus(view, CONFIG, 4093, 4), Errno.EINVAL);
  t.equal(readStatus(view, CONFIG, 4096, 1), Errno.EINVAL);
  t.equal(view.barAddress(0), undefined);
  put(view, CONFIG, 0x10, 4, BAR0);
  put(view, CONFIG, 0x18, 4, BAR2);
  t.equal(view.barAddress(0), undefined, 'memory is not decoded');
  put(view, CONFIG, 4, 2, 2);
  t.same(
    [0, 1, 2, 3, 6, -1].map((bar) => view.barAddress(bar)),
    [BAR0, undefined, BAR2, undefined, undefined, undefined],
  );
  put(view, CONFIG, 0x1c, 4, 0x12);
  t.equal(view.barAddress(2), 0x12_0000_0000 + BAR2, 'above 4 GiB');
  t.equal(put(view, CONFIG, 0x11, 1, 0), Errno.EINVAL, 'part of a BAR, as the device model rules');
  const seen = record(f);
  t.equal(put(view, CONFIG, 0x3c, 1, 0x0b), 0);
  t.equal(put(view, CONFIG, 0x91, 4, 0x0102_0304), 0);
  t.equal(readStatus(view, CONFIG, 0x10, 8), 0);
  t.equal(readStatus(view, CONFIG, 0x06, 4), 0);
  t.same(seen, ['w cfg 3c 1 b', 'w cfg 91 1 4', 'w cfg 92 2 203', 'w cfg 94 1 1', 'r cfg 10 4', 'r cfg 14 4', 'r cfg 6 2', 'r cfg 8 2']);
});

t.test('BAR accesses arrive as they were made, others are cut', async (t) => {
  const f = rig();
  const { view } = f;
  const seen = record(f);
  put(view, REGISTERS, 0x4_4304, 4, 0x8765_4321);
  t.equal(get(view, REGISTERS, 0x4_4304, 4), 0x8765_4321);
  put(view, REGISTERS, 0x80_0000 + (SLICE / 4096) * 8, 8, 0x1_2345_5000);
  t.equal(get(view, REGISTERS, 0x80_0000 + (SLICE / 4096) * 8, 8), 0x1_2345_5000);
  get(view, REGISTERS, 0x7_8008, 2);
  get(view, REGISTERS, 0x7_8001, 1);
  t.same(seen.splice(0), ['w 44304 4 87654321 0', 'r 44304 4', 'w 840000 8 23455000 1', 'r 840000 8', 'r 78008 2', 'r 78001 1']);
  get(view, REGISTERS, 0x7_8004, 8);
  t.same(seen.splice(0), ['r 78004 4', 'r 78008 4'], '8 bytes that are not aligned');
  get(view, REGISTERS, 0x7_8003, 16);
  t.same(seen.splice(0), ['r 78003 1', 'r 78004 4', 'r 78008 8', 'r 78010 2', 'r 78012 1']);
  put(view, APERTURE, SLICE + 2, 6, 0x6655_4433_2211);
  t.same(seen.splice(0), [
    `w ${(BAR2 - BAR0 + SLICE + 2).toString(16)} 2 2211 0`,
    `w ${(BAR2 - BAR0 + SLICE + 4).toString(16)} 4 66554433 0`,
  ]);
});

t.test('the aperture is the guest’s memory, inside the vGPU’s slice', async (t) => {
  const f = rig();
  const { view, backend } = f;
  f.map(SLICE, 16, 2);
  t.equal(put(view, APERTURE, SLICE + 8, 4, 0xcafe_f00d), 0);
  t.equal(backend.words[(16 * 4096 + 8) / 4], 0xcafe_f00d);
  const bulk = Uint8Array.from({ length: 5000 }, (_, i) => i * 11);
  t.equal(view.write(APERTURE, SLICE + 0x101, bulk), 0);
  const back = new Uint8Array(5000);
  t.equal(view.read(APERTURE, SLICE + 0x101, back), 0);
  t.same(back, bulk, 'across pages, from an odd byte');
  const end = SLICE + 64 * MIB;
  t.equal(readStatus(view, APERTURE, SLICE - 4, 4), Errno.EFAULT, 'before the slice');
  t.equal(readStatus(view, APERTURE, end - 4, 4), 0);
  t.equal(readStatus(view, APERTURE, end, 4), Errno.EFAULT, 'behind it');
  t.equal(put(view, APERTURE, 0, 4, 1), Errno.EFAULT);
  t.equal(readStatus(view, APERTURE, end - 4, 8), Errno.EFAULT, 'half of it inside: the refusal is told');
  t.equal(readStatus(view, APERTURE, 512 * MIB, 1), Errno.EINVAL);
});

t.test('a BAR that is not decoded', async (t) => {
  const { view, vgpu } = rig({ placed: false });
  for (const region of [REGISTERS, APERTURE]) {
    t.equal(readStatus(view, region, 0, 4), Errno.EIO);
    t.equal(put(view, region, 0, 4, 1), Errno.EIO);
    t.equal(readStatus(view, region, 0, 64), Errno.EIO);
  }
  t.equal(vgpu.statistics.guestErrors, 0, 'is no mistake of the guest');
});

t.test('reset', async (t) => {
  const { view, vgpu, write, gvt } = rig();
  let resets = 0;
  gvt.on('reset', () => resets++);
  write(0x4_4304, 0);
  vgpu.enterFailsafe('guest-error');
  t.equal(view.reset(), 0);
  t.equal(resets, 1);
  t.equal(vgpu.failsafe, false);
  t.equal(vgpu.active, true);
  t.equal(view.barAddress(0), undefined);
  t.equal(get(view, CONFIG, 4, 2), 0);
});

t.test('a destroyed vGPU is not mistaken for the one that has its id now', async (t) => {
  const { view, gvt, vgpu } = rig();
  gvt.destroyVgpu(vgpu);
  const next = gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM });
  t.equal(next.id, vgpu.id);
  t.equal(readStatus(view, CONFIG, 0, 4), Errno.ENODEV);
  t.equal(put(view, CONFIG, 4, 2, 2), Errno.ENODEV);
  t.equal(readStatus(view, REGISTERS, 0, 4), Errno.ENODEV);
  t.equal(put(view, REGISTERS, 0, 4, 0), Errno.ENODEV);
  t.equal(view.reset(), Errno.ENODEV);
  t.equal(view.queryGfxPlane(DMABUF, PRIMARY), Errno.ENODEV);
  t.equal(view.picture(), undefined);
  t.equal(view.barAddress(0), undefined);
});

/** Pipe A shows `width` x `height` of XRGB8888, surface at the slice's start, rows of `stride`. */
function show({ write, map }: Fixture, { width = 16, height = 4, stride = 64, format = 6, x = 0, y = 0 } = {}): void {
  map(SLICE, 32, 8);
  for (const [register, value] of [
    [0x6_001c, (width - 1) * 0x1_0000 + height - 1],
    [0x7_0188, stride],
    [0x7_0008, 0x8000_0000],
    [0x7_01a4, y * 0x1_0000 + x],
    [0x7_0180, 0x8000_0000 + (format << 26)],
    [0x7_019c, SLICE],
  ] as const)
    write(register, value);
}

t.test('plane: a copy that each query refreshes', async (t) => {
  const f = rig();
  const { view, backend, memories } = f;
  const copies: Uint8Array[] = [];
  const { allocate } = ArrayMemories.prototype;
  memories.allocate = (size, name) => {
    const memory = allocate.call(memories, size, name);
    copies.push(memory.bytes);
    return memory;
  };
  const query = (): GfxPlane => view.queryGfxPlane(DMABUF, PRIMARY) as GfxPlane;
  t.same(query(), NO_PLANE, 'off');
  t.equal(view.picture(), undefined);
  t.equal(view.getGfxDmabuf(0), Errno.ENOENT);
  show(f, { width: 17, height: 3, stride: 256, x: 2, y: 1 });
  const at = (column: number, row: number): number => (32 * 4096 + (row + 1) * 256 + (column + 2) * 4) / 4;
  backend.words[at(0, 0)] = 0x0011_2233;
  backend.words[at(16, 2)] = 0x0044_5566;
  backend.words[at(17, 0)] = 0x00ff_ffff;
  t.same(query(), { ...NO_PLANE, drmFormat: XR24, width: 17, height: 3, stride: 128, size: 384, source: 1 });
  const copy = new Uint32Array((copies[0] as Uint8Array).buffer);
  t.equal(copy[0], 0x0011_2233);
  t.equal(copy[2 * 32 + 16], 0x0044_5566);
  t.equal(copy[17], 0, 'what is right of the row is not the plane’s');
  t.equal(view.getGfxDmabuf(1), 77);
  t.same(memories.exports, [[0, 384]]);
  backend.words[at(0, 0)] = 0x0077_7777;
  t.equal(copy[0], 0x0011_2233, 'a copy');
  t.equal(query().source, 1);
  t.equal(copy[0], 0x0077_7777);
  t.same([...(view.picture()?.rgba.subarray(0, 4) ?? [])], [0x77, 0x77, 0x77, 255]);
  const given = new Uint8Array(17 * 3 * 4).fill(0xee);
  t.equal(view.picture(() => given)?.rgba, given, 'into memory of the caller');
  t.same(given, view.picture()?.rgba);

  show(f, { width: 18, height: 3, stride: 256 });
  t.equal(query().source, 2, 'another size, another buffer');
  t.equal(memories.open.length, 1, 'and the first is given up');
  t.equal(view.getGfxDmabuf(1), Errno.ENOENT);
  show(f, { width: 18, height: 3, stride: 256, format: 5 });
  t.same(query(), { ...NO_PLANE, drmFormat: 0x3631_4752, width: 18, height: 3, stride: 64, size: 192, source: 3 }, 'RGB565');
  memories.broken = true;
  show(f, { width: 19, height: 3, stride: 256 });
  t.equal(view.queryGfxPlane(DMABUF, PRIMARY), Errno.ENOMEM);
  t.equal(view.getGfxDmabuf(3), Errno.ENOENT);
  memories.broken = false;
  t.equal(query().source, 4);
  view.close();
  view.close();
  t.equal(memories.open.length, 0);
  t.equal(view.getGfxDmabuf(4), Errno.ENOENT);
});

t.test('rows of a plane whose page is gone are black', async (t) => {
  const f = rig();
  show(f, { width: 1024, height: 3, stride: 4096 });
  f.backend.words.fill(0x00ff_ffff, 32 * 1024, 40 * 1024);
  let copy: Uint8Array = new Uint8Array();
  const { allocate } = ArrayMemories.prototype;
  f.memories.allocate = (size, name) => {
    const memory = allocate.call(f.memories, size, name);
    copy = memory.bytes;
    return memory;
  };
  f.view.queryGfxPlane(DMABUF, PRIMARY);
  f.write64(0x80_0000 + (SLICE / 4096 + 1) * 8, 0, 0);
  f.view.queryGfxPlane(DMABUF, PRIMARY);
  t.same([copy[0], copy[4096], copy[8191], copy[8192]], [255, 0, 0, 255]);
});

t.test('query flags', async (t) => {
  const { view, gvt, vgpu } = rig();
  t.same(view.queryGfxPlane(1 | DMABUF, 0), NO_PLANE, 'probe');
  for (const flags of [0, 1, 4, 5, 6, 7, 8, 0xffff_ffff]) t.equal(view.queryGfxPlane(flags, PRIMARY), Errno.EINVAL, `flags ${flags}`);
  for (const type of [0, 2, 3]) t.equal(view.queryGfxPlane(DMABUF, type), Errno.EINVAL, `plane ${type}`);
  const plain = new GvtVfioView(gvt, vgpu);
  for (const flags of [0, 1 | DMABUF, DMABUF, 5]) t.equal(plain.queryGfxPlane(flags, PRIMARY), Errno.EINVAL, 'without memory for copies');
  t.equal(plain.getGfxDmabuf(0), Errno.ENOENT);
  plain.close();
});

t.test('interrupt set: what kvmgt takes', async (t) => {
  const { view } = rig();
  let signals = 0;
  const event = () => ({ signal: () => signals++, consume: () => false, close: () => undefined });
  const trigger = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.TRIGGER;
  t.equal(view.irqs.set({ flags: trigger, index: 1, start: 0, count: 1, events: [event()] }), 0);
  t.equal(view.irqs.trigger(1, 0), true);
  t.equal(signals, 1);
  t.equal(view.irqs.set({ flags: trigger, index: 1, start: 1, count: 1, events: [event()] }), Errno.EINVAL, 'one vector');
  t.equal(view.irqs.set({ flags: trigger, index: 2, start: 0, count: 1, events: [event()] }), Errno.EINVAL, 'no MSI-X');
  t.equal(view.irqs.set({ flags: IrqSetFlag.DATA_NONE | IrqSetFlag.MASK, index: 0, start: 0, count: 1 }), 0);
  t.equal(view.irqs.set({ flags: IrqSetFlag.DATA_NONE | IrqSetFlag.MASK, index: 1, start: 0, count: 1 }), Errno.EINVAL);
});

t.test('anything at all throws nothing', async (t) => {
  const random = new Random(0x1234_abcd);
  const { view, gvt } = rig();
  const statuses = new Set<number>();
  const spots = [0, 4, 0x10, 0x18, 0x90, 0x2230, 0x4_4200, 0x7_0180, 0x7_8000, 0x80_0000, 0x84_0000, SLICE, 16 * MIB - 4, 4092];
  for (let i = 0; i < 20_000; i++) {
    const region = random.pick([0, 0, 2, 7, 7, 1, 9, -1]);
    const bytes = new Uint8Array(random.below(100) === 0 ? random.below(5000) : random.below(10)).fill(random.word());
    const offset = random.below(4) === 0 ? random.word() * random.below(5) - 10 : random.pick(spots) + random.below(12) - 4;
    statuses.add(random.below(2) === 0 ? view.read(region, offset, bytes) : view.write(region, offset, bytes));
    if (i % 50 === 0) view.queryGfxPlane(random.below(8), random.below(3));
    if (i % 60 === 0) view.picture();
    if (i % 500 === 0) {
      view.reset();
      put(view, CONFIG, 0x10, 4, BAR0);
      put(view, CONFIG, 0x18, 4, BAR2);
      put(view, CONFIG, 4, 2, 2);
    }
    view.getGfxDmabuf(random.below(4));
  }
  t.ok(statuses.has(0) && statuses.has(Errno.EINVAL) && statuses.has(Errno.EFAULT));
  t.ok([...statuses].every((status) => status <= 0));
  t.equal(gvt.defects, 0);
});
