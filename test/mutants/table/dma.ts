/** dma_map_guest_page, broken. */
import { HUGE_PAGE_SIZE, PAGE_SIZE } from '../../../src/core/addresses.js';
import { DmaBlock } from '../../../src/core/dma-block.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { onHandle, type Patch, recodeHandle, silentHandle, vagueHandle, vmOf } from '../patch.js';
import { pinned, reaches } from './dma-patches.js';

const maps = (change: (gfn: number, size: number) => readonly [number, number]): Patch =>
  onHandle('dmaMapGuestPage', (original) => (gfn, size) => original(...change(gfn, size)));
/** Another address than the right one is handed out. */
const hands = (change: (address: number, gfn: number) => number): Patch =>
  onHandle('dmaMapGuestPage', (original) => (gfn, size) => change(original(gfn, size), gfn));
const views = (change: (address: number, length: number) => readonly [number, number]): Patch =>
  onHandle('view', (original) => (address, length) => original(...change(address, length)));

export const DMA_MUTANTS: readonly Mutant[] = mutantsOf('dma_map_guest_page', [
  ['next-frame', 'The next frame is mapped.', 'dma/ends-of-low', maps((gfn, size) => [gfn === 0 ? 1 : gfn, size])],
  ['unaligned', 'The address is not aligned.', 'dma/ends-of-next', hands((address) => address + 8)],
  [
    'new-address',
    'Mapping a frame again gives another address.',
    'dma/same-frame-same-address',
    onHandle('dmaMapGuestPage', (original) => {
      let calls = 0;
      return (gfn, size) => original(gfn, size) + PAGE_SIZE * calls++;
    }),
  ],
  [
    'pins-again',
    'Mapping a frame again counts it again.',
    'dma/same-frame-same-address',
    onHandle('dmaMapGuestPage', (original, handle) => {
      let calls = 0;
      Object.defineProperty(handle, 'pinnedPages', { get: () => calls });
      return (gfn, size) => {
        calls++;
        return original(gfn, size);
      };
    }),
  ],
  [
    'one-address',
    'Every frame has the address of the first.',
    'dma/distinct-frames-distinct-addresses',
    onHandle('dmaMapGuestPage', (original) => {
      let first: number | undefined;
      return (gfn, size) => {
        const address = original(gfn, size);
        first ??= address;
        return first;
      };
    }),
  ],
  [
    'reference-lost',
    'A second mapping of a frame is not counted.',
    'dma/references-2',
    onHandle('dmaMapGuestPage', (original, handle) => {
      const known = new Set<number>();
      return (gfn, size) => {
        const address = original(gfn, size);
        if (known.has(gfn)) handle.dmaUnmapGuestPage(address as never);
        known.add(gfn);
        return address;
      };
    }),
  ],
  ['size-ignored', 'A 2 MiB mapping holds 4 KiB.', 'dma-huge/spans-2-mib', maps((gfn) => [gfn, PAGE_SIZE])],
  [
    'huge-short',
    'The last page of a 2 MiB mapping is missing.',
    'dma-huge/whole-region',
    views((address, length) => (address % HUGE_PAGE_SIZE >= HUGE_PAGE_SIZE - PAGE_SIZE ? [0, 1] : [address, length])),
  ],
  [
    'huge-unaligned',
    'An unaligned 2 MiB mapping is rounded down.',
    'dma-huge/unaligned-by-256',
    maps((gfn, size) => [size === HUGE_PAGE_SIZE ? gfn - (gfn % 512) : gfn, size]),
  ],
  [
    'huge-partly-ram',
    'A 2 MiB mapping needs only its first frame to be RAM.',
    'dma-huge/partly-ram',
    onHandle('doDmaMap', (original) => (gfn, size) => original(gfn, gfn === 512 ? PAGE_SIZE : size)),
  ],
  ['huge-in-hole', 'A 2 MiB mapping in a hole succeeds.', 'dma-huge/in-hole', silentHandle('dmaMapGuestPage', 'NOT_RAM', 2 ** 40)],
  [
    'grow-refused',
    'A 4 KiB mapping cannot grow.',
    'dma-huge/grows',
    onHandle('dmaMapGuestPage', (original, handle) => (gfn, size) => {
      if (size === HUGE_PAGE_SIZE && handle.pinnedPages === 1)
        throw handle.backend.error('BUSY', 'mapped small', { op: 'dma_map_guest_page' });
      return original(gfn, size);
    }),
  ],
  [
    'grow-does-nothing',
    'A mapping that grows stays small.',
    'dma-huge/grows',
    onHandle('dmaMapGuestPage', (original) => {
      const small = new Set<number>();
      return (gfn, size) => {
        if (size === PAGE_SIZE) small.add(gfn);
        return original(gfn, small.has(gfn) ? PAGE_SIZE : size);
      };
    }),
  ],
  [
    'small-refused',
    'A frame that is mapped large cannot be asked for small.',
    'dma-huge/small-request-of-large',
    onHandle('dmaMapGuestPage', (original, handle) => (gfn, size) => {
      if (size === PAGE_SIZE && gfn % 512 === 0 && handle.pinnedPages === 512)
        throw handle.backend.error('BUSY', 'mapped large', { op: 'dma_map_guest_page' });
      return original(gfn, size);
    }),
  ],
  [
    'inner-is-outer',
    'A frame inside a 2 MiB mapping shows the first frame.',
    'dma-huge/small-inside-large',
    maps((gfn, size) => [gfn % 512 === 3 ? gfn - 3 : gfn, size]),
  ],
  ['not-ram-taken', 'A frame without RAM has an address.', 'dma/not-ram-one-past-next', silentHandle('dmaMapGuestPage', 'NOT_RAM', 0)],
  ['not-ram-pinned', 'A refused frame counts as pinned.', 'dma/not-ram-last-of-hole', pinned((pages) => pages + 1)],
  [
    'not-ram-wrong-code',
    'A frame without RAM answers NOT_MAPPED.',
    'dma/not-ram-one-past-high',
    recodeHandle('dmaMapGuestPage', 'NOT_RAM', 'NOT_MAPPED'),
  ],
  ['size-rounded', 'A size of two pages is taken as one.', 'dma/size-8192', maps((gfn, size) => [gfn, size === 8192 ? PAGE_SIZE : size])],
  ['size-one-less', 'A size of 4095 is taken as a page.', 'dma/size-4095', maps((gfn, size) => [gfn, size === 4095 ? PAGE_SIZE : size])],
  ['takes-fractions', 'A fraction of a frame is rounded.', 'dma/frame-fraction', maps((gfn, size) => [gfn === 16.5 ? 16 : gfn, size])],
  ['limit-one-more', 'One page more than the limit can be pinned.', 'dma-limit/exact', silentHandle('dmaMapGuestPage', 'LIMIT', 0)],
  [
    'limit-one-fewer',
    'One page fewer than the limit can be pinned.',
    'dma-limit/exact',
    onHandle('dmaMapGuestPage', (original, handle) => (gfn, size) => {
      if (handle.pinnedPages >= handle.limits.pinnedPages - 1)
        throw handle.backend.error('LIMIT', 'limit', { op: 'dma_map_guest_page', limit: handle.limits.pinnedPages });
      return original(gfn, size);
    }),
  ],
  ['limit-unnamed', 'LIMIT does not name the limit.', 'dma-limit/exact', vagueHandle('dmaMapGuestPage', 'LIMIT', 'limit')],
  [
    'limit-shared',
    'All vGPUs share one limit.',
    'dma-limit/per-vgpu',
    onHandle('dmaMapGuestPage', (original, handle, backend) => (gfn, size) => {
      if (vmOf(handle).pinnedPages >= backend.pinLimit) throw backend.error('LIMIT', 'limit', { op: 'dma_map_guest_page' });
      return original(gfn, size);
    }),
  ],
  [
    'limit-leaks',
    'A refused mapping uses up the limit.',
    'dma-limit/failed-map-costs-nothing',
    onHandle('dmaMapGuestPage', (original, handle) => {
      let lost = 0;
      return (gfn, size) => {
        if (lost >= handle.limits.pinnedPages) throw handle.backend.error('LIMIT', 'limit', { op: 'dma_map_guest_page' });
        try {
          return original(gfn, size);
        } catch (error) {
          lost++;
          throw error;
        }
      };
    }),
  ],
  ['huge-counts-one', 'A 2 MiB mapping counts as one page.', 'dma-huge/spans-2-mib', pinned((pages) => Math.ceil(pages / 512))],
  ['huge-limit-ignored', 'A 2 MiB mapping passes the limit.', 'dma-limit/large-page', silentHandle('dmaMapGuestPage', 'LIMIT', 0)],
  [
    'view-copies',
    'A view is a copy.',
    'dma/view-is-live',
    onHandle('doDmaView', (original) => (address, length) => original(address, length).slice()),
  ],
  [
    'view-misses-guest',
    'A view does not show what the guest stores.',
    'dma/view-follows-the-guest',
    onHandle('doDmaView', (original) => (address, length) => original(address, length).slice()),
  ],
  [
    'view-from-page',
    'A view begins at the start of its page.',
    'dma/view-part-of-page',
    onHandle('doDmaView', (original) => (address, length) => original(address - (address % PAGE_SIZE), length)),
  ],
  [
    'view-past-end',
    'A view may pass the end of its mapping by a byte.',
    'dma/view-past-end',
    reaches((address, length) => address % PAGE_SIZE === PAGE_SIZE - 1 && length === 2),
  ],
  ['view-before', 'A view may begin a byte early.', 'dma/view-begins-before', reaches((_, length) => length === 2)],
  [
    'block-elsewhere',
    'A block begins a page later than its bytes.',
    'dma/block-shows-the-page',
    onHandle('block', (original) => (address) => {
      const block = original(address);
      return block === undefined ? undefined : new DmaBlock(block.start - PAGE_SIZE, block.bytes);
    }),
  ],
  ['block-unchecked', 'Whether the page is mapped is not looked at.', 'dma/block-of-unmapped-page', silentHandle('block', 'NOT_MAPPED')],
  ['view-empty', 'An empty view is given.', 'dma/view-zero-length', reaches((_, length) => length === 0)],
  ['view-across', 'A view passes from one mapping into the next.', 'dma/view-across-two-mappings', reaches((_, length) => length === 8)],
  [
    'forged',
    'The address of an unmapped frame reaches guest memory.',
    'dma/forged-address',
    reaches((address, length) => address % PAGE_SIZE === 0 && length === 4),
  ],
  ['other-vgpu', 'The address of one vGPU works for another.', 'dma/other-vgpu-address', reaches(() => true)],
  ['other-vm', 'The address of one VM works for another.', 'isolation/dma-address', reaches(() => true)],
  [
    'address-of-guest',
    'The address is the guest’s own: two VMs have the same.',
    'isolation/dma-addresses-differ',
    hands((_, gfn) => gfn * PAGE_SIZE),
  ],
  [
    'copy-offset-ignored',
    'A copy goes to the start of its target.',
    'dma/copy-out',
    onHandle('doDmaCopyFrom', (original) => (address, target, _, length) => original(address, target, 0, length)),
  ],
  [
    'copy-short',
    'A copy misses its last byte.',
    'dma/copy-out',
    onHandle('doDmaCopyFrom', (original) => (address, target, offset, length) => original(address, target, offset, length - 1)),
  ],
  [
    'copy-unchecked',
    'A copy past its target is shortened.',
    'dma/copy-past-target',
    onHandle(
      'copyFrom',
      (original) => (address, target, offset, length) => original(address, target, offset, offset + length > target.length ? 1 : length),
    ),
  ],
  [
    'copy-partial',
    'A copy that leaves its mapping copies what is inside.',
    'dma/copy-not-mapped',
    onHandle('copyFrom', (original) => (address, target, offset, length) => {
      try {
        original(address, target, offset, length);
      } catch (error) {
        if (length === 16) original(address, target, offset, 8);
        throw error;
      }
    }),
  ],
  [
    'silent-vm-gone',
    'A view of a destroyed VM is empty instead of VM_GONE.',
    'vm-gone/dma-view-refused',
    silentHandle('view', 'VM_GONE', new Uint8Array(4)),
  ],
]);
