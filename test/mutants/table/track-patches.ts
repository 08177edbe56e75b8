/** What mutants of page tracking have in common. */
import { IoKind, type IoRequest } from '../../../src/core/io-request.js';
import { PageFlag } from '../../../src/pc/address-space.js';
import { onHandle, onRequests, type Patch, vmOf } from '../patch.js';

/** Changes each report of a tracked write; false drops it. */
export const reports = (change: (request: IoRequest) => boolean | undefined): Patch =>
  onRequests('next', (original, machine) => (ms) => {
    for (;;) {
      const request = original(ms);
      if (request?.kind !== IoKind.WP || change(request) !== false) return request;
      machine.requests.complete(request);
    }
  });
/** Reports other frames than were found. */
export const sync = (make: (frames: number[], tracked: readonly number[]) => readonly number[]): Patch =>
  onHandle('doSyncPageTrack', (original, handle) => (written) => {
    const frames: number[] = [];
    original((gfn) => frames.push(gfn));
    for (const gfn of make(frames, [...handle.trackedFrames()])) written(gfn);
  });
/** Before the operation, marks of frames that the vGPU tracks are set or cleared. */
export const marks = (
  name: 'doEnablePageTrack' | 'doDisablePageTrack',
  when: 'before' | 'after',
  on: boolean,
  which: 'it' | 'all',
): Patch =>
  onHandle(name, (original, handle) => (gfn) => {
    const mark = (): void => {
      for (const frame of which === 'it' ? [gfn] : handle.trackedFrames()) vmOf(handle).space.setFlag(frame, PageFlag.DIRTY, on);
    };
    if (when === 'before') mark();
    original(gfn);
    if (when === 'after') mark();
  });
/** The hypervisor is not told. */
export const skip = (name: 'doEnablePageTrack' | 'doDisablePageTrack'): Patch => onHandle(name, () => () => undefined);
