/** What a command of the command streamer is: its length, and what executing it asks of the streamer. */
import type { BlitJob } from './blitter.js';
import type { CommandStreamer } from './streamer.js';

/** What a command asks of the streamer; undefined: go on with the next one. */
export type Flow =
  | { readonly kind: 'fault'; readonly why: string }
  | { readonly kind: 'end' }
  | { readonly kind: 'start'; readonly address: number; readonly secondLevel: boolean }
  | { readonly kind: 'blit'; readonly job: BlitJob };

/** Executes the private copy of a command, `streamer.command`. @param length dwords, header included */
export type Execute = (streamer: CommandStreamer, length: number) => Flow | undefined;

export interface CommandDef {
  readonly name: string;
  /** Dwords including the header, from the header; at least 1. */
  readonly length: (header: number) => number;
  /** It would do something in silicon and does nothing here. */
  readonly skipped: boolean;
  /** Only commands of at most MAX_EXECUTED_DWORDS have one. */
  readonly execute?: Execute;
}

/** Commands with an effect have lengths of at most 8 bits, less two. */
export const MAX_EXECUTED_DWORDS = 0xff + 2;

export const fault = (why: string): Flow => ({ kind: 'fault', why });
export const badLength = (length: number): Flow => fault(`the length is ${length}`);

export const NOT_MAPPED = 'the address is not mapped';
export const PER_PROCESS = 'PPGTT addresses need shadowing, which this device has not';

/** 48-bit GPU address, dword aligned. */
export const gpuAddress = (low: number, high: number): number => ((low & ~3) >>> 0) + (high & 0xffff) * 2 ** 32;
