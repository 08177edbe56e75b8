/** enable_page_track, broken: what holds at both levels, and level `trap`. */
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import { IoKind } from '../../../src/core/io-request.js';
import { PageFlag } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, onBackend, onHandle, onRequests, recodeHandle, silentHandle, vmOf } from '../patch.js';
import { reports, skip } from './track-patches.js';

export const TRACK_MUTANTS: readonly Mutant[] = mutantsOf('enable_page_track', [
  ['does-nothing', 'No write is reported.', 'page-track/trap-size-1-at-0x0', skip('doEnablePageTrack')],
  [
    'next-frame',
    'The next frame is tracked.',
    'page-track/trap-size-4-at-0x0',
    onHandle('doEnablePageTrack', (original) => (gfn) => original(gfn + 1)),
  ],
  [
    'neighbours',
    'The frames beside it are tracked too.',
    'page-track/trap-neighbours-untouched',
    onHandle('doEnablePageTrack', (original, handle) => (gfn) => {
      original(gfn);
      for (const frame of [gfn - 1, gfn + 1]) vmOf(handle).space.setFlag(frame, PageFlag.TRAP, true);
    }),
  ],
  [
    'all-frames',
    'Every frame of the VM is tracked.',
    'page-track/trap-edge-first-of-ram',
    onHandle('doEnablePageTrack', (original, handle) => (gfn) => {
      original(gfn);
      for (const region of vmOf(handle).memory.regions)
        for (let page = 0; page < region.size; page += PAGE_SIZE)
          vmOf(handle).space.setFlag((region.gpa + page) / PAGE_SIZE, PageFlag.TRAP, true);
    }),
  ],
  [
    'first-write-late',
    'The first write is missed.',
    'page-track/trap-every-write',
    onRequests('next', (original, machine) => {
      let seen = 0;
      return (ms) => {
        const request = original(ms);
        if (request?.kind !== IoKind.WP || seen++ > 0) return request;
        machine.requests.complete(request);
        return original(ms);
      };
    }),
  ],
  [
    'before-memory',
    'The write is reported before it is in memory.',
    'page-track/trap-memory-updated-first',
    onRequests('next', (original, machine) => {
      let late: (() => void) | undefined;
      return (ms) => {
        late?.();
        late = undefined;
        const request = original(ms);
        if (request?.kind !== IoKind.WP) return request;
        const { address, size } = request;
        const bytes = machine.memory.view(address, size);
        const data = bytes.slice();
        bytes.fill(0);
        late = () => machine.memory.write(address, data, 0, size);
        return request;
      };
    }),
  ],
  [
    'second-byte-missed',
    'Of a write that crosses into the frame nothing is reported.',
    'page-track/trap-crossing-into-by-one-byte',
    reports((request) => request.address % PAGE_SIZE !== 0 || request.size > 1),
  ],
  [
    'crossing-reported-whole',
    'Of a write that crosses out of the frame bytes of the next frame are reported.',
    'page-track/trap-crossing-out-of-by-three-bytes',
    reports((request) => {
      if (request.size < 4 && request.address % PAGE_SIZE > PAGE_SIZE - 4) request.size *= 2;
      return true;
    }),
  ],
  [
    'last-byte-missed',
    'The last byte of the frame is not tracked.',
    'page-track/trap-size-1-at-0xfff',
    reports((request) => request.address % PAGE_SIZE !== PAGE_SIZE - 1),
  ],
  [
    'first-byte-missed',
    'The first byte of the frame is not tracked.',
    'page-track/trap-edge-first-of-next-region',
    reports((request) => request.address % PAGE_SIZE !== 0),
  ],
  [
    'high-half-lost',
    'The high half of eight bytes is lost.',
    'page-track/trap-size-8-at-0x0',
    reports((request) => {
      request.value[1] = 0;
      return true;
    }),
  ],
  [
    'data-lost',
    'The data is not reported.',
    'page-track/trap-size-2-at-0x0',
    reports((request) => {
      request.value[0] = 0;
      return true;
    }),
  ],
  [
    'size-ignored',
    'Every report has four bytes.',
    'page-track/trap-size-1-at-0x7f8',
    reports((request) => {
      request.size = 4;
      return true;
    }),
  ],
  [
    'address-rounded',
    'The report names the start of the frame.',
    'page-track/trap-size-2-at-0x7f8',
    reports((request) => {
      request.address -= request.address % PAGE_SIZE;
      return true;
    }),
  ],
  [
    'same-value-dropped',
    'A write of the value that is there already is not reported.',
    'page-track/trap-every-write',
    (backend) => {
      let last = -1;
      reports((request) => {
        const same = request.value[0] === last;
        last = request.value[0] as number;
        return !same;
      })(backend);
    },
  ],
  ['not-ram-taken', 'A frame without RAM is tracked.', 'page-track/enable-not-ram-first-of-hole', skip('doEnablePageTrack')],
  ['no-rollback', 'A refused frame counts as tracked.', 'page-track/enable-not-ram-last-of-hole', onHandle('tracks', () => () => true)],
  [
    'wrong-code',
    'A frame without RAM answers INVALID_ADDRESS.',
    'page-track/enable-not-ram-one-past-high',
    recodeHandle('enablePageTrack', 'NOT_RAM', 'INVALID_ADDRESS'),
  ],
  ['takes-nan', 'NaN is a frame.', 'page-track/enable-frame-nan', silentHandle('enablePageTrack', 'INVALID_ADDRESS')],
  [
    'counts-twice',
    'A frame that is enabled twice reports each write twice.',
    'page-track/trap-enable-twice',
    (backend) => {
      let times = 0;
      all(
        onHandle('enablePageTrack', (original) => (gfn) => {
          original(gfn);
          times++;
        }),
        onBackend('route', (original) => {
          let told = 0;
          return (vm, request, from = 0) => {
            if (request.kind !== IoKind.WP || times < 2) return original(vm, request, from);
            told = from === 0 ? 1 : told + 1;
            return told > 2 ? 0 : original(vm, request, 0);
          };
        }),
      )(backend);
    },
  ],
  [
    'one-of-two-told',
    'Of two vGPUs that track a frame only the first is told.',
    'page-track/trap-two-vgpus-both-told',
    onBackend(
      'route',
      (original) =>
        (vm, request, from = 0) =>
          request.kind === IoKind.WP && from > 0 ? 0 : original(vm, request, from),
    ),
  ],
  [
    'second-without-data',
    'The second vGPU is told without the data.',
    'page-track/trap-two-vgpus-both-told',
    reports((request) => {
      if (request.vgpu === 2) request.value[0] = 0;
      return true;
    }),
  ],
  [
    'wrong-vgpu',
    'The report names another vGPU.',
    'page-track/trap-size-4-at-0x7f8',
    reports((request) => {
      request.vgpu = 7 as typeof request.vgpu;
      return true;
    }),
  ],
  [
    'wrong-kind',
    'A tracked write arrives as MMIO.',
    'page-track/trap-size-8-at-0x7f8',
    reports((request) => {
      request.kind = IoKind.MMIO;
      return true;
    }),
  ],
  [
    'clears-memory',
    'Tracking a frame clears its first bytes.',
    'page-track/memory-stays-readable',
    onHandle('doEnablePageTrack', (original, handle) => (gfn) => {
      original(gfn);
      vmOf(handle).memory.write(gfn * PAGE_SIZE, new Uint8Array(8), 0, 8);
    }),
  ],
  [
    'host-write-refused',
    'The host cannot write a tracked frame.',
    'page-track/memory-stays-readable',
    onHandle('doWriteGpa', (original, handle) => (gpa, buffer, offset, length) => {
      if (!handle.tracks(Math.floor(gpa / PAGE_SIZE))) original(gpa, buffer, offset, length);
    }),
  ],
  [
    'host-write-reported',
    'A write of the host is reported.',
    'page-track/host-write-not-reported',
    onHandle('syncPageTrack', (original, handle) => () => original() + handle.trackedCount),
  ],
  [
    'other-vm',
    'The frame is tracked in every VM.',
    'isolation/page-track',
    (backend) => {
      const spaces: { setFlag(gfn: number, flag: number, on: boolean): void }[] = [];
      backend.events.on('vm-created', (vm) => spaces.push(vm.space));
      onHandle('doEnablePageTrack', () => (gfn) => {
        for (const space of spaces) space.setFlag(gfn, PageFlag.TRAP, true);
      })(backend);
    },
  ],
  [
    'trap-level-syncs',
    'At level trap a synchronisation reports the frames too.',
    'page-track/trap-sync-answers-zero',
    onHandle('syncPageTrack', (_original, handle) => () => handle.trackedCount),
  ],
  [
    'undeclared',
    'It answers UNSUPPORTED although it is declared.',
    'capability/enable-page-track-honest',
    onHandle('enablePageTrack', (_original, handle) => () => {
      throw handle.backend.error('UNSUPPORTED', 'not here', { op: 'enable_page_track' });
    }),
  ],
]);
