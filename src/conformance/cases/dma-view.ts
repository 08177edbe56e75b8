/** What the GPU reaches through DMA addresses: live views and copies, and nothing else. */
import { type DmaAddress, Gfn, PAGE_SIZE } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, pattern, refuses, sameBytes, word } from '../expect.js';
import { SCRATCH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';
import { at, map } from './dma-calls.js';

const PAGE = Gfn(SCRATCH_FRAME);

export const DMA_VIEW_CASES: readonly ConformanceCase[] = group('dma', { operations: ['dma_map_guest_page'] }, [
  {
    name: 'view-is-live',
    rule: 'A view shows host writes at once, and what is written through it is in guest memory at once.',
    run(ctx) {
      const bytes = ctx.handle.view(map(ctx.handle), PAGE_SIZE);
      ctx.poke(SCRATCH + 100, pattern(32, 2));
      sameBytes(bytes.subarray(100, 132), pattern(32, 2), 'bytes through the view');
      bytes.set(pattern(32, 3), 200);
      sameBytes(ctx.peek(SCRATCH + 200, 32), pattern(32, 3), 'guest memory');
    },
  },
  {
    name: 'view-follows-the-guest',
    rule: 'A view shows what the guest stores, and the guest loads what was written through it.',
    guest: true,
    run(ctx) {
      const bytes = ctx.handle.view(map(ctx.handle), PAGE_SIZE);
      ctx.agent.write(SCRATCH + 0xffc, 4, 0xc0de_cafe);
      equal(word(bytes, 4, 0xffc), 0xc0de_cafe, 'dword stored by the guest');
      bytes.fill(0x71, 16, 20);
      equal(ctx.agent.read(SCRATCH + 16, 4), 0x7171_7171, 'dword loaded by the guest');
      ctx.recorder.expectNone('DMA mappings do not trap');
    },
  },
  {
    name: 'view-part-of-page',
    rule: 'A view may begin and end anywhere inside the mapping, down to its last byte.',
    run(ctx) {
      ctx.poke(SCRATCH, pattern(PAGE_SIZE, 4));
      const address = map(ctx.handle);
      sameBytes(ctx.handle.view(at(address, 5), 9), pattern(PAGE_SIZE, 4).subarray(5, 14), 'nine bytes at 5');
      sameBytes(ctx.handle.view(at(address, PAGE_SIZE - 1), 1), pattern(PAGE_SIZE, 4).subarray(PAGE_SIZE - 1), 'last byte');
    },
  },
  ...(
    [
      ['past-end', PAGE_SIZE - 1, 2],
      ['one-past', PAGE_SIZE, 1],
      ['one-before', -1, 1],
      ['begins-before', -1, 2],
      ['too-long', 0, PAGE_SIZE + 1],
      ['zero-length', 0, 0],
      ['negative-length', 8, -8],
      ['nan-length', 0, Number.NaN],
      ['fraction-length', 0, 1.5],
      ['fraction-address', 0.5, 1],
      ['nan-address', Number.NaN, 1],
      ['wraps-2-64', 0, 2 ** 64],
    ] as const
  ).flatMap(([name, offset, length]): CaseSpec[] => [
    {
      name: `view-${name}`,
      rule: 'A view that is not wholly inside one mapping is refused as NOT_MAPPED.',
      run(ctx) {
        const address = map(ctx.handle);
        refuses('NOT_MAPPED', () => ctx.handle.view(at(address, offset), length), { op: 'dma_view', backend: ctx.backend.name });
      },
    },
  ]),
  {
    name: 'view-across-two-mappings',
    rule: 'A view does not pass from one mapping into the next, even when both frames are mapped.',
    run(ctx) {
      const [a, b] = [map(ctx.handle, PAGE), map(ctx.handle, PAGE + 1)];
      refuses('NOT_MAPPED', () => ctx.handle.view(at(a, PAGE_SIZE - 4), 8));
      ctx.handle.view(at(a, PAGE_SIZE - 4), 4);
      ctx.handle.view(b, 4);
    },
  },
  {
    name: 'block-shows-the-page',
    rule: 'Where a mapped page lies in a block, its bytes are as far from the first byte as the addresses are, and live as those of a view.',
    run(ctx) {
      const address = map(ctx.handle);
      const block = ctx.handle.block(address);
      if (block === undefined) return;
      const from = address - block.start;
      ctx.poke(SCRATCH, pattern(PAGE_SIZE, 5));
      sameBytes(block.bytes.subarray(from, from + PAGE_SIZE), pattern(PAGE_SIZE, 5), 'the page');
      block.bytes.set(pattern(32, 6), from + 200);
      sameBytes(ctx.peek(SCRATCH + 200, 32), pattern(32, 6), 'guest memory');
    },
  },
  {
    name: 'block-of-unmapped-page',
    rule: 'Of an address that is not mapped no block is given: NOT_MAPPED.',
    run(ctx) {
      const address = map(ctx.handle);
      refuses('NOT_MAPPED', () => ctx.handle.block(at(address, PAGE_SIZE)));
      ctx.handle.dmaUnmapGuestPage(address);
      refuses('NOT_MAPPED', () => ctx.handle.block(address));
    },
  },
  {
    name: 'forged-address',
    rule: 'Addresses that were never handed out are refused: frame numbers, guest addresses, zero.',
    run(ctx) {
      const address = map(ctx.handle);
      for (const forged of [0, PAGE_SIZE, SCRATCH, PAGE, ctx.handle.gfnToMfn(Gfn(PAGE + 7)) * PAGE_SIZE, 2 ** 51, 2 ** 52 - PAGE_SIZE])
        if (forged < address || forged >= address + PAGE_SIZE)
          refuses('NOT_MAPPED', () => ctx.handle.view(forged as DmaAddress, 4), { op: 'dma_view' });
    },
  },
  {
    name: 'other-vgpu-address',
    rule: 'An address that was handed to one vGPU is refused for another of the same VM.',
    operations: ['dma_map_guest_page', 'dma_unmap_guest_page'],
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      const address = map(ctx.handle);
      refuses('NOT_MAPPED', () => second.view(address, 4));
      ctx.refuses('NOT_MAPPED', 'dma_unmap_guest_page', () => second.dmaUnmapGuestPage(address));
      ctx.handle.view(address, 4);
    },
  },
  {
    name: 'copy-out',
    rule: 'copyFrom copies exactly the asked bytes to the asked place.',
    run(ctx) {
      ctx.poke(SCRATCH, pattern(64, 5));
      const target = new Uint8Array(16).fill(0xee);
      ctx.handle.copyFrom(at(map(ctx.handle), 10), target, 4, 6);
      const expected = new Uint8Array(16).fill(0xee);
      expected.set(pattern(64, 5).subarray(10, 16), 4);
      sameBytes(target, expected, 'the target');
      ctx.poke(SCRATCH, pattern(64, 6));
      sameBytes(target, expected, 'the target after the guest memory changed');
    },
  },
  ...(
    [
      ['zero-length', 0, 0],
      ['past-target', 9, 8],
      ['negative-offset', -1, 4],
      ['nan-length', 0, Number.NaN],
    ] as const
  ).map(
    ([name, offset, length]): CaseSpec => ({
      name: `copy-${name}`,
      rule: 'copyFrom refuses a range outside its target as INVALID_ARGUMENT.',
      run(ctx) {
        const address = map(ctx.handle);
        ctx.refuses('INVALID_ARGUMENT', 'dma_copy', () => ctx.handle.copyFrom(address, new Uint8Array(16), offset, length));
      },
    }),
  ),
  {
    name: 'copy-not-mapped',
    rule: 'copyFrom of an unmapped range answers NOT_MAPPED and copies nothing.',
    run(ctx) {
      const target = pattern(16, 7);
      const address = map(ctx.handle);
      ctx.refuses('NOT_MAPPED', 'dma_copy', () => ctx.handle.copyFrom(at(address, PAGE_SIZE - 8), target, 0, 16));
      sameBytes(target, pattern(16, 7), 'the target');
    },
  },
]);
