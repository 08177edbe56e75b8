/**
 * Checks the package as its users get it: what is packed, and that it works installed. Needs a finished build.
 *
 *   node scripts/check-package.mjs
 *
 * Packs, looks at the list of files, installs the tarball into a folder of its own, imports every entry point, runs the
 * command and compiles a program against the types. Where the registry cannot be reached, the dependencies are taken from
 * this checkout. Prints one line a check; exit 1 when one fails.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

/** Besides what `exports` and `bin` name. */
const REQUIRED = [
  'package.json',
  'README.md',
  'LICENSE',
  'CHANGELOG.md',
  'SECURITY.md',
  'docs/architecture.md',
  'docs/errors.md',
  'build/src/cli/display/page/page.mjs',
  'templates/backend/backend.mjs',
  'packaging/mpt.service',
  'packaging/mpt.json',
  'packaging/mpt-daemon.8',
  'docs/management-tree.md',
];
/** What no user needs; each with an example of what it keeps out. */
const REFUSED = [
  [/^(test|bench|scripts|examples|labs|src|\.ci)\//, 'sources, tests, tooling'],
  [/^build\/(?!src\/)/, 'compiled tests and benchmarks'],
  [/(?<!\.d)\.ts$/, 'TypeScript sources'],
  [/\.(tsbuildinfo|map|tgz|png)$/, 'build state, source maps, leftovers'],
];
const MAX_BYTES = 4 << 20;
/** npm's codes when there is no way to the registry. */
const OFFLINE = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b/;

/** A program that uses both entry points, for the type check. */
const CONSUMER = `import { MptError, selectBackend, type BackendModule } from '${manifest.name}';
import { runConformance } from '${manifest.name}/conformance';
const backend: BackendModule = selectBackend({ prefer: 'auto', fallback: 'sim' }).backend;
export const report = runConformance({ name: backend.name, open: () => backend.open() });
export const isOurs = (error: unknown): boolean => MptError.is(error, 'UNAVAILABLE');
`;
const CONSUMER_TSCONFIG = {
  compilerOptions: {
    target: 'ES2022',
    module: 'NodeNext',
    moduleResolution: 'NodeNext',
    strict: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  },
  files: ['consumer.ts'],
};

let failed = 0;

function check(what, problems) {
  if (problems.length > 0) failed++;
  console.log(`${problems.length === 0 ? 'ok' : 'failed'}: ${what}`);
  for (const problem of problems) console.log(`  ${problem}`);
}

const run = (command, args, cwd) => spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 64 << 20 });
const problemsOf = ({ status, stdout, stderr, error }) =>
  status === 0 ? [] : [error?.message ?? `exit ${status}`, ...`${stdout}${stderr}`.trim().split('\n').slice(0, 20)];

/** Every file that \`exports\` and \`bin\` point at, as paths in the package. */
function targets() {
  const found = [];
  const walk = (node) => {
    if (typeof node === 'string') found.push(posix.normalize(node));
    else for (const value of Object.values(node)) walk(value);
  };
  walk(manifest.exports);
  walk(manifest.bin);
  return found;
}

function pack(folder) {
  // The build is the caller's: prepack would run it a second time.
  const packed = run('npm', ['pack', '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder], ROOT);
  if (packed.status !== 0) throw new Error(`npm pack: ${problemsOf(packed).join('\n')}`);
  return JSON.parse(packed.stdout)[0];
}

function checkFiles({ files, size }) {
  const paths = files.map((file) => file.path);
  const wanted = [...REQUIRED, ...targets()];
  check(
    `${wanted.length} required files among ${paths.length} packed`,
    wanted.filter((path) => !paths.includes(path)).map((path) => `missing: ${path}`),
  );
  for (const [pattern, what] of REFUSED)
    check(
      `no ${what}`,
      paths.filter((path) => pattern.test(path)).map((path) => `packed: ${path}`),
    );
  check(`${Math.ceil(size / 1024)} KiB packed, limit ${MAX_BYTES >> 10}`, size > MAX_BYTES ? ['too large'] : []);
}

/** Installs the tarball as a user does, or by hand with this checkout's dependencies. @returns how */
function install(folder, tarball) {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  const flags = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--fetch-retries=1'];
  const installed = run('npm', ['install', ...flags, tarball], folder);
  if (installed.status === 0) return 'from the registry';
  if (!OFFLINE.test(installed.stderr)) throw new Error(`npm install: ${problemsOf(installed).join('\n')}`);
  const modules = join(folder, 'node_modules');
  rmSync(modules, { recursive: true, force: true });
  mkdirSync(join(modules, manifest.name), { recursive: true });
  const unpacked = run('tar', ['-xzf', tarball, '-C', join(modules, manifest.name), '--strip-components=1'], folder);
  if (unpacked.status !== 0) throw new Error(`tar: ${problemsOf(unpacked).join('\n')}`);
  for (const entry of readdirSync(join(ROOT, 'node_modules')))
    if (!existsSync(join(modules, entry))) symlinkSync(join(ROOT, 'node_modules', entry), join(modules, entry));
  return 'from this checkout, the registry cannot be reached';
}

function checkInstalled(folder) {
  const entries = Object.keys(manifest.exports).filter((entry) => !entry.endsWith('.json'));
  for (const entry of entries) {
    const name = posix.join(manifest.name, entry);
    const code = `const m = await import('${name}'); if (Object.keys(m).length === 0) throw new Error('exports nothing')`;
    check(`import '${name}'`, problemsOf(run(process.execPath, ['--input-type=module', '-e', code], folder)));
  }
  for (const [command, target] of Object.entries(manifest.bin)) {
    const version = run(process.execPath, [join(folder, 'node_modules', manifest.name, target), '--version'], folder);
    check(`${command} --version`, version.stdout.trim() === manifest.version ? [] : [`printed ${version.stdout}${version.stderr}`]);
  }
  writeFileSync(join(folder, 'consumer.ts'), CONSUMER);
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(CONSUMER_TSCONFIG));
  check('a program compiles against the types', problemsOf(run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.json'], folder)));
}

const folder = mkdtempSync(join(tmpdir(), 'check-package-'));
try {
  const packed = pack(folder);
  checkFiles(packed);
  check(`installed ${install(folder, join(folder, packed.filename))}`, []);
  checkInstalled(folder);
} catch (error) {
  check('the package can be packed and installed', error.message.split('\n'));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failed === 0 ? 0 : 1;
