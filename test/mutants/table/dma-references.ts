/** dma_unmap_guest_page and dma_pin_guest_page, broken. */
import { HUGE_PAGE_SIZE, PAGE_SIZE } from '../../../src/core/addresses.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { onHandle, recodeHandle, silentHandle, vagueHandle } from '../patch.js';
import { pinned, reaches } from './dma-patches.js';

const unmap = mutantsOf('dma_unmap_guest_page', [
  ['does-nothing', 'The page stays mapped.', 'dma/references-1', onHandle('dmaUnmapGuestPage', () => () => undefined)],
  [
    'one-too-few',
    'The last unmap leaves the page mapped.',
    'dma/references-5',
    onHandle('dmaUnmapGuestPage', (original) => {
      let calls = 0;
      return (address) => (++calls === 5 ? undefined : original(address));
    }),
  ],
  [
    'drops-all',
    'One unmap drops every reference.',
    'dma/references-2',
    onHandle('dmaUnmapGuestPage', (original) => (address) => {
      original(address);
      try {
        for (;;) original(address);
      } catch {
        // Nothing is left.
      }
    }),
  ],
  [
    'unknown-silent',
    'An address that is not mapped is ignored.',
    'dma/unmap-wrong-address-next-page',
    silentHandle('dmaUnmapGuestPage', 'NOT_MAPPED'),
  ],
  [
    'rounds-down',
    'An address inside the page unmaps it.',
    'dma/unmap-wrong-address-inside-page',
    onHandle(
      'dmaUnmapGuestPage',
      (original) => (address) => original(Number.isInteger(address) ? address - (address % PAGE_SIZE) : address),
    ),
  ],
  [
    'wrong-code',
    'An address that is not mapped answers INVALID_ADDRESS.',
    'dma/unmap-wrong-address-nan',
    recodeHandle('dmaUnmapGuestPage', 'NOT_MAPPED', 'INVALID_ADDRESS'),
  ],
  [
    'unmaps-next',
    'The next page is unmapped too.',
    'dma/unmap-one-of-two',
    onHandle('dmaUnmapGuestPage', (original) => (address) => {
      original(address);
      try {
        original(address + PAGE_SIZE);
      } catch {
        // There is none.
      }
    }),
  ],
  ['stale', 'An unmapped address still reaches guest memory.', 'dma/references-1', reaches(() => true)],
  [
    'stays-pinned',
    'An unmapped page still counts against the limit.',
    'dma-limit/unmap-makes-room',
    onHandle('dmaMapGuestPage', (original, handle) => {
      let pins = 0;
      return (gfn, size) => {
        if (pins >= handle.limits.pinnedPages) throw handle.backend.error('LIMIT', 'limit', { op: 'dma_map_guest_page' });
        const address = original(gfn, size);
        pins += size / PAGE_SIZE;
        return address;
      };
    }),
  ],
  [
    'shrinks',
    'An unmap makes a large mapping small.',
    'dma-huge/grows',
    onHandle('dmaUnmapGuestPage', (original, handle) => {
      let unmapped = false;
      const view = handle.view.bind(handle);
      handle.view = (address, length) => {
        if (unmapped && address % HUGE_PAGE_SIZE >= PAGE_SIZE) throw handle.backend.error('NOT_MAPPED', 'small', { op: 'dma_view' });
        return view(address, length);
      };
      return (address) => {
        original(address);
        unmapped = true;
      };
    }),
  ],
  [
    'large-takes-inner',
    'Unmapping a 2 MiB mapping unmaps the frames inside.',
    'dma-huge/small-inside-large',
    onHandle('dmaUnmapGuestPage', (original, handle) => (address) => {
      const before = handle.pinnedPages;
      original(address);
      if (before - handle.pinnedPages === 512) original(address + 3 * PAGE_SIZE);
    }),
  ],
  [
    'never-again',
    'A frame that was unmapped cannot be mapped again.',
    'dma/map-again-after-unmap',
    onHandle('dmaUnmapGuestPage', (original, handle) => {
      const map = handle.dmaMapGuestPage.bind(handle);
      let unmapped = false;
      handle.dmaMapGuestPage = (gfn, size) => {
        if (unmapped) throw handle.backend.error('BUSY', 'once', { op: 'dma_map_guest_page' });
        return map(gfn, size);
      };
      return (address) => {
        original(address);
        unmapped = true;
      };
    }),
  ],
]);

const pin = mutantsOf('dma_pin_guest_page', [
  ['does-nothing', 'No reference is added.', 'dma-pin/adds-a-reference', onHandle('dmaPinGuestPage', () => () => undefined)],
  [
    'two-references',
    'Two references are added.',
    'dma-pin/adds-a-reference',
    onHandle('dmaPinGuestPage', (original) => (address) => {
      original(address);
      original(address);
    }),
  ],
  ['counts-a-page', 'A pin counts the page again.', 'dma-pin/pins-no-further-page', pinned((pages) => pages * 2)],
  [
    'unknown-silent',
    'An address that is not mapped is ignored.',
    'dma-pin/unknown-never-mapped',
    silentHandle('dmaPinGuestPage', 'NOT_MAPPED'),
  ],
  [
    'rounds-down',
    'An address inside the page pins it.',
    'dma-pin/unknown-inside-page',
    onHandle('dmaPinGuestPage', (original) => (address) => original(address - (address % PAGE_SIZE))),
  ],
  [
    'revives',
    'A pin after the last unmap succeeds.',
    'dma-pin/unknown-after-unmap',
    onHandle('dmaPinGuestPage', (original, handle) => (address) => (handle.pinnedPages === 0 ? undefined : original(address))),
  ],
  [
    'unnamed',
    'The error does not name the address.',
    'dma-pin/unknown-after-unmap',
    vagueHandle('dmaPinGuestPage', 'NOT_MAPPED', 'address'),
  ],
  [
    'undeclared',
    'It answers UNSUPPORTED although it is declared.',
    'capability/dma-pin-guest-page-honest',
    onHandle('dmaPinGuestPage', (_original, handle) => () => {
      throw handle.backend.error('UNSUPPORTED', 'not here', { op: 'dma_pin_guest_page' });
    }),
  ],
  [
    'silent-when-detached',
    'A detached handle accepts a pin.',
    'detach/dma-pin-guest-page-refused-after',
    silentHandle('dmaPinGuestPage', 'DETACHED'),
  ],
]);

export const DMA_REFERENCE_MUTANTS: readonly Mutant[] = [...unmap, ...pin];
