/** enable_page_track and disable_page_track: what holds at both levels, and level `trap`. */
import { Gfn, PAGE_SIZE } from '../../core/addresses.js';
import { BAD_FRAMES, type CaseSpec, type ConformanceCase, group, SIZES, type Size } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok, pattern, sameBytes, word } from '../expect.js';
import { firstFrame, HOLE, lastFrame, RAM_HIGH, RAM_ISLAND, RAM_LOW, RAM_NEXT, SCRATCH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';

const PAGE = Gfn(SCRATCH_FRAME);
const LOW = 0x8765_4321;
const HIGH = 0xfedc_ba98;

/** Stores `size` bytes of the 8-byte value HIGH:LOW by one instruction. */
function store(ctx: CaseContext, gpa: number, size: Size): void {
  if (size === 8) ctx.agent.write64(gpa, LOW, HIGH);
  else ctx.agent.write(gpa, size, LOW);
}
/** The bytes that `store` writes. */
const stored = (size: Size): Uint8Array => new Uint8Array(Uint32Array.of(LOW, HIGH).buffer).slice(0, size);

/** Frames at which a region begins or ends and that the agent reaches. */
const EDGES: readonly (readonly [string, number])[] = [
  ['first-of-ram', firstFrame(RAM_LOW)],
  ['last-before-next-region', lastFrame(RAM_LOW)],
  ['first-of-next-region', firstFrame(RAM_NEXT)],
  ['last-before-hole', lastFrame(RAM_NEXT)],
  ['first-after-hole', firstFrame(RAM_ISLAND)],
  ['last-of-island', lastFrame(RAM_ISLAND)],
];

/** Joins what was reported for one page into bytes, checking that each byte was reported once, in order and for vGPU 1. */
function reportedBytes(ctx: CaseContext, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = from;
  for (const access of ctx.recorder.accesses) {
    equal(access.kind, 'wp', 'kind of access');
    equal(access.vgpu, 1, 'vGPU of the report');
    equal(access.address, at, 'address of the report');
    ok(at + access.size <= from + length, `the report of ${access.size} bytes at ${at} passes the tracked bytes`);
    bytes.set(new Uint8Array(Uint32Array.of(access.low, access.high).buffer).subarray(0, access.size), at - from);
    at += access.size;
  }
  equal(at, from + length, 'end of the reported bytes');
  return bytes;
}

const both = group('page-track', { operations: ['enable_page_track', 'disable_page_track'], needs: ['pageTrack'] }, [
  ...(['enable', 'disable'] as const).flatMap((verb) =>
    BAD_FRAMES.map(
      ([name, gfn]): CaseSpec => ({
        name: `${verb}-frame-${name}`,
        rule: `${verb}_page_track refuses what is no frame below 2^40 as INVALID_ADDRESS and names it.`,
        operations: [`${verb}_page_track`],
        run(ctx) {
          const call = verb === 'enable' ? () => ctx.handle.enablePageTrack(Gfn(gfn)) : () => ctx.handle.disablePageTrack(Gfn(gfn));
          ctx.refuses('INVALID_ADDRESS', `${verb}_page_track`, call, { address: gfn, limit: 2 ** 40 });
          equal(ctx.handle.trackedCount, 0, 'frames tracked');
        },
      }),
    ),
  ),
  ...(
    [
      ['first-of-hole', firstFrame(HOLE)],
      ['last-of-hole', lastFrame(HOLE)],
      ['one-past-high', lastFrame(RAM_HIGH) + 1],
    ] as const
  ).map(
    ([name, gfn]): CaseSpec => ({
      name: `enable-not-ram-${name}`,
      rule: 'enable_page_track of a frame without RAM answers NOT_RAM and tracks nothing.',
      operations: ['enable_page_track'],
      run(ctx) {
        ctx.refuses('NOT_RAM', 'enable_page_track', () => ctx.handle.enablePageTrack(Gfn(gfn)));
        equal(ctx.handle.tracks(gfn), false, 'tracked');
      },
    }),
  ),
  {
    name: 'disable-untracked',
    rule: 'disable_page_track of a frame that is not tracked, or not even RAM, does nothing.',
    operations: ['disable_page_track'],
    run(ctx) {
      ctx.handle.disablePageTrack(PAGE);
      ctx.handle.disablePageTrack(Gfn(firstFrame(HOLE)));
    },
  },
  {
    name: 'every-region',
    rule: 'The first and the last frame of every region can be tracked at once and untracked in any order.',
    run(ctx) {
      const frames = [RAM_LOW, RAM_NEXT, RAM_ISLAND, RAM_HIGH].flatMap((region) => [firstFrame(region), lastFrame(region)]);
      for (const gfn of frames) ctx.handle.enablePageTrack(Gfn(gfn));
      equal(ctx.handle.trackedCount, frames.length, 'frames tracked');
      for (const gfn of [...frames.slice(3), ...frames.slice(0, 3)]) ctx.handle.disablePageTrack(Gfn(gfn));
      equal(ctx.handle.trackedCount, 0, 'frames tracked at the end');
    },
  },
  {
    name: 'memory-stays-readable',
    rule: 'Tracking a frame changes neither its content nor host access to it.',
    guest: true,
    run(ctx) {
      ctx.poke(SCRATCH, pattern(PAGE_SIZE, 1));
      ctx.handle.enablePageTrack(PAGE);
      sameBytes(ctx.peek(SCRATCH, PAGE_SIZE), pattern(PAGE_SIZE, 1), 'content while tracked');
      ctx.poke(SCRATCH + 16, pattern(16, 2));
      sameBytes(ctx.peek(SCRATCH + 16, 16), pattern(16, 2), 'what the host wrote');
      equal(ctx.agent.read(SCRATCH + 16, 4), word(pattern(16, 2), 4), 'what the guest reads');
      ctx.handle.disablePageTrack(PAGE);
      sameBytes(ctx.peek(SCRATCH + 32, 64), pattern(PAGE_SIZE, 1).subarray(32, 96), 'content afterwards');
    },
  },
  {
    name: 'host-write-not-reported',
    rule: 'write_gpa to a tracked frame is not reported: only the guest writes are.',
    operations: ['enable_page_track', 'write_gpa'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.poke(SCRATCH, pattern(64, 3));
      equal(ctx.handle.syncPageTrack(), 0, 'frames reported');
      ctx.recorder.expectNone('the host wrote');
    },
  },
]);

const trap = group('page-track', { operations: ['enable_page_track'], needs: ['pageTrack'], level: 'trap', guest: true }, [
  ...SIZES.flatMap((size) =>
    ([0, 0x7f8, PAGE_SIZE - size] as const).map(
      (offset): CaseSpec => ({
        name: `trap-size-${size}-at-0x${offset.toString(16)}`,
        rule: 'A guest write of 1, 2, 4 or 8 bytes to a tracked frame is reported once with address, size and data.',
        run(ctx) {
          ctx.handle.enablePageTrack(PAGE);
          store(ctx, SCRATCH + offset, size);
          const bytes = stored(size);
          ctx.recorder.expectOne({
            kind: 'wp',
            write: true,
            vgpu: 1,
            address: SCRATCH + offset,
            size,
            low: word(bytes, Math.min(size, 4)),
            high: size === 8 ? HIGH : 0,
          });
          sameBytes(ctx.peek(SCRATCH + offset, size), bytes, 'guest memory');
        },
      }),
    ),
  ),
  {
    name: 'trap-memory-updated-first',
    rule: 'When a write is reported the data is already in guest memory.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      let seen: Uint8Array | undefined;
      ctx.recorder.onAccess = ({ address, size }) => {
        seen = ctx.peek(address, size);
      };
      store(ctx, SCRATCH + 0x100, 4);
      ok(seen !== undefined, 'the write was not reported');
      sameBytes(seen, stored(4), 'memory at the time of the report');
    },
  },
  {
    name: 'trap-every-write',
    rule: 'Every write is reported, in order, also when the same value is written again.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      const dwords = Array.from({ length: 64 }, (_, i) => (i >> 1) * 0x0101_0101);
      ctx.agent.stream(SCRATCH, dwords);
      equal(ctx.recorder.accesses.length, 64, 'writes reported');
      ctx.recorder.accesses.forEach((access, i) => {
        equal(access.address, SCRATCH + i * 4, `address of write ${i}`);
        equal(access.low, dwords[i], `data of write ${i}`);
      });
    },
  },
  {
    name: 'trap-reads-do-not',
    rule: 'Guest reads of a tracked frame are not reported and see its content.',
    run(ctx) {
      ctx.poke(SCRATCH, stored(8));
      ctx.handle.enablePageTrack(PAGE);
      equal(ctx.agent.read(SCRATCH, 4), LOW, 'value read');
      equal(ctx.agent.read64(SCRATCH).hi, HIGH, 'high half read');
      ctx.recorder.expectNone('the guest read');
    },
  },
  {
    name: 'trap-neighbours-untouched',
    rule: 'Writes to the frames beside a tracked one are not reported and reach memory.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      for (const gpa of [SCRATCH - 4, SCRATCH + PAGE_SIZE]) {
        store(ctx, gpa, 4);
        sameBytes(ctx.peek(gpa, 4), stored(4), 'guest memory');
      }
      ctx.recorder.expectNone('the frames are not tracked');
    },
  },
  {
    name: 'trap-untrack-stops',
    rule: 'After disable_page_track writes are no longer reported and reach memory.',
    operations: ['disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      store(ctx, SCRATCH, 1);
      ctx.recorder.expectOne({ kind: 'wp' });
      ctx.recorder.clear();
      ctx.handle.disablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      ctx.recorder.expectNone('tracking is off');
      sameBytes(ctx.peek(SCRATCH, 4), stored(4), 'guest memory');
    },
  },
  {
    name: 'trap-untrack-costs-nothing',
    rule: 'After disable_page_track writes do not exit any more.',
    operations: ['disable_page_track'],
    run(ctx) {
      const exits = (): number => Object.values(ctx.machine.exitCounts()).reduce((sum, count) => sum + count, 0);
      const cost = (): number => {
        const before = exits();
        ctx.agent.burstWrite(SCRATCH + 8, 4, 1, 200);
        return exits() - before;
      };
      ctx.handle.enablePageTrack(PAGE);
      ok(cost() >= 200, 'tracked writes were not counted as exits');
      ctx.handle.disablePageTrack(PAGE);
      const after = cost();
      ok(after < 100, `200 untracked writes cost ${after} exits`);
    },
  },
  {
    name: 'trap-enable-twice',
    rule: 'Enabling twice reports each write once, and one disable ends it.',
    operations: ['enable_page_track', 'disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.handle.enablePageTrack(PAGE);
      equal(ctx.handle.trackedCount, 1, 'frames tracked');
      store(ctx, SCRATCH, 4);
      ctx.recorder.expectOne({ kind: 'wp' });
      ctx.recorder.clear();
      ctx.handle.disablePageTrack(PAGE);
      ctx.handle.disablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      ctx.recorder.expectNone('tracking is off');
    },
  },
  ...EDGES.map(
    ([name, gfn]): CaseSpec => ({
      name: `trap-edge-${name}`,
      rule: 'A tracked frame at the edge of a region traps at its first and last byte, and only there.',
      run(ctx) {
        const gpa = gfn * PAGE_SIZE;
        ctx.handle.enablePageTrack(Gfn(gfn));
        ctx.agent.write(gpa, 1, 0x11);
        ctx.agent.write(gpa + PAGE_SIZE - 1, 1, 0x22);
        const [first, last] = ctx.recorder.of('wp');
        equal(ctx.recorder.accesses.length, 2, 'accesses');
        equal(first?.address, gpa, 'first report');
        equal(last?.address, gpa + PAGE_SIZE - 1, 'second report');
        ctx.recorder.clear();
        ctx.handle.disablePageTrack(Gfn(gfn));
        ctx.agent.write(gpa, 1, 0x33);
        ctx.recorder.expectNone('tracking is off');
        equal(ctx.peek(gpa, 1)[0], 0x33, 'guest memory');
      },
    }),
  ),
  {
    name: 'trap-adjacent-frames',
    rule: 'Adjacent tracked frames report their own writes; untracking the middle one leaves the others tracked.',
    operations: ['enable_page_track', 'disable_page_track'],
    run(ctx) {
      for (const i of [0, 1, 2]) ctx.handle.enablePageTrack(Gfn(PAGE + i));
      ctx.handle.disablePageTrack(Gfn(PAGE + 1));
      for (const i of [0, 1, 2]) ctx.agent.write(SCRATCH + i * PAGE_SIZE + 8, 4, i + 1);
      equal(
        ctx.recorder.accesses.map((access) => access.address).join(),
        [SCRATCH + 8, SCRATCH + 2 * PAGE_SIZE + 8].join(),
        'addresses reported',
      );
      for (const i of [0, 1, 2]) equal(word(ctx.peek(SCRATCH + i * PAGE_SIZE + 8, 4), 4), i + 1, `memory of frame ${i}`);
    },
  },
  {
    name: 'trap-many-frames',
    rule: 'Every second frame of 64 can be tracked; exactly those report, and all memory is right after untracking.',
    operations: ['enable_page_track', 'disable_page_track'],
    run(ctx) {
      for (let i = 0; i < 64; i += 2) ctx.handle.enablePageTrack(Gfn(PAGE + i));
      for (let i = 0; i < 64; i++) ctx.agent.write(SCRATCH + i * PAGE_SIZE, 4, 0x1000 + i);
      equal(ctx.recorder.of('wp').length, 32, 'writes reported');
      for (const { low } of ctx.recorder.accesses) equal(low % 2, 0, 'parity of the reported value');
      for (let i = 62; i >= 0; i -= 2) ctx.handle.disablePageTrack(Gfn(PAGE + i));
      for (let i = 0; i < 64; i++) equal(word(ctx.peek(SCRATCH + i * PAGE_SIZE, 4), 4), 0x1000 + i, `memory of frame ${i}`);
      ctx.recorder.clear();
      ctx.agent.write(SCRATCH + 4, 4, 5);
      ctx.recorder.expectNone('tracking is off');
    },
  },
  ...(
    [
      ['into', PAGE_SIZE - 4, 1, 4],
      ['into-by-one-byte', PAGE_SIZE - 7, 1, 1],
      ['out-of', PAGE_SIZE - 4, 0, 4],
      ['out-of-by-three-bytes', PAGE_SIZE - 3, 0, 3],
    ] as const
  ).map(
    ([name, offset, tracked, count]): CaseSpec => ({
      name: `trap-crossing-${name}`,
      rule: 'Of an 8-byte write that crosses a tracked and an untracked frame exactly the bytes in the tracked frame are reported, and all reach memory.',
      run(ctx) {
        ctx.handle.enablePageTrack(Gfn(PAGE + tracked));
        store(ctx, SCRATCH + offset, 8);
        const from = tracked === 1 ? SCRATCH + PAGE_SIZE : SCRATCH + offset;
        const skip = from - (SCRATCH + offset);
        sameBytes(reportedBytes(ctx, from, count), stored(8).subarray(skip, skip + count), 'data reported');
        sameBytes(ctx.peek(SCRATCH + offset, 8), stored(8), 'guest memory');
      },
    }),
  ),
  {
    name: 'trap-crossing-two-tracked',
    rule: 'An 8-byte write across two tracked frames is reported byte for byte, once.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.handle.enablePageTrack(Gfn(PAGE + 1));
      store(ctx, SCRATCH + PAGE_SIZE - 5, 8);
      sameBytes(reportedBytes(ctx, SCRATCH + PAGE_SIZE - 5, 8), stored(8), 'data reported');
      sameBytes(ctx.peek(SCRATCH + PAGE_SIZE - 5, 8), stored(8), 'guest memory');
    },
  },
  {
    name: 'trap-two-vgpus-both-told',
    rule: 'A write to a frame that two vGPUs of a VM track is reported to each of them once, with its data.',
    operations: ['enable_page_track'],
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.enablePageTrack(PAGE);
      second.enablePageTrack(PAGE);
      store(ctx, SCRATCH, 8);
      const [first, other] = ctx.recorder.accesses;
      equal(ctx.recorder.accesses.length, 2, 'reports');
      equal([first?.vgpu, other?.vgpu].sort().join(), '1,2', 'vGPUs told');
      for (const access of [first, other]) {
        equal(access?.kind, 'wp', 'kind');
        equal(access?.address, SCRATCH, 'address');
        equal(access?.size, 8, 'size');
      }
      equal(`${other?.low},${other?.high}`, `${first?.low},${first?.high}`, 'data of both reports');
      store(ctx, SCRATCH + PAGE_SIZE, 4);
      equal(ctx.recorder.accesses.length, 2, 'a write beside the frame is no report');
    },
  },
  {
    name: 'trap-two-vgpus-one-frame',
    rule: 'A frame that two vGPUs of a VM track stays tracked until both have untracked it.',
    operations: ['enable_page_track', 'disable_page_track'],
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.enablePageTrack(PAGE);
      second.enablePageTrack(PAGE);
      ctx.handle.disablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      ctx.recorder.expectOne({ kind: 'wp', vgpu: 2 });
      ctx.recorder.clear();
      second.disablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      ctx.recorder.expectNone('nobody tracks the frame');
    },
  },
  {
    name: 'trap-change-from-report',
    rule: 'Tracking may be switched off from inside the report; the next write is not reported.',
    operations: ['disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.recorder.onAccess = () => ctx.handle.disablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      store(ctx, SCRATCH + 8, 4);
      ctx.recorder.expectOne({ kind: 'wp', address: SCRATCH });
      sameBytes(ctx.peek(SCRATCH + 8, 4), stored(4), 'memory of the second write');
    },
  },
  {
    name: 'trap-sync-answers-zero',
    rule: 'At level trap synchronising reports nothing: every write was reported when it happened.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      store(ctx, SCRATCH, 4);
      equal(ctx.handle.syncPageTrack(), 0, 'frames reported');
      equal(ctx.recorder.pagesWritten.length, 0, 'page_written calls');
    },
  },
]);

export const PAGE_TRACK_CASES: readonly ConformanceCase[] = [...both, ...trap];
