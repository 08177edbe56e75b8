/**
 * A vGPU that is attached where it was before, as one that is restored from a saved state: nothing that its first attachment had is
 * there, and everything can be had anew.
 */
import { type DmaAddress, Gfn, Gpa, PAGE_SIZE } from '../../core/addresses.js';
import { type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal } from '../expect.js';
import { HOLE, MSI_ADDRESS, SCRATCH, SCRATCH_FRAME } from '../layout.js';

const PAGE = Gfn(SCRATCH_FRAME);
const VECTOR = 0x52;

/** Detaches the case's vGPU and attaches it again. */
function again(ctx: CaseContext): ReturnType<CaseContext['attach']> {
  ctx.handle.detachVgpu();
  return ctx.attach({ id: 1 });
}

/** Guest writes to the frame that were told, whatever the level, since the recorder was cleared. */
function told(ctx: CaseContext, handle: ReturnType<CaseContext['attach']>): number {
  handle.syncPageTrack();
  return ctx.recorder.pagesWritten.length + ctx.recorder.of('wp').length;
}

export const ATTACH_AGAIN_CASES: readonly ConformanceCase[] = group('attach-again', { operations: ['attach_vgpu', 'detach_vgpu'] }, [
  {
    name: 'tracks-nothing',
    rule: 'A vGPU that is attached again tracks no frame that it tracked before.',
    operations: ['attach_vgpu', 'enable_page_track'],
    needs: ['pageTrack'],
    guest: true,
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      ctx.agent.write(SCRATCH, 4, 0x0001_0001);
      const handle = again(ctx);
      ctx.recorder.clear();
      ctx.agent.write(SCRATCH, 4, 0x0002_0002);
      equal(told(ctx, handle), 0, 'writes told');
      equal(ctx.agent.read(SCRATCH, 4), 0x0002_0002, 'guest memory');
    },
  },
  {
    name: 'tracks-from-then-on',
    rule: 'A frame that is tracked anew after an attach tells of writes from then on, not of those in between.',
    operations: ['attach_vgpu', 'enable_page_track'],
    needs: ['pageTrack'],
    guest: true,
    run(ctx) {
      ctx.handle.enablePageTrack(PAGE);
      const handle = again(ctx);
      ctx.agent.write(SCRATCH, 4, 0x0003_0003);
      handle.enablePageTrack(PAGE);
      ctx.recorder.clear();
      equal(told(ctx, handle), 0, 'writes told before there was one');
      ctx.agent.write(SCRATCH + 8, 4, 0x0004_0004);
      equal(told(ctx, handle), 1, 'writes told');
      for (const { vgpu } of [...ctx.recorder.pagesWritten, ...ctx.recorder.of('wp')]) equal(vgpu, 1, 'vGPU that is told');
    },
  },
  {
    name: 'dma-address-is-dead',
    rule: 'A DMA address does not outlive its attachment: until its frame is mapped again the next one refuses it.',
    operations: ['attach_vgpu', 'dma_map_guest_page'],
    run(ctx) {
      const address = ctx.handle.dmaMapGuestPage(PAGE, PAGE_SIZE);
      const handle = again(ctx);
      ctx.refuses('NOT_MAPPED', 'dma_view', () => handle.view(address, 4));
      ctx.refuses('NOT_MAPPED', 'dma_unmap_guest_page', () => handle.dmaUnmapGuestPage(address));
    },
  },
  {
    name: 'dma-shows-what-is-there',
    rule: 'A frame that is mapped anew after an attach shows what the guest wrote meanwhile, and what it writes then.',
    operations: ['attach_vgpu', 'dma_map_guest_page'],
    guest: true,
    run(ctx) {
      ctx.handle.dmaMapGuestPage(PAGE, PAGE_SIZE);
      const handle = again(ctx);
      ctx.agent.write(SCRATCH, 4, 0x0005_0005);
      const address: DmaAddress = handle.dmaMapGuestPage(PAGE, PAGE_SIZE);
      const words = (): Uint32Array => {
        const { buffer, byteOffset } = handle.view(address, PAGE_SIZE);
        return new Uint32Array(buffer, byteOffset, 2);
      };
      equal(words()[0], 0x0005_0005, 'dword written in between');
      ctx.agent.write(SCRATCH + 4, 4, 0x0006_0006);
      equal(words()[1], 0x0006_0006, 'dword written afterwards');
    },
  },
  {
    name: 'traps-where-it-did',
    rule: 'A trap area can be set where the first attachment had it, and its accesses are the vGPU’s again.',
    operations: ['attach_vgpu', 'set_trap_area'],
    needs: ['setTrapArea'],
    guest: true,
    run(ctx) {
      ctx.handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      ctx.agent.read(HOLE.gpa, 4);
      const handle = again(ctx);
      handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      ctx.recorder.clear();
      ctx.recorder.answer = { low: 0x0007_0007, high: 0 };
      equal(ctx.agent.read(HOLE.gpa, 4), 0x0007_0007, 'value read');
      ctx.recorder.expectOne({ kind: 'mmio', vgpu: 1 });
    },
  },
  {
    name: 'interrupts-the-same-guest',
    rule: 'Messages of a vGPU that is attached again reach the guest that ran meanwhile.',
    operations: ['attach_vgpu', 'inject_msi'],
    guest: true,
    run(ctx) {
      const { handle, agent } = ctx;
      handle.injectMsi(MSI_ADDRESS, VECTOR);
      agent.waitInterrupt(VECTOR, 1);
      again(ctx).injectMsi(MSI_ADDRESS, VECTOR);
      agent.waitInterrupt(VECTOR, 2);
      equal(agent.interruptCount(VECTOR), 2, 'handler runs');
    },
  },
]);
