/** 2 MiB DMA mappings and the limit of pinned pages. */
import { Gfn, HUGE_PAGE_SIZE, PAGE_SIZE } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, pattern, refuses, sameBytes } from '../expect.js';
import { firstFrame, HOLE, RAM_HIGH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';
import { at, map } from './dma-calls.js';

const PAGE = Gfn(SCRATCH_FRAME);
/** A frame at a 2 MiB boundary. */
const HUGE = Gfn((3 * HUGE_PAGE_SIZE) / PAGE_SIZE);
const HUGE_GPA = HUGE * PAGE_SIZE;

const huge = group('dma-huge', { operations: ['dma_map_guest_page', 'dma_unmap_guest_page'], needs: ['dmaHugePage'] }, [
  {
    name: 'spans-2-mib',
    rule: 'A 2 MiB mapping is one range: views reach from its first to its last byte and no further.',
    run(ctx) {
      ctx.poke(HUGE_GPA, pattern(64, 1));
      ctx.poke(HUGE_GPA + HUGE_PAGE_SIZE - 64, pattern(64, 2));
      const address = map(ctx.handle, HUGE, HUGE_PAGE_SIZE);
      const bytes = ctx.handle.view(address, HUGE_PAGE_SIZE);
      sameBytes(bytes.subarray(0, 64), pattern(64, 1), 'first bytes');
      sameBytes(bytes.subarray(HUGE_PAGE_SIZE - 64), pattern(64, 2), 'last bytes');
      ctx.handle.view(at(address, HUGE_PAGE_SIZE - 1), 1);
      refuses('NOT_MAPPED', () => ctx.handle.view(at(address, HUGE_PAGE_SIZE - 1), 2));
      refuses('NOT_MAPPED', () => ctx.handle.view(at(address, HUGE_PAGE_SIZE), 1));
      equal(ctx.handle.pinnedPages, 512, 'pages pinned');
    },
  },
  {
    name: 'whole-region',
    rule: 'A region of exactly 2 MiB above 4 GiB can be mapped whole.',
    run(ctx) {
      ctx.poke(RAM_HIGH.gpa + HUGE_PAGE_SIZE - 8, pattern(8, 3));
      const address = map(ctx.handle, firstFrame(RAM_HIGH), HUGE_PAGE_SIZE);
      sameBytes(ctx.handle.view(at(address, HUGE_PAGE_SIZE - 8), 8), pattern(8, 3), 'last bytes');
    },
  },
  ...([1, 256, 511] as const).map(
    (offset): CaseSpec => ({
      name: `unaligned-by-${offset}`,
      rule: 'A 2 MiB mapping of a frame that is no multiple of 512 is refused as INVALID_ARGUMENT.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'dma_map_guest_page', () => map(ctx.handle, HUGE + offset, HUGE_PAGE_SIZE), {
          address: HUGE + offset,
        });
        equal(ctx.handle.pinnedPages, 0, 'pages pinned');
      },
    }),
  ),
  {
    name: 'partly-ram',
    needs: ['dmaHugePage', 'wholeBus'],
    rule: 'A 2 MiB mapping that is not wholly RAM answers NOT_RAM.',
    run(ctx) {
      const machine = ctx.createMachine([{ gpa: 0, size: HUGE_PAGE_SIZE + PAGE_SIZE }]);
      const handle = ctx.attach({ machine });
      ctx.refuses('NOT_RAM', 'dma_map_guest_page', () => map(handle, 512, HUGE_PAGE_SIZE));
      map(handle, 0, HUGE_PAGE_SIZE);
      map(handle, 512);
    },
  },
  {
    name: 'in-hole',
    rule: 'A 2 MiB mapping in a hole answers NOT_RAM.',
    run(ctx) {
      ctx.refuses('NOT_RAM', 'dma_map_guest_page', () => map(ctx.handle, firstFrame(HOLE), HUGE_PAGE_SIZE));
    },
  },
  {
    name: 'grows',
    rule: 'Asking 2 MiB of a frame mapped as 4 KiB grows the mapping at the same address, which stays large until the last unmap.',
    run(ctx) {
      const address = map(ctx.handle, HUGE);
      refuses('NOT_MAPPED', () => ctx.handle.view(address, HUGE_PAGE_SIZE));
      equal(map(ctx.handle, HUGE, HUGE_PAGE_SIZE), address, 'address after growing');
      equal(ctx.handle.pinnedPages, 512, 'pages pinned');
      ctx.poke(HUGE_GPA + HUGE_PAGE_SIZE - 4, pattern(4, 4));
      ctx.handle.dmaUnmapGuestPage(address);
      sameBytes(ctx.handle.view(at(address, HUGE_PAGE_SIZE - 4), 4), pattern(4, 4), 'last bytes');
      ctx.handle.dmaUnmapGuestPage(address);
      equal(ctx.handle.pinnedPages, 0, 'pages pinned at the end');
      refuses('NOT_MAPPED', () => ctx.handle.view(address, 1));
    },
  },
  {
    name: 'small-request-of-large',
    rule: 'Asking 4 KiB of a frame mapped as 2 MiB gives the large mapping one more reference.',
    run(ctx) {
      const address = map(ctx.handle, HUGE, HUGE_PAGE_SIZE);
      equal(map(ctx.handle, HUGE), address, 'address of the small request');
      ctx.handle.dmaUnmapGuestPage(address);
      ctx.handle.view(address, HUGE_PAGE_SIZE);
      ctx.handle.dmaUnmapGuestPage(address);
      refuses('NOT_MAPPED', () => ctx.handle.view(address, 1));
    },
  },
  {
    name: 'small-inside-large',
    rule: 'A frame inside a 2 MiB mapping can be mapped by itself, shows its own bytes and has its own references.',
    run(ctx) {
      const address = map(ctx.handle, HUGE, HUGE_PAGE_SIZE);
      const inner = map(ctx.handle, HUGE + 3);
      ctx.poke(HUGE_GPA + 3 * PAGE_SIZE, pattern(32, 5));
      sameBytes(ctx.handle.view(inner, 32), pattern(32, 5), 'bytes of the inner mapping');
      ctx.handle.dmaUnmapGuestPage(address);
      sameBytes(ctx.handle.view(inner, 32), pattern(32, 5), 'bytes after the large unmap');
      ctx.handle.dmaUnmapGuestPage(inner);
      refuses('NOT_MAPPED', () => ctx.handle.view(inner, 1));
      equal(ctx.handle.pinnedPages, 0, 'pages pinned');
    },
  },
]);

const pinLimit = group('dma-limit', { operations: ['dma_map_guest_page'], pinLimit: true }, [
  {
    name: 'exact',
    rule: 'As many pages as the pin limit allows can be mapped; one more answers LIMIT with that number and pins nothing.',
    run(ctx) {
      ctx.usePinLimit(4);
      const addresses = [0, 1, 2, 3].map((i) => map(ctx.handle, PAGE + i));
      ctx.refuses('LIMIT', 'dma_map_guest_page', () => map(ctx.handle, PAGE + 4), { limit: 4 });
      equal(ctx.handle.pinnedPages, 4, 'pages pinned');
      equal(map(ctx.handle, PAGE), addresses[0], 'a mapped frame at the limit');
    },
  },
  {
    name: 'unmap-makes-room',
    rule: 'After an unmap another page can be pinned.',
    run(ctx) {
      ctx.usePinLimit(1);
      const address = map(ctx.handle);
      ctx.refuses('LIMIT', 'dma_map_guest_page', () => map(ctx.handle, PAGE + 1));
      ctx.handle.dmaUnmapGuestPage(address);
      map(ctx.handle, PAGE + 1);
    },
  },
  {
    name: 'failed-map-costs-nothing',
    rule: 'A mapping that is refused for another reason uses up none of the limit.',
    run(ctx) {
      ctx.usePinLimit(1);
      for (let i = 0; i < 3; i++) ctx.refuses('NOT_RAM', 'dma_map_guest_page', () => map(ctx.handle, firstFrame(HOLE)));
      map(ctx.handle);
    },
  },
  {
    name: 'per-vgpu',
    rule: 'Each vGPU has its own limit.',
    run(ctx) {
      ctx.usePinLimit(1);
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      map(ctx.handle);
      map(second, PAGE + 1);
      ctx.refuses('LIMIT', 'dma_map_guest_page', () => map(second, PAGE + 2));
    },
  },
  {
    name: 'large-page',
    rule: 'A 2 MiB mapping counts 512 pages; growing counts the 511 that are added.',
    needs: ['dmaHugePage'],
    run(ctx) {
      ctx.usePinLimit(512);
      ctx.handle.dmaUnmapGuestPage(map(ctx.handle, HUGE, HUGE_PAGE_SIZE));
      const small = map(ctx.handle, PAGE);
      ctx.refuses('LIMIT', 'dma_map_guest_page', () => map(ctx.handle, HUGE, HUGE_PAGE_SIZE), { limit: 512 });
      const first = map(ctx.handle, HUGE);
      ctx.refuses('LIMIT', 'dma_map_guest_page', () => map(ctx.handle, HUGE, HUGE_PAGE_SIZE), { limit: 512 });
      ctx.handle.dmaUnmapGuestPage(small);
      equal(map(ctx.handle, HUGE, HUGE_PAGE_SIZE), first, 'address after growing');
      equal(ctx.handle.pinnedPages, 512, 'pages pinned');
    },
  },
]);

export const DMA_LIMIT_CASES: readonly ConformanceCase[] = [...huge, ...pinLimit];
