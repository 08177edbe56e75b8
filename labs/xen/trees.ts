/** The trees that a boot needs, fetched and unpacked when they are not in the cache. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { Apt, nameAndVersion } from '../common/apt.js';
import { Cache, type Made, type Recipe, type Versions } from '../common/cache.js';
import { unpack, unpacking } from '../common/debs.js';
import { EXIT, LabError } from '../common/lab-error.js';
import { type Qemu, unpackedQemu } from '../common/packaged-qemu.js';
import { KERNEL_METAPACKAGE, QEMU_PACKAGE, XEN_PACKAGES } from './packages.js';
import { tell } from './progress.js';
import { MODULES, unpackXen } from './unpack.js';

/** Changes when the way in which trees are made does. */
const FORMAT = 1;

const XEN: Recipe = { name: 'xen', packages: [...XEN_PACKAGES, KERNEL_METAPACKAGE], contents: { FORMAT, MODULES } };
const QEMU: Recipe = { name: 'qemu', packages: [QEMU_PACKAGE], contents: { FORMAT } };

export const cache = new Cache('xen', tell);

export interface Trees {
  /** The unpacked Xen packages. */
  readonly xen: string;
  readonly qemu: Qemu;
}

/** @throws LabError SKIPPED when Debian cannot be reached, NO_VERDICT when what was fetched cannot be unpacked */
export async function trees(): Promise<Trees> {
  if (process.arch !== 'x64') throw new LabError(EXIT.SKIPPED, `Xen and its dom0 are x86-64 here, this machine is ${process.arch}`);
  const installed = onPath('qemu-system-x86_64');
  await cache.complete(installed === undefined ? [XEN, QEMU] : [XEN], fetchAndUnpack);
  return { xen: cache.treeOf(XEN), qemu: installed === undefined ? unpackedQemu(cache.treeOf(QEMU)) : { command: [installed], env: {} } };
}

async function fetchAndUnpack(folder: string, missing: readonly Recipe[]): Promise<Made> {
  const apt = new Apt(join(folder, 'apt'));
  tell('reading the package lists');
  await apt.update();
  const made = new Map<Recipe, Versions>();
  if (missing.includes(XEN)) {
    const kernel = await apt.kernelPackage(KERNEL_METAPACKAGE);
    tell(`fetching ${XEN_PACKAGES.length + 1} packages (Xen, its tools, ${kernel})`);
    const files = await apt.download([...XEN_PACKAGES, kernel]);
    tell(`unpacking ${files.length} packages`);
    await unpacking(unpackXen(files, kernel, join(folder, XEN.name)));
    made.set(XEN, Object.fromEntries(files.map(nameAndVersion)));
  }
  if (missing.includes(QEMU)) {
    tell('no qemu-system-x86_64 here: fetching it with all that it needs');
    const files = await apt.downloadWithDependencies([QEMU_PACKAGE]);
    tell(`unpacking ${files.length} packages`);
    await unpacking(unpack(files, join(folder, QEMU.name)));
    made.set(QEMU, Object.fromEntries(files.map(nameAndVersion)));
  }
  return made;
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
