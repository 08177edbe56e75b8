/**
 * The commands of each engine: how long each is and what it does (facts: gvt.md 4.16, 8.6, i915.md). A command without an
 * `execute` has no effect here; those marked `skipped` would have one in silicon (3D, media, the other blits) and are
 * counted as skipped. What is not in the table stops the engine, as in silicon; MI_UPDATE_GTT is among it, whose writes no GVT-g guest makes.
 */
import type { EngineId } from '../roles.js';
import { BLITS } from './blit-commands.js';
import type { CommandDef, Execute } from './command.js';
import {
  copyMemMem,
  flushDw,
  loadRegisterImm,
  loadRegisterMem,
  loadRegisterReg,
  pipeControl,
  storeDataImm,
  storeDataIndex,
  storeRegisterMem,
  userInterrupt,
} from './mi-commands.js';
import { batchEnd, batchStart, conditionalBatchEnd, semaphoreWait } from './mi-flow.js';
import { math } from './mi-math.js';

const one = (): number => 1;
const low8 = (header: number): number => (header & 0xff) + 2;
const low10 = (header: number): number => (header & 0x3ff) + 2;
const low12 = (header: number): number => (header & 0xfff) + 2;
const low16 = (header: number): number => (header & 0xffff) + 2;
/** VCS sets bit 7 of FLUSH_DW: its length has six bits. */
const low6 = (header: number): number => (header & 0x3f) + 2;

const def = (name: string, length: CommandDef['length'], execute: Execute): CommandDef => ({ name, length, skipped: false, execute });
/** No effect, in silicon neither: for the order of things that happen one after the other here. */
const idle = (name: string, length: CommandDef['length']): CommandDef => ({ name, length, skipped: false });
const skip = (name: string, length: CommandDef['length']): CommandDef => ({ name, length, skipped: true });

/** MI commands by opcode (bits 28:23), on every engine. */
const MI: Readonly<Record<number, CommandDef>> = {
  0x00: idle('MI_NOOP', one),
  0x02: def('MI_USER_INTERRUPT', one, userInterrupt),
  0x03: skip('MI_WAIT_FOR_EVENT', one),
  0x05: idle('MI_ARB_CHECK', one),
  0x07: skip('MI_REPORT_HEAD', one),
  0x08: idle('MI_ARB_ON_OFF', one),
  0x0a: def('MI_BATCH_BUFFER_END', one, batchEnd),
  0x0b: idle('MI_SUSPEND_FLUSH', one),
  0x0c: skip('MI_PREDICATE', one),
  0x0d: idle('MI_TOPOLOGY_FILTER', one),
  0x0e: idle('MI_SET_APPID', one),
  0x0f: skip('MI_RS_CONTEXT', one),
  0x12: skip('MI_LOAD_SCAN_LINES_INCL', low6),
  0x13: skip('MI_LOAD_SCAN_LINES_EXCL', low6),
  0x14: skip('MI_DISPLAY_FLIP', low8),
  0x18: skip('MI_SET_CONTEXT', low8),
  0x19: skip('MI_URB_CLEAR', low8),
  0x1a: def('MI_MATH', low8, math),
  // Whoever waits for the signal polls.
  0x1b: idle('MI_SEMAPHORE_SIGNAL', low8),
  0x1c: def('MI_SEMAPHORE_WAIT', low8, semaphoreWait),
  0x20: def('MI_STORE_DATA_IMM', low8, storeDataImm),
  0x21: def('MI_STORE_DATA_INDEX', low8, storeDataIndex),
  0x22: def('MI_LOAD_REGISTER_IMM', low8, loadRegisterImm),
  0x24: def('MI_STORE_REGISTER_MEM', low8, storeRegisterMem),
  0x26: def('MI_FLUSH_DW', low6, flushDw),
  0x27: idle('MI_CLFLUSH', low10),
  0x28: skip('MI_REPORT_PERF_COUNT', low6),
  0x29: def('MI_LOAD_REGISTER_MEM', low8, loadRegisterMem),
  0x2a: def('MI_LOAD_REGISTER_REG', low8, loadRegisterReg),
  0x2b: skip('MI_RS_STORE_DATA_IMM', low8),
  0x2c: skip('MI_LOAD_URB_MEM', low8),
  0x2d: skip('MI_STORE_URB_MEM', low8),
  0x2e: def('MI_COPY_MEM_MEM', low8, copyMemMem),
  0x31: def('MI_BATCH_BUFFER_START', low8, batchStart),
  0x36: def('MI_CONDITIONAL_BATCH_BUFFER_END', low8, conditionalBatchEnd),
};

const RENDER = skip('3D command', low8);
/** Commands of the media pipe (pipeline 2), which may carry inline data. */
const RENDER_MEDIA = skip('media pipe command', low16);
/** Render commands whose bits 31:16 say more than that. */
const RENDER_SPECIAL: ReadonlyMap<number, CommandDef> = new Map([
  [0x6904, skip('PIPELINE_SELECT', one)],
  [0x680b, skip('3DSTATE_VF_STATISTICS', one)],
  [0x7105, skip('GPGPU_WALKER', low8)],
  [0x7a00, def('PIPE_CONTROL', low8, pipeControl)],
]);
const PIPELINE_MEDIA = 2;

/** Commands of the two video engines. */
const VIDEO = skip('video command', low12);
/** Its length field is not one. */
const MFX_WAIT = skip('MFX_WAIT', one);

/** The command that a header names on this engine, or undefined when it is not allowed there. */
export function findCommand(engine: EngineId, header: number): CommandDef | undefined {
  switch (header >>> 29) {
    case 0:
      return MI[(header >>> 23) & 0x3f];
    case 2:
      return engine === 1 ? BLITS[(header >>> 22) & 0x7f] : undefined;
    case 3: {
      if (engine === 1) return undefined;
      const opcode = header >>> 16;
      if (engine !== 0) return opcode === 0x6800 ? MFX_WAIT : VIDEO;
      return RENDER_SPECIAL.get(opcode) ?? (((header >>> 27) & 3) === PIPELINE_MEDIA ? RENDER_MEDIA : RENDER);
    }
    default:
      return undefined;
  }
}
