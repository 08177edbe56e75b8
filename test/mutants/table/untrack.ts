/** disable_page_track, broken at both levels. */
import { Gfn, PAGE_SIZE } from '../../../src/core/addresses.js';
import { IoKind } from '../../../src/core/io-request.js';
import { PageFlag } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, onHandle, onRequests, silentHandle, vmOf } from '../patch.js';
import { marks, reports, skip } from './track-patches.js';

export const UNTRACK_MUTANTS: readonly Mutant[] = mutantsOf('disable_page_track', [
  ['does-nothing', 'Writes are reported for ever.', 'page-track/trap-untrack-stops', onHandle('disablePageTrack', () => () => undefined)],
  [
    'stays-protected',
    'Writes still exit, but are not reported.',
    'page-track/trap-untrack-costs-nothing',
    all(
      skip('doDisablePageTrack'),
      reports(({ vgpu }) => vgpu !== 0),
    ),
  ],
  [
    'all-frames',
    'Every tracked frame is untracked.',
    'page-track/trap-adjacent-frames',
    onHandle('doDisablePageTrack', (original, handle) => () => {
      for (const gfn of handle.trackedFrames()) original(gfn);
    }),
  ],
  [
    'next-frame',
    'The next frame is untracked.',
    'page-track/trap-untrack-stops',
    onHandle('doDisablePageTrack', (original) => (gfn) => original(gfn + 1)),
  ],
  [
    'for-all-vgpus',
    'Another vGPU that tracks the frame is not told any more.',
    'page-track/trap-two-vgpus-one-frame',
    onHandle('doDisablePageTrack', (_original, handle) => (gfn) => vmOf(handle).space.setFlag(gfn, PageFlag.TRAP, false)),
  ],
  [
    'for-no-vgpu',
    'A frame that two vGPUs tracked stays protected after both have untracked it.',
    'page-track/trap-two-vgpus-one-frame',
    onHandle('doDisablePageTrack', (original, handle, backend) => (gfn) => {
      if (backend.handlesOf(handle.vgpu.vmId).length < 2) original(gfn);
    }),
  ],
  [
    'untracked-refused',
    'A frame that is not tracked answers NOT_MAPPED.',
    'page-track/disable-untracked',
    onHandle('disablePageTrack', (original, handle) => (gfn) => {
      if (Number.isInteger(gfn) && gfn >= 0 && handle.attached && !handle.tracks(gfn))
        throw handle.backend.error('NOT_MAPPED', 'not tracked', { op: 'disable_page_track' });
      original(gfn);
    }),
  ],
  ['takes-nan', 'NaN is a frame.', 'page-track/disable-frame-nan', silentHandle('disablePageTrack', 'INVALID_ADDRESS')],
  [
    'counted',
    'A frame that was enabled twice must be disabled more than twice.',
    'page-track/trap-enable-twice',
    (backend) => {
      let enabled = 0;
      all(
        onHandle('enablePageTrack', (original) => (gfn) => {
          original(gfn);
          enabled++;
        }),
        onHandle('disablePageTrack', (original) => (gfn) => (enabled > 1 ? undefined : original(gfn))),
      )(backend);
    },
  ],
  [
    'busy-in-report',
    'Tracking cannot be switched off from inside a report.',
    'page-track/trap-change-from-report',
    (backend) => {
      let pending = false;
      all(
        onRequests('next', (original) => (ms) => {
          const request = original(ms);
          pending = request?.kind === IoKind.WP;
          return request;
        }),
        onRequests('complete', (original) => (request) => {
          pending = false;
          original(request);
        }),
        onHandle('disablePageTrack', (original, handle) => (gfn) => {
          if (pending) throw handle.backend.error('BUSY', 'in a report', { op: 'disable_page_track' });
          original(gfn);
        }),
      )(backend);
    },
  ],
  [
    'write-lost',
    'The first write after untracking is lost.',
    'page-track/trap-untrack-stops',
    onHandle('disablePageTrack', (original, handle) => (gfn) => {
      original(gfn);
      const { memory } = vmOf(handle);
      const read = handle.readGpa.bind(handle);
      handle.readGpa = (gpa, target, offset, length) => {
        memory.write(gfn * PAGE_SIZE, new Uint8Array(4), 0, 4);
        read(gpa, target, offset, length);
      };
    }),
  ],
  [
    'sync-loses',
    'Untracking a frame forgets the writes of the others.',
    'page-track/sync-survives-other-disable',
    marks('doDisablePageTrack', 'before', false, 'all'),
  ],
  [
    'sync-not-fresh',
    'A frame that is tracked again has its earlier writes.',
    'page-track/sync-enable-again-is-fresh',
    onHandle('disablePageTrack', (original, handle) => {
      const { space } = vmOf(handle);
      const written = new Set<number>();
      const enablePageTrack = handle.enablePageTrack.bind(handle);
      handle.enablePageTrack = (gfn) => {
        enablePageTrack(gfn);
        if (written.has(gfn)) space.setFlag(gfn, PageFlag.DIRTY, true);
      };
      return (gfn) => {
        if (space.hasFlag(gfn, PageFlag.DIRTY)) written.add(gfn);
        original(gfn);
      };
    }),
  ],
  [
    'sync-still-reported',
    'Writes to an untracked frame are still reported.',
    'page-track/sync-disabled-not-reported',
    onHandle('disablePageTrack', (original, handle, backend) => {
      const gone = new Set<number>();
      const syncPageTrack = handle.syncPageTrack.bind(handle);
      handle.syncPageTrack = () => {
        for (const gfn of gone) backend.ops.pageWritten(handle.vgpu.id, Gfn(gfn));
        return syncPageTrack() + gone.size;
      };
      return (gfn) => {
        original(gfn);
        gone.add(gfn);
      };
    }),
  ],
]);
