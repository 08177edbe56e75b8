/** Files the command writes: checked before the work, written beside the target and renamed, so that none is ever half. */
import { accessSync, constants, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
    checkReplaceable(path, op);
    accessSync(dirname(throughLinks(target)), constants.W_OK | constants.X_OK);
    if (!statSync(dirname(target)).isDirectory()) throw new MptError('IO', `${dirname(path)} is not a directory`, { op });
  } catch (error) {
    if (MptError.is(error)) throw error;
    throw ioError(error, op, `${path} cannot be written`);
  }
}

/** The file that a symbolic link names, so that the link is kept; a path that does not exist yet is itself. */
const throughLinks = (path: string): string => (statSync(path, { throwIfNoEntry: false }) === undefined ? path : realpathSync(path));

/** The rename that ends a write would put a plain file in the place of a device, a pipe or a socket. */
function checkReplaceable(path: string, op: string): void {
  if (path === '') throw new MptError('INVALID_ARGUMENT', 'the file has an empty name', { op, hint: 'name a file' });
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (found.isDirectory()) throw new MptError('IO', `${path} is a directory`, { op, hint: 'name a file' });
  if (!found.isFile()) throw new MptError('IO', `${path} is not a regular file`, { op, hint: 'name a new or a regular file' });
  accessSync(path, constants.W_OK);
}

/** Writes all or nothing. @throws MptError IO, and then no file is left behind */
export function writeWhole(path: string, bytes: Uint8Array, op: string): void {
  let partial: string | undefined;
  try {
    checkReplaceable(path, op);
    const target = throughLinks(path);
    const name = `${target}.${process.pid}.part`;
    // Never through a link that someone else put there.
    writeFileSync(name, '', { flag: 'wx' });
    partial = name;
    writeFileSync(partial, bytes);
    renameSync(partial, target);
  } catch (error) {
    if (partial !== undefined) rmSync(partial, { force: true });
    if (MptError.is(error)) throw error;
    throw ioError(error, op, `${path} cannot be written`);
  }
}
