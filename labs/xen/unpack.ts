/** Makes what is booted out of the packages: Xen and the kernel uncompressed, the kernel's modules. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { nameAndVersion } from '../common/apt.js';
import { files, only, unpack } from '../common/debs.js';
import { uncompressKernel } from '../common/kernel-image.js';

/** In the order in which dom0 loads them: each after those that it needs. */
export const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'netfs',
  'fscache',
  '9pnet',
  '9p',
  '9pnet_virtio',
  'overlay',
  'xen-privcmd',
  'xen-evtchn',
  'xen-gntdev',
  'xen-gntalloc',
  'xenfs',
] as const;

/** Files of the Xen tree. */
export const XEN_ELF = 'boot/xen.elf';
export const KERNEL = 'boot/vmlinux';
export const MODULE_FOLDER = 'modules';
export const BUSYBOX = 'bin/busybox';

/** Makes the Xen tree out of the packages, of which `kernel` is the kernel's. */
export async function unpackXen(debs: readonly string[], kernel: string, tree: string): Promise<void> {
  mkdirSync(tree, { recursive: true });
  const unpacked = join(tree, 'kernel');
  mkdirSync(unpacked);
  const wanted = ['./boot/vmlinuz-*', ...MODULES.map((name) => `./lib/modules/*/${name}.ko`)];
  const ofKernel = debs.filter((deb) => nameAndVersion(deb)[0] === kernel);
  const others = debs.filter((deb) => !ofKernel.includes(deb));
  await Promise.all([unpack(others, tree), unpack(ofKernel, unpacked, ['--wildcards', ...wanted])]);

  writeFileSync(join(tree, XEN_ELF), gunzipSync(readFileSync(only(join(tree, 'boot'), /^xen-.*\.gz$/))));
  await uncompressKernel(only(join(unpacked, 'boot'), /^vmlinuz-/), join(tree, 'usr/bin/xz'), join(tree, KERNEL));

  mkdirSync(join(tree, MODULE_FOLDER));
  const found = new Map(files(unpacked).map((path) => [path.slice(path.lastIndexOf('/') + 1), path]));
  for (const name of MODULES) {
    const path = found.get(`${name}.ko`);
    if (path === undefined) throw new Error(`the kernel's package has no module ${name}`);
    writeFileSync(join(tree, MODULE_FOLDER, `${name}.ko`), readFileSync(path));
  }
  rmSync(unpacked, { recursive: true });
}
