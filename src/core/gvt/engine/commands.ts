/**
 * The commands of each engine: how long each is and what it does (facts: gvt.md 4.16, 8.6, i915.md). A command without an
 * `execute` has no effect here; those marked `skipped` would have one in silicon (3D, media, unimplemented blits) and are
 * counted as skipped. What is not in the table ends the workload.
 */
import { Status } from '../../gvt-ops.js';
import type { EngineId, GvtEvent } from '../roles.js';
import { type BlitJob, colorBlit, copyBlit } from './blitter.js';
import { postSync } from './post-sync.js';
import type { CommandStreamer } from './streamer.js';

/** What a command asks of the streamer; undefined: go on with the next one. */
export type Flow =
  | { readonly kind: 'fault'; readonly why: string }
  | { readonly kind: 'end' }
  | { readonly kind: 'start'; readonly address: number; readonly secondLevel: boolean }
  | { readonly kind: 'blit'; readonly job: BlitJob };

export interface CommandDef {
  readonly name: string;
  /** Dwords including the header. */
  readonly length: (header: number) => number;
  readonly skipped: boolean;
  readonly execute?: (streamer: CommandStreamer, length: number) => Flow | undefined;
}

type Execute = NonNullable<CommandDef['execute']>;

/** MFX commands have a 12-bit length. */
export const MAX_COMMAND_DWORDS = 0xfff + 2;

const one = (): number => 1;
const low8 = (header: number): number => (header & 0xff) + 2;
const low12 = (header: number): number => (header & 0xfff) + 2;
/** VCS sets bit 7 of FLUSH_DW: its length has six bits. */
const low6 = (header: number): number => (header & 0x3f) + 2;

export const fault = (why: string): Flow => ({ kind: 'fault', why });

const PER_PROCESS = 'PPGTT addresses need shadowing, which this device has not';
const USE_GGTT = 1 << 22;
const IMR = 0xa8;
/** Bit of an engine's events in its group: the second engine of a GT group has the upper half. */
const EVENT_SHIFT: Readonly<Record<EngineId, number>> = { 0: 0, 1: 16, 2: 0, 3: 0 };

const userInterrupt: Execute = ({ engine, parts }) => {
  const masked = (parts.registers.get(engine.base + IMR) & (1 << (EVENT_SHIFT[engine.id] as number))) !== 0;
  if (!masked) parts.events.raise(`${engine.name}.user` as GvtEvent);
  return undefined;
};

const storeDataImm: Execute = ({ command, parts }, length) => {
  const header = command[0] as number;
  if ((header & USE_GGTT) === 0) return fault(PER_PROCESS);
  const qword = (header & (1 << 21)) !== 0;
  if (length !== (qword ? 5 : 4)) return fault(`the length is ${length}`);
  const address = gpuAddress(command[1] as number, command[2] as number);
  const page = parts.memory.page(address);
  const at = address % 4096;
  if (page === undefined) return fault('the address is not mapped');
  if (qword) {
    if (address % 8 !== 0) return fault('a qword is not aligned');
    page.u64[at >> 3] = (BigInt(command[4] as number) << 32n) | BigInt(command[3] as number);
  } else page.u32[at >> 2] = command[3] as number;
  return undefined;
};

const loadRegisterImm: Execute = ({ command, parts }, length) => {
  if (length < 3 || length % 2 === 0) return fault(`the length is ${length}`);
  for (let i = 1; i < length; i += 2) {
    const offset = (command[i] as number) & 0x7f_fffc;
    if (parts.commands.writeFromCommand(offset, command[i + 1] as number) !== Status.OK)
      return fault(`register 0x${offset.toString(16)} is not for commands`);
  }
  return undefined;
};

const storeRegisterMem: Execute = ({ command, parts }, length) => {
  if (length !== 4) return fault(`the length is ${length}`);
  if (((command[0] as number) & USE_GGTT) === 0) return fault(PER_PROCESS);
  const address = gpuAddress(command[2] as number, command[3] as number);
  const page = parts.memory.page(address);
  if (page === undefined) return fault('the address is not mapped');
  page.u32[(address % 4096) >> 2] = parts.commands.readFromCommand((command[1] as number) & 0x7f_fffc);
  return undefined;
};

const loadRegisterMem: Execute = ({ command, parts }, length) => {
  if (length !== 4) return fault(`the length is ${length}`);
  if (((command[0] as number) & USE_GGTT) === 0) return fault(PER_PROCESS);
  const address = gpuAddress(command[2] as number, command[3] as number);
  const page = parts.memory.page(address);
  if (page === undefined) return fault('the address is not mapped');
  const offset = (command[1] as number) & 0x7f_fffc;
  if (parts.commands.writeFromCommand(offset, page.u32[(address % 4096) >> 2] as number) !== Status.OK)
    return fault(`register 0x${offset.toString(16)} is not for commands`);
  return undefined;
};

const batchStart: Execute = ({ command }, length) => {
  const header = command[0] as number;
  if (length !== 3) return fault(`the length is ${length}`);
  if ((header & (1 << 8)) !== 0) return fault(PER_PROCESS);
  return { kind: 'start', address: gpuAddress(command[1] as number, command[2] as number), secondLevel: (header & USE_GGTT) !== 0 };
};

/** FLUSH_DW: post-sync operation in the header's bits 15:14, index form 21, notify 8; address space in the address's bit 2. */
const flushDw: Execute = (streamer, length) => {
  const { command, engine, parts } = streamer;
  const header = command[0] as number;
  if (length !== 4 && length !== 5) return fault(`the length is ${length}`);
  const why = postSync(streamer, {
    operation: (header >>> 14) & 3,
    index: (header & (1 << 21)) !== 0,
    ggtt: ((command[1] as number) & 4) !== 0,
    address: gpuAddress((command[1] as number) & ~7, command[2] as number),
    low: command[3] as number,
    high: length === 5 ? (command[4] as number) : undefined,
  });
  if (why !== undefined) return fault(why);
  if ((header & (1 << 8)) !== 0 && engine.id !== 0) parts.events.raise(`${engine.name}.flush` as GvtEvent);
  return undefined;
};

/** PIPE_CONTROL: the same in dword 1, with the address space in bit 24. */
const pipeControl: Execute = (streamer, length) => {
  const { command, parts } = streamer;
  const flags = command[1] as number;
  if (length !== 6) return fault(`the length is ${length}`);
  const why = postSync(streamer, {
    operation: (flags >>> 14) & 3,
    index: (flags & (1 << 21)) !== 0,
    ggtt: (flags & (1 << 24)) !== 0,
    address: gpuAddress((command[2] as number) & ~3, command[3] as number),
    low: command[4] as number,
    high: command[5] as number,
  });
  if (why !== undefined) return fault(why);
  if ((flags & (1 << 8)) !== 0) parts.events.raise('rcs.pipe-control');
  return undefined;
};

const blit =
  (parse: (command: Uint32Array, length: number) => BlitJob | string): Execute =>
  ({ command }, length) => {
    const job = parse(command, length);
    return typeof job === 'string' ? fault(job) : { kind: 'blit', job };
  };

/** 48-bit GPU address, dword aligned. */
const gpuAddress = (low: number, high: number): number => ((low & ~3) >>> 0) + (high & 0xffff) * 2 ** 32;

const def = (name: string, length: CommandDef['length'], execute?: Execute, skipped = false): CommandDef =>
  execute === undefined ? { name, length, skipped } : { name, length, skipped, execute };

/** Commands of every engine, by opcode (bits 28:23 of type 0). Those that GVT-g rejects are not listed. */
const MI: Readonly<Record<number, CommandDef>> = {
  0x00: def('MI_NOOP', one),
  0x02: def('MI_USER_INTERRUPT', one, userInterrupt),
  0x03: def('MI_WAIT_FOR_EVENT', one, undefined, true),
  0x05: def('MI_ARB_CHECK', one),
  0x07: def('MI_REPORT_HEAD', one, undefined, true),
  0x08: def('MI_ARB_ON_OFF', one),
  0x0a: def('MI_BATCH_BUFFER_END', one, () => ({ kind: 'end' })),
  0x0b: def('MI_SUSPEND_FLUSH', one),
  0x0c: def('MI_PREDICATE', one, undefined, true),
  0x0d: def('MI_TOPOLOGY_FILTER', one),
  0x0e: def('MI_SET_APPID', one),
  0x0f: def('MI_RS_CONTEXT', one, undefined, true),
  0x12: def('MI_LOAD_SCAN_LINES_INCL', low6, undefined, true),
  0x13: def('MI_LOAD_SCAN_LINES_EXCL', low6, undefined, true),
  0x14: def('MI_DISPLAY_FLIP', low8, undefined, true),
  0x18: def('MI_SET_CONTEXT', low8, undefined, true),
  0x1a: def('MI_MATH', low8, undefined, true),
  0x20: def('MI_STORE_DATA_IMM', low8, storeDataImm),
  0x22: def('MI_LOAD_REGISTER_IMM', low8, loadRegisterImm),
  0x24: def('MI_STORE_REGISTER_MEM', low8, storeRegisterMem),
  0x26: def('MI_FLUSH_DW', low6, flushDw),
  0x29: def('MI_LOAD_REGISTER_MEM', low8, loadRegisterMem),
  0x2a: def('MI_LOAD_REGISTER_REG', low8, undefined, true),
  0x31: def('MI_BATCH_BUFFER_START', low8, batchStart),
};

/** 2D commands by opcode (bits 28:22 of type 2). */
const BLT: Readonly<Record<number, CommandDef>> = {
  0x50: def('XY_COLOR_BLT', low8, blit(colorBlit)),
  0x53: def('XY_SRC_COPY_BLT', low8, blit(copyBlit)),
  ...Object.fromEntries(
    [
      [0x01, 'XY_SETUP_BLT'],
      [0x03, 'XY_SETUP_CLIP_BLT'],
      [0x11, 'XY_SETUP_MONO_PATTERN_SL_BLT'],
      [0x24, 'XY_PIXEL_BLT'],
      [0x25, 'XY_SCANLINES_BLT'],
      [0x26, 'XY_TEXT_BLT'],
      [0x31, 'XY_TEXT_IMMEDIATE_BLT'],
      [0x40, 'COLOR_BLT'],
      [0x42, 'XY_FAST_COPY_BLT'],
      [0x43, 'SRC_COPY_BLT'],
      [0x51, 'XY_PAT_BLT'],
      [0x52, 'XY_MONO_PAT_BLT'],
      [0x54, 'XY_MONO_SRC_COPY_BLT'],
      [0x55, 'XY_FULL_BLT'],
      [0x56, 'XY_FULL_MONO_SRC_BLT'],
      [0x57, 'XY_FULL_MONO_PATTERN_BLT'],
      [0x58, 'XY_FULL_MONO_PATTERN_MONO_SRC_BLT'],
      [0x59, 'XY_MONO_PAT_FIXED_BLT'],
      [0x71, 'XY_MONO_SRC_COPY_IMMEDIATE_BLT'],
      [0x72, 'XY_PAT_BLT_IMMEDIATE'],
      [0x73, 'XY_SRC_COPY_CHROMA_BLT'],
      [0x74, 'XY_FULL_IMMEDIATE_PATTERN_BLT'],
      [0x75, 'XY_FULL_MONO_SRC_IMMEDIATE_PATTERN_BLT'],
      [0x76, 'XY_PAT_CHROMA_BLT'],
      [0x77, 'XY_PAT_CHROMA_BLT_IMMEDIATE'],
    ].map(([opcode, name]) => [opcode, def(name as string, low8, undefined, true)]),
  ),
};

const PIPE_CONTROL = 0x7a00;
const RENDER = def('3D or GPGPU command', low8, undefined, true);
/** Render commands of one dword: PIPELINE_SELECT and 3DSTATE_VF_STATISTICS. */
const RENDER_SHORT = def('3D command', one, undefined, true);
const RENDER_ONE_DWORD: ReadonlySet<number> = new Set([0x6904, 0x680b]);
const PIPE_CONTROL_DEF = def('PIPE_CONTROL', low8, pipeControl);
const MEDIA = def('media command', low12, undefined, true);

/** The command that a header names on this engine, or undefined when it is not allowed there. */
export function findCommand(engine: EngineId, header: number): CommandDef | undefined {
  switch (header >>> 29) {
    case 0:
      return MI[(header >>> 23) & 0x3f];
    case 2:
      return engine === 1 ? BLT[(header >>> 22) & 0x7f] : undefined;
    case 3: {
      if (engine === 1) return undefined;
      if (engine !== 0) return MEDIA;
      const opcode = header >>> 16;
      if (opcode === PIPE_CONTROL) return PIPE_CONTROL_DEF;
      return RENDER_ONE_DWORD.has(opcode) ? RENDER_SHORT : RENDER;
    }
    default:
      return undefined;
  }
}
