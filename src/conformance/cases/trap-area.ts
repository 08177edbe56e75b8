/** set_trap_area: which guest accesses belong to a vGPU. */
import { Gpa, PAGE_SIZE } from '../../core/addresses.js';
import { BAD_ADDRESSES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok } from '../expect.js';
import { HOLE, lastByte, RAM_HIGH, RAM_ISLAND, RAM_LOW, RAM_NEXT, SECOND_BDF } from '../layout.js';

const START = HOLE.gpa + 0x10_0000;
const END = START + 0x1fff;

/** A guest load of one byte is delivered to this vGPU (0: to none). */
function expectOwner(ctx: CaseContext, gpa: number, vgpu: number): void {
  ctx.recorder.clear();
  ctx.agent.read(gpa, 1);
  ctx.recorder.expectOne({ kind: 'mmio', write: false, address: gpa, size: 1, vgpu });
}

const set = (ctx: CaseContext, start: number, end: number, map = true, handle = ctx.handle): void =>
  handle.setTrapArea(Gpa(start), Gpa(end), map);

const guest: CaseSpec[] = [
  {
    name: 'ends-inclusive',
    rule: 'Accesses to the first and the last byte of a trap area belong to the vGPU, those one byte outside to none.',
    run(ctx) {
      set(ctx, START, END);
      expectOwner(ctx, START, 1);
      expectOwner(ctx, END, 1);
      expectOwner(ctx, START - 1, 0);
      expectOwner(ctx, END + 1, 0);
    },
  },
  {
    name: 'one-byte',
    rule: 'A trap area may be one byte long.',
    run(ctx) {
      set(ctx, START + 0x555, START + 0x555);
      expectOwner(ctx, START + 0x555, 1);
      expectOwner(ctx, START + 0x554, 0);
      expectOwner(ctx, START + 0x556, 0);
    },
  },
  {
    name: 'nothing-before',
    rule: 'Without a trap area an access outside RAM is delivered to no vGPU and reads all ones.',
    run(ctx) {
      ok(ctx.handle.attached, 'the vGPU is not attached');
      expectOwner(ctx, START, 0);
      equal(ctx.agent.read(START, 4), 0xffff_ffff, 'value read');
    },
  },
  {
    name: 'removal',
    rule: 'After removal the accesses belong to no vGPU, and the area can be set again.',
    run(ctx) {
      set(ctx, START, END);
      set(ctx, START, END, false);
      expectOwner(ctx, START, 0);
      set(ctx, START, END);
      expectOwner(ctx, START, 1);
    },
  },
  {
    name: 'two-areas',
    rule: 'Two areas of one vGPU are independent: removing one leaves the other.',
    run(ctx) {
      set(ctx, START, END);
      set(ctx, END + 1 + PAGE_SIZE, END + 2 * PAGE_SIZE);
      expectOwner(ctx, END + 1 + PAGE_SIZE, 1);
      expectOwner(ctx, END + 1, 0);
      set(ctx, START, END, false);
      expectOwner(ctx, START, 0);
      expectOwner(ctx, END + 1 + PAGE_SIZE, 1);
    },
  },
  {
    name: 'adjacent-vgpus',
    rule: 'Adjacent areas of two vGPUs split exactly between two bytes.',
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      set(ctx, START, START + 0xff);
      set(ctx, START + 0x100, START + 0x1ff, true, second);
      expectOwner(ctx, START + 0xff, 1);
      expectOwner(ctx, START + 0x100, 2);
    },
  },
  {
    name: 'many-areas',
    rule: 'Areas set in any order are all found.',
    run(ctx) {
      const order = [5, 0, 9, 3, 7, 1, 8, 2, 6, 4];
      for (const i of order) set(ctx, START + i * 0x2000, START + i * 0x2000 + 0xfff);
      for (const i of order) {
        expectOwner(ctx, START + i * 0x2000 + 0xfff, 1);
        expectOwner(ctx, START + i * 0x2000 + 0x1000, 0);
      }
    },
  },
];

/** Areas that overlap [START, END]. */
const OVERLAPS: readonly (readonly [string, number, number])[] = [
  ['identical', START, END],
  ['first-byte', START - 0x100, START],
  ['last-byte', END, END + 0x100],
  ['inside', START + 1, START + 1],
  ['around', START - 1, END + 1],
];

/** Areas that overlap RAM. */
const RAM_OVERLAPS: readonly (readonly [string, number, number])[] = [
  ['inside', RAM_LOW.gpa + 0x20_0000, RAM_LOW.gpa + 0x20_0fff],
  ['at-zero', 0, 0xff],
  ['last-byte', lastByte(RAM_NEXT), lastByte(RAM_NEXT)],
  ['begins-in', lastByte(RAM_NEXT), lastByte(RAM_NEXT) + 0x100],
  ['ends-in', RAM_ISLAND.gpa - 0x100, RAM_ISLAND.gpa],
  ['around', RAM_HIGH.gpa - 1, lastByte(RAM_HIGH) + 1],
];

const limits: CaseSpec[] = [
  ...OVERLAPS.map(
    ([name, start, end]): CaseSpec => ({
      name: `overlap-${name}`,
      rule: 'An area that shares a byte with another of this VM, of whichever vGPU, is refused as OVERLAP.',
      run(ctx) {
        const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
        set(ctx, START, END);
        ctx.refuses('OVERLAP', 'set_trap_area', () => set(ctx, start, end), { address: start });
        ctx.refuses('OVERLAP', 'set_trap_area', () => set(ctx, start, end, true, second), { address: start });
        set(ctx, START, END, false);
        set(ctx, start, end, true, second);
      },
    }),
  ),
  ...RAM_OVERLAPS.map(
    ([name, start, end]): CaseSpec => ({
      name: `overlap-ram-${name}`,
      rule: 'An area that shares a byte with RAM is refused as OVERLAP.',
      run(ctx) {
        ctx.refuses('OVERLAP', 'set_trap_area', () => set(ctx, start, end), { address: start });
      },
    }),
  ),
  {
    name: 'overlap-mapping',
    rule: 'An area that shares a byte with a direct mapping is refused as OVERLAP.',
    operations: ['set_trap_area', 'map_gfn_to_mfn'],
    needs: ['setTrapArea', 'mapGfnToMfn', 'hostPages'],
    run(ctx) {
      const { mfn } = ctx.hostPages(1);
      ctx.handle.mapGfnToMfn((START / PAGE_SIZE) as Parameters<typeof ctx.handle.mapGfnToMfn>[0], mfn, 1, true);
      ctx.refuses('OVERLAP', 'set_trap_area', () => set(ctx, START + PAGE_SIZE - 1, END));
      set(ctx, START + PAGE_SIZE, END);
    },
  },
  {
    name: 'touching-ram',
    rule: 'An area may begin right behind RAM and end right before it.',
    run(ctx) {
      set(ctx, HOLE.gpa, lastByte(HOLE));
      set(ctx, lastByte(RAM_HIGH) + 1, lastByte(RAM_HIGH) + PAGE_SIZE);
    },
  },
  {
    name: 'last-byte-below-2-52',
    rule: 'An area may end at the last byte below 2^52.',
    run(ctx) {
      set(ctx, 2 ** 52 - PAGE_SIZE, 2 ** 52 - 1);
      set(ctx, 2 ** 52 - PAGE_SIZE, 2 ** 52 - 1, false);
    },
  },
  ...BAD_ADDRESSES.flatMap(([name, bad]): CaseSpec[] => [
    {
      name: `start-${name}`,
      rule: 'A start that is no address is refused as INVALID_ADDRESS.',
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'set_trap_area', () => set(ctx, bad, END), { address: bad });
      },
    },
    {
      name: `end-${name}`,
      rule: 'An end that is no address is refused as INVALID_ADDRESS.',
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'set_trap_area', () => set(ctx, START, bad));
      },
    },
  ]),
  {
    name: 'end-before-start',
    rule: 'An area whose end lies before its start is refused as INVALID_ADDRESS.',
    run(ctx) {
      ctx.refuses('INVALID_ADDRESS', 'set_trap_area', () => set(ctx, START, START - 1), { address: START });
    },
  },
  {
    name: 'remove-unknown',
    rule: 'Removing an area that is not set answers NOT_MAPPED.',
    run(ctx) {
      ctx.refuses('NOT_MAPPED', 'set_trap_area', () => set(ctx, START, END, false), { address: START });
    },
  },
  {
    name: 'remove-not-exact',
    rule: 'Removing other bounds than were set, or another vGPU removing them, answers NOT_MAPPED and removes nothing.',
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      set(ctx, START, END);
      for (const [start, end] of [
        [START, END - 1],
        [START, END + 1],
        [START + 1, END],
        [START - 1, END],
      ] as const)
        ctx.refuses('NOT_MAPPED', 'set_trap_area', () => set(ctx, start, end, false));
      ctx.refuses('NOT_MAPPED', 'set_trap_area', () => set(ctx, START, END, false, second));
      set(ctx, START, END, false);
      ctx.refuses('NOT_MAPPED', 'set_trap_area', () => set(ctx, START, END, false));
    },
  },
  {
    name: 'limit',
    rule: 'A vGPU can have as many areas as its limits tell; one more answers LIMIT with that number.',
    run(ctx) {
      const { trapAreas } = ctx.handle.limits;
      ok(trapAreas >= 8 && trapAreas <= 1024, `${trapAreas} areas is no sensible limit`);
      for (let i = 0; i < trapAreas; i++) set(ctx, START + i * 32, START + i * 32 + 15);
      ctx.refuses('LIMIT', 'set_trap_area', () => set(ctx, START + trapAreas * 32, START + trapAreas * 32 + 15), { limit: trapAreas });
      set(ctx, START, START + 15, false);
      set(ctx, START + trapAreas * 32, START + trapAreas * 32 + 15);
    },
  },
];

const needs = { operations: ['set_trap_area'], needs: ['setTrapArea'] } as const;
export const TRAP_AREA_CASES: readonly ConformanceCase[] = [
  ...group('trap-area', { ...needs, guest: true }, guest),
  ...group('trap-area', needs, limits),
];
