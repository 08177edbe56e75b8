/**
 * Programs for the guest: C files in `guest/`, compiled with the machine's gcc, static, so that they need nothing in the guest. A name that
 * ends with `.so` is a library for programs of Debian's to be preloaded with.
 */
import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../common/children.js';

const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror'];
const LIBRARY = '.so';

/** @returns the path of the program in `folder`. @throws Error with gcc's first complaint */
export async function compile(name: string, folder: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const program = join(folder, name);
  const source = fileURLToPath(new URL(`./guest/${basename(name, LIBRARY)}.c`, import.meta.url));
  const { status, stderr } = await run(
    'gcc',
    [...FLAGS, ...(name.endsWith(LIBRARY) ? ['-shared', '-fPIC'] : ['-static']), '-o', program, source],
    { timeoutS: 60 },
  );
  const complaint = stderr.split('\n').find((line) => line.includes('error')) ?? stderr.trim();
  if (status !== 0) throw new Error(`gcc cannot compile ${source} (Debian: packages gcc and libc6-dev): ${complaint}`);
  return program;
}
