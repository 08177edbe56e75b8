/** How a run of the command streamer ends. */

export const Outcome = {
  /** Head reached tail. */
  DONE: 0,
  /** The budget is used up; `run()` goes on from here. */
  BUDGET: 1,
  /** The engine cannot go on; `fault` says why. */
  FAULT: 2,
  /** A semaphore has not its value yet; `run()` looks again. */
  WAIT: 3,
} as const;
export type Outcome = (typeof Outcome)[keyof typeof Outcome];

/** What made the engine stop, for the registers that tell of it. */
export interface Fault {
  readonly why: string;
  /** A page fault, at this address of GGTT or per-process memory. Undefined: a bad instruction. */
  readonly address: number | undefined;
  readonly ggtt: boolean;
}
