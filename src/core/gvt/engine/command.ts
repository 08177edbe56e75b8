/** What a command of the command streamer is: its length, and what executing it asks of the streamer. */
import { pageOffset } from '../../addresses.js';
import type { BlitJob } from './blit-job.js';
import type { CommandStreamer } from './streamer.js';

/** What a command asks of the streamer; undefined: go on with the next one. */
export type Flow =
  /** The engine stops. @see Fault */
  | { readonly kind: 'fault'; readonly why: string; readonly at?: number; readonly ggtt?: boolean }
  | { readonly kind: 'end' }
  | { readonly kind: 'start'; readonly address: number; readonly secondLevel: boolean; readonly perProcess: boolean }
  | { readonly kind: 'blit'; readonly job: BlitJob }
  /** The command is executed again later. */
  | { readonly kind: 'wait' }
  /** The command was none that is executed here after all. */
  | { readonly kind: 'skipped' };

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
/** The address has no page: a page fault, which stops the engine without a word. */
export const unmapped = (ggtt: boolean, at: number): Flow => ({ kind: 'fault', why: 'the address is not mapped', at, ggtt });

export const END: Flow = { kind: 'end' };
export const WAIT: Flow = { kind: 'wait' };
export const SKIPPED: Flow = { kind: 'skipped' };

/** Header bit of most MI commands: the address is a GGTT address. */
export const USE_GGTT = 1 << 22;

/** 48-bit GPU address, dword aligned. */
export const gpuAddress = (low: number, high: number): number => ((low & ~3) >>> 0) + (high & 0xffff) * 2 ** 32;

/**
 * Of the commands of four dwords whose last two are an address: what `use` makes of the dword there. Nothing is done where a batch without
 * privilege names the GGTT.
 */
export function withDword(streamer: CommandStreamer, length: number, use: (dword: number) => Flow | undefined): Flow | undefined {
  const { command } = streamer;
  if (length !== 4) return badLength(length);
  const ggtt = ((command[0] as number) & USE_GGTT) !== 0;
  if (streamer.drops(ggtt)) return undefined;
  const address = gpuAddress(command[2] as number, command[3] as number);
  const page = streamer.page(ggtt, address);
  return page === undefined ? unmapped(ggtt, address) : use(page.load32(pageOffset(address) & ~3));
}
