/** The write that FLUSH_DW and PIPE_CONTROL make when all work before them is done. */
import { PAGE_SIZE, pageOffset } from '../../addresses.js';
import { type Flow, fault, unmapped } from './command.js';
import { ENGINE_REGISTER } from './engine-registers.js';
import type { CommandStreamer } from './streamer.js';

/** Operation codes. */
const NONE = 0;
const WRITE_IMMEDIATE = 1;
const WRITE_DEPTH_COUNT = 2;

export interface PostSync {
  /** 0 none, 1 immediate, 2 depth count, 3 timestamp. */
  readonly operation: number;
  /** Operation 2 exists. */
  readonly depthCount: boolean;
  /** The address is an offset in the hardware status page. */
  readonly index: boolean;
  readonly ggtt: boolean;
  /** Dword aligned. */
  readonly address: number;
  readonly low: number;
  /** Undefined: immediate data is a dword, not a qword. */
  readonly high: number | undefined;
}

/** GPU address of an offset in the status page. One that starts inside a page does not exist: the hardware takes bits 31:12 only. */
export const inStatusPage = ({ engine, parts }: CommandStreamer, offset: number): number =>
  ((parts.registers.get(engine.base + ENGINE_REGISTER.HWS_PGA) & -PAGE_SIZE) >>> 0) + (offset & (PAGE_SIZE - 1));

/** Does the write as one aligned store. @returns what is wrong, or undefined */
export function postSync(streamer: CommandStreamer, write: PostSync): Flow | undefined {
  const { operation } = write;
  if (operation === NONE) return undefined;
  if (operation === WRITE_DEPTH_COUNT && !write.depthCount) return fault('post-sync operation 2 does not exist');
  const ggtt = write.index || write.ggtt;
  if (streamer.drops(ggtt)) return undefined;
  const address = write.index ? inStatusPage(streamer, write.address) : write.address;
  const page = streamer.pageToWrite(ggtt, address);
  if (page === undefined) return unmapped(ggtt, address);
  if (operation === WRITE_IMMEDIATE && write.high === undefined) {
    page.store32(pageOffset(address) & ~3, write.low);
    return undefined;
  }
  if (address % 8 !== 0) return fault('a qword is not aligned');
  const offset = pageOffset(address);
  if (operation === WRITE_IMMEDIATE) page.store64(offset, write.low, write.high as number);
  // Nothing is rasterised, so no depth was counted.
  else if (operation === WRITE_DEPTH_COUNT) page.store64(offset, 0, 0);
  else {
    const { commands } = streamer.parts;
    const at = streamer.engine.base + ENGINE_REGISTER.TIMESTAMP;
    page.store64(offset, commands.readFromCommand(at), commands.readFromCommand(at + 4));
  }
  return undefined;
}
