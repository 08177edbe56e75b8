/** enable_page_track at level `sync`, broken. */
import { Gfn, PAGE_SIZE } from '../../../src/core/addresses.js';
import { PageFlag } from '../../../src/pc/address-space.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { onHandle, vmOf } from '../patch.js';
import { marks, sync } from './track-patches.js';

export const TRACK_SYNC_MUTANTS: readonly Mutant[] = mutantsOf('enable_page_track', [
  [
    'sync-doubled',
    'A synchronisation reports each frame twice.',
    'page-track/sync-reported-once',
    sync((frames) => [...frames, ...frames]),
  ],
  [
    'sync-count-wrong',
    'The number of frames is one too high.',
    'page-track/sync-reported-once',
    onHandle('syncPageTrack', (original) => () => original() + 1),
  ],
  [
    'sync-not-cleared',
    'A frame that was reported is reported again.',
    'page-track/sync-reported-once',
    (backend) => {
      const known = new Set<number>();
      sync((frames) => {
        for (const gfn of frames) known.add(gfn);
        return [...known];
      })(backend);
    },
  ],
  [
    'sync-once',
    'After the first report a frame is not tracked any more.',
    'page-track/sync-again-after-write',
    (backend) => {
      const known = new Set<number>();
      sync((frames) => frames.filter((gfn) => !known.has(gfn) && known.add(gfn)))(backend);
    },
  ],
  ['sync-all', 'Every tracked frame is reported.', 'page-track/sync-nothing-written', sync((_, tracked) => tracked)],
  ['sync-none', 'No frame is ever reported.', 'page-track/sync-several-frames', sync(() => [])],
  ['sync-one', 'One synchronisation reports one frame.', 'page-track/sync-several-frames', sync((frames) => frames.slice(0, 1))],
  [
    'sync-born-dirty',
    'A frame counts as written when it is tracked.',
    'page-track/sync-write-before-enable',
    marks('doEnablePageTrack', 'after', true, 'it'),
  ],
  [
    'sync-enable-loses',
    'Tracking a frame forgets the writes of the others.',
    'page-track/sync-survives-other-enable',
    marks('doEnablePageTrack', 'before', false, 'all'),
  ],
  [
    'sync-second-page-missed',
    'Of a write across two frames the second is missed.',
    'page-track/sync-write-across-frames',
    sync((frames) => frames.filter((gfn) => !frames.includes(gfn - 1))),
  ],
  [
    'sync-exits',
    'Writes at level sync are delivered as accesses.',
    'page-track/sync-no-exit',
    onHandle('doEnablePageTrack', (original, handle) => (gfn) => {
      original(gfn);
      vmOf(handle).space.setFlag(gfn, PageFlag.TRAP, true);
    }),
  ],
  [
    'sync-first-takes-all',
    'A report to one vGPU takes it away from the other.',
    'page-track/sync-two-vgpus-one-frame',
    onHandle('syncPageTrack', (original, handle, backend) => () => {
      const answer = original();
      for (const other of backend.handlesOf(handle.vgpu.vmId))
        if (other !== handle) (other as unknown as { doSyncPageTrack(to: () => void): void }).doSyncPageTrack(() => undefined);
      return answer;
    }),
  ],
  [
    'sync-host-write-reported',
    'A write of the host marks the frame.',
    'page-track/sync-host-write-between',
    onHandle('doWriteGpa', (original, handle) => (gpa, buffer, offset, length) => {
      original(gpa, buffer, offset, length);
      vmOf(handle).space.setFlag(Math.floor(gpa / PAGE_SIZE), PageFlag.DIRTY, true);
    }),
  ],
  [
    'sync-untracked-reported',
    'A write beside a tracked frame is reported as one to it.',
    'page-track/sync-untracked-not-reported',
    onHandle('doEnablePageTrack', (original, handle) => {
      const near = new Set<number>();
      const { space } = vmOf(handle);
      const flagged = space.hasFlag.bind(space);
      space.hasFlag = (gfn, flag) => flagged(gfn, flag) || (near.has(gfn) && flagged(gfn + 1, flag));
      return (gfn) => {
        original(gfn);
        near.add(gfn);
        space.setFlag(gfn + 1, PageFlag.LOG, true);
      };
    }),
  ],
  [
    'sync-wrong-vgpu',
    'The report names vGPU 7.',
    'page-track/sync-again-after-write',
    onHandle(
      'doSyncPageTrack',
      (original, _handle, backend) => (written) =>
        original((gfn) => {
          backend.ops.pageWritten(7 as never, Gfn(gfn));
          written(gfn);
        }),
    ),
  ],
]);
