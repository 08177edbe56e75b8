/** set_pvmmio (ACRN): a register file that the guest reads without exits. Layout: facts/gvt.md 1.3 #16 and 5.5. */
import { Gfn, Gpa, PAGE_SIZE } from '../../core/addresses.js';
import type { HostPages } from '../../core/mpt.js';
import type { MptHandle } from '../../core/mpt-handle.js';
import { BAD_ADDRESSES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, pattern, refuses, word } from '../expect.js';
import { HOLE, lastByte, SCRATCH, SCRATCH_FRAME, SECOND_BDF } from '../layout.js';

/** BAR0: 16 MiB, the whole hole. */
const BAR = HOLE.gpa;
const BAR_END = lastByte(HOLE);
const REGISTER_FILE_PAGES = 512;
const REGISTER_FILE_END = REGISTER_FILE_PAGES * PAGE_SIZE;
const PVINFO = 0x7_8000;

interface PvmmioVgpu {
  readonly handle: MptHandle;
  readonly registerFile: HostPages;
  readonly sharedPage: HostPages;
}

/** A vGPU with its pages and BAR0 trapped, pvmmio not yet on. */
function attach(ctx: CaseContext): PvmmioVgpu {
  const registerFile = ctx.hostPages(REGISTER_FILE_PAGES);
  const sharedPage = ctx.hostPages(1);
  const handle = ctx.attach({ pvmmio: { registerFile, sharedPage } });
  handle.setTrapArea(Gpa(BAR), Gpa(BAR_END), true);
  return { handle, registerFile, sharedPage };
}
const turn = (handle: MptHandle, on: boolean): void => handle.setPvmmio(Gpa(BAR), Gpa(BAR_END), on);

/** A guest load from BAR0 exits to vGPU 1. */
function expectExit(ctx: CaseContext, offset: number): void {
  ctx.recorder.clear();
  ctx.agent.read(BAR + offset, 4);
  ctx.recorder.expectOne({ kind: 'mmio', write: false, vgpu: 1, address: BAR + offset });
  ctx.recorder.clear();
}

const guest: CaseSpec[] = [
  {
    name: 'reads-do-not-exit',
    rule: 'With pvmmio on the guest reads the register file from memory, first to last dword.',
    run(ctx) {
      const { handle, registerFile } = attach(ctx);
      registerFile.bytes.set(pattern(REGISTER_FILE_END, 1));
      expectExit(ctx, 0x2000);
      turn(handle, true);
      for (const offset of [0, 0x2000, PVINFO - 4, PVINFO + PAGE_SIZE, REGISTER_FILE_END - 4])
        equal(ctx.agent.read(BAR + offset, 4), word(registerFile.bytes, 4, offset), `register at ${offset}`);
      ctx.recorder.expectNone('the register file is mapped');
    },
  },
  {
    name: 'writes-are-reported-and-stored',
    rule: 'A write to the register file is stored in it and reported as a tracked write with its data.',
    run(ctx) {
      const { handle, registerFile } = attach(ctx);
      turn(handle, true);
      ctx.agent.write(BAR + 0x4_4200, 4, 0x8765_4321);
      ctx.recorder.expectOne({ kind: 'wp', write: true, vgpu: 1, address: BAR + 0x4_4200, size: 4, low: 0x8765_4321 });
      equal(word(registerFile.bytes, 4, 0x4_4200), 0x8765_4321, 'register file');
    },
  },
  {
    name: 'pvinfo-keeps-trapping',
    rule: 'The PVINFO page traps both ways from its first to its last byte.',
    run(ctx) {
      const { handle } = attach(ctx);
      turn(handle, true);
      for (const offset of [PVINFO, PVINFO + PAGE_SIZE - 4]) {
        expectExit(ctx, offset);
        ctx.agent.write(BAR + offset, 4, 5);
        ctx.recorder.expectOne({ kind: 'mmio', write: true, vgpu: 1, address: BAR + offset, low: 5 });
      }
    },
  },
  {
    name: 'shared-page',
    rule: 'The page at BAR0 + 2 MiB is the shared page: guest and host access it without exits.',
    run(ctx) {
      const { handle, sharedPage } = attach(ctx);
      turn(handle, true);
      ctx.agent.write(BAR + REGISTER_FILE_END + 0x10, 4, 0x1234);
      equal(word(sharedPage.bytes, 4, 0x10), 0x1234, 'dword stored by the guest');
      sharedPage.bytes.fill(0x77, PAGE_SIZE - 4);
      equal(ctx.agent.read(BAR + REGISTER_FILE_END + PAGE_SIZE - 4, 4), 0x7777_7777, 'dword loaded by the guest');
      ctx.recorder.expectNone('the shared page is mapped');
    },
  },
  {
    name: 'rest-keeps-trapping',
    rule: 'The rest of BAR0 behind the shared page keeps trapping.',
    run(ctx) {
      const { handle } = attach(ctx);
      turn(handle, true);
      expectExit(ctx, REGISTER_FILE_END + PAGE_SIZE);
      expectExit(ctx, 0xff_fffc);
    },
  },
  {
    name: 'off',
    rule: 'Switching pvmmio off makes every access of BAR0 trap again, and it can be switched on again.',
    run(ctx) {
      const { handle, registerFile } = attach(ctx);
      turn(handle, true);
      turn(handle, false);
      for (const offset of [0, 0x2000, PVINFO, REGISTER_FILE_END - 4, REGISTER_FILE_END]) expectExit(ctx, offset);
      registerFile.bytes.fill(0x33, 0, 4);
      turn(handle, true);
      equal(ctx.agent.read(BAR, 4), 0x3333_3333, 'register after switching on again');
      ctx.recorder.expectNone('the register file is mapped');
    },
  },
  {
    name: 'window-only',
    rule: 'Tracked writes outside the window belong to the vGPU that tracks the frame.',
    operations: ['set_pvmmio', 'enable_page_track'],
    needs: ['setPvmmio', 'hostPages', 'setTrapArea', 'pageTrack'],
    level: 'trap',
    run(ctx) {
      const { handle } = attach(ctx);
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      turn(handle, true);
      second.enablePageTrack(Gfn(SCRATCH_FRAME));
      ctx.agent.write(SCRATCH, 4, 1);
      ctx.recorder.expectOne({ kind: 'wp', vgpu: 2, address: SCRATCH });
    },
  },
  {
    name: 'detach-switches-off',
    rule: 'detach_vgpu switches pvmmio off: the accesses exit for no vGPU and the pages can be released.',
    operations: ['set_pvmmio', 'detach_vgpu'],
    run(ctx) {
      const { handle, registerFile, sharedPage } = attach(ctx);
      turn(handle, true);
      handle.detachVgpu();
      ctx.agent.read(BAR, 4);
      ctx.recorder.expectOne({ kind: 'mmio', vgpu: 0 });
      registerFile.release();
      sharedPage.release();
    },
  },
];

const limits: CaseSpec[] = [
  {
    name: 'twice',
    rule: 'Switching pvmmio on twice answers OVERLAP.',
    run(ctx) {
      const { handle } = attach(ctx);
      turn(handle, true);
      ctx.refuses('OVERLAP', 'set_pvmmio', () => turn(handle, true));
    },
  },
  {
    name: 'off-without-on',
    rule: 'Switching pvmmio off when it is not on, or for another window, answers NOT_MAPPED.',
    run(ctx) {
      const { handle } = attach(ctx);
      ctx.refuses('NOT_MAPPED', 'set_pvmmio', () => turn(handle, false));
      turn(handle, true);
      ctx.refuses('NOT_MAPPED', 'set_pvmmio', () => handle.setPvmmio(Gpa(BAR), Gpa(BAR_END - PAGE_SIZE), false));
      turn(handle, false);
    },
  },
  {
    name: 'pages-busy',
    rule: 'Register file and shared page are BUSY while pvmmio is on, and can be released after it was switched off.',
    run(ctx) {
      const { handle, registerFile, sharedPage } = attach(ctx);
      turn(handle, true);
      for (const pages of [registerFile, sharedPage]) refuses('BUSY', () => pages.release(), { backend: ctx.backend.name });
      turn(handle, false);
      for (const pages of [registerFile, sharedPage]) pages.release();
    },
  },
  {
    name: 'without-pages',
    rule: 'A vGPU that was attached without register file pages is refused as INVALID_ARGUMENT.',
    run(ctx) {
      ctx.refuses('INVALID_ARGUMENT', 'set_pvmmio', () => turn(ctx.handle, true));
    },
  },
  ...BAD_ADDRESSES.map(
    ([name, bad]): CaseSpec => ({
      name: `start-${name}`,
      rule: 'A window that begins at no address is refused as INVALID_ADDRESS.',
      run(ctx) {
        const { handle } = attach(ctx);
        ctx.refuses('INVALID_ADDRESS', 'set_pvmmio', () => handle.setPvmmio(Gpa(bad), Gpa(BAR_END), true), { address: bad });
      },
    }),
  ),
];

const defaults = { operations: ['set_pvmmio'], needs: ['setPvmmio', 'hostPages', 'setTrapArea'] } as const;
export const PVMMIO_CASES: readonly ConformanceCase[] = [
  ...group('pvmmio', { ...defaults, guest: true }, guest),
  ...group('pvmmio', defaults, limits),
];
