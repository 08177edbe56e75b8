/** set_trap_area and set_pvmmio, broken. */
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import { IoKind } from '../../../src/core/io-request.js';
import { makeMapping, PageFlag } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import {
  all,
  declares,
  onBackend,
  onHandle,
  onRequests,
  type Patch,
  recodeHandle,
  silentBackend,
  silentHandle,
  vagueHandle,
  vmOf,
} from '../patch.js';

/** Decides anew which MMIO accesses belong to a vGPU. */
const claims = (change: (claimed: boolean, address: number, vgpu: number, find: (address: number) => boolean) => boolean): Patch =>
  onHandle('claims', (original, handle) => (request) => {
    if (request.kind !== IoKind.MMIO) return original(request);
    const find = (address: number): boolean => handle.trapOverlapping(address, address) !== undefined;
    return change(original(request), request.address, handle.vgpu.id, find);
  });
/** Sets or removes other bounds than asked. */
const sets = (change: (start: number, end: number, map: boolean) => readonly [number, number]): Patch =>
  onHandle('setTrapArea', (original) => (start, end, map) => original(...change(start, end, map), map));
/** An area that must be refused is not. */
const takes = (when: (start: number, end: number, map: boolean) => boolean): Patch =>
  onHandle('setTrapArea', (original) => (start, end, map) => (when(start, end, map) ? undefined : original(start, end, map)));
const limited = (change: number): Patch =>
  onHandle('setTrapArea', (original, handle) => {
    let areas = 0;
    return (start, end, map) => {
      if (map && areas >= handle.limits.trapAreas + change)
        throw handle.backend.error('LIMIT', 'areas', { op: 'set_trap_area', limit: handle.limits.trapAreas });
      original(start, end, map);
      areas += map ? 1 : -1;
    };
  });

const trap = mutantsOf('set_trap_area', [
  ['does-nothing', 'No access is delivered.', 'trap-area/ends-inclusive', onHandle('setTrapArea', () => () => undefined)],
  [
    'end-exclusive',
    'The last byte does not belong to the area.',
    'trap-area/ends-inclusive',
    claims((claimed, address, _, find) => claimed && find(address + 1)),
  ],
  [
    'end-one-late',
    'The byte behind the area belongs to it.',
    'trap-area/ends-inclusive',
    claims((claimed, address, _, find) => claimed || find(address - 1)),
  ],
  [
    'starts-late',
    'The first byte does not belong to the area.',
    'trap-area/ends-inclusive',
    claims((claimed, address, _, find) => claimed && find(address - 1)),
  ],
  [
    'whole-pages',
    'Areas are rounded to pages.',
    'trap-area/one-byte',
    claims((claimed, address, _, find) => claimed || find(address - (address % PAGE_SIZE) + 0x555)),
  ],
  ['removal-does-nothing', 'A removed area is still delivered.', 'trap-area/removal', takes((_start, _end, map) => !map)],
  [
    'removes-all',
    'Removing an area removes every area.',
    'trap-area/two-areas',
    onHandle('setTrapArea', (original) => {
      const set: [number, number][] = [];
      return (start, end, map) => {
        original(start, end, map);
        if (map) set.push([start, end]);
        else for (const area of set) if (area[0] !== start) original(...area, false);
      };
    }),
  ],
  [
    'first-only',
    'Only the first area is delivered.',
    'trap-area/many-areas',
    onHandle('setTrapArea', (original) => {
      let areas = 0;
      return (start, end, map) => (map && areas++ > 0 ? undefined : original(start, end, map));
    }),
  ],
  [
    'eight-only',
    'The ninth area is not found.',
    'trap-area/many-areas',
    onHandle('setTrapArea', (original) => {
      let areas = 0;
      return (start, end, map) => (map && ++areas > 8 ? undefined : original(start, end, map));
    }),
  ],
  [
    'first-vgpu',
    'Every area belongs to the first vGPU.',
    'trap-area/adjacent-vgpus',
    onRequests('next', (original) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.MMIO && request.vgpu === 2) request.vgpu = 1 as typeof request.vgpu;
      return request;
    }),
  ],
  ['claims-all', 'Without an area every access belongs to the vGPU.', 'trap-area/nothing-before', claims(() => true)],
  ['overlap-ignored', 'Areas may overlap.', 'trap-area/overlap-identical', onHandle('trapOverlapping', () => () => undefined)],
  [
    'overlap-own-only',
    'Areas of other vGPUs may overlap.',
    'trap-area/overlap-inside',
    onHandle('setTrapArea', (original, handle) => (start, end, map) => {
      if (handle.vgpu.id !== 2) original(start, end, map);
    }),
  ],
  [
    'overlap-last-byte',
    'A shared last byte is no overlap.',
    'trap-area/overlap-last-byte',
    onHandle('trapOverlapping', (original) => (start, end) => (start === end ? original(start, end) : original(start + 1, end))),
  ],
  [
    'overlap-ends-only',
    'Only the ends of an area are tried against others.',
    'trap-area/overlap-around',
    onHandle('trapOverlapping', (original) => (start, end) => original(start, start) ?? original(end, end)),
  ],
  ['over-ram', 'RAM can be trapped.', 'trap-area/overlap-ram-inside', onHandle('doOverlapsRam', () => () => false)],
  [
    'over-end-of-ram',
    'Only the start is tried against RAM.',
    'trap-area/overlap-ram-ends-in',
    onHandle('doOverlapsRam', (original) => (start) => original(start, start)),
  ],
  [
    'around-ram',
    'Only the ends are tried against RAM.',
    'trap-area/overlap-ram-around',
    onHandle('doOverlapsRam', (original) => (start, end) => original(start, start) || original(end, end)),
  ],
  [
    'over-mapping',
    'A direct mapping can be trapped.',
    'trap-area/overlap-mapping',
    onHandle('doOverlapsRam', (_original, handle) => (start, end) => vmOf(handle).memory.touches(start, end)),
  ],
  [
    'beside-ram-refused',
    'An area that touches RAM is refused.',
    'trap-area/touching-ram',
    onHandle('doOverlapsRam', (original) => (start, end) => original(Math.max(0, start - 1), end + 1)),
  ],
  [
    'last-byte-refused',
    'The last byte below 2^52 is refused.',
    'trap-area/last-byte-below-2-52',
    onHandle('setTrapArea', (original, handle) => (start, end, map) => {
      if (end === 2 ** 52 - 1) throw handle.backend.error('INVALID_ADDRESS', 'too high', { op: 'set_trap_area' });
      original(start, end, map);
    }),
  ],
  [
    'not-exact',
    'An area is removed by its start alone.',
    'trap-area/remove-not-exact',
    onHandle('setTrapArea', (original) => {
      const ends = new Map<number, number>();
      return (start, end, map) => {
        original(start, map ? end : (ends.get(start) ?? end), map);
        if (map) ends.set(start, end);
      };
    }),
  ],
  ['removed-by-other', 'Another vGPU can remove an area.', 'trap-area/remove-not-exact', takes((_start, _end, map) => !map)],
  ['remove-unknown', 'Removing what is not set succeeds.', 'trap-area/remove-unknown', silentHandle('setTrapArea', 'NOT_MAPPED')],
  [
    'remove-wrong-code',
    'Removing what is not set answers INVALID_ARGUMENT.',
    'trap-area/remove-unknown',
    recodeHandle('setTrapArea', 'NOT_MAPPED', 'INVALID_ARGUMENT'),
  ],
  ['unlimited', 'There is no limit.', 'trap-area/limit', takes((start) => start === 0x110_0000 + 64 * 32)],
  ['limit-one-fewer', 'One area fewer than the limit is taken.', 'trap-area/limit', limited(-1)],
  [
    'limit-not-returned',
    'A removed area still counts.',
    'trap-area/limit',
    onHandle('setTrapArea', (original, handle) => {
      let areas = 0;
      return (start, end, map) => {
        if (map && areas >= handle.limits.trapAreas)
          throw handle.backend.error('LIMIT', 'areas', { op: 'set_trap_area', limit: handle.limits.trapAreas });
        original(start, end, map);
        if (map) areas++;
      };
    }),
  ],
  [
    'swapped',
    'An end before the start is swapped with it.',
    'trap-area/end-before-start',
    sets((start, end) => (end < start ? [end, start] : [start, end])),
  ],
  ['takes-nan', 'A start that is no address is taken.', 'trap-area/start-nan', takes((start) => Number.isNaN(start))],
  [
    'end-clamped',
    'An end past the limit is clamped.',
    'trap-area/end-at-2-52',
    sets((start, end) => [start, end >= 2 ** 52 && end < 2 ** 53 ? 2 ** 52 - 1 : end]),
  ],
  ['unnamed', 'OVERLAP does not name the address.', 'trap-area/overlap-first-byte', vagueHandle('setTrapArea', 'OVERLAP', 'address')],
  [
    'other-vm',
    'An area is delivered in every VM.',
    'isolation/trap-area-of-one',
    (backend) => {
      const areas: [number, number][] = [];
      all(
        onHandle('setTrapArea', (original) => (start, end, map) => {
          original(start, end, map);
          areas.push([start, end]);
        }),
        claims((claimed, address) => claimed || areas.some(([start, end]) => address >= start && address <= end)),
      )(backend);
    },
  ],
  [
    'declared-but-absent',
    'It answers UNSUPPORTED although it is declared.',
    'capability/set-trap-area-honest',
    onHandle('setTrapArea', (_original, handle) => () => {
      throw handle.backend.error('UNSUPPORTED', 'not here', { op: 'set_trap_area' });
    }),
  ],
  [
    'read-value-late',
    'A read receives the answer of the one before.',
    'access/mmio-changing-answers',
    onRequests('complete', (original) => {
      let last = 0;
      return (request) => {
        if (request.kind === IoKind.MMIO && !request.write) [last, request.value[0]] = [request.value[0] as number, last];
        original(request);
      };
    }),
  ],
  [
    'write-high-dirty',
    'Bytes beyond the size of a write are not zero.',
    'access/mmio-write-high-bytes-zero',
    onRequests('next', (original) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.MMIO && request.write && request.size < 8) request.value[1] = 1;
      return request;
    }),
  ],
]);

const PVINFO = 0x7_8000;
/** After pvmmio was switched on, something else is done to the guest's memory. */
const afterOn = (change: (space: ReturnType<typeof vmOf>['space'], start: number) => void): Patch =>
  onHandle('doSetPvmmio', (original, handle) => (start, end, map) => {
    original(start, end, map);
    if (map) change(vmOf(handle).space, start);
  });

const pvmmio = mutantsOf('set_pvmmio', [
  ['does-nothing', 'Every read still exits.', 'pvmmio/reads-do-not-exit', onHandle('setPvmmio', () => () => undefined)],
  [
    'last-page-missing',
    'The last page of the register file is not mapped.',
    'pvmmio/reads-do-not-exit',
    onHandle('doSetPvmmio', (original, handle) => (start, end, map) => {
      original(start, end, map);
      const { space } = vmOf(handle);
      const last = map ? space.find(start + 0x1f_ffff) : undefined;
      if (last !== undefined) {
        space.remove(last);
        space.add(makeMapping(last.gpa, last.bytes.subarray(0, last.size - PAGE_SIZE), PageFlag.TRAP));
      }
    }),
  ],
  [
    'pvinfo-mapped',
    'The PVINFO page is mapped too.',
    'pvmmio/pvinfo-keeps-trapping',
    afterOn((space, start) => space.add(makeMapping(start + PVINFO, new Uint8Array(PAGE_SIZE)))),
  ],
  [
    'writes-unreported',
    'Writes to the register file are not reported.',
    'pvmmio/writes-are-reported-and-stored',
    afterOn((space, start) => space.find(start)?.flags.fill(0) && space.find(start + 0x10_0000)?.flags.fill(0)),
  ],
  [
    'writes-unstored',
    'Writes to the register file are reported, but not stored.',
    'pvmmio/writes-are-reported-and-stored',
    onRequests('next', (original, machine) => (ms) => {
      const request = original(ms);
      if (request?.kind === IoKind.WP) {
        const mapping = machine.space.find(request.address);
        mapping?.bytes.fill(0, request.address - mapping.gpa, request.address - mapping.gpa + request.size);
      }
      return request;
    }),
  ],
  [
    'shared-page-missing',
    'The shared page is not mapped.',
    'pvmmio/shared-page',
    afterOn((space, start) => space.remove(space.find(start + 0x20_0000) as never)),
  ],
  [
    'shared-page-tracked',
    'Writes to the shared page exit.',
    'pvmmio/shared-page',
    afterOn((space, start) => space.find(start + 0x20_0000)?.flags.fill(PageFlag.TRAP)),
  ],
  [
    'rest-mapped',
    'The page behind the shared page is mapped too.',
    'pvmmio/rest-keeps-trapping',
    afterOn((space, start) => space.add(makeMapping(start + 0x20_0000 + PAGE_SIZE, new Uint8Array(PAGE_SIZE)))),
  ],
  [
    'off-does-nothing',
    'Switching off leaves the register file mapped.',
    'pvmmio/off',
    onHandle('setPvmmio', (original) => (start, end, map) => (map ? original(start, end, map) : undefined)),
  ],
  [
    'on-once',
    'It cannot be switched on again.',
    'pvmmio/off',
    onHandle('setPvmmio', (original, handle) => {
      let times = 0;
      return (start, end, map) => {
        if (map && times++ > 0) throw handle.backend.error('BUSY', 'once', { op: 'set_pvmmio' });
        original(start, end, map);
      };
    }),
  ],
  [
    'claims-every-write',
    'While it is on every tracked write belongs to this vGPU.',
    'pvmmio/window-only',
    onHandle('claims', (original, handle) => (request) => original(request) || (request.kind === IoKind.WP && handle.vgpu.id === 1)),
  ],
  ['twice', 'It can be switched on twice.', 'pvmmio/twice', silentHandle('setPvmmio', 'OVERLAP')],
  ['off-without-on', 'Switching off what is not on succeeds.', 'pvmmio/off-without-on', silentHandle('setPvmmio', 'NOT_MAPPED')],
  [
    'off-any-window',
    'Switching off looks at the start only.',
    'pvmmio/off-without-on',
    onHandle('setPvmmio', (original) => {
      let window = 0;
      return (start, end, map) => {
        original(start, !map && window > 0 ? window : end, map);
        window = map ? end : 0;
      };
    }),
  ],
  [
    'without-pages',
    'A vGPU without register file pages is accepted.',
    'pvmmio/without-pages',
    silentHandle('setPvmmio', 'INVALID_ARGUMENT'),
  ],
  [
    'without-pages-wrong-code',
    'A vGPU without register file pages answers NOT_MAPPED.',
    'pvmmio/without-pages',
    recodeHandle('setPvmmio', 'INVALID_ARGUMENT', 'NOT_MAPPED'),
  ],
  ['takes-nan', 'A window that begins at no address is accepted.', 'pvmmio/start-nan', silentHandle('setPvmmio', 'INVALID_ADDRESS')],
  [
    'absent-but-works',
    'It works although it is not declared.',
    'capability/set-pvmmio-honest',
    all(declares({ setPvmmio: false }), silentBackend('require', 'UNSUPPORTED')),
  ],
  ['released', 'Its pages are released while the guest has them.', 'pvmmio/pages-busy', onBackend('requireUnused', () => () => undefined)],
]);

export const TRAP_MUTANTS: readonly Mutant[] = [...trap, ...pvmmio];
