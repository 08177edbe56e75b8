/** The initramfs of a guest: busybox, `init`, and in `/lab` the job with its modules and programs. Made anew for each boot. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpio, type Entry } from '../common/cpio.js';
import { loadOrder, parseModulesDep } from './modules.js';
import { GUEST_TREE, type PackagedPrograms } from './trees.js';

export interface GuestFiles {
  /** Loaded before the job, with all that they depend on, in this order. */
  readonly modules: readonly string[];
  /** Static programs of the host's, put into the PATH. */
  readonly programs?: readonly string[];
  /** Adds lspci and its libraries. */
  readonly lspci?: boolean;
  /** Programs of Debian packages with their libraries, put into the PATH. */
  readonly packaged?: PackagedPrograms;
  /** The job, for busybox's shell. */
  readonly script: string;
}

const INIT = fileURLToPath(new URL('./guest/init', import.meta.url));

/** The archive, not compressed: it would be uncompressed by an emulated CPU. @param tree the guest's */
export function initramfs(tree: string, { modules, programs = [], lspci = false, packaged, script }: GuestFiles): Buffer {
  const ofTree = (path: string, from = path): Entry => ({ path, content: readFileSync(join(tree, from)), executable: true });
  const order = loadOrder(parseModulesDep(readFileSync(join(tree, GUEST_TREE.MODULES, 'modules.dep'), 'utf8')), modules);
  return cpio(
    withFolders([
      ofTree('bin/busybox', GUEST_TREE.BUSYBOX),
      { path: 'init', content: readFileSync(INIT), executable: true },
      { path: 'lab/job.sh', content: script },
      { path: 'lab/modules', content: order.map((file) => `${file}\n`).join('') },
      ...order.map((file) => ofTree(`lab/${file}`, join(GUEST_TREE.MODULES, file))),
      ...programs.map((path) => ({ path: `bin/${basename(path)}`, content: readFileSync(path), executable: true })),
      ...(lspci ? lspciFiles(tree, ofTree) : []),
      ...(packaged === undefined ? [] : packagedFiles(packaged)),
    ]),
  );
}

function lspciFiles(tree: string, ofTree: (path: string, from?: string) => Entry): Entry[] {
  const libraries = readFileSync(join(tree, GUEST_TREE.LIBRARIES), 'utf8').trim().split('\n');
  return [ofTree('bin/lspci', GUEST_TREE.LSPCI), ...libraries.map((path) => ofTree(placeOf(basename(path)), path))];
}

const packagedFiles = ({ tree, programs, libraries }: PackagedPrograms): Entry[] =>
  [
    ...programs.map((path) => [`bin/${basename(path)}`, path] as const),
    ...libraries.map((path) => [placeOf(basename(path)), path] as const),
  ].map(([path, from]) => ({ path, content: readFileSync(join(tree, from)), executable: true }));

/** Where programs have the name of their loader, and where that looks for libraries. */
const placeOf = (library: string): string => `${library.startsWith('ld-linux') ? 'lib64' : 'lib/x86_64-linux-gnu'}/${library}`;

/** The entries, with all folders that they are in before them. */
function withFolders(entries: readonly Entry[]): Entry[] {
  const folders = new Set<string>();
  for (const { path } of entries)
    for (let end = path.indexOf('/'); end > 0; end = path.indexOf('/', end + 1)) folders.add(path.slice(0, end));
  return [...[...folders].map((path) => ({ path })), ...entries];
}
