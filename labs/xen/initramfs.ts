/** The initramfs of dom0: busybox, the kernel modules, `init`, and in `/lab` the session with its job. Made anew for each boot. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpio } from '../common/cpio.js';
import { BUSYBOX, MODULE_FOLDER, MODULES } from './unpack.js';

/** What dom0 runs, and in which surroundings. */
export interface Job {
  /** Program and arguments; a single string is a command line for bash. */
  readonly command: readonly string[];
  readonly folder: string;
  /** Exported; `MPT_LAB_OUT` names the folder that is writable on the host. */
  readonly env: Readonly<Record<string, string>>;
}

const FOLDERS = ['bin', 'dev', 'lab', 'mod', 'newroot', 'proc', 'root', 'rw', 'sys'];
const DOM0 = new URL('./dom0/', import.meta.url);

/** The archive as Xen hands it to dom0's kernel, not compressed: it would be uncompressed by an emulated CPU. */
export function initramfs(tree: string, job: Job): Buffer {
  const asset = (name: string): Buffer => readFileSync(fileURLToPath(new URL(name, DOM0)));
  return cpio([
    ...FOLDERS.map((path) => ({ path })),
    { path: 'bin/busybox', content: readFileSync(join(tree, BUSYBOX)), executable: true },
    { path: 'init', content: asset('init'), executable: true },
    { path: 'lab/session.sh', content: asset('session.sh') },
    { path: 'lab/job', content: jobFile(job) },
    { path: 'mod/order', content: MODULES.map((name) => `${name}\n`).join('') },
    ...MODULES.map((name) => ({ path: `mod/${name}.ko`, content: readFileSync(join(tree, MODULE_FOLDER, `${name}.ko`)) })),
  ]);
}

/** The job in shell words: what `init` and the session read. */
export function jobFile({ command, folder, env }: Job): string {
  const words = command.length === 1 ? ['bash', '-c', command[0] as string] : command;
  return [
    ...Object.entries(env).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `LAB_FOLDER=${quoted(folder)}`,
    `set -- ${words.map(quoted).join(' ')}`,
    '',
  ].join('\n');
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
