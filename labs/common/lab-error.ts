/** How a run of the lab can end without a verdict of its command. */
export const EXIT = {
  FAILED: 1,
  USAGE: 2,
  /** Debian cannot be reached: nothing was tested. */
  SKIPPED: 77,
  /** The command's exit code is not known: Xen or dom0 died, or never came up. */
  NO_VERDICT: 99,
  TIMEOUT: 124,
  INTERRUPTED: 130,
} as const;

/** An error of one line, with the exit code that it leads to. */
export class LabError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.exitCode = exitCode;
  }
}
