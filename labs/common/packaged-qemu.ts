/** A QEMU that runs out of the tree of its unpacked packages. */
import { join } from 'node:path';
import { commandOf } from './tree-programs.js';

/** A QEMU: what to put in front of its arguments, and in its environment. */
export interface Qemu {
  readonly command: readonly [program: string, ...args: string[]];
  readonly env: Readonly<Record<string, string>>;
}

/** Folders that its `-L` names. */
const FIRMWARE = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'];

export function unpackedQemu(tree: string): Qemu {
  const firmware = FIRMWARE.flatMap((name) => ['-L', join(tree, name)]);
  return {
    command: [...commandOf(tree, 'usr/bin/qemu-system-x86_64'), ...firmware],
    env: { QEMU_MODULE_DIR: join(tree, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}
