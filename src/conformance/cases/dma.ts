/** dma_map_guest_page, dma_unmap_guest_page and dma_pin_guest_page with 4 KiB pages. */
import { Gfn, PAGE_SIZE } from '../../core/addresses.js';
import { BAD_FRAMES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok, pattern, refuses, sameBytes } from '../expect.js';
import { firstFrame, HOLE, lastFrame, NAMED_REGIONS, RAM_HIGH, RAM_NEXT, SCRATCH, SCRATCH_FRAME } from '../layout.js';
import { at, map } from './dma-calls.js';

const PAGE = Gfn(SCRATCH_FRAME);

const mapping = group('dma', { operations: ['dma_map_guest_page', 'dma_unmap_guest_page'] }, [
  ...NAMED_REGIONS.map(
    ([name, region]): CaseSpec => ({
      name: `ends-of-${name}`,
      rule: 'The first and the last frame of every region can be mapped; the address is 4 KiB aligned and shows that frame.',
      run(ctx) {
        for (const gfn of [firstFrame(region), lastFrame(region)]) {
          ctx.poke(gfn * PAGE_SIZE, pattern(PAGE_SIZE, gfn));
          const address = map(ctx.handle, gfn);
          ok(Number.isSafeInteger(address) && address >= 0 && address % PAGE_SIZE === 0, `${address} is no aligned address`);
          sameBytes(ctx.handle.view(address, PAGE_SIZE), pattern(PAGE_SIZE, gfn), `frame ${gfn}`);
        }
      },
    }),
  ),
  {
    name: 'same-frame-same-address',
    rule: 'Mapping a frame again gives the same address and pins no further page.',
    run(ctx) {
      const address = map(ctx.handle);
      equal(map(ctx.handle), address, 'second address');
      equal(ctx.handle.pinnedPages, 1, 'pages pinned');
    },
  },
  {
    name: 'distinct-frames-distinct-addresses',
    rule: 'Distinct frames have addresses at least a page apart.',
    run(ctx) {
      const addresses = [0, 1, 2, 100, 1000].map((i) => map(ctx.handle, PAGE + i)).sort((a, b) => a - b);
      for (let i = 1; i < addresses.length; i++)
        ok((addresses[i] as number) - (addresses[i - 1] as number) >= PAGE_SIZE, 'two mappings overlap');
      equal(ctx.handle.pinnedPages, 5, 'pages pinned');
    },
  },
  ...([1, 2, 5] as const).map(
    (times): CaseSpec => ({
      name: `references-${times}`,
      rule: 'A frame mapped N times stays mapped until the N-th unmap; one more answers NOT_MAPPED.',
      run(ctx) {
        const address = map(ctx.handle);
        for (let i = 1; i < times; i++) map(ctx.handle);
        for (let i = 1; i <= times; i++) {
          ctx.handle.view(address, PAGE_SIZE);
          ctx.handle.dmaUnmapGuestPage(address);
        }
        equal(ctx.handle.pinnedPages, 0, 'pages pinned');
        ctx.refuses('NOT_MAPPED', 'dma_unmap_guest_page', () => ctx.handle.dmaUnmapGuestPage(address), { address });
        refuses('NOT_MAPPED', () => ctx.handle.view(address, 1));
      },
    }),
  ),
  {
    name: 'map-again-after-unmap',
    rule: 'A frame that was unmapped can be mapped again.',
    run(ctx) {
      ctx.handle.dmaUnmapGuestPage(map(ctx.handle));
      ctx.poke(SCRATCH, pattern(16, 1));
      sameBytes(ctx.handle.view(map(ctx.handle), 16), pattern(16, 1), 'bytes');
    },
  },
  {
    name: 'unmap-one-of-two',
    rule: 'Unmapping one frame leaves the others mapped.',
    run(ctx) {
      const [a, b] = [map(ctx.handle, PAGE), map(ctx.handle, PAGE + 1)];
      ctx.handle.dmaUnmapGuestPage(a);
      ctx.handle.view(b, PAGE_SIZE);
      refuses('NOT_MAPPED', () => ctx.handle.view(a, 1));
    },
  },
  ...(
    [
      ['inside-page', 8],
      ['next-page', PAGE_SIZE],
      ['page-before', -PAGE_SIZE],
      ['nan', Number.NaN],
    ] as const
  ).map(
    ([name, offset]): CaseSpec => ({
      name: `unmap-wrong-address-${name}`,
      rule: 'Unmapping an address that dma_map_guest_page did not hand out answers NOT_MAPPED and unmaps nothing.',
      operations: ['dma_unmap_guest_page'],
      run(ctx) {
        const address = map(ctx.handle);
        ctx.refuses('NOT_MAPPED', 'dma_unmap_guest_page', () => ctx.handle.dmaUnmapGuestPage(at(address, offset)));
        ctx.handle.view(address, PAGE_SIZE);
      },
    }),
  ),
  ...([0, 1, 4095, 4097, 8192, -4096, 2 ** 30, Number.NaN] as const).map(
    (size): CaseSpec => ({
      name: `size-${size < 0 ? 'negative' : String(size).toLowerCase()}`,
      rule: 'A size other than 4096 and 2 MiB is refused as INVALID_ARGUMENT.',
      operations: ['dma_map_guest_page'],
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'dma_map_guest_page', () => map(ctx.handle, PAGE, size), { size });
        equal(ctx.handle.pinnedPages, 0, 'pages pinned');
      },
    }),
  ),
  ...(
    [
      ['one-past-next', lastFrame(RAM_NEXT) + 1],
      ['last-of-hole', lastFrame(HOLE)],
      ['one-past-high', lastFrame(RAM_HIGH) + 1],
      ['last-below-2-40', 2 ** 40 - 1],
    ] as const
  ).map(
    ([name, gfn]): CaseSpec => ({
      name: `not-ram-${name}`,
      rule: 'Mapping a frame without RAM answers NOT_RAM and pins nothing.',
      operations: ['dma_map_guest_page'],
      run(ctx) {
        ctx.refuses('NOT_RAM', 'dma_map_guest_page', () => map(ctx.handle, gfn));
        equal(ctx.handle.pinnedPages, 0, 'pages pinned');
      },
    }),
  ),
  ...BAD_FRAMES.map(
    ([name, gfn]): CaseSpec => ({
      name: `frame-${name}`,
      rule: 'Mapping what is no frame below 2^40 is refused as INVALID_ADDRESS.',
      operations: ['dma_map_guest_page'],
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'dma_map_guest_page', () => map(ctx.handle, gfn), { address: gfn });
      },
    }),
  ),
]);

const pin = group('dma-pin', { operations: ['dma_pin_guest_page'], needs: ['dmaPin'] }, [
  {
    name: 'adds-a-reference',
    rule: 'dma_pin_guest_page adds one reference: the page outlives the unmap of its map.',
    run(ctx) {
      const address = map(ctx.handle);
      ctx.handle.dmaPinGuestPage(address);
      ctx.handle.dmaUnmapGuestPage(address);
      ctx.handle.view(address, PAGE_SIZE);
      ctx.handle.dmaUnmapGuestPage(address);
      refuses('NOT_MAPPED', () => ctx.handle.view(address, 1));
    },
  },
  {
    name: 'pins-no-further-page',
    rule: 'A pin counts no page twice.',
    run(ctx) {
      const address = map(ctx.handle);
      ctx.handle.dmaPinGuestPage(address);
      equal(ctx.handle.pinnedPages, 1, 'pages pinned');
    },
  },
  ...(
    [
      ['never-mapped', PAGE_SIZE],
      ['next-page', 2 * PAGE_SIZE],
      ['inside-page', 16],
    ] as const
  ).map(
    ([name, offset]): CaseSpec => ({
      name: `unknown-${name}`,
      rule: 'Pinning an address that is not mapped answers NOT_MAPPED.',
      run(ctx) {
        const address = map(ctx.handle);
        ctx.refuses('NOT_MAPPED', 'dma_pin_guest_page', () => ctx.handle.dmaPinGuestPage(at(address, offset)));
      },
    }),
  ),
  {
    name: 'unknown-after-unmap',
    rule: 'Pinning an address after its last unmap answers NOT_MAPPED.',
    run(ctx) {
      const address = map(ctx.handle);
      ctx.handle.dmaUnmapGuestPage(address);
      ctx.refuses('NOT_MAPPED', 'dma_pin_guest_page', () => ctx.handle.dmaPinGuestPage(address), { address });
    },
  },
]);

export const DMA_CASES: readonly ConformanceCase[] = [...mapping, ...pin];
