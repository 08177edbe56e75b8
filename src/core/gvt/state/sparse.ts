/**
 * Dwords of which most are 0: runs of those that are not. A run is its first index and its length, a dword each, and the dwords. Runs
 * ascend and do not touch; after the last one comes a run of length 0 at the end of the array. Zeros between two runs that are fewer than
 * the header of a run belong to the run.
 */

/** Dwords before those of a run. */
const RUN_HEADER = 2;

/** First index from `from` on that is not 0, or the array's length. */
function skipZeros(words: Uint32Array, from: number): number {
  let at = from;
  while (at < words.length && words[at] === 0) at++;
  return at;
}

/** End of the run that begins at `from`. */
function endOfRun(words: Uint32Array, from: number): number {
  let end = from;
  for (let at = from; at < words.length && at - end <= RUN_HEADER; at++) if (words[at] !== 0) end = at + 1;
  return end;
}

/** Calls `run` for each run, in order. */
export function eachRun(words: Uint32Array, run: (first: number, count: number) => void): void {
  for (let at = skipZeros(words, 0); at < words.length; ) {
    const end = endOfRun(words, at);
    run(at, end - at);
    at = skipZeros(words, end);
  }
}
