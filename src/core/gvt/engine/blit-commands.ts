/** The 2D commands, on the blitter, by opcode (bits 28:22). */
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

const stateOf = ({ parts, engine, clip }: CommandStreamer): BlitState => ({ swctrl: parts.registers.get(engine.base + SWCTRL), clip });

const begin = (job: BlitJob | string | undefined): Flow =>
  job === undefined ? SKIPPED : typeof job === 'string' ? fault(job) : { kind: 'blit', job };

const blit =
  (parse: (command: Uint32Array, length: number, state: BlitState) => BlitJob | string): Execute =>
  (streamer, length) =>
    begin(parse(streamer.command, length, stateOf(streamer)));

/** XY_PAT_BLT: its pattern is read before its first row. */
const pattern: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 8) return badLength(length);
  const { address, length: bytes } = patternOf(command);
  const tile = new Uint8Array(bytes);
  if (!streamer.ownMemory.copyIn(address, tile, 0, bytes)) return unmapped(streamer.privileged, address);
  return begin(patternBlit(command, length, tile, stateOf(streamer)));
};

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

const EXECUTED: readonly (readonly [opcode: number, name: string, execute: Execute])[] = [
  [0x01, 'XY_SETUP_BLT', setup],
  [0x03, 'XY_SETUP_CLIP_BLT', setupClip],
  [0x40, 'COLOR_BLT', blit(byteColorBlit)],
  [0x42, 'XY_FAST_COPY_BLT', blit(fastCopyBlit)],
  [0x43, 'SRC_COPY_BLT', blit(byteCopyBlit)],
  [0x50, 'XY_COLOR_BLT', blit(colorBlit)],
  [0x51, 'XY_PAT_BLT', pattern],
  [0x53, 'XY_SRC_COPY_BLT', blit(copyBlit)],
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
