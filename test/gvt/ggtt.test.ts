/** The GGTT's entries, the memory behind them and the aperture. */

import t from 'tap';
import { Status } from '../../src/core/gvt-ops.js';
import { BAR2, DMA_BASE, fixture, HIGH_RAM, RAM_BYTES, random, VM } from './memory-backend.js';
import { view } from './page-bytes.js';

const MIB = 0x10_0000;
const PAGE = 4096;
/** First GPU addresses of the vGPU's ranges. */
const APERTURE = 128 * MIB;
const HIDDEN = 896 * MIB;
const GGTT = 0x80_0000;
/** BAR0 offset of the entry that maps a GPU address. */
const entry = (address: number): number => GGTT + (address / PAGE) * 8;

t.test('8-byte entries', async (t) => {
  const { write64, read64, read, backend, vgpu } = fixture();
  t.equal(write64(entry(APERTURE), 0x5007, 0), Status.OK);
  t.strictSame(read64(entry(APERTURE)), [0x5007, 0], 'the guest’s value, flags included');
  t.equal(read(entry(APERTURE) + 4), 0);
  t.equal(read(entry(APERTURE)), 0x5007);
  t.equal(backend.mapped.size, 0, 'not used, not mapped');
  t.ok(vgpu.ggtt.page(APERTURE));
  t.strictSame([...backend.mapped.keys()], [DMA_BASE + 0x5000]);
  t.equal(vgpu.ggtt.mappedPages, 1);
  write64(entry(APERTURE), 0x6001, 0);
  t.equal(backend.mapped.size, 0, 'given back with the entry');
  t.ok(vgpu.ggtt.page(APERTURE));
  t.strictSame([...backend.mapped.keys()], [DMA_BASE + 0x6000], 'replaced');
  write64(entry(APERTURE), 0x6000, 0);
  t.equal(backend.mapped.size, 0, 'not present');
  t.strictSame(read64(entry(APERTURE)), [0x6000, 0]);
  write64(entry(HIDDEN + 384 * MIB - PAGE), 0x7001, 0);
  t.equal(view(vgpu.ggtt.page(HIDDEN + 384 * MIB - 1))?.bytes.byteOffset, 0x7000);
  t.equal(backend.mapped.size, 1, 'last hidden entry');
});

t.test('the same frame keeps its mapping; shared frames count', async (t) => {
  const { write64, backend, vgpu } = fixture();
  write64(entry(APERTURE), 0x5001, 0);
  const page = vgpu.ggtt.page(APERTURE);
  backend.broken.add('dma');
  write64(entry(APERTURE), 0x5099, 0x8000_0000);
  t.equal(vgpu.ggtt.page(APERTURE), page, 'cache bits changed, nothing was mapped again');
  backend.broken.delete('dma');
  write64(entry(APERTURE + PAGE), 0x5001, 0);
  t.ok(vgpu.ggtt.page(APERTURE + PAGE));
  write64(entry(APERTURE), 0, 0);
  t.equal(backend.mapped.size, 1, 'the other entry still needs it');
  write64(entry(APERTURE + PAGE), 0, 0);
  t.equal(backend.mapped.size, 0);
});

t.test('only own ranges', async (t) => {
  const { write64, read64, backend, vgpu, write } = fixture();
  for (const address of [0, APERTURE - PAGE, APERTURE + 64 * MIB, HIDDEN - PAGE, HIDDEN + 384 * MIB, 4096 * MIB - PAGE]) {
    t.equal(write64(entry(address), 0x5001, 0), Status.OK, 'ignored');
    t.strictSame(read64(entry(address)), [0, 0]);
    t.equal(vgpu.ggtt.page(address), undefined);
    t.equal(vgpu.ggtt.owns(address), false);
  }
  for (const address of [-1, Number.NaN, 2 ** 52, Number.POSITIVE_INFINITY]) t.equal(vgpu.ggtt.page(address), undefined);
  t.equal(backend.mapped.size, 0);
  t.equal(vgpu.statistics.guestErrors, 0, 'drivers clear entries that are not theirs');
  t.equal(write(entry(4096 * MIB), 0), Status.EFAULT, 'past the table is past the BAR');
  const small = fixture({ ggtt: 2048 * MIB });
  t.equal(small.write(entry(2048 * MIB - PAGE), 0), Status.OK);
  t.equal(small.write(entry(2048 * MIB), 0), Status.EINVAL, 'past a smaller table');
});

t.test('sizes and alignment', async (t) => {
  const { gvt, vgpu, write, write64 } = fixture();
  const at = entry(APERTURE);
  for (const size of [1, 2]) t.equal(write(at, 0, size), Status.EINVAL);
  t.equal(write64(at + 4, 0x5001, 0x6001), Status.EINVAL, '8 bytes at 4 mod 8 would span two entries');
  t.equal(write(at + 2, 0), Status.EINVAL);
  t.equal(gvt.emulateMmioRead(vgpu.id, (0xe000_0000 + at + 4) as never, new Uint32Array(2), 8), Status.EINVAL);
  t.equal(vgpu.ggtt.mappedPages, 0);
});

t.test('half-written entries', async (t) => {
  const { write, read64, write64, backend, vgpu } = fixture();
  const a = entry(APERTURE);
  const used = (address: number): number[] => {
    vgpu.ggtt.page(address);
    return [...backend.mapped.keys()];
  };
  write64(a, 0x5001, 0);
  used(APERTURE);
  write(a, 0x6001);
  t.strictSame(used(APERTURE), [], 'half an entry points nowhere');
  t.strictSame(read64(a), [0x6001, 0]);
  write(a, 0x7001);
  t.strictSame(read64(a), [0x7001, 0], 'the same half again replaces it');
  write(a + 4, 0);
  t.strictSame(used(APERTURE), [DMA_BASE + 0x7000], 'the other half commits');
  write(a + 4, 0);
  t.strictSame(used(APERTURE), [], 'and begins anew');
  t.strictSame(read64(a), [0, 0], 'the half that is awaited shows 0');
  write64(a, 0x5001, 0);
  t.strictSame(used(APERTURE), [DMA_BASE + 0x5000], 'a whole entry ends the wait');
  write(a, 0x6001);
  t.strictSame(used(APERTURE), []);

  // High half first, low halves of many others in between.
  const b = entry(APERTURE + PAGE);
  write(b + 4, 0);
  for (let i = 2; i < 500; i++) write(entry(APERTURE + i * PAGE), (i * PAGE) | 1);
  write(b, 0x8001);
  t.strictSame(used(APERTURE + PAGE), [DMA_BASE + 0x8000]);
  for (let i = 499; i >= 2; i--) write(entry(APERTURE + i * PAGE) + 4, 0);
  for (let i = 2; i < 500; i++) t.equal(view(vgpu.ggtt.page(APERTURE + i * PAGE))?.bytes.byteOffset, i * PAGE);
  t.equal(vgpu.ggtt.mappedPages, 499);
});

t.test('random entries and halves against a model', async (t) => {
  const { write, write64, read64, vgpu, backend } = fixture();
  const next = random(20_26);
  /** What the guest sees, and which half is awaited. */
  const model = Array.from({ length: 8 }, () => ({ low: 0, high: 0, half: -1 }));
  const lows = [0, 0x1001, 0x2001, 0x3000, 0x7f_f001, 0x80_0001, 0xffff_f001];
  for (let i = 0; i < 20_000; i++) {
    const index = next() % model.length;
    const at = entry(APERTURE + index * PAGE);
    const cell = model[index] as (typeof model)[number];
    const low = lows[next() % lows.length] as number;
    const high = next() % 8 === 0 ? next() : 0;
    switch (next() % 3) {
      case 0:
        write64(at, low, high);
        Object.assign(cell, { low, high, half: -1 });
        break;
      case 1:
        write(at, low);
        if (cell.half === 1) Object.assign(cell, { low, half: -1 });
        else Object.assign(cell, { low, high: 0, half: 0 });
        break;
      default:
        write(at + 4, high);
        if (cell.half === 0) Object.assign(cell, { high, half: -1 });
        else Object.assign(cell, { low: 0, high, half: 1 });
    }
    const [seenLow, seenHigh] = read64(at);
    const valid = cell.half < 0 && (cell.low & 1) === 1 && (cell.high & 0x3fff) === 0 && cell.low >>> 12 < RAM_BYTES / PAGE;
    const page = vgpu.ggtt.page(APERTURE + index * PAGE);
    if (
      seenLow !== cell.low ||
      seenHigh !== cell.high ||
      (page !== undefined) !== valid ||
      (page && view(page)?.bytes.byteOffset !== cell.low - 1)
    )
      t.fail(
        `step ${i}: ${JSON.stringify(cell)}, seen ${seenLow.toString(16)} ${seenHigh.toString(16)}, page ${view(page)?.bytes.byteOffset}`,
      );
  }
  const frames = new Set(
    model
      .filter((cell) => cell.half < 0 && (cell.low & 1) === 1 && (cell.high & 0x3fff) === 0 && cell.low >>> 12 < RAM_BYTES / PAGE)
      .map((cell) => cell.low >>> 12),
  );
  t.equal(backend.mapped.size, frames.size, 'no mapping leaked');
  for (let index = 0; index < model.length; index++) write64(entry(APERTURE + index * PAGE), 0, 0);
  t.equal(backend.mapped.size, 0);
  t.equal(vgpu.ggtt.mappedPages, 0);
});

t.test('frames that cannot be mapped', async (t) => {
  for (const isValidGfn of [true, false]) {
    const { write64, read64, backend, vgpu } = fixture({ capabilities: { isValidGfn } });
    const at = entry(APERTURE);
    write64(at, 0x5001, 0);
    t.equal(write64(at, (RAM_BYTES | 1) >>> 0, 0), Status.OK, 'the access succeeds');
    t.strictSame(read64(at), [RAM_BYTES | 1, 0]);
    t.equal(vgpu.ggtt.page(APERTURE), undefined);
    t.equal(vgpu.statistics.guestErrors, 1);
    t.equal(vgpu.ggtt.page(APERTURE), undefined);
    t.equal(vgpu.statistics.guestErrors, 1, 'told once');
    write64(at, 0x5001, 0x3fff);
    t.equal(vgpu.ggtt.page(APERTURE), undefined);
    t.equal(vgpu.statistics.guestErrors, 2, 'a 46-bit frame');
    write64(at, 0x5001, 0xffff_c000);
    t.equal(view(vgpu.ggtt.page(APERTURE))?.bytes.byteOffset, 0x5000, 'bits from 46 up are not the frame’s');
    write64(at, (HIGH_RAM + 0x1001) >>> 0, 0);
    t.equal(view(vgpu.ggtt.page(APERTURE))?.bytes.byteOffset, 0x1000, 'RAM of the second region');
    backend.broken.add('dma');
    write64(at, 0x6001, 0);
    t.equal(vgpu.ggtt.page(APERTURE), undefined, 'the hypervisor refuses to pin');
    t.equal(vgpu.statistics.guestErrors, 3);
    t.equal(backend.mapped.size, 0);
  }
});

t.test('pages and copies', async (t) => {
  const { map, backend, vgpu, write64 } = fixture();
  const { ggtt } = vgpu;
  const words = backend.words;
  map(APERTURE, 0x10);
  map(APERTURE + PAGE, 0x12);
  words[0x10 * 1024] = 0x1111_2222;
  const page = ggtt.page(APERTURE + 100);
  t.equal(page?.load32(0), 0x1111_2222, 'live guest memory');
  page?.store64(8, 0x89ab_cdef, 0x0123_4567);
  t.equal(words[0x10 * 1024 + 2], 0x89ab_cdef);
  t.equal(ggtt.page(APERTURE), page, 'kept while the entry stands');
  backend.ram.regions[0]?.bytes.fill(0xaa, 0x10ffe, 0x11000);
  backend.ram.regions[0]?.bytes.fill(0xbb, 0x12000, 0x12002);
  const target = new Uint8Array(8);
  t.ok(ggtt.copyIn(APERTURE + PAGE - 2, target, 2, 4), 'across pages that are apart in guest memory');
  t.strictSame([...target], [0, 0, 0xaa, 0xaa, 0xbb, 0xbb, 0, 0]);
  t.notOk(ggtt.copyIn(APERTURE + 2 * PAGE - 2, target, 0, 4), 'the third page is missing');
  t.notOk(ggtt.copyIn(APERTURE - 2, target, 0, 4), 'begins outside');
  t.notOk(ggtt.copyIn(APERTURE, target, 6, 4), 'a target that is too small');
  write64(entry(APERTURE), 0x1_3001, 0);
  t.not(ggtt.page(APERTURE), page, 'dropped with the entry');
  t.equal(view(ggtt.page(APERTURE))?.bytes.byteOffset, 0x1_3000);
  backend.end();
  t.notOk(ggtt.copyIn(APERTURE, target, 0, 4), 'the VM is gone');
  t.equal(ggtt.page(APERTURE + PAGE), undefined);
});

t.test('the aperture', async (t) => {
  const f = fixture();
  const { map, backend, gvt, vgpu } = f;
  const value = new Uint32Array(2);
  const read = (offset: number, size: number): [number, number] => {
    value.fill(0xdead_beef);
    t.equal(gvt.emulateMmioRead(vgpu.id, (BAR2 + APERTURE + offset) as never, value, size), Status.OK);
    return [value[0] as number, value[1] as number];
  };
  const write = (offset: number, size: number, low: number, high = 0): number => {
    value[0] = low;
    value[1] = high;
    return gvt.emulateMmioWrite(vgpu.id, (BAR2 + APERTURE + offset) as never, value, size);
  };
  map(APERTURE, 0x20);
  map(APERTURE + PAGE, 0x30);
  const words = backend.words;
  words[0x20 * 1024] = 0x8765_4321;
  words[0x20 * 1024 + 1] = 0xfedc_ba98;
  t.strictSame(read(0, 8), [0x8765_4321, 0xfedc_ba98]);
  t.strictSame(read(4, 4), [0xfedc_ba98, 0]);
  t.strictSame(read(2, 2), [0x8765, 0]);
  t.strictSame(read(3, 1), [0x87, 0]);
  t.strictSame(read(1, 4), [0x9887_6543, 0], 'unaligned');
  write(8, 8, 1, 2);
  write(16, 4, 3);
  write(22, 2, 0x4444);
  write(27, 1, 0x55);
  t.strictSame([...words.subarray(0x20 * 1024 + 2, 0x20 * 1024 + 7)], [1, 2, 3, 0x4444_0000, 0x5500_0000]);
  t.equal(write(PAGE - 2, 4, 0xddcc_bbaa), Status.OK, 'across pages');
  t.equal(words[0x21 * 1024 - 1], 0xbbaa_0000);
  t.equal(words[0x30 * 1024], 0xddcc);
  t.strictSame(read(PAGE - 2, 4), [0xddcc_bbaa, 0]);
  t.strictSame(read(2 * PAGE, 8), [0, 0], 'no entry: scratch');
  t.equal(write(2 * PAGE, 8, 5, 5), Status.OK);
  t.strictSame(read(64 * MIB - 8, 8), [0, 0], 'last of the slice');
  for (const [offset, size] of [
    [-1, 1],
    [-4, 8],
    [64 * MIB, 1],
    [64 * MIB - 4, 8],
  ] as const)
    t.equal(gvt.emulateMmioRead(vgpu.id, (BAR2 + APERTURE + offset) as never, value, size), Status.EFAULT, `${size} at ${offset}`);
});

t.test('two vGPUs do not see each other', async (t) => {
  const f = fixture();
  const second = f.gvt.createVgpu({ type: 'GVTg_V4_8', vmId: VM, bdf: (3 << 3) as never });
  f.map(APERTURE, 0x40);
  const value = new Uint32Array([0x4_1001, 0]);
  const set = (register: number, data: number): void => {
    f.gvt.emulateCfgWrite(second.id, register, new Uint32Array([data, 0]), 4);
  };
  set(0x10, 0xd000_0000);
  set(0x04, 2);
  f.gvt.emulateMmioWrite(second.id, (0xd000_0000 + entry(APERTURE)) as never, value, 8);
  t.equal(view(f.vgpu.ggtt.page(APERTURE))?.bytes.byteOffset, 0x4_0000, 'the other’s write to this entry was ignored');
  const own = second.resources.aperture.start;
  t.equal(own, APERTURE + 64 * MIB);
  f.gvt.emulateMmioWrite(second.id, (0xd000_0000 + entry(own)) as never, value, 8);
  t.equal(view(second.ggtt.page(own))?.bytes.byteOffset, 0x4_1000);
  t.equal(f.vgpu.ggtt.page(own), undefined);
  t.equal(f.backend.mapped.size, 2);
  f.gvt.destroyVgpu(second);
  t.strictSame([...f.backend.mapped.keys()], [DMA_BASE + 0x4_0000]);
});

t.test('reset and more pages than the cache keeps', async (t) => {
  const { map, vgpu, backend, gvt, write64, read64 } = fixture({ type: 'GVTg_V4_4' });
  for (let i = 0; i < 17_000; i++) map(APERTURE + i * PAGE, i % 2048);
  t.equal(vgpu.ggtt.mappedPages, 0);
  const first = vgpu.ggtt.page(APERTURE);
  for (let i = 0; i < 17_000; i++)
    if (view(vgpu.ggtt.page(APERTURE + i * PAGE))?.bytes.byteOffset !== (i % 2048) * PAGE) t.fail(`page ${i}`);
  t.not(vgpu.ggtt.page(APERTURE), first, 'views are not kept without bound');
  t.equal(vgpu.ggtt.mappedPages, 17_000);
  t.equal(backend.mapped.size, 2048);
  write64(entry(APERTURE + 20_000 * PAGE), 0x5000, 0);
  gvt.reset(vgpu);
  t.equal(backend.mapped.size, 0);
  t.equal(vgpu.ggtt.mappedPages, 0);
  t.equal(vgpu.ggtt.page(APERTURE), undefined);
  t.throws(() => read64(entry(APERTURE)), 'BAR0 is unmapped too');
});
