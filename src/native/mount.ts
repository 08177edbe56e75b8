/** Mounting and unmounting (mount(2), umount(2)). */
import { readFileSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const cMount = libc.func('mount', 'int', ['str', 'str', 'str', 'ulong', 'str']);
const cUmount = libc.func('umount2', 'int', ['str', 'int']);
const failed = (result: number): number => (result < 0 ? -koffi.errno() : result);

/** sys/mount.h. */
export const MS = { NOSUID: 2, NODEV: 4, NOEXEC: 8 } as const;
export const MNT = { FORCE: 1, DETACH: 2 } as const;

/** @returns 0 or minus the errno */
export const mount = (source: string, target: string, type: string, flags: number, data: string): number =>
  failed(cMount(source, target, type, flags, data));

/** @returns 0 or minus the errno */
export const unmount = (target: string, flags: number): number => failed(cUmount(target, flags));

export interface MountEntry {
  readonly type: string;
  readonly source: string;
}

/** What is mounted on exactly this folder, the visible one last (proc(5), mountinfo). Asks no file system: one of a dead or stopped server would not answer. */
export function mountedOn(folder: string): MountEntry[] {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .flatMap((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const [type = '', source = ''] = after.split(' ');
      return unescaped(before.split(' ')[4] ?? '') === folder ? [{ type, source: unescaped(source) }] : [];
    });
}

/** Spaces and the like are octal there, byte by byte. */
const unescaped = (text: string): string =>
  Buffer.from(
    text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))),
    'latin1',
  ).toString('utf8');
