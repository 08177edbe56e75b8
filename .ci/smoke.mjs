/**
 * Runs the `mpt` command as a user does and looks at what it answers: backends, a picture on the simulation, the
 * conformance suite on every backend that this machine has. Prints one line a command; exit 1 when one answers wrongly.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The suite's size that issue 2 asks for. */
const MIN_CASES = 120;
const TIMEOUT_MS = 240_000;
const PNG = Buffer.from('89504e470d0a1a0a', 'hex');

let failed = 0;

/** Runs `npx mpt ARGS`, which must answer one JSON document on stdout, then lets `look` describe it or throw. */
function mpt(args, look) {
  const command = `mpt ${args.join(' ')}`;
  try {
    const { status, stdout, stderr, error } = spawnSync('npx', ['--no-install', 'mpt', ...args], {
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
      maxBuffer: 64 << 20,
    });
    if (error !== undefined) throw error;
    if (status !== 0) throw new Error(`exit ${status}: ${stderr.trim()}`);
    const answer = JSON.parse(stdout);
    console.log(`ok: ${command}: ${look(answer)}`);
    return answer;
  } catch (error) {
    failed++;
    console.log(`failed: ${command}: ${error.message}`);
    return undefined;
  }
}

function must(condition, what) {
  if (!condition) throw new Error(what);
}

const available = ({ backends }) => backends.filter((backend) => backend.available).map(({ name }) => name);

function lookAtBackends(answer) {
  const names = available(answer);
  must(names.includes('sim'), 'sim is not available');
  must(names.includes('kvm') || !existsSync('/dev/kvm'), '/dev/kvm exists but kvm is not available');
  return `available: ${names.join(', ')}`;
}

function lookAtRun({ picture, interrupts, workloads, exits, ms }) {
  const png = readFileSync(picture.path);
  must(png.subarray(0, PNG.length).equals(PNG), 'the picture is no PNG');
  must(createHash('sha256').update(png).digest('hex') === picture.sha256, 'sha256 is not that of the file');
  must(workloads > 0 && interrupts > 0, `${workloads} workloads, ${interrupts} interrupts`);
  return `${picture.width}x${picture.height}, ${JSON.stringify(exits)}, ${workloads} workloads, ${interrupts} interrupts, ${ms} ms`;
}

function lookAtConformance({ cases, totals }) {
  const { pass, fail, skip } = totals;
  must(cases.length >= MIN_CASES, `${cases.length} cases, fewer than ${MIN_CASES}`);
  must(pass + fail + skip === cases.length, 'the totals do not add up');
  must(fail === 0, `${fail} cases failed`);
  for (const { id, status, reason } of cases) must(status !== 'skip' || reason, `${id} was skipped without a reason`);
  return `${pass} passed, ${fail} failed, ${skip} skipped`;
}

const folder = mkdtempSync(join(tmpdir(), 'mpt-smoke-'));
try {
  const answer = mpt(['backends', '--json'], lookAtBackends);
  for (const name of answer === undefined ? [] : available(answer)) {
    mpt(['run', '--backend', name, '--picture', join(folder, `${name}.png`), '--json'], lookAtRun);
    mpt(['conformance', '--backend', name, '--reporter', 'json'], lookAtConformance);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failed === 0 ? 0 : 1;
