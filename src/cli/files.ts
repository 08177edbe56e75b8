/** Files the command writes: checked before the work, written beside the target and renamed, so that none is ever half. */
import { accessSync, constants, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { MptError } from '../core/errors.js';

/** An MptError from what node:fs threw. */
export function ioError(error: unknown, op: string, what: string): MptError {
  const { errno, code } = error as NodeJS.ErrnoException;
  return new MptError('IO', what, {
    op,
    ...(errno === undefined ? {} : { errno: Math.abs(errno) }),
    ...(code === undefined ? { cause: error } : {}),
  });
}

/** Finds out before the run that `path` can be written. @throws MptError IO */
export function checkWritable(path: string, op: string): void {
  const target = resolve(path);
  try {
    if (statSync(target, { throwIfNoEntry: false })?.isDirectory() === true)
      throw new MptError('IO', `${path} is a directory`, { op, hint: 'name a file' });
    accessSync(dirname(target), constants.W_OK | constants.X_OK);
    if (!statSync(dirname(target)).isDirectory()) throw new MptError('IO', `${dirname(path)} is not a directory`, { op });
  } catch (error) {
    if (MptError.is(error)) throw error;
    throw ioError(error, op, `${path} cannot be written`);
  }
}

/** Writes all or nothing. @throws MptError IO, and then no file is left behind */
export function writeWhole(path: string, bytes: Uint8Array, op: string): void {
  const partial = `${path}.${process.pid}.part`;
  try {
    writeFileSync(partial, bytes);
    renameSync(partial, path);
  } catch (error) {
    rmSync(partial, { force: true });
    throw ioError(error, op, `${path} cannot be written`);
  }
}
