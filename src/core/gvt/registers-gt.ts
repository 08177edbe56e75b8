/** GT registers outside the engines' blocks: reset, fences, TLB, chicken bits (facts: gvt.md 4.4, 4.8; i915.md). */
import { Status } from '../gvt-ops.js';
import { MAX_FENCES } from './device-info.js';
import type { RegisterContext } from './register-context.js';
import type { ReadHandler, RegisterDefinition, WriteHandler } from './registers.js';

const FENCE_BASE = 0x10_0000;
const FENCE_SIZE = 8;
const GUC_STATUS = 0xc000;
/** GUC_STATUS: the microcontroller is in reset. */
export const GUC_MIA_IN_RESET = 1;

/** GEN6_GDRST: domain bit of each engine, by `EngineId` bit. */
const RESET_FULL = 1 << 0;
const RESET_GUC = 1 << 5;
const RESET_ENGINES: readonly (readonly [domain: number, engines: number])[] = [
  [1 << 1, 1 << 0], // render: RCS
  [1 << 2, 1 << 2], // media: VCS
  [1 << 3, 1 << 1], // blitter: BCS
  [1 << 4, 1 << 3], // video enhancement: VECS
];

/** The reset is done when the write returns, so the register always reads 0. */
const reset: WriteHandler = (context, _offset, value) => {
  if ((value & RESET_GUC) !== 0) context.registers.set(GUC_STATUS, context.registers.get(GUC_STATUS) | GUC_MIA_IN_RESET);
  if ((value & RESET_FULL) !== 0) {
    context.resetGt();
    return Status.OK;
  }
  let engines = 0;
  for (const [domain, mask] of RESET_ENGINES) if ((value & domain) !== 0) engines |= mask;
  if (engines !== 0) context.resetEngines(engines);
  return Status.OK;
};

const ownsFence = (context: RegisterContext, offset: number): boolean => (offset - FENCE_BASE) / FENCE_SIZE < context.fenceCount;

const readFence: ReadHandler = (context, offset) => {
  if (ownsFence(context, offset)) return context.registers.get(offset);
  context.log.guestError(`fence ${(offset - FENCE_BASE) >>> 3} is not one of the vGPU's ${context.fenceCount}`);
  return 0;
};

/** A guest that never read PVINFO takes the fences for its own: it cannot work on a vGPU. */
const writeFence: WriteHandler = (context, offset, value) => {
  if (ownsFence(context, offset)) {
    context.registers.set(offset, value);
    return Status.OK;
  }
  context.log.guestError(`fence ${(offset - FENCE_BASE) >>> 3} is not one of the vGPU's ${context.fenceCount}`);
  if (!context.pvNotified) context.enterFailsafe('unsupported-guest');
  return Status.EINVAL;
};

const clearsItself: WriteHandler = ({ registers }, offset) => {
  registers.set(offset, 0);
  return Status.OK;
};

/** GuC is not offered; its status is shown as in reset once. */
const readGucStatus: ReadHandler = ({ registers }, offset) => {
  const value = registers.get(offset);
  registers.set(offset, value & ~GUC_MIA_IN_RESET);
  return value;
};

/** Mode registers that workarounds set, some of them by commands. */
const CHICKEN_BITS: readonly (readonly [name: string, offset: number])[] = [
  ['GEN7_FF_SLICE_CS_CHICKEN1', 0x20e0],
  ['GEN9_CS_DEBUG_MODE1', 0x20ec],
  ['GEN8_FF_THREAD_CHICKEN', 0x20e4],
  ['FF_MODE2_D8', 0x20d8],
  ['CSFE_CHICKEN1', 0x20d4],
  ['GEN8_CS_CHICKEN1', 0x2580],
  ['GEN9_HDC_CHICKEN_A0', 0x4ab0],
  ['CACHE_MODE_0_GEN7', 0x7000],
  ['CACHE_MODE_1', 0x7004],
  ['GT_MODE', 0x7008],
  ['COMMON_SLICE_CHICKEN1', 0x7010],
  ['COMMON_SLICE_CHICKEN2', 0x7014],
  ['GEN8_COMMON_SLICE_CHICKEN3', 0x7018],
  ['HDC_CHICKEN0', 0x7300],
  ['GEN7_HALF_SLICE_CHICKEN2', 0x83a4],
  ['HALF_SLICE_CHICKEN1', 0xe100],
  ['HALF_SLICE_CHICKEN2', 0xe180],
  ['HALF_SLICE_CHICKEN3', 0xe184],
  ['GEN9_HALF_SLICE_CHICKEN5', 0xe188],
  ['GEN9_HALF_SLICE_CHICKEN7', 0xe18c],
  ['GEN7_HALF_SLICE_CHICKEN4', 0xe194],
  ['GEN8_ROW_CHICKEN', 0xe4f0],
  ['GEN7_ROW_CHICKEN2', 0xe4f4],
  ['GEN8_ROW_CHICKEN3', 0xe4f8],
];

/** Plain registers that user batches and context workarounds load: pipeline statistics, predicates, draw parameters, L3. */
const COMMAND_REGISTERS: readonly (readonly [name: string, offset: number, dwords: number])[] = [
  ['GEN8_HS_INVOCATION_TO_PS_DEPTH', 0x2300, 22],
  ['MI_PREDICATE', 0x2400, 8],
  ['GEN7_3DPRIM', 0x2420, 9],
  ['GEN7_GPGPU_DISPATCHDIM', 0x2500, 3],
  ['OACTXCONTROL', 0x2360, 1],
  ['GEN7_SO_NUM_PRIMS_WRITTEN', 0x5200, 8],
  ['GEN7_SO_PRIM_STORAGE_NEEDED', 0x5240, 8],
  ['GEN7_SO_WRITE_OFFSET', 0x5280, 4],
  ['GEN7_L3CNTLREG', 0x7034, 1],
  ['GEN8_L3SQCREG1', 0xb100, 1],
  ['GEN8_L3SQCREG4', 0xb118, 1],
];

export const GT_REGISTERS: readonly RegisterDefinition[] = [
  { name: 'GEN6_GDRST', offset: 0x941c, write: reset },
  { name: 'FENCE', offset: FENCE_BASE, count: (MAX_FENCES * FENCE_SIZE) / 4, read: readFence, write: writeFence },
  { name: 'GFX_FLSH_CNTL_GEN6', offset: 0x10_1008, write: clearsItself },
  { name: 'GEN8_TLB_CONTROL', offset: 0x4260, count: 5, write: clearsItself },
  // One slice, no sub-slice disabled.
  { name: 'GEN8_FUSE2', offset: 0x9120, reset: 0x0200_0000, writable: 0 },
  { name: 'GUC_STATUS', offset: GUC_STATUS, reset: GUC_MIA_IN_RESET, read: readGucStatus },
  // Commands that reach for these two must do no harm and need no effect (facts: gvt.md 4.16).
  { name: 'DERRMR', offset: 0x4_4050, command: 'ignore' },
  ...CHICKEN_BITS.map(([name, offset]): RegisterDefinition => ({ name, offset, masked: true, command: 'privileged' })),
  ...COMMAND_REGISTERS.map(([name, offset, count]): RegisterDefinition => ({ name, offset, count, command: 'allow' })),
];
