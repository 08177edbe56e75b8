/** Unpacks packages into trees, and makes what is booted ready: Xen and the kernel uncompressed, the kernel's modules. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { must } from './children.js';
import { nameAndVersion } from './packages.js';

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

/** Unpacks packages beside each other, as many at a time as there are cores in the smallest machine. */
export async function unpack(debs: readonly string[], tree: string, also?: readonly string[]): Promise<void> {
  mkdirSync(tree, { recursive: true });
  const waiting = [...debs];
  const work = async (): Promise<void> => {
    for (let deb = waiting.pop(); deb !== undefined; deb = waiting.pop())
      await pipeline(deb, ['--directory', tree, '--no-same-owner', ...(also ?? [])]);
  };
  await Promise.all([work(), work()]);
}

/** The paths are arguments, not text of the script. */
const pipeline = (deb: string, tar: readonly string[]): Promise<string> =>
  must('bash', ['-c', 'set -o pipefail; deb=$1; shift; dpkg-deb --fsys-tarfile "$deb" | tar --extract "$@"', 'unpack', deb, ...tar]);

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
  await uncompressKernel(only(join(unpacked, 'boot'), /^vmlinuz-/), tree);

  mkdirSync(join(tree, MODULE_FOLDER));
  const found = new Map(files(unpacked).map((path) => [path.slice(path.lastIndexOf('/') + 1), path]));
  for (const name of MODULES) {
    const path = found.get(`${name}.ko`);
    if (path === undefined) throw new Error(`the kernel's package has no module ${name}`);
    writeFileSync(join(tree, MODULE_FOLDER, `${name}.ko`), readFileSync(path));
  }
  rmSync(unpacked, { recursive: true });
}

/**
 * Takes the ELF file out of a bzImage (Documentation/arch/x86/boot.rst: setup_sects at 0x1f1, payload_offset at 0x248,
 * payload_length at 0x24c): uncompressing it in an emulated CPU takes seconds of each boot.
 */
async function uncompressKernel(image: string, tree: string): Promise<void> {
  const bytes = readFileSync(image);
  const start = (bytes.readUInt8(0x1f1) + 1) * 512 + bytes.readUInt32LE(0x248);
  // The last 4 bytes are the length of what comes out.
  const payload = join(tree, 'payload.xz');
  writeFileSync(payload, bytes.subarray(start, start + bytes.readUInt32LE(0x24c) - 4));
  await must('bash', ['-c', '"$1" -dc "$2" >"$3"', 'unxz', join(tree, 'usr/bin/xz'), payload, join(tree, KERNEL)]);
  rmSync(payload);
}

/** QEMU's library folders in its tree. */
export const libraryFolders = (tree: string): string[] => ['lib', 'usr/lib'].map((name) => join(tree, name, 'x86_64-linux-gnu'));

function only(folder: string, name: RegExp): string {
  const found = existsSync(folder) ? readdirSync(folder).filter((entry) => name.test(entry)) : [];
  if (found.length !== 1) throw new Error(`${folder} has ${found.length} files like ${name.source}, not one`);
  return join(folder, found[0] as string);
}

const files = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? files(path) : [path];
  });
