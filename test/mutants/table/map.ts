/** map_gfn_to_mfn, broken. */
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import type { HostPages } from '../../../src/core/mpt.js';
import { makeMapping } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, onBackend, onHandle, type Patch, recodeHandle, silentHandle, vmOf } from '../patch.js';

/** Maps other frames than asked. */
const maps = (change: (gfn: number, mfn: number, nr: number) => readonly [number, number, number]): Patch =>
  onHandle(
    'doMapGfnToMfn',
    (original) => (gfn, mfn, nr, map) => (map ? original(...change(gfn, mfn, nr), true) : original(gfn, mfn, nr, false)),
  );
/** Puts bytes of its own where host pages should be. */
const mapsBytes = (bytes: (host: Uint8Array) => Uint8Array): Patch =>
  onHandle('doMapGfnToMfn', (original, handle, backend) => (gfn, mfn, nr, map) => {
    if (!map) return original(gfn, mfn, nr, false);
    vmOf(handle).space.add(makeMapping(gfn * PAGE_SIZE, bytes(backend.hostMemory.view(mfn * PAGE_SIZE, nr * PAGE_SIZE))));
  });
/** Unmapping with the bounds of the last mapping, whatever was asked. */
const unmapsLast = (when: (asked: readonly [number, number, number], last: readonly [number, number, number]) => boolean): Patch =>
  onHandle('mapGfnToMfn', (original) => {
    let last: readonly [number, number, number] = [0, 0, 0];
    return (gfn, mfn, nr, map) => {
      if (!map && when([gfn, mfn, nr], last)) return original(...last, false);
      original(gfn, mfn, nr, map);
      if (map) last = [gfn, mfn, nr];
    };
  });
/** Frames that are mapped although they overlap. */
const overlaps = (when: (gfn: number, nr: number) => boolean): Patch =>
  onHandle('mapGfnToMfn', (original) => (gfn, mfn, nr, map) => (map && when(gfn, nr) ? undefined : original(gfn, mfn, nr, map)));
const hostPages = (make: (release: () => void, pages: HostPages) => () => void): Patch =>
  onBackend('doAllocateHostPages', (original) => (count) => {
    const pages = original(count);
    pages.release = make(pages.release.bind(pages), pages);
    return pages;
  });

export const MAP_MUTANTS: readonly Mutant[] = mutantsOf('map_gfn_to_mfn', [
  ['does-nothing', 'Nothing is mapped.', 'map-gfn/guest-reads-host-bytes', onHandle('mapGfnToMfn', () => () => undefined)],
  ['a-copy', 'A copy of the host pages is mapped.', 'map-gfn/host-reads-guest-writes', mapsBytes((host) => host.slice())],
  ['zeros', 'Empty pages are mapped.', 'map-gfn/guest-reads-host-bytes', mapsBytes((host) => new Uint8Array(host.length))],
  ['one-frame', 'The count is ignored: one frame is mapped.', 'map-gfn/guest-reads-host-bytes', maps((gfn, mfn) => [gfn, mfn, 1])],
  [
    'one-too-many',
    'One frame too many is mapped.',
    'map-gfn/only-these-frames',
    onHandle('doMapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
      original(gfn, mfn, nr, map);
      if (map) vmOf(handle).space.add(makeMapping((gfn + nr) * PAGE_SIZE, new Uint8Array(PAGE_SIZE)));
    }),
  ],
  [
    'one-before',
    'The frame before is mapped too.',
    'map-gfn/only-these-frames',
    onHandle('doMapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
      original(gfn, mfn, nr, map);
      if (map) vmOf(handle).space.add(makeMapping((gfn - 1) * PAGE_SIZE, new Uint8Array(PAGE_SIZE)));
    }),
  ],
  ['next-frame', 'The pages appear one frame later.', 'map-gfn/guest-reads-host-bytes', maps((gfn, mfn, nr) => [gfn + 1, mfn, nr])],
  [
    'from-block-start',
    'The mapping starts at the first of the host pages.',
    'map-gfn/part-of-host-pages',
    onHandle(
      'doMapGfnToMfn',
      (original, _handle, backend) => (gfn, mfn, nr, map) =>
        original(gfn, map ? (backend.hostMemory.find(mfn * PAGE_SIZE, 1)?.base ?? 0) / PAGE_SIZE : mfn, nr, map),
    ),
  ],
  [
    'unmap-does-nothing',
    'Unmapped frames stay mapped.',
    'map-gfn/unmap-makes-accesses-exit',
    onHandle('doMapGfnToMfn', (original) => (gfn, mfn, nr, map) => (map ? original(gfn, mfn, nr, true) : undefined)),
  ],
  [
    'unmap-clears',
    'Unmapping clears the host pages.',
    'map-gfn/unmap-makes-accesses-exit',
    onHandle('doMapGfnToMfn', (original, _handle, backend) => (gfn, mfn, nr, map) => {
      original(gfn, mfn, nr, map);
      if (!map) backend.hostMemory.view(mfn * PAGE_SIZE, nr * PAGE_SIZE).fill(0);
    }),
  ],
  [
    'stale',
    'A frame that was mapped before shows its first pages again.',
    'map-gfn/remap-other-pages',
    onHandle('doMapGfnToMfn', (original) => {
      const first = new Map<number, number>();
      return (gfn, mfn, nr, map) => {
        if (!first.has(gfn)) first.set(gfn, mfn);
        original(gfn, map ? (first.get(gfn) as number) : mfn, nr, map);
      };
    }),
  ],
  [
    'pages-once',
    'Host pages can be mapped once in their life.',
    'map-gfn/remap-elsewhere',
    onHandle('doMapGfnToMfn', (original, handle) => {
      const used = new Set<number>();
      return (gfn, mfn, nr, map) => {
        if (map && used.has(mfn)) throw handle.backend.error('BUSY', 'mapped before', { op: 'map_gfn_to_mfn' });
        original(gfn, mfn, nr, map);
        used.add(mfn);
      };
    }),
  ],
  [
    'second-refused',
    'Host pages cannot be mapped at two frames.',
    'map-gfn/same-pages-twice',
    onHandle('doMapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
      if (map && handle.mapsHostFrames(mfn, nr)) throw handle.backend.error('BUSY', 'mapped', { op: 'map_gfn_to_mfn' });
      original(gfn, mfn, nr, map);
    }),
  ],
  [
    'unmaps-both',
    'Unmapping host pages unmaps them everywhere.',
    'map-gfn/same-pages-twice',
    onHandle('doMapGfnToMfn', (original) => {
      const at = new Map<number, number>();
      return (gfn, mfn, nr, map) => {
        if (map) at.set(gfn, mfn);
        original(gfn, mfn, nr, map);
        if (!map) for (const [frame, page] of at) if (page === mfn && frame !== gfn) original(frame, mfn, nr, false);
      };
    }),
  ],
  [
    'no-rollback',
    'A refused mapping leaves its first frame mapped.',
    'map-gfn/refused-map-changes-nothing',
    onHandle('mapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
      try {
        original(gfn, mfn, nr, map);
      } catch (error) {
        if (nr > 1) (handle as unknown as { doMapGfnToMfn(...args: unknown[]): void }).doMapGfnToMfn(gfn, mfn, 1, true);
        throw error;
      }
    }),
  ],
  [
    'changes-ram',
    'The RAM beside a mapping is hidden.',
    'map-gfn/touching-ram',
    onHandle('doMapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
      if (map) vmOf(handle).memory.write(gfn * PAGE_SIZE - 4, new Uint8Array(4), 0, 4);
      original(gfn, mfn, nr, map);
    }),
  ],
  ['over-ram', 'RAM can be overlaid.', 'map-gfn/overlap-inside-ram', overlaps((gfn) => gfn < 1000)],
  [
    'over-end-of-ram',
    'Only the first frame is tried against RAM.',
    'map-gfn/overlap-ends-in-ram',
    onHandle('doOverlapsRam', (original) => (start) => original(start, start)),
  ],
  [
    'around-ram',
    'Only the ends are tried against RAM.',
    'map-gfn/overlap-spans-ram',
    onHandle('doOverlapsRam', (original) => (start, end) => original(start, start) || original(end, end)),
  ],
  ['over-own', 'A mapping of the same vGPU can be overlaid.', 'map-gfn/overlap-mapping', silentHandle('mapGfnToMfn', 'OVERLAP')],
  [
    'over-other',
    'A mapping of another vGPU can be overlaid.',
    'map-gfn/overlap-mapping',
    all(
      onHandle('mapOverlapping', (original, handle) => (first, last) => handle.vgpu.id !== 1 && original(first, last)),
      onHandle('doOverlapsRam', (_original, handle) => (start, end) => vmOf(handle).memory.touches(start, end)),
    ),
  ],
  ['over-trap-area', 'A trap area can be overlaid.', 'map-gfn/overlap-trap-area', onHandle('trapOverlapping', () => () => undefined)],
  ['overlap-wrong-code', 'An overlap answers BUSY.', 'map-gfn/overlap-last-frame-of-ram', recodeHandle('mapGfnToMfn', 'OVERLAP', 'BUSY')],
  [
    'count-zero',
    'No frames can be mapped.',
    'map-gfn/count-zero',
    onHandle('mapGfnToMfn', (original) => (gfn, mfn, nr, map) => (nr === 0 ? undefined : original(gfn, mfn, nr, map))),
  ],
  [
    'count-fraction',
    'A fraction of frames is rounded.',
    'map-gfn/count-fraction',
    onHandle('mapGfnToMfn', (original) => (gfn, mfn, nr, map) => original(gfn, mfn, nr === 1.5 ? 1 : nr, map)),
  ],
  ['gfn-unchecked', 'NaN is a guest frame.', 'map-gfn/gfn-nan', silentHandle('mapGfnToMfn', 'INVALID_ADDRESS')],
  [
    'mfn-wrong-code',
    'What is no host frame answers INVALID_ARGUMENT.',
    'map-gfn/mfn-negative',
    recodeHandle('mapGfnToMfn', 'INVALID_ADDRESS', 'INVALID_ARGUMENT'),
  ],
  [
    'forged-maps-zeros',
    'Host frames that are nobody’s are mapped as empty pages.',
    'map-gfn/forged-host-frame',
    silentHandle('doMapGfnToMfn', 'INVALID_ADDRESS'),
  ],
  ['unmap-silent', 'Unmapping what is not mapped succeeds.', 'map-gfn/unmap-not-mapped', silentHandle('mapGfnToMfn', 'NOT_MAPPED')],
  [
    'unmap-twice',
    'A second unmap succeeds.',
    'map-gfn/unmap-twice',
    onHandle('mapGfnToMfn', (original) => {
      const done = new Set<number>();
      return (gfn, mfn, nr, map) => {
        if (!map && done.has(gfn)) return;
        original(gfn, mfn, nr, map);
        if (!map) done.add(gfn);
      };
    }),
  ],
  [
    'unmap-shorter',
    'Unmapping fewer frames unmaps all.',
    'map-gfn/unmap-not-exact',
    unmapsLast(([gfn, , nr], last) => gfn === last[0] && nr < last[2]),
  ],
  [
    'unmap-other-pages',
    'The host frame of an unmap is not looked at.',
    'map-gfn/unmap-not-exact',
    unmapsLast(([gfn, , nr], last) => gfn === last[0] && nr === last[2]),
  ],
  [
    'unmap-foreign',
    'A vGPU unmaps what another one mapped.',
    'map-gfn/unmap-by-other-vgpu',
    onHandle(
      'mapGfnToMfn',
      (original, handle) => (gfn, mfn, nr, map) => (map || handle.vgpu.id === 1 ? original(gfn, mfn, nr, map) : undefined),
    ),
  ],
  [
    'release-mapped',
    'Host pages are released while a guest has them.',
    'map-gfn/release-while-mapped',
    onBackend('requireUnused', () => () => undefined),
  ],
  [
    'release-first-page',
    'Only the first host page is looked at for a release.',
    'map-gfn/release-while-mapped',
    onHandle('usesHostPages', (_original, handle) => (pages) => handle.mapsHostFrames(pages.mfn, 1)),
  ],
  [
    'busy-beside',
    'Host pages are BUSY while any host page is mapped.',
    'map-gfn/release-beside-mapped',
    onHandle('usesHostPages', (_original, handle) => () => handle.mapsHostFrames(0, 2 ** 40)),
  ],
  [
    'release-once',
    'A second release fails.',
    'map-gfn/release-twice',
    hostPages((release) => {
      let released = false;
      return () => {
        if (released) throw new Error('released before');
        release();
        released = true;
      };
    }),
  ],
  [
    'every-vm',
    'The pages are mapped into every VM.',
    'isolation/mappings',
    (backend) => {
      const vms: { closed: boolean; space: { add(mapping: never): void } }[] = [];
      backend.events.on('vm-created', (vm) => vms.push(vm));
      onHandle('doMapGfnToMfn', (original, handle) => (gfn, mfn, nr, map) => {
        original(gfn, mfn, nr, map);
        const mapping = makeMapping(gfn * PAGE_SIZE, backend.hostMemory.view(mfn * PAGE_SIZE, nr * PAGE_SIZE));
        if (map) for (const vm of vms) if (vm !== vmOf(handle)) vm.space.add(mapping as never);
      })(backend);
    },
  ],
]);
