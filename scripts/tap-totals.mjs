/**
 * Adds up TAP files as tap writes them (`tap --reporter=tap`).
 *
 *   node scripts/tap-totals.mjs [--failed N] [--skipped REASON] [--no-skip TEXT] FILE...
 *
 * Prints each failure and each skip with its reason, then `N passed, N failed, N skipped`, counted in assertions by tap's
 * own closing summary. `--no-skip TEXT`: a skip whose reason contains TEXT counts as failed, in the file that follows.
 * `--failed N`, `--skipped REASON`: failures and a skip from elsewhere. Exit 1 when anything failed or nothing passed.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

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
  const totals = { passed: 0, failed: 0, skipped: 0 };
  let forbidden;
  while (args.length > 0) {
    const arg = args.shift();
    if (arg === '--no-skip') forbidden = args.shift();
    else if (arg === '--failed') totals.failed += Number(args.shift());
    else if (arg === '--skipped') {
      console.log(`skipped: ${args.shift()}`);
      totals.skipped++;
    } else {
      const { passed, failed, failures, skips } = readTap(existsSync(arg) ? readFileSync(arg, 'utf8') : '');
      totals.passed += passed;
      totals.failed += failed;
      for (const name of failures) console.log(`failed: ${name}`);
      for (const { name, reason } of skips) {
        const refused = forbidden !== undefined && reason.includes(forbidden);
        console.log(`${refused ? 'failed, must not be skipped here' : 'skipped'}: ${name} (${reason})`);
        totals[refused ? 'failed' : 'skipped']++;
      }
      forbidden = undefined;
    }
  }
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  return totals.failed > 0 || totals.passed === 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
