/** Programs of an unpacked tree, run with its own loader and libraries: they need nothing of the machine. */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { must } from './children.js';

/** In a tree with /lib and /usr/lib apart (Debian 12), and in one where all is in /usr (13). */
const FOLDERS = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'] as const;
const LOADER = 'ld-linux-x86-64.so.2';

/** What to put in front of the arguments of a dynamically linked program. @param path of the program in the tree */
export function commandOf(tree: string, path: string): [program: string, ...args: string[]] {
  const loaders = FOLDERS.map((folder) => join(tree, folder, LOADER));
  const loader = loaders.find(existsSync) ?? (loaders[0] as string);
  const libraries = FOLDERS.map((folder) => join(tree, folder)).join(':');
  return [loader, '--argv0', path.slice(path.lastIndexOf('/') + 1), '--library-path', libraries, join(tree, path)];
}

/** The shared libraries that a program loads, the loader among them, as paths in the tree. @throws Error when one is missing */
export async function librariesOf(tree: string, path: string): Promise<string[]> {
  const [loader, ...args] = commandOf(tree, path);
  const listed = await must(loader, ['--list', ...args]);
  return listed
    .split('\n')
    .filter((line) => line.includes(' => '))
    .map((line) => {
      const file = / => (\/\S+) \(0x/.exec(line)?.[1];
      if (file === undefined || relative(tree, file).startsWith('..')) throw new Error(`${path} does not find in its tree: ${line.trim()}`);
      return relative(tree, file);
    });
}
