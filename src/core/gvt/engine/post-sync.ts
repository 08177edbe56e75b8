/** The write that FLUSH_DW and PIPE_CONTROL make when all work before them is done. */
import type { CommandStreamer } from './streamer.js';

/** Operation codes. */
const NONE = 0;
const WRITE_IMMEDIATE = 1;
const WRITE_TIMESTAMP = 3;

const HWS_PGA = 0x80;
const TIMESTAMP = 0x358;

export interface PostSync {
  /** 0 none, 1 immediate, 2 depth count (render only), 3 timestamp. */
  readonly operation: number;
  /** The address is an offset in the hardware status page. */
  readonly index: boolean;
  readonly ggtt: boolean;
  readonly address: number;
  readonly low: number;
  /** Undefined: a dword is written instead of a qword. */
  readonly high: number | undefined;
}

/** Does the write as one aligned store. @returns what is wrong, or undefined */
export function postSync({ engine, parts }: CommandStreamer, write: PostSync): string | undefined {
  if (write.operation === NONE) return undefined;
  if (!write.index && !write.ggtt) return 'PPGTT addresses need shadowing, which this device has not';
  const address = write.index ? parts.registers.get(engine.base + HWS_PGA) + (write.address & 0xfff) : write.address;
  const page = parts.memory.page(address);
  if (page === undefined) return 'the address is not mapped';
  const at = address % 4096;
  if (write.operation === WRITE_IMMEDIATE && write.high === undefined) {
    page.u32[at >> 2] = write.low;
    return undefined;
  }
  if (address % 8 !== 0) return 'a qword is not aligned';
  let [low, high] = [write.low, write.high ?? 0];
  if (write.operation === WRITE_TIMESTAMP) {
    low = parts.commands.readFromCommand(engine.base + TIMESTAMP);
    high = parts.commands.readFromCommand(engine.base + TIMESTAMP + 4);
  } else if (write.operation !== WRITE_IMMEDIATE) {
    // Depth count: nothing is rasterised, so nothing was counted.
    low = 0;
    high = 0;
  }
  page.u64[at >> 3] = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return undefined;
}
