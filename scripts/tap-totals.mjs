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

/** What several runs add up to. */
export class Totals {
  passed = 0;
  failed = 0;
  skipped = 0;
  #failures = [];
  /** Reason to names. */
  #skips = new Map();

  /** A failure that may have no name. */
  fail(name) {
    this.failed++;
    if (name !== undefined) this.#failures.push(name);
  }

  skip(reason, name) {
    this.skipped++;
    this.#skips.set(reason, [...(this.#skips.get(reason) ?? []), name]);
  }

  /** @param forbidden a skip whose reason contains this counts as failed */
  add({ passed, failed, failures, skips }, forbidden) {
    this.passed += passed;
    this.failed += failed;
    this.#failures.push(...failures);
    for (const { name, reason } of skips) {
      if (forbidden === undefined || !reason.includes(forbidden)) this.skip(reason, name);
      else this.fail(`${name}, which must not be skipped here (${reason})`);
    }
  }

  /** Prints them. @returns the exit code */
  print() {
    for (const name of this.#failures.slice(0, FAILURES_SHOWN)) console.log(`failed: ${name}`);
    if (this.#failures.length > FAILURES_SHOWN) console.log(`failed: ${this.#failures.length - FAILURES_SHOWN} more`);
    for (const [reason, [first, ...rest]] of this.#skips) {
      const names = [first, rest.length > 0 ? `and ${rest.length} more` : ''].filter((text) => text !== '').join(' ');
      console.log(`skipped: ${reason}${names === '' ? '' : ` [${names}]`}`);
    }
    console.log(`${this.passed} passed, ${this.failed} failed, ${this.skipped} skipped`);
    return this.failed > 0 || this.passed === 0 ? 1 : 0;
  }
}

function main(args) {
  const totals = new Totals();
  let forbidden;
  while (args.length > 0) {
    const arg = args.shift();
    if (arg === '--no-skip') forbidden = args.shift();
    else if (arg === '--failed') for (let n = Number(args.shift()); n > 0; n--) totals.fail();
    else if (arg === '--skipped') totals.skip(args.shift(), '');
    else {
      totals.add(readTap(existsSync(arg) ? readFileSync(arg, 'utf8') : ''), forbidden);
      forbidden = undefined;
    }
  }
  return totals.print();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
