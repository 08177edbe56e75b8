/** What holds for every error of the project, asked in one sentence: `refused(t, 'NOT_RAM', () => ...)`. */
import type { Test } from 'tap';
import { ERROR_CODES, type ErrorCode, MptError } from '../../src/core/errors.js';

/** The longest message that still reads as one line of a terminal log. */
const LINE_MAX = 400;

/** Fails unless `error` is an MptError of a known code whose message is one line. */
export function isTyped(t: Test, error: unknown, what: string): error is MptError {
  if (!(error instanceof MptError)) {
    t.fail(`${what}: not an MptError but ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
    return false;
  }
  const sound = error.code in ERROR_CODES && error.message.length > 0 && error.message.length < LINE_MAX && !/[\r\n]/.test(error.message);
  if (!sound) t.fail(`${what}: not one line with a known code: ${JSON.stringify(error)}`);
  return sound;
}

/** Runs an action that must be refused with this code. @returns the error */
export function refused(t: Test, code: ErrorCode, run: () => unknown, what: string = code): MptError {
  try {
    run();
  } catch (error) {
    if (isTyped(t, error, what)) {
      t.equal(error.code, code, `${what}: ${error.message}`);
      return error;
    }
    return new MptError('INTERNAL', 'untyped');
  }
  t.fail(`${what}: nothing was thrown, ${code} expected`);
  return new MptError('INTERNAL', 'nothing was thrown');
}
