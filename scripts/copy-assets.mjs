/**
 * Completes a build: what tsc does not do.
 *
 *   node scripts/copy-assets.mjs [OUTPUT-FOLDER]     default build
 *
 * Copies the files that the compiled program reads, removes outputs whose source is gone (tsc leaves them, tap would still
 * run them and npm pack ship them) and makes the command executable.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUT = join(ROOT, process.argv[2] ?? 'build');

/** Files, or folders of which the files that are not TypeScript are taken. */
const ASSETS = [
  'src/cli/config.schema.json',
  'src/cli/daemon/daemon.schema.json',
  'src/cli/vgpu-state.schema.json',
  'src/cli/display/page',
  'src/guest/agent',
  'labs/qemu/guest',
  'labs/xen/dom0',
];
const COMMAND = 'src/cli/mpt.js';
/** Folders that tsc compiles; nothing else in the output folder is touched. */
const COMPILED = ['src', 'test', 'bench', 'examples', 'labs'];
/** What tsc makes of `x.ts`. */
const OUTPUT = /\.(js|js\.map|d\.ts)$/;

function* files(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* files(path);
    else yield path;
  }
}

function assets(name) {
  const path = join(ROOT, name);
  if (!existsSync(path)) throw new Error(`scripts/copy-assets.mjs: ${name} does not exist`);
  return /\.\w+$/.test(name) ? [path] : [...files(path)].filter((file) => !file.endsWith('.ts'));
}

for (const file of ASSETS.flatMap(assets)) {
  const target = join(OUT, relative(ROOT, file));
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(file, target);
}

for (const folder of COMPILED) {
  if (!existsSync(join(OUT, folder))) continue;
  for (const file of [...files(join(OUT, folder))]) {
    const source = join(ROOT, relative(OUT, file)).replace(OUTPUT, '.ts');
    if (OUTPUT.test(file) && !existsSync(source)) rmSync(file);
  }
}

if (existsSync(join(OUT, COMMAND))) chmodSync(join(OUT, COMMAND), 0o755);
