/** Page track at level `sync`: frames that the guest wrote are found when the core synchronises. */
import { Gfn, PAGE_SIZE } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal } from '../expect.js';
import { firstFrame, lastFrame, RAM_ISLAND, RAM_LOW, RAM_NEXT, SCRATCH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';

const PAGE = Gfn(SCRATCH_FRAME);

/** One synchronisation of the case's vGPU reports exactly these frames, each once, and counts them. */
function expectSync(ctx: CaseContext, frames: readonly number[], when: string, handle = ctx.handle): void {
  ctx.recorder.clear();
  const count = handle.syncPageTrack();
  const reported = ctx.recorder.pagesWritten.map(({ gfn }) => gfn).sort((a, b) => a - b);
  equal(reported.join(), [...frames].sort((a, b) => a - b).join(), `frames reported ${when}`);
  equal(count, frames.length, `count returned ${when}`);
  for (const { vgpu } of ctx.recorder.pagesWritten) equal(vgpu, handle.vgpu.id, `vGPU of the report ${when}`);
}

/** Every write changes the dword: one that stores what is there already need not be found. */
let stamp = 0x600d_0000;

/** The guest writes to a frame. @returns the dword */
function touch(ctx: CaseContext, gfn: number, offset = 0): number {
  stamp = (stamp + 1) >>> 0;
  ctx.agent.write(gfn * PAGE_SIZE + offset, 4, stamp);
  return stamp;
}

const cases: CaseSpec[] = [
  {
    name: 'sync-reported-once',
    rule: 'A written frame is reported by the next synchronisation, once however often it was written, and not again.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      for (const offset of [0, 4, 0xffc, 0]) touch(ctx, PAGE, offset);
      expectSync(ctx, [PAGE], 'after the writes');
      expectSync(ctx, [], 'without another write');
    },
  },
  {
    name: 'sync-again-after-write',
    rule: 'After a synchronisation the next write is found again.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      for (const round of [1, 2, 3]) {
        touch(ctx, PAGE, round * 8);
        expectSync(ctx, [PAGE], `in round ${round}`);
      }
    },
  },
  {
    name: 'sync-no-exit',
    rule: 'At level sync writes to tracked frames reach memory and are not delivered as accesses.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      const dword = touch(ctx, PAGE, 0x40);
      ctx.recorder.expectNone('level sync has no write accesses');
      equal(ctx.agent.read(SCRATCH + 0x40, 4), dword, 'guest memory');
    },
  },
  {
    name: 'sync-untracked-not-reported',
    rule: 'Writes to frames that are not tracked are not reported, not even to the neighbours of a tracked one.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE - 1, 0xffc);
      touch(ctx, PAGE + 1);
      expectSync(ctx, [], 'after writes beside the frame');
    },
  },
  {
    name: 'sync-reads-not-reported',
    rule: 'Guest reads of a tracked frame are not reported.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.agent.read(SCRATCH, 4);
      expectSync(ctx, [], 'after a read');
    },
  },
  {
    name: 'sync-nothing-written',
    rule: 'Synchronising without a write reports nothing.',
    run(ctx) {
      expectSync(ctx, [], 'with no frame tracked');
      ctx.handle.enablePageTrack(PAGE);
      expectSync(ctx, [], 'with a frame tracked');
    },
  },
  {
    name: 'sync-write-before-enable',
    rule: 'Writes from before enable_page_track are not reported.',
    run(ctx) {
      touch(ctx, PAGE);
      ctx.handle.enablePageTrack(PAGE);
      expectSync(ctx, [], 'after a write before tracking');
    },
  },
  {
    name: 'sync-write-before-enable-of-second',
    rule: 'A frame written while only another one was tracked is not reported when it is tracked later.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE + 5);
      ctx.handle.enablePageTrack(Gfn(PAGE + 5));
      expectSync(ctx, [], 'after a write before tracking');
      touch(ctx, PAGE + 5);
      expectSync(ctx, [PAGE + 5], 'after a write while tracked');
    },
  },
  {
    name: 'sync-survives-other-enable',
    rule: 'Tracking another frame does not lose a write that is not yet reported.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      ctx.handle.enablePageTrack(Gfn(PAGE + 1));
      expectSync(ctx, [PAGE], 'after the second enable');
    },
  },
  {
    name: 'sync-survives-other-disable',
    rule: 'Untracking another frame does not lose a write that is not yet reported.',
    operations: ['disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.handle.enablePageTrack(Gfn(PAGE + 1));
      touch(ctx, PAGE);
      ctx.handle.disablePageTrack(Gfn(PAGE + 1));
      expectSync(ctx, [PAGE], 'after the disable');
    },
  },
  {
    name: 'sync-disabled-not-reported',
    rule: 'After disable_page_track neither earlier nor later writes are reported.',
    operations: ['disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.handle.enablePageTrack(Gfn(PAGE + 1));
      touch(ctx, PAGE);
      ctx.handle.disablePageTrack(PAGE);
      touch(ctx, PAGE, 8);
      expectSync(ctx, [], 'after the disable');
    },
  },
  {
    name: 'sync-enable-again-is-fresh',
    rule: 'A frame that is untracked and tracked again starts without earlier writes.',
    operations: ['enable_page_track', 'disable_page_track'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      ctx.handle.disablePageTrack(PAGE);
      ctx.handle.enablePageTrack(PAGE);
      expectSync(ctx, [], 'after enabling again');
      touch(ctx, PAGE);
      expectSync(ctx, [PAGE], 'after the next write');
    },
  },
  {
    name: 'sync-enable-twice',
    rule: 'Enabling a tracked frame again neither loses nor doubles its report.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      ctx.handle.enablePageTrack(PAGE);
      expectSync(ctx, [PAGE], 'after the second enable');
    },
  },
  {
    name: 'sync-several-frames',
    rule: 'One synchronisation reports every frame that was written, in all regions, and no other.',
    run(ctx) {
      const frames = [
        firstFrame(RAM_LOW),
        PAGE,
        lastFrame(RAM_LOW),
        firstFrame(RAM_NEXT),
        lastFrame(RAM_NEXT),
        firstFrame(RAM_ISLAND),
        lastFrame(RAM_ISLAND),
      ];
      for (const gfn of frames) ctx.handle.enablePageTrack(Gfn(gfn));
      const written = frames.filter((_, i) => i % 2 === 0);
      for (const gfn of written) touch(ctx, gfn, 0x10);
      expectSync(ctx, written, 'after writing every second frame');
    },
  },
  {
    name: 'sync-write-across-frames',
    rule: 'One write across two tracked frames reports both.',
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.handle.enablePageTrack(Gfn(PAGE + 1));
      ctx.agent.write64(SCRATCH + PAGE_SIZE - 4, 1, 2);
      expectSync(ctx, [PAGE, PAGE + 1], 'after the crossing write');
    },
  },
  {
    name: 'sync-two-vgpus-one-frame',
    rule: 'Two vGPUs that track the same frame each have the write reported to themselves.',
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.enablePageTrack(PAGE);
      second.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      expectSync(ctx, [PAGE], 'by the first vGPU');
      expectSync(ctx, [PAGE], 'by the second vGPU', second);
      expectSync(ctx, [], 'by the first vGPU again');
      expectSync(ctx, [], 'by the second vGPU again', second);
    },
  },
  {
    name: 'sync-survives-other-detach',
    rule: 'Detaching one vGPU does not lose the writes of another that tracks the same frame.',
    operations: ['enable_page_track', 'detach_vgpu'],
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.enablePageTrack(PAGE);
      second.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      ctx.handle.detachVgpu();
      expectSync(ctx, [PAGE], 'by the vGPU that is left', second);
    },
  },
  {
    name: 'sync-host-write-between',
    rule: 'A host write to a frame neither adds nor hides a guest write.',
    operations: ['enable_page_track', 'write_gpa'],
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      touch(ctx, PAGE);
      ctx.poke(SCRATCH + 0x800, Uint8Array.of(1, 2, 3));
      expectSync(ctx, [PAGE], 'after guest and host write');
      ctx.poke(SCRATCH + 0x800, Uint8Array.of(4));
      expectSync(ctx, [], 'after a host write alone');
    },
  },
];

export const PAGE_TRACK_SYNC_CASES: readonly ConformanceCase[] = group(
  'page-track',
  { operations: ['enable_page_track'], needs: ['pageTrack'], level: 'sync', guest: true },
  cases,
);
