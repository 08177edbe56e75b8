/** How the answer of a small display device stands in a recording. */
import { Errno } from '../core/vfio/device.js';

/** Bytes of an answer that stand in the recording themselves. */
const SHORT_ANSWER = 8;

/** Ends the read of a region, recorded or replayed: the first bytes as they are, a hash of all where there are more. */
export function endRead(
  tape: { end(status: number, value?: Uint32Array, size?: number, answer?: Uint8Array): void },
  status: Errno,
  answer: Uint8Array,
  compared: boolean,
  value: Uint32Array,
  valueBytes: Uint8Array,
): void {
  if (status !== Errno.OK || !compared) {
    tape.end(status);
    return;
  }
  const short = answer.length <= SHORT_ANSWER;
  value.fill(0);
  for (let i = 0; i < SHORT_ANSWER && i < answer.length; i++) valueBytes[i] = answer[i] as number;
  tape.end(status, value, SHORT_ANSWER, short ? undefined : answer);
}
