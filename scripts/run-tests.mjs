/**
 * Runs the compiled tests, each file in a process of its own, two at a time.
 *
 *   node scripts/run-tests.mjs [--tap FILE] [--jobs N] [FILE|FOLDER...]     default build/test
 *
 * Prints a line for each file with its time, and all that a file that failed printed; then failures and skips as tap-totals.mjs does, the last
 * line being `N passed, N failed, N skipped`, counted in assertions. `--tap FILE`: everything as one TAP file with tap's closing summary. Exit 1 when anything failed or nothing passed.
 *
 * Why not tap's own runner: docs/decisions/0032-test-runner.md.
 */
import { spawn } from 'node:child_process';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readTap, Totals } from './tap-totals.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** No file may hang the run. */
const LIMIT_S = 600;
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 5000;
/** These measure time that passes, and have the machine to themselves. */
const ALONE = [
  'build/test/device-thread/device-thread.test.js',
  'build/test/sysfs/load.test.js',
  'build/test/system/share.test.js',
  'build/test/vfio/server.test.js',
  'build/test/vfio/stream.test.js',
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tap: { type: 'string' }, jobs: { type: 'string', default: '2' }, limit: { type: 'string', default: String(LIMIT_S) } },
});

/** Test files below a folder, or the file itself. */
function filesOf(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(path, name));
}

/** Process groups that live: a test's own processes end with it. */
const running = new Set();
const kill = (pid, signal) => {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended.
  }
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => {
    for (const pid of running) kill(pid, 'SIGKILL');
    process.exit(130);
  });

/** @returns {Promise<{ name: string, output: string, errors: string, ms: number, end?: string }>} `end`: how it ended, when not with 0 */
function run(file) {
  const name = relative(ROOT, file);
  const limitS = Number(values.limit);
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', file], {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TAP_TIMEOUT: String(limitS) },
    });
    running.add(child.pid);
    const output = [];
    const errors = [];
    let late;
    child.stdout.on('data', (piece) => output.push(piece));
    child.stderr.on('data', (piece) => errors.push(piece));
    const limit = setTimeout(() => {
      late = `killed after ${limitS} s`;
      kill(child.pid, 'SIGTERM');
      setTimeout(() => kill(child.pid, 'SIGKILL'), GRACE_MS).unref();
    }, limitS * 1000);
    child.on('exit', () => {
      clearTimeout(limit);
      kill(child.pid, 'SIGKILL');
      running.delete(child.pid);
    });
    child.on('close', (code, signal) => {
      const end = late ?? (signal !== null ? `ended by ${signal}` : code !== 0 ? `exit ${code}` : undefined);
      const text = (pieces) => Buffer.concat(pieces).toString();
      resolve({ name, output: text(output), errors: text(errors), ms: Math.round(performance.now() - started), end });
    });
  });
}

const tap = ['TAP version 14'];
const totals = new Totals();
let count = 0;

function report({ name, output, errors, ms, end }) {
  const { passed, failed, failures, skips } = readTap(output);
  const lost = failed === 0 ? end : undefined;
  const ok = failed === 0 && end === undefined;
  const inFile = (path) => `${name} > ${path}`;
  totals.add({
    passed,
    failed: ok ? 0 : Math.max(1, failed),
    failures: lost === undefined ? failures.map(inFile) : [`${name}: ${lost}`],
    skips: skips.map((skip) => ({ ...skip, name: inFile(skip.name) })),
  });
  const time = `${(ms / 1000).toFixed(1)} s`.padStart(8);
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${time}  ${name}${lost === undefined ? '' : `: ${lost}`}`);
  if (!ok) console.log(output + errors);
  const lines = output.split('\n').filter((line) => line !== '' && line !== 'TAP version 14');
  tap.push(`# Subtest: ${name}`, ...lines.map((line) => `    ${line}`));
  tap.push(`${ok ? 'ok' : 'not ok'} ${++count} - ${name} # time=${ms}ms`);
  if (lost !== undefined) tap.push(`# ${name}: ${lost}`);
}

async function runAll(files, jobs) {
  const waiting = [...files];
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) report(await run(file));
  };
  await Promise.all(Array.from({ length: jobs }, work));
}

// One that was renamed would run beside others unnoticed.
for (const file of ALONE) statSync(join(ROOT, file));
const paths = positionals.length > 0 ? positionals : [join(ROOT, 'build/test')];
const files = [...new Set(paths.flatMap(filesOf))].sort();
const alone = files.filter((file) => ALONE.includes(relative(ROOT, file)));
await runAll(alone, 1);
await runAll(
  files.filter((file) => !alone.includes(file)),
  Number(values.jobs),
);

const { passed, failed, skipped } = totals;
tap.push(`1..${count}`, `# { total: ${passed + failed + skipped}, pass: ${passed}, fail: ${failed}, skip: ${skipped} }`);
if (values.tap !== undefined) writeFileSync(values.tap, `${tap.join('\n')}\n`);
process.exitCode = totals.print();
