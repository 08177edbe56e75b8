/** The MI commands that decide what is executed next: batches and semaphores. */
import { badLength, END, type Execute, fault, gpuAddress, WAIT, withDword } from './command.js';

/** MI_BATCH_BUFFER_START: address (2). Bit 8 is its address space, bit 22 the second level. */
export const batchStart: Execute = ({ command }, length) => {
  const header = command[0] as number;
  if (length !== 3) return badLength(length);
  return {
    kind: 'start',
    address: gpuAddress(command[1] as number, command[2] as number),
    secondLevel: (header & (1 << 22)) !== 0,
    perProcess: (header & (1 << 8)) !== 0,
  };
};

export const batchEnd: Execute = () => END;

/** MI_CONDITIONAL_BATCH_BUFFER_END: data, address (2). The batch goes on while the dword there is greater than the data. */
export const conditionalBatchEnd: Execute = (streamer, length) =>
  withDword(streamer, length, (dword) => (dword > (streamer.command[1] as number) ? undefined : END));

/** MI_SEMAPHORE_WAIT's comparisons of the dword in memory with that of the command, by bits 14:12. */
const COMPARISONS: readonly (((memory: number, data: number) => boolean) | undefined)[] = [
  (memory, data) => memory > data,
  (memory, data) => memory >= data,
  (memory, data) => memory < data,
  (memory, data) => memory <= data,
  (memory, data) => memory === data,
  (memory, data) => memory !== data,
  undefined,
  undefined,
];

/**
 * MI_SEMAPHORE_WAIT: data, address (2). Both its modes poll here: a wait for a signal looks at the same memory, which the signaller has
 * written before.
 */
export const semaphoreWait: Execute = (streamer, length) => {
  const { command } = streamer;
  if (length !== 4) return badLength(length);
  const compare = COMPARISONS[((command[0] as number) >>> 12) & 7];
  if (compare === undefined) return fault('the comparison does not exist');
  return withDword(streamer, length, (dword) => (compare(dword, command[1] as number) ? undefined : WAIT));
};
