/** is_valid_gfn and gfn_to_mfn. */
import { Gfn, PAGE_SIZE } from '../../core/addresses.js';
import { BAD_FRAMES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok } from '../expect.js';
import { firstFrame, HOLE, lastFrame, NAMED_REGIONS, RAM_HIGH, RAM_ISLAND, RAM_NEXT, SCRATCH_FRAME } from '../layout.js';

/** Frames that are numbers of the right range without RAM behind them. */
const NOT_RAM: readonly (readonly [string, number])[] = [
  ['one-past-next', lastFrame(RAM_NEXT) + 1],
  ['one-before-island', firstFrame(RAM_ISLAND) - 1],
  ['one-past-island', lastFrame(RAM_ISLAND) + 1],
  ['one-before-high', firstFrame(RAM_HIGH) - 1],
  ['one-past-high', lastFrame(RAM_HIGH) + 1],
  ['last-below-2-40', 2 ** 40 - 1],
];

const isValidGfn = group('valid-gfn', { operations: ['is_valid_gfn'], needs: ['isValidGfn'] }, [
  ...NAMED_REGIONS.map(
    ([name, region]): CaseSpec => ({
      name: `ends-of-${name}`,
      rule: 'is_valid_gfn is true for the first and the last frame of every RAM region.',
      run(ctx) {
        equal(ctx.handle.isValidGfn(Gfn(firstFrame(region))), true, 'first frame');
        equal(ctx.handle.isValidGfn(Gfn(lastFrame(region))), true, 'last frame');
      },
    }),
  ),
  ...[...NOT_RAM, ...BAD_FRAMES].map(
    ([name, gfn]): CaseSpec => ({
      name: `false-${name}`,
      rule: 'is_valid_gfn is false, and does not throw, for every number that names no frame of RAM.',
      run(ctx) {
        equal(ctx.handle.isValidGfn(Gfn(gfn)), false, 'answer');
      },
    }),
  ),
]);

const gfnToMfn = group('gfn-to-mfn', { operations: ['gfn_to_mfn'] }, [
  {
    name: 'distinct',
    rule: 'Distinct guest frames have distinct host frames, across regions too.',
    run(ctx) {
      const owner = new Map<number, number>();
      for (const [, region] of NAMED_REGIONS)
        for (const gfn of [
          firstFrame(region),
          firstFrame(region) + 1,
          firstFrame(region) + 256,
          lastFrame(region) - 1,
          lastFrame(region),
        ]) {
          const mfn = ctx.handle.gfnToMfn(Gfn(gfn));
          equal(owner.get(mfn), undefined, `frame with the same host frame as ${gfn}`);
          owner.set(mfn, gfn);
        }
    },
  },
  {
    name: 'stable',
    rule: 'The host frame of a guest frame stays the same while the vGPU is attached.',
    run(ctx) {
      const before = ctx.handle.gfnToMfn(Gfn(SCRATCH_FRAME));
      ctx.poke(SCRATCH_FRAME * PAGE_SIZE, Uint8Array.of(1));
      equal(ctx.handle.gfnToMfn(Gfn(SCRATCH_FRAME)), before, 'host frame after a write');
    },
  },
  {
    name: 'is-a-frame-number',
    rule: 'gfn_to_mfn answers an integer frame number below 2^52.',
    run(ctx) {
      const mfn = ctx.handle.gfnToMfn(Gfn(firstFrame(RAM_HIGH)));
      ok(Number.isSafeInteger(mfn) && mfn >= 0 && mfn < 2 ** 52, `${mfn} is no frame number`);
    },
  },
  {
    name: 'same-for-two-vgpus',
    rule: 'Two vGPUs of one VM see the same host frame behind a guest frame.',
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: (ctx.handle.vgpu.bdf + 8) as typeof ctx.handle.vgpu.bdf });
      equal(second.gfnToMfn(Gfn(SCRATCH_FRAME)), ctx.handle.gfnToMfn(Gfn(SCRATCH_FRAME)), 'host frame');
    },
  },
  ...NOT_RAM.map(
    ([name, gfn]): CaseSpec => ({
      name: `not-ram-${name}`,
      rule: 'gfn_to_mfn of a frame without RAM throws NOT_RAM: an error never comes back as a frame number.',
      run(ctx) {
        ctx.refuses('NOT_RAM', 'gfn_to_mfn', () => ctx.handle.gfnToMfn(Gfn(gfn)));
      },
    }),
  ),
  {
    name: 'not-ram-every-frame-of-the-hole',
    rule: 'gfn_to_mfn throws NOT_RAM for every frame of a hole.',
    run(ctx) {
      for (let gfn = firstFrame(HOLE); gfn <= lastFrame(HOLE); gfn++)
        ctx.refuses('NOT_RAM', 'gfn_to_mfn', () => ctx.handle.gfnToMfn(Gfn(gfn)));
    },
  },
  ...BAD_FRAMES.map(
    ([name, gfn]): CaseSpec => ({
      name: `frame-${name}`,
      rule: 'gfn_to_mfn refuses what is no frame below 2^40 as INVALID_ADDRESS and names it.',
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'gfn_to_mfn', () => ctx.handle.gfnToMfn(Gfn(gfn)), { address: gfn, limit: 2 ** 40 });
      },
    }),
  ),
]);

export const FRAME_CASES: readonly ConformanceCase[] = [...isValidGfn, ...gfnToMfn];
