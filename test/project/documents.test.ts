/** The documents say what is so: error codes, exit codes, the library example, links, decisions and dependencies. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { EXIT, exitCodeOf } from '../../src/cli/exit-codes.js';
import { ERROR_CODES, type ErrorCode } from '../../src/core/errors.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const LIBRARY = new URL('../../src/index.js', import.meta.url).href;

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const manifest = JSON.parse(read('package.json')) as Record<'dependencies' | 'devDependencies' | 'scripts', Record<string, string>>;

/** First column of every table row whose first cell matches. */
const rows = (text: string, cell: RegExp): string[] =>
  text.split('\n').flatMap((line) => {
    const match = /^\| ([^|]+?) \|/.exec(line);
    return match !== null && cell.test(match[1] as string) ? [match[1] as string] : [];
  });

const markdownFiles = (folder = '.'): string[] =>
  readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isFile()) return path.endsWith('.md') ? [path] : [];
    return /^(node_modules|build.*|\..*)$/.test(entry.name) ? [] : markdownFiles(path);
  });

t.test('docs/errors.md has exactly the codes of the table', (t) => {
  const documented = rows(read('docs/errors.md'), /^`[A-Z_]+`$/).map((cell) => cell.slice(1, -1));
  t.same([...documented].sort(), Object.keys(ERROR_CODES).sort());
  t.end();
});

t.test('exit codes: README, docs/errors.md and the help agree with the table', (t) => {
  const wanted = Object.values(EXIT)
    .map(String)
    .sort((a, b) => Number(a) - Number(b));
  t.same(rows(read('README.md'), /^\d+$/), wanted, 'README lists each code once');
  const section = read('docs/errors.md').split('## Exit codes')[1] ?? '';
  const named = [...section.matchAll(/`([A-Z_]+)`/g)].map((match) => match[1] as string).filter((name) => name !== 'MptError');
  const special = (Object.keys(ERROR_CODES) as ErrorCode[]).filter((code) => exitCodeOf(code) !== EXIT.FAILED);
  t.same(named.sort(), special.sort(), 'docs/errors.md names each code that does not end with 1');
  t.end();
});

t.test('the example in README runs', (t) => {
  const code = /```js\n([\s\S]*?)```/.exec(read('README.md'))?.[1] ?? '';
  t.match(code, /from 'mediated-passthrough'/);
  const folder = mkdtempSync(join(tmpdir(), 'mpt-readme-'));
  try {
    const file = join(folder, 'example.mjs');
    writeFileSync(file, code.replaceAll("'mediated-passthrough'", `'${LIBRARY}'`));
    const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 60_000 });
    t.equal(stderr, '');
    t.equal(status, 0);
    const promised = /console\.log\(.*\); \/\/ (\S+):/.exec(code)?.[1];
    t.equal(stdout, `${promised}\n`, 'it prints what its comment says');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  t.end();
});

t.test('every relative link in a document leads somewhere', (t) => {
  const dead: string[] = [];
  for (const file of markdownFiles())
    for (const [, target = ''] of read(file).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g))
      if (!/^[a-z]+:/.test(target) && !existsSync(join(ROOT, dirname(file), target))) dead.push(`${file}: ${target}`);
  t.same(dead, []);
  t.end();
});

t.test('scripts that the documents name exist', (t) => {
  const named = new Set<string>();
  for (const file of ['README.md', 'CONTRIBUTING.md', '.ci/run'])
    for (const [, name = ''] of read(file).matchAll(/npm run (?:--silent )?([a-z][\w:-]*)/g)) named.add(name);
  t.same(
    [...named].filter((name) => manifest.scripts[name] === undefined),
    [],
  );
  t.end();
});

t.test('docs/backends.md is what docs/results says', (t) => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts/support-matrix.mjs'), '--check'], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  t.equal(status, 0, stderr);
  for (const [, name = ''] of read('docs/backends.md').matchAll(
    /^\| ([\w-]+) \| (?:hypervisor|transport|simulation) \|.*\| \d{4}-\d\d-\d\d \|/gm,
  ))
    t.ok(existsSync(join(ROOT, `docs/results/${name}.json`)), name);
  t.end();
});

t.test('every dependency has its reason, every decision its line in the list', (t) => {
  const reasons = read('docs/decisions/0001-dependencies.md');
  for (const name of [...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)])
    t.ok(rows(reasons, new RegExp(`^${name}( [\\d.]+)?$`)).length === 1, name);
  const files = readdirSync(join(ROOT, 'docs/decisions')).filter((name) => name !== 'README.md');
  const listed = [...read('docs/decisions/README.md').matchAll(/\]\((\d{4}-[\w-]+\.md)\)/g)].map((match) => match[1] as string);
  t.same(listed, files.sort(), 'docs/decisions/README.md lists each record in order');
  for (const file of files) t.match(read(`docs/decisions/${file}`), new RegExp(`^# ${Number(file.slice(0, 4))}\\. `), file);
  t.end();
});
