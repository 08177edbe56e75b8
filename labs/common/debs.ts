/** Unpacks Debian packages into trees, and finds files in them. */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './children.js';
import { EXIT, LabError } from './lab-error.js';

/** Unpacks packages beside each other, as many at a time as there are cores in the smallest machine. */
export async function unpack(debs: readonly string[], tree: string, also?: readonly string[]): Promise<void> {
  mkdirSync(tree, { recursive: true });
  const waiting = [...debs];
  const work = async (): Promise<void> => {
    for (let deb = waiting.pop(); deb !== undefined; deb = waiting.pop())
      await pipeline(deb, ['--directory', tree, '--no-same-owner', ...(also ?? [])]);
  };
  await Promise.all([work(), work()]);
}

/** The paths are arguments, not text of the script. */
const pipeline = (deb: string, tar: readonly string[]): Promise<string> =>
  must('bash', ['-c', 'set -o pipefail; deb=$1; shift; dpkg-deb --fsys-tarfile "$deb" | tar --extract "$@"', 'unpack', deb, ...tar]);

/** @throws LabError NO_VERDICT in place of the error of work that makes a tree */
export const unpacking = <T>(work: Promise<T>): Promise<T> =>
  work.catch((error: Error) => {
    throw new LabError(EXIT.NO_VERDICT, `the packages cannot be unpacked: ${error.message}`);
  });

/** The one file in a folder that has such a name. @throws Error when there is none, or more */
export function only(folder: string, name: RegExp): string {
  const found = existsSync(folder) ? readdirSync(folder).filter((entry) => name.test(entry)) : [];
  if (found.length !== 1) throw new Error(`${folder} has ${found.length} files like ${name.source}, not one`);
  return join(folder, found[0] as string);
}

/** Every file in a folder and below. */
export const files = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : [path];
  });
