/** The write that FLUSH_DW and PIPE_CONTROL make when all work before them is done. */
import { PAGE_SIZE } from '../../addresses.js';
import { NOT_MAPPED, PER_PROCESS } from './command.js';
import { storeQword } from './qword.js';
import type { CommandStreamer } from './streamer.js';

/** Operation codes. */
const NONE = 0;
const WRITE_IMMEDIATE = 1;
const WRITE_DEPTH_COUNT = 2;

const HWS_PGA = 0x80;
const TIMESTAMP = 0x358;

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

/** Does the write as one aligned store. @returns what is wrong, or undefined */
export function postSync({ engine, parts }: CommandStreamer, write: PostSync): string | undefined {
  const { operation } = write;
  if (operation === NONE) return undefined;
  if (operation === WRITE_DEPTH_COUNT && !write.depthCount) return 'post-sync operation 2 does not exist';
  if (!write.index && !write.ggtt) return PER_PROCESS;
  // A status page that starts inside a page does not exist: the hardware takes bits 31:12 only.
  const statusPage = (parts.registers.get(engine.base + HWS_PGA) & -PAGE_SIZE) >>> 0;
  const address = write.index ? statusPage + (write.address & (PAGE_SIZE - 1)) : write.address;
  const page = parts.memory.page(address);
  if (page === undefined) return NOT_MAPPED;
  if (operation === WRITE_IMMEDIATE && write.high === undefined) {
    page.u32[(address % PAGE_SIZE) >> 2] = write.low;
    return undefined;
  }
  if (address % 8 !== 0) return 'a qword is not aligned';
  if (operation === WRITE_IMMEDIATE) storeQword(page, address, write.low, write.high as number);
  // Nothing is rasterised, so no depth was counted.
  else if (operation === WRITE_DEPTH_COUNT) storeQword(page, address, 0, 0);
  else {
    const low = parts.commands.readFromCommand(engine.base + TIMESTAMP);
    storeQword(page, address, low, parts.commands.readFromCommand(engine.base + TIMESTAMP + 4));
  }
  return undefined;
}
