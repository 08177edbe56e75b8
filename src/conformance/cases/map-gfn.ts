/** map_gfn_to_mfn: host pages that the guest reaches without an exit. */
import { Gfn, Gpa, type Mfn, PAGE_SIZE } from '../../core/addresses.js';
import { BAD_FRAMES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, pattern, refuses, sameBytes, word } from '../expect.js';
import { firstFrame, HOLE, lastFrame, RAM_ISLAND, RAM_LOW, RAM_NEXT, SECOND_BDF } from '../layout.js';

const AT = Gfn(firstFrame(HOLE) + 16);
const GPA = AT * PAGE_SIZE;

/** The guest's load at `gpa` exits and belongs to nobody. */
function expectUnmapped(ctx: CaseContext, gpa: number): void {
  ctx.recorder.clear();
  equal(ctx.agent.read(gpa, 4), 0xffff_ffff, `value read at an unmapped address`);
  ctx.recorder.expectOne({ kind: 'mmio', write: false, vgpu: 0, address: gpa });
  ctx.recorder.clear();
}

const guest: CaseSpec[] = [
  {
    name: 'guest-reads-host-bytes',
    rule: 'The guest reads the bytes of the mapped host pages, live, from first to last byte, without an exit.',
    run(ctx) {
      const { bytes, mfn } = ctx.hostPages(2);
      bytes.set(pattern(2 * PAGE_SIZE, 1));
      ctx.handle.mapGfnToMfn(AT, mfn, 2, true);
      for (const offset of [0, PAGE_SIZE - 4, PAGE_SIZE, 2 * PAGE_SIZE - 4])
        equal(ctx.agent.read(GPA + offset, 4), word(bytes, 4, offset), `dword at ${offset}`);
      bytes.fill(0x3c, 8, 12);
      equal(ctx.agent.read(GPA + 8, 4), 0x3c3c_3c3c, 'dword changed by the host');
      ctx.recorder.expectNone('the pages are mapped');
    },
  },
  {
    name: 'host-reads-guest-writes',
    rule: 'What the guest writes to a mapped page is in the host pages at once, without an exit.',
    run(ctx) {
      const { bytes, mfn } = ctx.hostPages(2);
      ctx.handle.mapGfnToMfn(AT, mfn, 2, true);
      ctx.agent.write(GPA, 1, 0xa5);
      ctx.agent.write64(GPA + PAGE_SIZE - 4, 0x1111_2222, 0x3333_4444);
      equal(bytes[0], 0xa5, 'first byte');
      equal(word(bytes, 4, PAGE_SIZE - 4), 0x1111_2222, 'end of the first page');
      equal(word(bytes, 4, PAGE_SIZE), 0x3333_4444, 'start of the second page');
      ctx.recorder.expectNone('the pages are mapped');
    },
  },
  {
    name: 'only-these-frames',
    rule: 'The frames beside a mapping stay unmapped.',
    run(ctx) {
      ctx.handle.mapGfnToMfn(AT, ctx.hostPages(1).mfn, 1, true);
      expectUnmapped(ctx, GPA - 4);
      expectUnmapped(ctx, GPA + PAGE_SIZE);
    },
  },
  {
    name: 'part-of-host-pages',
    rule: 'A mapping may start at any of the host pages and cover some of them.',
    run(ctx) {
      const { bytes, mfn } = ctx.hostPages(4);
      bytes.set(pattern(4 * PAGE_SIZE, 2));
      ctx.handle.mapGfnToMfn(AT, (mfn + 1) as Mfn, 2, true);
      equal(ctx.agent.read(GPA, 4), word(bytes, 4, PAGE_SIZE), 'first mapped page');
      equal(ctx.agent.read(GPA + PAGE_SIZE, 4), word(bytes, 4, 2 * PAGE_SIZE), 'second mapped page');
      expectUnmapped(ctx, GPA + 2 * PAGE_SIZE);
    },
  },
  {
    name: 'unmap-makes-accesses-exit',
    rule: 'After the frames are unmapped guest accesses exit, reads and writes alike, and the host pages keep their bytes.',
    run(ctx) {
      const { bytes, mfn } = ctx.hostPages(2);
      bytes.set(pattern(2 * PAGE_SIZE, 3));
      ctx.handle.mapGfnToMfn(AT, mfn, 2, true);
      equal(ctx.agent.read(GPA, 4), word(bytes, 4), 'dword while mapped');
      ctx.handle.mapGfnToMfn(AT, mfn, 2, false);
      expectUnmapped(ctx, GPA);
      expectUnmapped(ctx, GPA + 2 * PAGE_SIZE - 4);
      ctx.agent.write(GPA + 4, 4, 0);
      ctx.recorder.expectOne({ kind: 'mmio', write: true, address: GPA + 4 });
      sameBytes(bytes, pattern(2 * PAGE_SIZE, 3), 'host pages');
    },
  },
  {
    name: 'remap-elsewhere',
    rule: 'Unmapped host pages can be mapped at another frame; the old one then is unmapped.',
    run(ctx) {
      const { bytes, mfn } = ctx.hostPages(1);
      bytes.fill(0x42);
      ctx.handle.mapGfnToMfn(AT, mfn, 1, true);
      ctx.handle.mapGfnToMfn(AT, mfn, 1, false);
      ctx.handle.mapGfnToMfn(Gfn(AT + 3), mfn, 1, true);
      equal(ctx.agent.read(GPA + 3 * PAGE_SIZE, 4), 0x4242_4242, 'dword at the new place');
      expectUnmapped(ctx, GPA);
    },
  },
  {
    name: 'remap-other-pages',
    rule: 'After an unmap the same frame can show other host pages.',
    run(ctx) {
      const [a, b] = [ctx.hostPages(1), ctx.hostPages(1)];
      a.bytes.fill(0xaa);
      b.bytes.fill(0xbb);
      ctx.handle.mapGfnToMfn(AT, a.mfn, 1, true);
      equal(ctx.agent.read(GPA, 1), 0xaa, 'byte of the first pages');
      ctx.handle.mapGfnToMfn(AT, a.mfn, 1, false);
      ctx.handle.mapGfnToMfn(AT, b.mfn, 1, true);
      equal(ctx.agent.read(GPA, 1), 0xbb, 'byte of the second pages');
      equal(a.bytes[0], 0xaa, 'byte of the first pages afterwards');
    },
  },
  {
    name: 'same-pages-twice',
    rule: 'The same host pages may be mapped at two frames, and both show the same bytes.',
    run(ctx) {
      const { mfn } = ctx.hostPages(1);
      ctx.handle.mapGfnToMfn(AT, mfn, 1, true);
      ctx.handle.mapGfnToMfn(Gfn(AT + 8), mfn, 1, true);
      ctx.agent.write(GPA + 0x20, 4, 0x7357_7357);
      equal(ctx.agent.read(GPA + 8 * PAGE_SIZE + 0x20, 4), 0x7357_7357, 'dword at the other frame');
      ctx.handle.mapGfnToMfn(AT, mfn, 1, false);
      equal(ctx.agent.read(GPA + 8 * PAGE_SIZE + 0x20, 4), 0x7357_7357, 'dword after unmapping the first');
    },
  },
  {
    name: 'refused-map-changes-nothing',
    rule: 'A mapping that is refused because its last frame overlaps maps none of its frames.',
    run(ctx) {
      const { mfn, bytes } = ctx.hostPages(4);
      ctx.handle.mapGfnToMfn(Gfn(AT + 3), mfn, 1, true);
      bytes.fill(0x66);
      ctx.refuses('OVERLAP', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, mfn, 4, true));
      expectUnmapped(ctx, GPA);
      equal(ctx.agent.read(GPA + 3 * PAGE_SIZE, 1), 0x66, 'byte of the earlier mapping');
    },
  },
  {
    name: 'touching-ram',
    rule: 'A mapping may touch RAM on both sides without changing it.',
    run(ctx) {
      const { mfn, bytes } = ctx.hostPages(2);
      bytes.fill(0x19);
      ctx.handle.mapGfnToMfn(Gfn(lastFrame(RAM_NEXT) + 1), mfn, 1, true);
      ctx.handle.mapGfnToMfn(Gfn(firstFrame(RAM_ISLAND) - 1), (mfn + 1) as Mfn, 1, true);
      ctx.agent.write64(HOLE.gpa - 4, 0x0a0a_0a0a, 0x0b0b_0b0b);
      equal(word(ctx.peek(HOLE.gpa - 4, 4), 4), 0x0a0a_0a0a, 'last dword of RAM');
      equal(word(bytes, 4), 0x0b0b_0b0b, 'first dword of the mapping');
      equal(ctx.agent.read(RAM_ISLAND.gpa - 4, 4), 0x1919_1919, 'last dword before the island');
    },
  },
];

/** Frames that overlap RAM: name, first frame, count. */
const RAM_OVERLAPS: readonly (readonly [string, number, number])[] = [
  ['inside-ram', firstFrame(RAM_LOW) + 100, 1],
  ['last-frame-of-ram', lastFrame(RAM_NEXT), 1],
  ['starts-in-ram', lastFrame(RAM_NEXT), 2],
  ['ends-in-ram', firstFrame(RAM_ISLAND) - 1, 2],
  ['spans-ram', firstFrame(RAM_ISLAND) - 1, 1026],
];

const limits: CaseSpec[] = [
  ...RAM_OVERLAPS.map(
    ([name, gfn, nr]): CaseSpec => ({
      name: `overlap-${name}`,
      rule: 'Frames that overlap RAM are refused as OVERLAP.',
      run(ctx) {
        const { mfn } = ctx.hostPages(nr);
        ctx.refuses('OVERLAP', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(Gfn(gfn), mfn, nr, true), { address: gfn, size: nr });
      },
    }),
  ),
  {
    name: 'overlap-mapping',
    rule: 'Frames that overlap another mapping, of this or another vGPU, are refused as OVERLAP; adjacent ones are not.',
    run(ctx) {
      const { mfn } = ctx.hostPages(4);
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.mapGfnToMfn(AT, mfn, 4, true);
      for (const handle of [ctx.handle, second])
        for (const [gfn, nr] of [
          [AT, 4],
          [AT - 1, 2],
          [AT + 3, 2],
          [AT + 1, 1],
          [AT - 1, 4],
        ] as const)
          ctx.refuses('OVERLAP', 'map_gfn_to_mfn', () => handle.mapGfnToMfn(Gfn(gfn), mfn, nr, true));
      ctx.handle.mapGfnToMfn(Gfn(AT - 1), mfn, 1, true);
      second.mapGfnToMfn(Gfn(AT + 4), mfn, 1, true);
    },
  },
  {
    name: 'overlap-trap-area',
    rule: 'Frames that overlap a trap area are refused as OVERLAP.',
    needs: ['mapGfnToMfn', 'hostPages', 'setTrapArea'],
    run(ctx) {
      const { mfn } = ctx.hostPages(2);
      ctx.handle.setTrapArea(Gpa(GPA + PAGE_SIZE), Gpa(GPA + PAGE_SIZE), true);
      ctx.refuses('OVERLAP', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, mfn, 2, true));
      ctx.handle.mapGfnToMfn(AT, mfn, 1, true);
    },
  },
  ...(
    [
      ['zero', 0],
      ['negative', -1],
      ['fraction', 1.5],
      ['nan', Number.NaN],
      ['passes-2-40', 2 ** 40 - AT + 1],
      ['at-2-53', 2 ** 53],
    ] as const
  ).map(
    ([name, nr]): CaseSpec => ({
      name: `count-${name}`,
      rule: 'A number of frames below 1, fractional or past frame 2^40 is refused as INVALID_ARGUMENT.',
      run(ctx) {
        const { mfn } = ctx.hostPages(1);
        ctx.refuses('INVALID_ARGUMENT', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, mfn, nr, true), { size: nr });
      },
    }),
  ),
  ...BAD_FRAMES.flatMap(([name, frame]): CaseSpec[] => [
    {
      name: `gfn-${name}`,
      rule: 'What is no guest frame below 2^40 is refused as INVALID_ADDRESS.',
      run(ctx) {
        const { mfn } = ctx.hostPages(1);
        ctx.refuses('INVALID_ADDRESS', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(Gfn(frame), mfn, 1, true), { address: frame });
      },
    },
    {
      name: `mfn-${name}`,
      rule: 'What is no host frame is refused as INVALID_ADDRESS.',
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, frame as Mfn, 1, true), { address: frame });
      },
    },
  ]),
  {
    name: 'forged-host-frame',
    rule: 'Host frames that are neither host pages nor guest RAM are never mapped into a guest, nor is a run that leaves the host pages.',
    run(ctx) {
      const pages = ctx.hostPages(2);
      for (const [mfn, nr] of [
        [0, 1],
        [pages.mfn, 65_536],
      ] as const)
        refuses(undefined, () => ctx.handle.mapGfnToMfn(Gfn(2 ** 21), mfn as Mfn, nr, true), {
          op: 'map_gfn_to_mfn',
          backend: ctx.backend.name,
        });
      pages.release();
      refuses(undefined, () => ctx.handle.mapGfnToMfn(AT, pages.mfn, 1, true), { op: 'map_gfn_to_mfn', backend: ctx.backend.name });
    },
  },
  {
    name: 'unmap-not-mapped',
    rule: 'Unmapping frames that were never mapped answers NOT_MAPPED.',
    run(ctx) {
      const { mfn } = ctx.hostPages(1);
      ctx.refuses('NOT_MAPPED', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, mfn, 1, false), { address: AT });
    },
  },
  {
    name: 'unmap-twice',
    rule: 'A second unmap answers NOT_MAPPED.',
    run(ctx) {
      const { mfn } = ctx.hostPages(1);
      ctx.handle.mapGfnToMfn(AT, mfn, 1, true);
      ctx.handle.mapGfnToMfn(AT, mfn, 1, false);
      ctx.refuses('NOT_MAPPED', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(AT, mfn, 1, false));
    },
  },
  {
    name: 'unmap-not-exact',
    rule: 'Unmapping a part, more, or other host frames than one call mapped answers NOT_MAPPED and unmaps nothing.',
    run(ctx) {
      const { mfn } = ctx.hostPages(5);
      ctx.handle.mapGfnToMfn(AT, mfn, 4, true);
      for (const [gfn, from, nr] of [
        [AT, mfn, 3],
        [AT + 1, mfn + 1, 3],
        [AT, mfn, 5],
        [AT, mfn + 1, 4],
      ] as const)
        ctx.refuses('NOT_MAPPED', 'map_gfn_to_mfn', () => ctx.handle.mapGfnToMfn(Gfn(gfn), from as Mfn, nr, false));
      ctx.handle.mapGfnToMfn(AT, mfn, 4, false);
    },
  },
  {
    name: 'unmap-by-other-vgpu',
    rule: 'A vGPU cannot unmap what another one mapped.',
    run(ctx) {
      const { mfn } = ctx.hostPages(1);
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.mapGfnToMfn(AT, mfn, 1, true);
      ctx.refuses('NOT_MAPPED', 'map_gfn_to_mfn', () => second.mapGfnToMfn(AT, mfn, 1, false));
    },
  },
  {
    name: 'release-while-mapped',
    rule: 'Host pages that are mapped into a guest are not released: BUSY, until they are unmapped.',
    run(ctx) {
      const pages = ctx.hostPages(3);
      ctx.handle.mapGfnToMfn(AT, (pages.mfn + 2) as Mfn, 1, true);
      refuses('BUSY', () => pages.release(), { backend: ctx.backend.name });
      equal(pages.bytes.length, 3 * PAGE_SIZE, 'bytes after the refusal');
      ctx.handle.mapGfnToMfn(AT, (pages.mfn + 2) as Mfn, 1, false);
      pages.release();
    },
  },
  {
    name: 'release-beside-mapped',
    rule: 'Only the host pages that hold a mapped frame are BUSY: others are released while it is mapped.',
    run(ctx) {
      const pages = [ctx.hostPages(2), ctx.hostPages(2), ctx.hostPages(2)] as const;
      ctx.handle.mapGfnToMfn(AT, pages[1].mfn, 1, true);
      ctx.handle.mapGfnToMfn(Gfn(AT + 4), (pages[1].mfn + 1) as Mfn, 1, true);
      pages[0].release();
      pages[2].release();
      refuses('BUSY', () => pages[1].release());
      ctx.handle.mapGfnToMfn(Gfn(AT + 4), (pages[1].mfn + 1) as Mfn, 1, false);
      refuses('BUSY', () => pages[1].release());
      ctx.handle.mapGfnToMfn(AT, pages[1].mfn, 1, false);
      pages[1].release();
    },
  },
  {
    name: 'release-twice',
    rule: 'Releasing host pages again does nothing.',
    run(ctx) {
      const pages = ctx.hostPages(1);
      pages.release();
      pages.release();
    },
  },
];

const needs = { operations: ['map_gfn_to_mfn'], needs: ['mapGfnToMfn', 'hostPages'] } as const;
export const MAP_GFN_CASES: readonly ConformanceCase[] = [
  ...group('map-gfn', { ...needs, guest: true }, guest),
  ...group('map-gfn', needs, limits),
];
