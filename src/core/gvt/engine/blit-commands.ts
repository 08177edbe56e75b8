/** The 2D commands, on the blitter, by opcode (bits 28:22). */
import { optional, type StateStream } from '../state/stream.js';
import type { BlitJob } from './blit-job.js';
import {
  type BlitState,
  byteColorBlit,
  byteCopyBlit,
  clipOf,
  colorBlit,
  copyBlit,
  fastCopyBlit,
  patternBlit,
  patternOf,
} from './blitter.js';
import { badLength, type CommandDef, type Execute, type Flow, fault, SKIPPED, unmapped } from './command.js';
import type { CommandStreamer } from './streamer.js';

/** BCS_SWCTRL, from the blitter's base. */
const SWCTRL = 0x200;

const low8 = (header: number): number => (header & 0xff) + 2;

/** Of a blit that begins now. */
function stateOf(streamer: CommandStreamer): BlitState {
  streamer.swctrl = streamer.parts.registers.get(streamer.engine.base + SWCTRL);
  return streamer;
}

const begin = (job: BlitJob | string | undefined): Flow =>
  job === undefined ? SKIPPED : typeof job === 'string' ? fault(job) : { kind: 'blit', job };

type Parse = (command: Uint32Array, length: number, state: BlitState, tile: Uint8Array) => BlitJob | string | undefined;

const NO_TILE = new Uint8Array();

const blit =
  (parse: Parse): Execute =>
  (streamer, length) =>
    begin(parse(streamer.command, length, stateOf(streamer), NO_TILE));

/** XY_PAT_BLT: its pattern is read before its first row. */
const pattern: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 8) return badLength(length);
  const { address, length: bytes } = patternOf(command);
  const tile = new Uint8Array(bytes);
  if (!streamer.ownMemory.copyIn(address, tile, 0, bytes)) return unmapped(streamer.privileged, address);
  return begin(parsePattern(command, length, stateOf(streamer), tile));
};

const parsePattern: Parse = (command, length, state, tile) => patternBlit(command, length, tile, state);

/** XY_SETUP_CLIP_BLT: the clipping rectangle. */
const setupClip: Execute = (streamer, length) => {
  if (length !== 3) return badLength(length);
  streamer.clip = clipOf(streamer.command[1] as number, streamer.command[2] as number);
  return undefined;
};

/** XY_SETUP_BLT: the same, and what is for the commands that draw pixels and text, which are skipped. */
const setup: Execute = (streamer, length) => {
  if (length !== 10) return badLength(length);
  streamer.clip = clipOf(streamer.command[2] as number, streamer.command[3] as number);
  return undefined;
};

/** Those that become a `BlitJob`. */
const PARSED: readonly (readonly [opcode: number, name: string, parse: Parse, execute?: Execute])[] = [
  [0x40, 'COLOR_BLT', byteColorBlit],
  [0x42, 'XY_FAST_COPY_BLT', fastCopyBlit],
  [0x43, 'SRC_COPY_BLT', byteCopyBlit],
  [0x50, 'XY_COLOR_BLT', colorBlit],
  [0x51, 'XY_PAT_BLT', parsePattern, pattern],
  [0x53, 'XY_SRC_COPY_BLT', copyBlit],
];

const EXECUTED: readonly (readonly [opcode: number, name: string, execute: Execute])[] = [
  [0x01, 'XY_SETUP_BLT', setup],
  [0x03, 'XY_SETUP_CLIP_BLT', setupClip],
  ...PARSED.map(([opcode, name, parse, execute = blit(parse)]) => [opcode, name, execute] as const),
];

/** Blits that are parsed by length only. */
const SKIPPED_BLITS: readonly (readonly [opcode: number, name: string])[] = [
  [0x11, 'XY_SETUP_MONO_PATTERN_SL_BLT'],
  [0x24, 'XY_PIXEL_BLT'],
  [0x25, 'XY_SCANLINES_BLT'],
  [0x26, 'XY_TEXT_BLT'],
  [0x31, 'XY_TEXT_IMMEDIATE_BLT'],
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
];

export const BLITS: Readonly<Record<number, CommandDef>> = {
  ...Object.fromEntries(SKIPPED_BLITS.map(([opcode, name]): [number, CommandDef] => [opcode, { name, length: low8, skipped: true }])),
  ...Object.fromEntries(
    EXECUTED.map(([opcode, name, execute]): [number, CommandDef] => [opcode, { name, length: low8, skipped: false, execute }]),
  ),
};

/** Dwords of the longest blit, and bytes of the largest pattern. */
const BLIT_DWORDS_MAX = 10;
const PATTERN_MAX = 256;
/** The 2D client in a header's bits 31:29, and the engine that has it. */
const BLITTER_CLIENT = 2;
const BCS = 1;

/**
 * A blit in progress as a part of a saved state: its command, its pattern and how many rows are done. It is parsed again, by the
 * same rules as when the guest gave it. To be called when the streamer's clipping rectangle and SWCTRL are restored.
 */
export function exchangeBlit(state: StateStream, streamer: CommandStreamer, job: BlitJob | undefined): BlitJob | undefined {
  return optional(state, 'blit', job, (running) => {
    const { command } = streamer;
    const length = state.u32('dwords', low8(command[0] as number), BLIT_DWORDS_MAX, 1);
    for (let i = 0; i < length; i++) command[i] = state.u32('command', command[i] as number);
    const tile = state.blob('pattern', running?.tile?.bytes ?? NO_TILE, PATTERN_MAX);
    const blit = running ?? parseAgain(state, streamer, length, tile);
    blit.done = state.u32('done', blit.done, blit.rows);
    return blit;
  });
}

function parseAgain(state: StateStream, streamer: CommandStreamer, length: number, tile: Uint8Array): BlitJob {
  const { command, engine } = streamer;
  const header = command[0] as number;
  const parse = PARSED.find(([opcode]) => opcode === ((header >>> 22) & 0x7f))?.[2];
  if (engine.id !== BCS || header >>> 29 !== BLITTER_CLIENT || parse === undefined || low8(header) !== length)
    return state.refuse('the command is no blit of this engine');
  if (tile.length !== (parse === parsePattern ? patternOf(command).length : 0)) return state.refuse('the pattern is not the command’s');
  const job = parse(command, length, streamer, tile);
  return typeof job === 'object' ? job : state.refuse(`the blit is not possible${job === undefined ? '' : `: ${job}`}`);
}
