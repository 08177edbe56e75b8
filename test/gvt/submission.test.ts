/** Execlist submission: status entries to the letter, the two slots, refusals, failures, the budget. */
import t from 'tap';
import { DmaBlock } from '../../src/core/dma-block.js';
import { PageView } from '../../src/core/gvt/gpu-page.js';
import { INLINE_BUDGET } from '../../src/core/gvt/submission/submission.js';
import { Status } from '../../src/core/gvt-ops.js';
import {
  BATCH,
  BATCH_END,
  BCS,
  batchStart,
  CONTEXTS,
  DATA,
  descriptor,
  ENGINE_BASES,
  NOOP,
  PAGE,
  RCS,
  type Rig,
  rig,
  STATUS_PAGES,
  storeDword,
  USER_INTERRUPT,
  VCS,
  VECS,
} from './engine-rig.js';

const IDLE_TO_ACTIVE = 0x1;
const LITE_RESTORE = 0x8002;
const SWITCHED = 0x14;
const FINISHED = 0x18;

/** A context that runs until the test lets it: its ring starts a batch that jumps to itself. */
function endless(r: Rig, id: number): { readonly descriptor: [number, number]; end(): void } {
  const batch = BATCH + id * PAGE;
  r.memory.map(batch);
  r.memory.write(batch, ...batchStart(batch));
  const found = r.context(id);
  r.emit(id, ...batchStart(batch), NOOP);
  return { descriptor: found, end: () => r.memory.write(batch, BATCH_END) };
}

/** A status page whose stores are traced, each with its width and its place. */
class SpiedPage extends PageView {
  readonly #trace: string[];

  constructor(trace: string[]) {
    super(new DmaBlock(0, new Uint8Array(PAGE)), 0);
    this.#trace = trace;
  }

  override store8(offset: number, value: number): void {
    this.#trace.push(`u8[0x${offset.toString(16)}] = 0x${value.toString(16)}`);
    super.store8(offset, value);
  }

  override store32(offset: number, value: number): void {
    this.#trace.push(`u32[0x${offset.toString(16)}] = 0x${value.toString(16)}`);
    super.store32(offset, value);
  }

  override store64(offset: number, low: number, high: number): void {
    this.#trace.push(`u64[0x${offset.toString(16)}] = 0x${((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toString(16)}`);
    super.store64(offset, low, high);
  }
}

const spyOnStatusPage = (r: Rig, engine: number): void => r.memory.putPage(STATUS_PAGES + engine * PAGE, new SpiedPage(r.trace));

t.test('a submission: entry, index and interrupt for the start, then for the end', async (t) => {
  const r = rig();
  spyOnStatusPage(r, BCS);
  const context = r.context(5);
  r.emit(5, USER_INTERRUPT, NOOP);
  t.equal(r.submit(BCS, [context[0], 0xabcd_0005]), Status.OK);
  t.strictSame(
    r.trace,
    [
      'u64[0x40] = 0x1',
      'u32[0x7c] = 0x0',
      'bcs.ctx-switch',
      'bcs.user',
      'u64[0x48] = 0xabcd000500000018',
      'u32[0x7c] = 0x1',
      'bcs.ctx-switch',
    ],
    'each entry one 8-byte store, its index one 4-byte store after it, then the interrupt',
  );
  t.strictSame(r.entries(BCS), [
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 0xabcd_0005],
  ]);
  t.equal(r.submission.readCsbPointer(BCS), 1);
  t.equal(r.memory.read(r.ring(5).image + PAGE + 0x14), 8, 'the image has the head at the tail');
  t.equal(r.parts.statistics.workloads, 1);
  t.notOk(r.submission.hasWork);
  for (const engine of [RCS, VCS, VECS] as const) t.equal(r.submission.readCsbPointer(engine), 7, 'the other engines saw nothing');
});

t.test('six slots, in registers and in the page', async (t) => {
  const r = rig();
  const context = r.context(1);
  const slots: [number, number][] = Array.from({ length: 6 }, () => [0, 0]);
  for (let i = 0; i < 7; i++) {
    r.emit(1, NOOP, NOOP);
    r.submit(RCS, [context[0], i]);
    slots[(2 * i) % 6] = [IDLE_TO_ACTIVE, 0];
    slots[(2 * i + 1) % 6] = [FINISHED, i];
    const write = (2 * i + 1) % 6;
    t.equal(r.submission.readCsbPointer(RCS), write);
    t.equal(r.memory.read(STATUS_PAGES + 0x7c), write);
    t.strictSame(
      slots.map((_, slot) => [r.submission.readCsb(RCS, slot * 2), r.submission.readCsb(RCS, slot * 2 + 1)]),
      slots,
    );
    t.strictSame(
      slots.map((_, slot) => r.memory.read64(STATUS_PAGES + 0x40 + slot * 8)),
      slots,
    );
  }
  t.equal(r.memory.read(STATUS_PAGES + 0x70), 0, 'nothing after the sixth');
  t.equal(r.submission.readCsb(RCS, 12), 0, 'nor in the registers');
});

t.test('the pointer register', async (t) => {
  const r = rig();
  const context = r.context(1);
  const go = (): void => {
    r.emit(1, NOOP, NOOP);
    r.submit(VECS, context);
  };
  t.equal(r.submission.readCsbPointer(VECS), 0x007, 'unwritten');
  r.submission.writeCsbPointer(VECS, 0xffff_0505);
  t.equal(r.submission.readCsbPointer(VECS), 0x505);
  go();
  t.equal(r.submission.readCsbPointer(VECS), 0x501, 'the next slot after 5 is 0');
  r.submission.writeCsbPointer(VECS, 0x0700_0100);
  t.equal(r.submission.readCsbPointer(VECS), 0x101, 'the read pointer alone');
  r.submission.writeCsbPointer(VECS, 0x0000_0505);
  t.equal(r.submission.readCsbPointer(VECS), 0x101, 'nothing enabled, nothing written');
  r.submission.writeCsbPointer(VECS, 0x0007_0003);
  go();
  t.equal(r.submission.readCsbPointer(VECS), 0x105, 'the write pointer alone');
  t.strictSame(
    [4, 5].map((slot) => r.submission.readCsb(VECS, slot * 2)),
    [IDLE_TO_ACTIVE, FINISHED],
  );
  for (const odd of [6, 7]) {
    r.submission.writeCsbPointer(VECS, (0xffff_0000 | odd) >>> 0);
    go();
    t.equal(r.submission.readCsbPointer(VECS), 1, `a slot ${odd} does not exist: the next one is 0`);
  }
});

t.test('without a status page the registers alone tell', async (t) => {
  for (const page of [0, 0x7fff_f000, 0xffff_f000]) {
    const r = rig();
    const context = r.context(1);
    r.setRegister(ENGINE_BASES[VCS] + 0x80, page);
    r.emit(1, NOOP, NOOP);
    t.equal(r.submit(VCS, context), Status.OK);
    t.strictSame(r.entries(VCS), [
      [IDLE_TO_ACTIVE, 0],
      [FINISHED, 1],
    ]);
    t.strictSame(r.hung(), []);
  }
});

t.test('two elements', async (t) => {
  const r = rig();
  const [a, b] = [r.context(1), r.context(2)];
  r.memory.map(DATA);
  r.emit(1, ...storeDword(DATA, 11));
  r.emit(2, ...storeDword(DATA + 4, 22));
  t.equal(r.submit(BCS, a, b), Status.OK);
  t.strictSame(r.entries(BCS), [
    [IDLE_TO_ACTIVE, 0],
    [SWITCHED, 1],
    [FINISHED, 2],
  ]);
  t.strictSame(r.trace, ['bcs.ctx-switch', 'bcs.ctx-switch', 'bcs.ctx-switch']);
  t.strictSame(r.memory.read64(DATA), [11, 22]);
  t.equal(r.parts.statistics.workloads, 2);

  // The same context twice: one context with a later tail.
  r.emit(1, ...storeDword(DATA, 33));
  r.submit(BCS, a, a);
  t.strictSame(r.entries(BCS), [
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 1],
  ]);
  t.equal(r.memory.read(DATA), 33);
  // Another id is another context, although the image is the same.
  r.submit(BCS, a, [a[0], 9]);
  t.strictSame(r.entries(BCS), [
    [IDLE_TO_ACTIVE, 0],
    [SWITCHED, 1],
    [FINISHED, 9],
  ]);
});

t.test('lite restore: the running context goes on with a later tail', async (t) => {
  const r = rig();
  const a = endless(r, 1);
  r.memory.map(DATA);
  r.submit(RCS, a.descriptor);
  t.ok(r.submission.hasWork);
  r.emit(1, ...storeDword(DATA, 1));
  r.trace.length = 0;
  t.equal(r.submit(RCS, a.descriptor), Status.OK);
  t.strictSame(r.trace, ['rcs.ctx-switch']);
  t.strictSame(r.entries(RCS), [
    [IDLE_TO_ACTIVE, 0],
    [LITE_RESTORE, 1],
  ]);
  t.equal(r.register(0x2030), r.ring(1).tail, 'RING_TAIL follows');
  // Again, now with another context behind it.
  const b = r.context(2);
  r.emit(2, ...storeDword(DATA + 4, 2));
  r.emit(1, ...storeDword(DATA, 3));
  t.equal(r.submit(RCS, a.descriptor, b), Status.OK);
  t.strictSame(r.entries(RCS), [[LITE_RESTORE, 1]]);
  t.equal(r.memory.read(DATA), 0, 'the batch still runs');
  a.end();
  r.submission.runSlice(INLINE_BUDGET);
  t.strictSame(r.entries(RCS), [
    [SWITCHED, 1],
    [FINISHED, 2],
  ]);
  t.strictSame(r.memory.read64(DATA), [3, 2]);
  t.equal(r.parts.statistics.workloads, 4);
});

t.test('lite restore of the second element, once the first is finished', async (t) => {
  const r = rig();
  const a = endless(r, 1);
  const b = endless(r, 2);
  r.submit(RCS, a.descriptor, b.descriptor);
  t.strictSame(r.entries(RCS), [[IDLE_TO_ACTIVE, 0]]);
  a.end();
  r.submission.runSlice(100);
  t.strictSame(r.entries(RCS), [[SWITCHED, 1]]);
  t.equal(r.submission.readStatus(RCS, 1), 2);
  r.submit(RCS, b.descriptor);
  t.strictSame(r.entries(RCS), [[LITE_RESTORE, 2]]);
  // Another context has to wait, even one with the same image.
  r.submit(RCS, [b.descriptor[0], 7]);
  t.strictSame(r.entries(RCS), []);
  b.end();
  r.submission.runSlice(100);
  t.strictSame(r.entries(RCS), [
    [FINISHED, 2],
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 7],
  ]);
});

t.test('a list that waits and begins with the last context to finish: the context only goes on', async (t) => {
  const r = rig();
  r.memory.map(DATA);
  const a = endless(r, 1);
  const b = r.context(2);
  r.emit(2, ...storeDword(DATA, 1));
  r.submit(RCS, a.descriptor, b);
  // Still in the first element, so this waits; it names the second element's context with a later tail.
  r.emit(2, ...storeDword(DATA + 4, 2));
  r.submit(RCS, b);
  t.strictSame(r.entries(RCS), [[IDLE_TO_ACTIVE, 0]]);
  a.end();
  r.submission.runSlice(INLINE_BUDGET);
  t.strictSame(
    r.entries(RCS),
    [
      [SWITCHED, 1],
      [LITE_RESTORE, 2],
      [FINISHED, 2],
    ],
    'no schedule-out between two lists of the same context',
  );
  t.strictSame(r.memory.read64(DATA), [1, 2]);
});

t.test('a context that has run holds state to restore', async (t) => {
  const r = rig();
  const a = r.context(1);
  const control = r.ring(1).image + 4096 + 0x0c;
  r.memory.write(control, 0x0009_0009);
  r.submit(RCS, a);
  t.equal(r.memory.read(control), 0x0009_0008, 'RESTORE_INHIBIT is cleared, the rest stays');
});

t.test('the first element of two is not restored while it runs: the list waits', async (t) => {
  const r = rig();
  const a = endless(r, 1);
  const b = r.context(2);
  r.submit(RCS, a.descriptor, b);
  r.submit(RCS, a.descriptor);
  t.strictSame(r.entries(RCS), [[IDLE_TO_ACTIVE, 0]]);
  a.end();
  r.submission.runSlice(100);
  t.strictSame(r.entries(RCS), [
    [SWITCHED, 1],
    [FINISHED, 2],
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 1],
  ]);
});

t.test('a list that waits starts when the running one is finished; a third is refused', async (t) => {
  const r = rig();
  const a = endless(r, 1);
  const [b, c] = [r.context(2), r.context(3)];
  r.memory.map(DATA);
  r.emit(2, ...storeDword(DATA, 2));
  r.emit(3, ...storeDword(DATA, 3));
  r.submit(VCS, a.descriptor);
  t.equal(r.submit(VCS, b), Status.OK);
  t.equal(r.submit(VCS, c), Status.EINVAL);
  t.strictSame(r.log, ['vcs ELSP: both execlist slots are in use']);
  t.equal(r.submit(VCS, a.descriptor), Status.EINVAL, 'nor is a lite restore taken past the list that waits');
  t.strictSame(r.entries(VCS), [[IDLE_TO_ACTIVE, 0]], 'a list that waits makes no entry');
  a.end();
  r.trace.length = 0;
  r.submission.runSlice(100);
  t.strictSame(r.entries(VCS), [
    [FINISHED, 1],
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 2],
  ]);
  t.strictSame(r.trace, ['vcs.ctx-switch', 'vcs.ctx-switch'], 'end and next start are one interrupt');
  t.equal(r.memory.read(DATA), 2);
  t.equal(r.parts.statistics.workloads, 2);
  t.strictSame(r.hung(), []);
});

t.test('EXECLIST_STATUS', async (t) => {
  const r = rig();
  const status = (): number => r.submission.readStatus(BCS, 0);
  /** Bits in the register's order: current list, write pointer, full, list 1 and 0 valid, reason, element, 1 and 0 active. */
  const bits = (current: 0 | 1, next: 0 | 1, full: 0 | 1, valid1: 0 | 1, valid0: 0 | 1, reason: number, element: number): number => {
    const active = element === 0 ? 0 : current === 0 ? 1 << 18 : 1 << 17;
    return current | (next << 1) | (full << 2) | (valid1 << 3) | (valid0 << 4) | (reason << 5) | (element << 14) | (1 << 16) | active;
  };
  t.equal(status(), bits(0, 0, 0, 0, 0, 0, 0), 'idle');
  t.equal(r.submission.readStatus(BCS, 1), 0);
  const a = endless(r, 1);
  const b = endless(r, 2);
  r.submit(BCS, a.descriptor, b.descriptor);
  t.equal(status(), bits(0, 1, 0, 0, 1, IDLE_TO_ACTIVE, 1), 'slot 0, element 0');
  t.equal(r.submission.readStatus(BCS, 1), 1);
  r.submit(BCS, a.descriptor);
  t.equal(status(), bits(0, 0, 1, 1, 1, IDLE_TO_ACTIVE, 1), 'full');
  a.end();
  r.submission.runSlice(100);
  t.equal(status(), bits(0, 0, 1, 1, 1, SWITCHED, 2), 'element 1');
  t.equal(r.submission.readStatus(BCS, 1), 2);
  r.memory.write(BATCH + PAGE, ...batchStart(BATCH + PAGE));
  r.memory.write(r.ring(1).image + PAGE + 0x14, 0);
  b.end();
  r.submission.runSlice(100);
  t.equal(status(), bits(1, 0, 0, 1, 0, IDLE_TO_ACTIVE, 1), 'slot 1');
  a.end();
  r.submission.runSlice(100);
  t.equal(status(), bits(0, 0, 0, 0, 0, FINISHED, 0), 'idle again; the reason stays');
  t.equal(r.submission.readStatus(BCS, 1), 1, 'and the id of the last context');
  t.ok(r.submission.idle(BCS));
});

t.test('refused submissions queue nothing, and the port starts over', async (t) => {
  const good = descriptor(CONTEXTS + 0x2000, 1);
  const valid = good[0];
  const refused: [what: string, first: [number, number], second: [number, number], why: string][] = [
    ['all zero', [0, 0], [0, 0], 'element 0 is not valid'],
    ['element 0 without its valid bit', [valid & ~1, 1], [0, 0], 'element 0 is not valid'],
    ['only element 1', [0, 0], good, 'element 0 is not valid'],
    ['no privilege', [valid & ~(1 << 8), 1], [0, 0], 'a context without the privilege bit asks for GGTT submission'],
    ['addressing mode 0', [valid & ~(3 << 3), 1], [0, 0], 'addressing mode 0 is not supported'],
    ['addressing mode 2', [(valid & ~(3 << 3)) | (2 << 3), 1], [0, 0], 'addressing mode 2 is not supported'],
    ['element 1 without privilege', good, [valid & ~(1 << 8), 2], 'a context without the privilege bit asks for GGTT submission'],
    ['element 1 of mode 2', good, [(valid & ~(3 << 3)) | (2 << 3), 2], 'addressing mode 2 is not supported'],
  ];
  for (const [what, first, second, why] of refused) {
    const r = rig();
    const context = r.context(1);
    r.emit(1, NOOP, NOOP);
    t.equal(r.submit(BCS, first, second), Status.EINVAL, what);
    t.strictSame(r.log, [`bcs ELSP: ${why}`], what);
    t.strictSame([r.trace, r.hung(), r.submission.hasWork, r.parts.statistics.workloads], [[], [], false, 0], what);
    t.equal(r.submission.readStatus(BCS, 0), 1 << 16, `${what}: the slots are as before`);
    t.equal(r.submit(BCS, context), Status.OK, `${what}: the next four dwords are a submission`);
    t.strictSame(r.entries(BCS), [
      [IDLE_TO_ACTIVE, 0],
      [FINISHED, 1],
    ]);
  }
  // What is accepted although it looks odd: mode 3, force bits, other engines' bits 11:9, garbage in an invalid element 1.
  const r = rig();
  const [low] = r.context(1);
  r.emit(1, NOOP, NOOP);
  t.equal(r.submit(BCS, [low | (3 << 3) | (1 << 1) | (1 << 2) | (7 << 9), 1], [0xffff_fffe, 0xffff_ffff]), Status.OK);
  t.strictSame(r.entries(BCS), [
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 1],
  ]);
});

t.test('a disabled engine refuses; what it accepted before goes on', async (t) => {
  const r = rig();
  const a = endless(r, 1);
  r.submission.setEnabled(RCS, false);
  t.equal(r.submit(RCS, a.descriptor), Status.EINVAL);
  t.strictSame(r.log, ['rcs ELSP: submission while RUN_LIST_ENABLE is off']);
  r.submission.setEnabled(RCS, true);
  t.equal(r.submit(RCS, a.descriptor), Status.OK);
  r.submission.setEnabled(RCS, false);
  a.end();
  r.submission.runSlice(100);
  t.strictSame(r.entries(RCS), [
    [IDLE_TO_ACTIVE, 0],
    [FINISHED, 1],
  ]);
});

t.test('reset drops work without an entry, of the named engines only', async (t) => {
  const r = rig();
  const [a, b, c] = [endless(r, 1), endless(r, 2), endless(r, 3)];
  r.memory.map(DATA);
  r.submit(RCS, a.descriptor);
  r.submit(RCS, b.descriptor);
  r.submit(VCS, c.descriptor);
  for (const dword of [1, 2, 3]) r.submission.writeElsp(RCS, dword);
  r.trace.length = 0;
  const index = r.memory.read(STATUS_PAGES + 0x7c);
  r.submission.reset(1 << RCS);
  t.strictSame(r.trace, []);
  t.equal(r.memory.read(STATUS_PAGES + 0x7c), index, 'the status page stays as it is');
  t.equal(r.submission.readCsbPointer(RCS), 7);
  t.strictSame(
    Array.from({ length: 12 }, (_, i) => r.submission.readCsb(RCS, i)),
    Array.from({ length: 12 }, () => 0),
  );
  t.equal(r.submission.readStatus(RCS, 0), 1 << 16);
  t.equal(r.submission.readStatus(RCS, 1), 0);
  t.ok(r.submission.idle(RCS));
  t.notOk(r.submission.idle(VCS));
  t.equal(r.submission.readCsbPointer(VCS), 0);
  // Half a submission is forgotten, too, and the engine takes work at once.
  const d = r.context(4);
  r.emit(4, ...storeDword(DATA, 4));
  t.equal(r.submit(RCS, d), Status.OK);
  t.equal(r.memory.read(DATA), 4);
  t.equal(r.submission.readCsbPointer(RCS), 1, 'from slot 0');
  r.submission.reset(0xf);
  t.notOk(r.submission.hasWork);
});

t.test('a context image or ring that makes no sense: the engine stops, no entry', async (t) => {
  const broken: [what: string, spoil: (r: Rig, image: number) => void, why: RegExp][] = [
    ['image not mapped', (r, image) => r.memory.unmap(image + PAGE), /^rcs: the context image is not mapped$/],
    ['ring not enabled', (r, image) => r.memory.write(image + PAGE + 0x2c, 0), /ring is not enabled/],
    ['ring inside a page', (r, image) => r.memory.write(image + PAGE + 0x24, 0x0810_0800), /does not start at a page/],
    ['head past the ring', (r, image) => r.memory.write(image + PAGE + 0x14, PAGE), /past the ring/],
    ['tail past the ring', (r, image) => r.memory.write(image + PAGE + 0x1c, PAGE), /past the ring/],
    ['ring not mapped', (r, image) => r.memory.write(image + PAGE + 0x24, 0xffff_f000), /not mapped \(ring, 0xfffff000\)/],
    ['ring of 2 MiB, mapped in its first page', (r, image) => r.memory.write(image + PAGE + 0x2c, 0x1f_f001), /^$/],
  ];
  for (const [what, spoil, why] of broken) {
    const r = rig();
    const context = r.context(1);
    r.emit(1, NOOP, NOOP);
    spoil(r, r.ring(1).image);
    t.equal(r.submit(RCS, context), Status.OK, what);
    const fails = why.source !== '^$';
    t.strictSame(r.hung(), fails ? ['rcs'] : [], what);
    t.equal(r.log.length, fails ? 1 : 0, what);
    if (fails) t.match(r.log[0], why);
    t.strictSame(
      r.entries(RCS).map(([status]) => status),
      fails ? [IDLE_TO_ACTIVE] : [IDLE_TO_ACTIVE, FINISHED],
      `${what}: no entry tells of an end`,
    );
    t.notOk(r.submission.hasWork, what);
    r.submission.runSlice(100);
    t.equal(r.parts.statistics.hangs, fails ? 1 : 0, `${what}: told once`);
  }
  // The head's wrap count, above the offset, is not part of it.
  const r = rig();
  const context = r.context(1);
  r.emit(1, NOOP, NOOP);
  r.memory.write(r.ring(1).image + PAGE + 0x14, 0xffe0_0004);
  r.submit(RCS, context);
  t.equal(r.parts.statistics.commands, 1);
});

t.test('an image that goes away or moves its ring while the context runs', async (t) => {
  const gone = rig();
  const a = endless(gone, 1);
  gone.submit(RCS, a.descriptor);
  gone.memory.unmap(gone.ring(1).image + PAGE);
  a.end();
  gone.submission.runSlice(100);
  t.strictSame(gone.log, ['rcs: the context image is not mapped']);
  t.strictSame(gone.entries(RCS), [[IDLE_TO_ACTIVE, 0]]);

  for (const [offset, value] of [
    [0x24, 0x0900_0000],
    [0x2c, 0x1001],
    [0x2c, 0],
  ] as const) {
    const moved = rig();
    const b = endless(moved, 1);
    moved.submit(RCS, b.descriptor);
    moved.memory.write(moved.ring(1).image + PAGE + offset, value);
    t.equal(moved.submit(RCS, b.descriptor), Status.OK);
    t.strictSame(moved.hung(), ['rcs']);
    t.match(moved.log, [/^rcs: (the ring of a running context was moved|the context’s ring is not enabled)$/]);
    t.notOk(moved.submission.hasWork);
  }
});

t.test('the image is read once: what was checked is what is used', async (t) => {
  const r = rig();
  const context = r.context(1);
  const { image } = r.ring(1);
  r.memory.map(DATA);
  r.emit(1, ...storeDword(DATA, 7));
  r.memory.onCopy = (address) => {
    if (address !== image + PAGE) return;
    // A second look would find a ring elsewhere and a tail past every end.
    r.memory.write(image + PAGE + 0x1c, 0x1f_fffc);
    r.memory.write(image + PAGE + 0x24, 0xdead_0000);
  };
  r.submit(BCS, context);
  t.equal(r.memory.copies.get(image + PAGE), 1);
  t.equal(r.memory.read(DATA), 7);
  t.equal(r.memory.read(image + PAGE + 0x14), 16);
  t.equal(r.register(ENGINE_BASES[BCS] + 0x38), r.ring(1).start, 'RING_START');
  t.equal(r.register(ENGINE_BASES[BCS] + 0x34), 16, 'RING_HEAD');
  t.equal(r.register(ENGINE_BASES[BCS] + 0x30), 16, 'RING_TAIL');
  t.strictSame(r.hung(), []);
});

t.test('a hung engine leaves the others alone, and works again after its reset', async (t) => {
  const r = rig();
  r.memory.map(DATA);
  const a = endless(r, 1);
  const b = r.context(2);
  r.submit(RCS, a.descriptor);
  r.emit(2, 0xffff_ffff, NOOP);
  r.setRegister(ENGINE_BASES[BCS] + 0xb4, 0);
  r.trace.length = 0;
  r.submit(BCS, b);
  t.strictSame(r.hung(), ['bcs']);
  t.strictSame(r.trace, ['bcs.ctx-switch', 'bcs.error']);
  t.equal(r.register(ENGINE_BASES[BCS] + 0xb0), 1, 'EIR');
  t.equal(r.register(ENGINE_BASES[BCS] + 0x74), r.ring(2).start, 'ACTHD');
  t.equal(r.register(ENGINE_BASES[BCS] + 0x68), 0xffff_ffff, 'IPEHR');
  t.equal(r.register(ENGINE_BASES[BCS] + 0x6c), 0xffff_fffe, 'INSTDONE');
  t.equal(r.submission.readStatus(BCS, 1), 2, 'the context that hangs is still the running one');
  t.notOk(r.submission.idle(BCS));
  // What is submitted waits behind it, the same context too.
  t.equal(r.submit(BCS, b), Status.OK);
  t.strictSame(r.entries(BCS), [[IDLE_TO_ACTIVE, 0]]);
  const { commands } = r.parts.statistics;
  r.submission.runSlice(1000);
  t.ok(r.parts.statistics.commands > commands, 'RCS goes on');
  r.submission.reset(1 << BCS);
  t.strictSame([r.hung(), r.register(ENGINE_BASES[BCS] + 0x6c)], [[], 0xffff_ffff]);
  const c = r.context(3);
  r.emit(3, ...storeDword(DATA, 3));
  r.submit(BCS, c);
  t.equal(r.memory.read(DATA), 3);
  a.end();
  r.submission.runSlice(1000);
  t.notOk(r.submission.hasWork);
});

t.test('inline up to the budget, the rest in slices', async (t) => {
  const r = rig();
  const a = r.context(1, 16);
  for (let i = 0; i < 9999; i++) r.emit(1, NOOP);
  r.emit(1, USER_INTERRUPT);
  r.submit(BCS, a);
  const inline = r.parts.statistics.commands;
  t.ok(inline > INLINE_BUDGET * 0.9 && inline <= INLINE_BUDGET, `${inline} commands inline`);
  t.ok(r.submission.hasWork);
  // The port's first three dwords execute nothing.
  for (const dword of [0, 0, 0]) r.submission.writeElsp(BCS, dword);
  t.equal(r.parts.statistics.commands, inline);
  r.submission.writeElsp(BCS, 0);
  t.equal(r.parts.statistics.commands, inline, 'nor does a refused submission');
  r.submission.runSlice(500);
  const sliced = r.parts.statistics.commands - inline;
  t.ok(sliced > 450 && sliced <= 500, `${sliced} commands in a slice`);
  let slices = 0;
  while (r.submission.hasWork && slices < 100) {
    r.submission.runSlice(1000);
    slices++;
  }
  t.equal(slices, 6);
  t.equal(r.parts.statistics.commands, 10_000);
  t.strictSame(r.trace, ['bcs.ctx-switch', 'bcs.user', 'bcs.ctx-switch']);
  r.submission.runSlice(1000);
  t.equal(r.parts.statistics.commands, 10_000);
});

t.test('what takes longer costs more', async (t) => {
  /** What one inline budget executes of a command that the ring holds over and over, as a share of the budget. */
  const costs: [what: string, command: number[], least: number, most: number][] = [
    ['a store', storeDword(DATA, 1), 0.95, 1],
    ['64 registers', [0x1100_007f, ...Array.from({ length: 128 }, (_, i) => (i % 2 === 0 ? 0x3000 : i))], 1 / 18, 1 / 16],
    ['an interrupt', [USER_INTERRUPT], 1 / 18, 1 / 16],
    ['a batch: two commands, a page fetched for each', batchStart(BATCH), 2 / 11, 2 / 9],
  ];
  for (const [what, command, least, most] of costs) {
    const r = rig();
    r.memory.map(DATA);
    r.memory.map(BATCH);
    r.memory.write(BATCH, BATCH_END);
    const context = r.context(0, 64);
    for (let room = 60_000; room > 0; room -= command.length) r.emit(0, ...command);
    r.submit(BCS, context);
    const share = r.parts.statistics.commands / INLINE_BUDGET;
    t.ok(share > least && share <= most, `${what}: ${share}`);
    t.ok(r.submission.hasWork);
  }
  // What costs the budget exactly is finished by it: here four page fetches, of four units each.
  const exact = rig();
  const all = exact.context(1, 4);
  for (let i = 0; i < INLINE_BUDGET - 16; i++) exact.emit(1, NOOP);
  exact.submit(RCS, all);
  t.notOk(exact.submission.hasWork);
  // Both elements of a list share the inline budget.
  const r = rig();
  const contexts = [1, 2].map((id) => {
    const context = r.context(id, 16);
    for (let i = 0; i < 3000; i++) r.emit(id, NOOP);
    return context;
  });
  r.submit(RCS, contexts[0] as [number, number], contexts[1]);
  const { commands } = r.parts.statistics;
  t.ok(commands > INLINE_BUDGET * 0.95 && commands <= INLINE_BUDGET, `${commands} commands`);
});

t.test('engines that have work share a slice', async (t) => {
  const r = rig();
  const work = ([RCS, BCS, VECS] as const).map((engine) => {
    const context = r.context(engine + 1, 16);
    for (let i = 0; i < 12_000; i++) r.emit(engine + 1, NOOP);
    r.submit(engine, context);
    return engine;
  });
  for (const tiny of [0, 1, 2]) {
    const { commands } = r.parts.statistics;
    r.submission.runSlice(tiny);
    t.equal(r.parts.statistics.commands, commands + 3, `a slice of ${tiny}: each still goes on`);
  }
  const before = r.parts.statistics.commands;
  r.submission.runSlice(3000);
  const done = r.parts.statistics.commands - before;
  t.ok(done > 2900 && done <= 3000, `${done} commands`);
  for (let i = 0; i < 9; i++) r.submission.runSlice(3000);
  t.strictSame(
    work.map((engine) => r.submission.idle(engine)),
    [true, true, true],
    'all three finish in the same slice',
  );
});
