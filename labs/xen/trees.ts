/** The trees that a boot needs, fetched and unpacked when they are not in the cache. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { complete, type Recipe, treeOf, type Versions } from './cache.js';
import { EXIT, LabError } from './lab-error.js';
import { Apt, KERNEL_METAPACKAGE, nameAndVersion, QEMU_PACKAGE, XEN_PACKAGES } from './packages.js';
import { tell } from './progress.js';
import { libraryFolders, MODULES, unpack, unpackXen } from './unpack.js';

/** Changes when the way in which trees are made does. */
const FORMAT = 1;

const XEN: Recipe = { name: 'xen', packages: [...XEN_PACKAGES, KERNEL_METAPACKAGE], contents: { FORMAT, MODULES } };
const QEMU: Recipe = { name: 'qemu', packages: [QEMU_PACKAGE], contents: { FORMAT } };

/** A QEMU: what to put in front of its arguments, and in its environment. */
export interface Qemu {
  readonly command: readonly [program: string, ...args: string[]];
  readonly env: Readonly<Record<string, string>>;
}

export interface Trees {
  /** The unpacked Xen packages. */
  readonly xen: string;
  readonly qemu: Qemu;
}

/** @throws LabError SKIPPED when Debian cannot be reached, NO_VERDICT when what was fetched cannot be unpacked */
export async function trees(): Promise<Trees> {
  if (process.arch !== 'x64') throw new LabError(EXIT.SKIPPED, `Xen and its dom0 are x86-64 here, this machine is ${process.arch}`);
  const installed = onPath('qemu-system-x86_64');
  await complete(installed === undefined ? [XEN, QEMU] : [XEN], fetchAndUnpack);
  return { xen: treeOf(XEN), qemu: installed === undefined ? unpackedQemu(treeOf(QEMU)) : { command: [installed], env: {} } };
}

async function fetchAndUnpack(folder: string, missing: readonly Recipe[]): Promise<ReadonlyMap<Recipe, Versions>> {
  const apt = new Apt(join(folder, 'apt'));
  tell('reading the package lists');
  await apt.update();
  const made = new Map<Recipe, Versions>();
  if (missing.includes(XEN)) {
    const kernel = await apt.kernelPackage();
    tell(`fetching ${XEN_PACKAGES.length + 1} packages (Xen, its tools, ${kernel})`);
    const files = await apt.download([...XEN_PACKAGES, kernel]);
    tell(`unpacking ${files.length} packages`);
    await unpacking(unpackXen(files, kernel, join(folder, XEN.name)));
    made.set(XEN, Object.fromEntries(files.map(nameAndVersion)));
  }
  if (missing.includes(QEMU)) {
    tell('no qemu-system-x86_64 here: fetching it with all that it needs');
    const files = await apt.downloadWithDependencies(QEMU_PACKAGE);
    tell(`unpacking ${files.length} packages`);
    await unpacking(unpack(files, join(folder, QEMU.name)));
    made.set(QEMU, Object.fromEntries(files.map(nameAndVersion)));
  }
  return made;
}

const unpacking = (work: Promise<void>): Promise<void> =>
  work.catch((error: Error) => {
    throw new LabError(EXIT.NO_VERDICT, `the packages cannot be unpacked: ${error.message}`);
  });

/** Run by the loader of its own tree: it needs nothing of the machine. */
function unpackedQemu(tree: string): Qemu {
  const loader = join(tree, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2');
  const firmware = ['usr/share/qemu', 'usr/share/seabios'].flatMap((name) => ['-L', join(tree, name)]);
  const libraries = libraryFolders(tree).join(':');
  const program = join(tree, 'usr/bin/qemu-system-x86_64');
  return {
    command: [loader, '--argv0', 'qemu-system-x86_64', '--library-path', libraries, program, ...firmware],
    env: { QEMU_MODULE_DIR: join(tree, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}

function onPath(name: string): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return statSync(path).isFile();
      } catch {
        return false;
      }
    });
}
