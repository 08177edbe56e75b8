/**
 * Adds up TAP files as tap writes them (`tap --reporter=tap`).
 *
 *   node scripts/tap-totals.mjs [--failed N] [--skipped REASON] [--no-skip TEXT] FILE...
 *
 * Prints the failures, the skips by their reason, then `N passed, N failed, N skipped`, counted in assertions by tap's
 * own closing summary. `--no-skip TEXT`: a skip whose reason contains TEXT counts as failed, in the file that follows.
 * `--failed N`, `--skipped REASON`: failures and a skip from elsewhere. Exit 1 when anything failed or nothing passed.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Failures that are printed one by one. */
const FAILURES_SHOWN = 100;

const POINT = /^(\s*)(not ok|ok)(?: \d+)?(?: - (.*?))?(?: # (SKIP|TODO)\b ?(.*?))?(?: # time=\S+)?(?: \{)?$/;
const SUMMARY = /^# \{ total: (\d+)(.*) \}$/;

/**
 * @param {string} text TAP of one run
 * @returns {{ passed: number, failed: number, failures: string[], skips: { name: string, reason: string }[] }}
 */
export function readTap(text) {
  let summary;
  let yamlEnd;
  const skips = [];
  const failures = [];
  const path = [];
  for (const line of text.split('\n')) {
    if (yamlEnd !== undefined) {
      if (line === yamlEnd) yamlEnd = undefined;
      continue;
    }
    if (/^\s+---$/.test(line)) {
      yamlEnd = line.replace('---', '...');
      continue;
    }
    summary = SUMMARY.exec(line) ?? summary;
    const subtest = /^( *)# Subtest: (.*)$/.exec(line);
    if (subtest) path.splice(subtest[1].length / 4, Infinity, subtest[2]);
    const point = POINT.exec(line);
    if (point === null) continue;
    const [, indent, result, name = '', directive, reason = ''] = point;
    const above = path
      .slice(0, indent.length / 4)
      .concat(name)
      .join(' > ');
    if (directive !== undefined) skips.push({ name: above, reason: reason === '' ? name : reason });
    else if (result === 'not ok') failures.push(above);
  }
  if (summary === undefined) return { passed: 0, failed: 1, failures: ['tap ended without a summary'], skips };
  const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(summary[2])?.[1] ?? 0);
  // A subtest fails with its assertions; a file may fail without any.
  const leaves = failures.filter((name) => !failures.some((other) => other.startsWith(`${name} > `)));
  return { passed: count('pass'), failed: Math.max(count('fail'), leaves.length > 0 ? 1 : 0), failures: leaves, skips };
}

function main(args) {
  const totals = { passed: 0, failed: 0 };
  const failures = [];
  /** Reason to names. */
  const skipped = new Map();
  const skip = (reason, name) => skipped.set(reason, [...(skipped.get(reason) ?? []), name]);
  let forbidden;
  while (args.length > 0) {
    const arg = args.shift();
    if (arg === '--no-skip') forbidden = args.shift();
    else if (arg === '--failed') totals.failed += Number(args.shift());
    else if (arg === '--skipped') skip(args.shift(), '');
    else {
      const run = readTap(existsSync(arg) ? readFileSync(arg, 'utf8') : '');
      totals.passed += run.passed;
      totals.failed += run.failed;
      failures.push(...run.failures);
      for (const { name, reason } of run.skips) {
        if (forbidden === undefined || !reason.includes(forbidden)) skip(reason, name);
        else {
          totals.failed++;
          failures.push(`${name}, which must not be skipped here (${reason})`);
        }
      }
      forbidden = undefined;
    }
  }
  for (const name of failures.slice(0, FAILURES_SHOWN)) console.log(`failed: ${name}`);
  if (failures.length > FAILURES_SHOWN) console.log(`failed: ${failures.length - FAILURES_SHOWN} more`);
  for (const [reason, [first, ...rest]] of skipped) {
    const names = [first, rest.length > 0 ? `and ${rest.length} more` : ''].filter((text) => text !== '').join(' ');
    console.log(`skipped: ${reason}${names === '' ? '' : ` [${names}]`}`);
  }
  const count = [...skipped.values()].reduce((sum, names) => sum + names.length, 0);
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${count} skipped`);
  return totals.failed > 0 || totals.passed === 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
