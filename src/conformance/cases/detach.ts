/** detach_vgpu, and a VM that goes away under an attached vGPU. */
import { Gfn, Gpa, HUGE_PAGE_SIZE, PAGE_SIZE } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok } from '../expect.js';
import { HOLE, SCRATCH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';
import { HANDLE_CALLS, operationOf } from './handle-calls.js';

const detach = group('detach', { operations: ['detach_vgpu'] }, [
  {
    name: 'twice',
    rule: 'A second detach_vgpu answers DETACHED.',
    run(ctx) {
      ctx.handle.detachVgpu();
      ok(!ctx.handle.attached, 'the handle is still attached');
      ctx.refuses('DETACHED', 'detach_vgpu', () => ctx.handle.detachVgpu());
      equal(ctx.backend.attachedCount, 0, 'attached vGPUs');
    },
  },
  ...HANDLE_CALLS.map(
    ([op, call]): CaseSpec => ({
      name: `${op.replaceAll('_', '-')}-refused-after`,
      rule: `After detach_vgpu the handle answers DETACHED to ${op}, whatever the backend's capabilities.`,
      operations: [operationOf(op), 'detach_vgpu'],
      run(ctx) {
        ctx.handle.detachVgpu();
        ctx.refuses('DETACHED', op, () => call(ctx.handle));
      },
    }),
  ),
  {
    name: 'releases-trap-areas',
    rule: 'detach_vgpu removes the trap areas: another vGPU can take the same range.',
    operations: ['detach_vgpu', 'set_trap_area'],
    needs: ['setTrapArea'],
    run(ctx) {
      ctx.handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      ctx.handle.detachVgpu();
      ctx.attach({ id: 2 }).setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
    },
  },
  {
    name: 'stops-delivery',
    rule: 'After detach_vgpu the guest accesses to its trap areas belong to no vGPU.',
    operations: ['detach_vgpu', 'set_trap_area'],
    needs: ['setTrapArea'],
    guest: true,
    run(ctx) {
      ctx.handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      ctx.agent.read(HOLE.gpa, 4);
      ctx.recorder.expectOne({ kind: 'mmio', vgpu: 1 });
      ctx.recorder.clear();
      ctx.handle.detachVgpu();
      equal(ctx.agent.read(HOLE.gpa, 4), 0xffff_ffff, 'value read after detach');
      ctx.recorder.expectOne({ kind: 'mmio', vgpu: 0 });
    },
  },
  {
    name: 'stops-page-track',
    rule: 'After detach_vgpu guest writes to the frames that it tracked are plain memory writes.',
    operations: ['detach_vgpu', 'disable_page_track'],
    needs: ['pageTrack'],
    guest: true,
    run(ctx) {
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      ctx.handle.enablePageTrack(Gfn(SCRATCH_FRAME));
      ctx.handle.detachVgpu();
      ctx.agent.write(SCRATCH, 4, 0x1234_5678);
      ctx.recorder.expectNone('nothing is tracked');
      second.syncPageTrack();
      equal(ctx.recorder.pagesWritten.length, 0, 'pages reported');
      equal(ctx.agent.read(SCRATCH, 4), 0x1234_5678, 'value in memory');
    },
  },
  {
    name: 'unmaps-host-frames',
    rule: 'detach_vgpu removes direct mappings: the guest accesses exit and the host pages can be released.',
    operations: ['detach_vgpu', 'map_gfn_to_mfn'],
    needs: ['mapGfnToMfn', 'hostPages'],
    guest: true,
    run(ctx) {
      const pages = ctx.hostPages(1);
      pages.bytes.fill(0x5a);
      ctx.handle.mapGfnToMfn(Gfn(HOLE.gpa / PAGE_SIZE), pages.mfn, 1, true);
      equal(ctx.agent.read(HOLE.gpa, 4), 0x5a5a_5a5a, 'value while mapped');
      ctx.recorder.expectNone('the page is mapped');
      ctx.handle.detachVgpu();
      equal(ctx.agent.read(HOLE.gpa, 4), 0xffff_ffff, 'value after detach');
      ctx.recorder.expectOne({ kind: 'mmio', vgpu: 0 });
      pages.release();
    },
  },
  {
    name: 'unpins-dma-pages',
    rule: 'detach_vgpu drops every DMA mapping whatever its references: the pin limit is free again.',
    operations: ['detach_vgpu', 'dma_unmap_guest_page'],
    pinLimit: true,
    run(ctx) {
      ctx.usePinLimit(2);
      for (const id of [2, 3, 4]) {
        const handle = ctx.attach({ id, bdf: SECOND_BDF });
        handle.dmaMapGuestPage(Gfn(SCRATCH_FRAME), PAGE_SIZE);
        handle.dmaMapGuestPage(Gfn(SCRATCH_FRAME), PAGE_SIZE);
        handle.dmaMapGuestPage(Gfn(SCRATCH_FRAME + 1), PAGE_SIZE);
        equal(handle.pinnedPages, 2, 'pages pinned');
        handle.detachVgpu();
        equal(handle.pinnedPages, 0, 'pages pinned after detach');
      }
    },
  },
  {
    name: 'everything-at-once',
    rule: 'detach_vgpu with traps, tracks, mappings, DMA and references outstanding succeeds and the VM goes on.',
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      const frame = Gfn(SCRATCH_FRAME);
      handle.dmaMapGuestPage(frame, PAGE_SIZE);
      if (ctx.has('dmaHugePage')) handle.dmaMapGuestPage(Gfn(HUGE_PAGE_SIZE / PAGE_SIZE), HUGE_PAGE_SIZE);
      if (ctx.has('pageTrack')) for (const gfn of [0, 2, 3, 9]) handle.enablePageTrack(Gfn(frame + gfn));
      if (ctx.has('setTrapArea')) handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      if (ctx.has('mapGfnToMfn') && ctx.has('hostPages')) handle.mapGfnToMfn(Gfn(HOLE.gpa / PAGE_SIZE + 1), ctx.hostPages(2).mfn, 2, true);
      if (ctx.has('vfioDevice')) handle.getVfioDevice();
      handle.detachVgpu();
      equal(handle.trackedCount + handle.pinnedPages + handle.vfioReferences, 0, 'frames tracked, pages pinned and references held');
      agent.write(SCRATCH, 4, 7);
      equal(agent.read(SCRATCH, 4), 7, 'value in memory');
      ctx.recorder.expectNone('memory accesses do not exit');
    },
  },
]);

const vmGone = group('vm-gone', { operations: ['detach_vgpu'] }, [
  ...HANDLE_CALLS.map(
    ([op, call]): CaseSpec => ({
      name: `${op.replaceAll('_', '-')}-refused`,
      rule: `After its VM was destroyed the handle answers VM_GONE to ${op}.`,
      operations: [operationOf(op)],
      run(ctx) {
        const { handle } = ctx;
        ctx.machine.close();
        ok(!handle.attached, 'the handle claims to be attached');
        ctx.refuses('VM_GONE', op, () => call(handle));
      },
    }),
  ),
  {
    name: 'detach-works',
    rule: 'A vGPU whose VM was destroyed can be detached once, with everything outstanding.',
    run(ctx) {
      const { handle } = ctx;
      handle.dmaMapGuestPage(Gfn(SCRATCH_FRAME), PAGE_SIZE);
      if (ctx.has('pageTrack')) handle.enablePageTrack(Gfn(SCRATCH_FRAME));
      if (ctx.has('setTrapArea')) handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      ctx.machine.close();
      equal(ctx.backend.attachedCount, 1, 'attached vGPUs before detach');
      handle.detachVgpu();
      equal(ctx.backend.attachedCount, 0, 'attached vGPUs');
      ctx.refuses('DETACHED', 'detach_vgpu', () => handle.detachVgpu());
    },
  },
  {
    name: 'vgpu-reusable',
    rule: 'After its VM was destroyed and it was detached, a vGPU can be attached to another VM.',
    operations: ['attach_vgpu', 'detach_vgpu'],
    run(ctx) {
      const { handle } = ctx;
      ctx.machine.close();
      ctx.refuses('ALREADY_ATTACHED', 'attach_vgpu', () => ctx.attach({ machine: ctx.createMachine() }));
      handle.detachVgpu();
      ok(ctx.attach({ machine: ctx.createMachine() }).attached, 'the vGPU is not attached');
    },
  },
  {
    name: 'host-pages-free',
    rule: 'Destroying a VM frees the host pages that were mapped into it, at the latest when the vGPU is detached.',
    operations: ['map_gfn_to_mfn', 'detach_vgpu'],
    needs: ['mapGfnToMfn', 'hostPages'],
    run(ctx) {
      const pages = ctx.hostPages(1);
      ctx.handle.mapGfnToMfn(Gfn(HOLE.gpa / PAGE_SIZE), pages.mfn, 1, true);
      ctx.machine.close();
      ctx.handle.detachVgpu();
      pages.release();
    },
  },
]);

export const DETACH_CASES: readonly ConformanceCase[] = [...detach, ...vmGone];
