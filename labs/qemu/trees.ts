/** What a guest is booted with: QEMU, kernel, modules and programs, fetched and unpacked when they are not in the cache. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Apt, nameAndVersion } from '../common/apt.js';
import { Cache, type Made, type Recipe, type Versions } from '../common/cache.js';
import { lastLine, run } from '../common/children.js';
import { files, only, unpack, unpacking } from '../common/debs.js';
import { uncompressKernel } from '../common/kernel-image.js';
import { EXIT, LabError } from '../common/lab-error.js';
import { type Qemu, unpackedQemu } from '../common/packaged-qemu.js';
import { librariesOf } from '../common/tree-programs.js';
import { dependsOf, moduleName } from './modules.js';
import {
  DESKTOP_PACKAGES,
  DRM_TESTS_PACKAGE,
  DRM_TESTS_PROGRAMS,
  GUEST_PACKAGES,
  IGT_PACKAGE,
  IGT_PROGRAMS,
  KERNEL_METAPACKAGE,
  MODULES,
  QEMU_PACKAGE,
  QEMU_RELEASES,
} from './packages.js';
import { tell } from './progress.js';

/** Changes when the way in which trees are made does. */
const FORMAT = 1;

const GUEST: Recipe = { name: 'guest', packages: [...GUEST_PACKAGES, KERNEL_METAPACKAGE], contents: { FORMAT, MODULES } };
const QEMU: Recipe = { name: 'qemu', packages: [QEMU_PACKAGE], contents: { FORMAT, QEMU_RELEASES } };

/** Folders of a whole Debian that a guest mounts something on; the packages have not all of them. */
const MOUNT_POINTS = ['dev', 'proc', 'sys', 'run', 'tmp'];
const DESKTOP: Recipe = { name: 'desktop', packages: DESKTOP_PACKAGES, contents: { FORMAT, MOUNT_POINTS } };

const IGT: Recipe = { name: 'igt', packages: [IGT_PACKAGE], contents: { FORMAT, IGT_PROGRAMS } };
const DRM_TESTS: Recipe = { name: 'drm-tests', packages: [DRM_TESTS_PACKAGE], contents: { FORMAT, DRM_TESTS_PROGRAMS } };
/** Trees of programs for guests, with the programs. */
const PACKAGED: ReadonlyMap<Recipe, readonly string[]> = new Map([
  [IGT, IGT_PROGRAMS],
  [DRM_TESTS, DRM_TESTS_PROGRAMS],
]);

/** Files of the guest's tree. */
export const GUEST_TREE = {
  KERNEL: 'boot/vmlinux',
  BUSYBOX: 'bin/busybox',
  LSPCI: 'usr/bin/lspci',
  /** The modules, and `modules.dep`. */
  MODULES: 'modules',
  /** Shared libraries of lspci, the loader among them, as paths in the tree, one a line. */
  LIBRARIES: 'libraries',
} as const;

export const cache = new Cache('qemu', tell);

export interface Trees {
  readonly guest: string;
  readonly qemu: Qemu;
}

/** @throws LabError SKIPPED when Debian cannot be reached, NO_VERDICT when what was fetched cannot be unpacked */
export async function trees(): Promise<Trees> {
  await complete([GUEST, QEMU]);
  return { guest: cache.treeOf(GUEST), qemu: unpackedQemu(cache.treeOf(QEMU)) };
}

/** QEMU alone. @throws LabError as `trees()` does */
export async function qemu(): Promise<Qemu> {
  await complete([QEMU]);
  return unpackedQemu(cache.treeOf(QEMU));
}

/** Programs of a tree, and the shared libraries that they load. */
export interface PackagedPrograms {
  readonly tree: string;
  readonly programs: readonly string[];
  readonly libraries: readonly string[];
}

/** The benchmarks of intel-gpu-tools. @throws LabError as `trees()` does */
export const igt = (): Promise<PackagedPrograms> => packaged(IGT);

/** modetest. @throws LabError as `trees()` does */
export const drmTests = (): Promise<PackagedPrograms> => packaged(DRM_TESTS);

/** Weston and all that it needs, whole, as a guest mounts it. @throws LabError as `trees()` does */
export async function desktop(): Promise<string> {
  await complete([DESKTOP]);
  return cache.treeOf(DESKTOP);
}

async function packaged(recipe: Recipe): Promise<PackagedPrograms> {
  await complete([recipe]);
  const tree = cache.treeOf(recipe);
  const libraries = readFileSync(join(tree, GUEST_TREE.LIBRARIES), 'utf8').trim().split('\n');
  return { tree, programs: PACKAGED.get(recipe) as readonly string[], libraries };
}

async function complete(recipes: readonly Recipe[]): Promise<void> {
  if (process.arch !== 'x64') throw new LabError(EXIT.SKIPPED, `the guests are x86-64, this machine is ${process.arch}`);
  await cache.complete(recipes, fetchAndUnpack);
}

async function fetchAndUnpack(folder: string, missing: readonly Recipe[]): Promise<Made> {
  const machine = new Apt(join(folder, 'apt'));
  tell('reading the package lists');
  await machine.update();
  const made = new Map<Recipe, Versions>();
  if (missing.includes(GUEST)) {
    const kernel = await machine.kernelPackage(KERNEL_METAPACKAGE);
    tell(`fetching the guest's packages (${kernel}, ${GUEST_PACKAGES.join(', ')})`);
    const image = await machine.download([kernel]);
    const others = await machine.downloadWithDependencies(GUEST_PACKAGES);
    tell(`unpacking ${image.length + others.length} packages`);
    await unpacking(unpackGuest(image, others, join(folder, GUEST.name)));
    made.set(GUEST, Object.fromEntries([...image, ...others].map(nameAndVersion)));
  }
  if (missing.includes(QEMU)) {
    const release = QEMU_RELEASES.at(-1) as string;
    tell(`reading the package lists of ${QEMU_RELEASES.join(' and ')}`);
    const backports = new Apt(join(folder, 'apt-qemu'), { archive: await machine.archive(), releases: QEMU_RELEASES });
    await backports.update();
    tell(`fetching ${QEMU_PACKAGE} with all that it needs`);
    const debs = await backports.downloadWithDependencies([QEMU_PACKAGE], release);
    tell(`unpacking ${debs.length} packages`);
    await unpacking(unpackQemu(debs, release, join(folder, QEMU.name)));
    made.set(QEMU, Object.fromEntries(debs.map(nameAndVersion)));
  }
  const whole = async (recipe: Recipe, unpackInto: (debs: readonly string[], tree: string) => Promise<void>): Promise<void> => {
    if (!missing.includes(recipe)) return;
    tell(`fetching ${recipe.packages.join(', ')} with all that it needs`);
    const debs = await machine.downloadWithDependencies(recipe.packages);
    tell(`unpacking ${debs.length} packages`);
    await unpacking(unpackInto(debs, join(folder, recipe.name)));
    made.set(recipe, Object.fromEntries(debs.map(nameAndVersion)));
  };
  for (const [recipe, programs] of PACKAGED) await whole(recipe, (debs, tree) => unpackPrograms(debs, tree, programs));
  await whole(DESKTOP, unpackDesktop);
  return made;
}

async function unpackPrograms(debs: readonly string[], tree: string, programs: readonly string[]): Promise<void> {
  await unpack(debs, tree, NO_DOCUMENTS);
  const libraries = new Set((await Promise.all(programs.map((path) => librariesOf(tree, path)))).flat());
  writeFileSync(join(tree, GUEST_TREE.LIBRARIES), [...libraries].map((path) => `${path}\n`).join(''));
}

async function unpackDesktop(debs: readonly string[], tree: string): Promise<void> {
  await unpack(debs, tree, NO_DOCUMENTS);
  for (const name of MOUNT_POINTS) mkdirSync(join(tree, name), { recursive: true });
}

/** Documents and translations are half of the files. */
const NO_DOCUMENTS = ['doc', 'man', 'locale', 'info'].map((name) => `--exclude=./usr/share/${name}/*`);

async function unpackQemu(debs: readonly string[], release: string, tree: string): Promise<void> {
  await unpack(debs, tree, NO_DOCUMENTS);
  const { command, env } = unpackedQemu(tree);
  const [program, ...args] = command;
  const asked = await run(program, [...args, '-machine', 'none', '-device', 'vfio-user-pci,help'], { env: { ...process.env, ...env } });
  if (!asked.stdout.includes('vfio-user-pci options:'))
    throw new Error(`the QEMU of ${release} has no device vfio-user-pci, which came with QEMU 10.1: ${lastLine(asked.stderr)}`);
}

async function unpackGuest(image: readonly string[], others: readonly string[], tree: string): Promise<void> {
  const kernel = join(tree, 'kernel');
  for (const folder of [kernel, dirname(join(tree, GUEST_TREE.KERNEL))]) mkdirSync(folder, { recursive: true });
  await Promise.all([
    unpack(others, tree, NO_DOCUMENTS),
    unpack(image, kernel, ['--wildcards', './boot/vmlinuz-*', './lib/modules/*/kernel/*']),
  ]);
  await uncompressKernel(only(join(kernel, 'boot'), /^vmlinuz-/), join(tree, 'usr/bin/xz'), join(tree, GUEST_TREE.KERNEL));
  keepModules(join(kernel, 'lib/modules'), join(tree, GUEST_TREE.MODULES));
  rmSync(kernel, { recursive: true });
  writeFileSync(join(tree, GUEST_TREE.LIBRARIES), (await librariesOf(tree, GUEST_TREE.LSPCI)).map((path) => `${path}\n`).join(''));
}

/** Copies the modules and all that they depend on, and writes their `modules.dep`. */
function keepModules(from: string, to: string): void {
  mkdirSync(to);
  const found = new Map(
    files(from)
      .filter((path) => path.endsWith('.ko'))
      .map((path) => [moduleName(path), path]),
  );
  const lines = new Map<string, string>();
  const keep = (name: string): string => {
    const path = found.get(name);
    if (path === undefined) throw new Error(`the kernel's package has no module ${name}`);
    const file = basename(path);
    if (lines.has(name)) return file;
    const bytes = readFileSync(path);
    writeFileSync(join(to, file), bytes);
    lines.set(name, '');
    lines.set(name, [`${file}:`, ...dependsOf(bytes).map(keep)].join(' '));
    return file;
  };
  for (const name of MODULES) keep(moduleName(name));
  writeFileSync(join(to, 'modules.dep'), [...lines.values()].map((line) => `${line}\n`).join(''));
}
