/** A QEMU that runs out of the tree of its unpacked packages. */
import { join } from 'node:path';

/** A QEMU: what to put in front of its arguments, and in its environment. */
export interface Qemu {
  readonly command: readonly [program: string, ...args: string[]];
  readonly env: Readonly<Record<string, string>>;
}

/** Folders that its `-L` names. */
const FIRMWARE = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'];

/** Folders of libraries, in a tree with /lib and /usr/lib apart (Debian 12) and in one without (13). */
const libraryFolders = (tree: string): string[] => ['lib', 'usr/lib'].map((name) => join(tree, name, 'x86_64-linux-gnu'));

/** Run by the loader of its own tree: it needs nothing of the machine. */
export function unpackedQemu(tree: string): Qemu {
  const loader = join(tree, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2');
  const firmware = FIRMWARE.flatMap((name) => ['-L', join(tree, name)]);
  const libraries = libraryFolders(tree).join(':');
  const program = join(tree, 'usr/bin/qemu-system-x86_64');
  return {
    command: [loader, '--argv0', 'qemu-system-x86_64', '--library-path', libraries, program, ...firmware],
    env: { QEMU_MODULE_DIR: join(tree, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}
