/**
 * Writes docs/backends.md from the results in docs/results.
 *
 *   node scripts/support-matrix.mjs                     writes the document
 *   node scripts/support-matrix.mjs --check             exit 1 when the document says something else
 *   node scripts/support-matrix.mjs --add NAME RESULT   first takes RESULT for docs/results/NAME.json: what `mpt conformance` prints,
 *                                                       as TAP (of a lab) or with --reporter json
 *
 * The document depends on these files alone: it is the same wherever it is written.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('..', import.meta.url);
const DOCUMENT = new URL('docs/backends.md', ROOT);
const RESULTS = new URL('docs/results/', ROOT);
const { MPT_OPERATIONS } = await import(new URL('build/src/core/mpt.js', ROOT).href);

/** The results that there can be, in the document's order: what is tested, and how. */
const RUNS = {
  kvm: ['hypervisor', 'the real `/dev/kvm`', '`mpt conformance --backend kvm`; `.ci/run` on machines that have it'],
  'xen-hvm': ['hypervisor', 'Xen 4.17 in QEMU, an HVM guest', '`npm run lab:xen`, job `conformance-hvm`'],
  'xen-pvh': ['hypervisor', 'Xen 4.17 in QEMU, a PVH guest', '`npm run lab:xen`, job `conformance-pvh`'],
  'acrn-hsm': ['hypervisor', "ACRN's HSM ABI, by a stand-in over KVM", '`npm run lab:acrn`, job `conformance-hsm`'],
  'acrn-vhm': ['hypervisor', "ACRN's older VHM ABI, by the stand-in", '`npm run lab:acrn`, job `conformance-vhm`'],
  'vfio-user-qemu': ['transport', 'guests of QEMU 11.1', '`npm run lab:qemu`, job `conformance`'],
  'vfio-user': ['transport', 'an interpreted client', '`mpt conformance --backend vfio-user`; `.ci/run`'],
  sim: ['simulation', 'an interpreted PC', '`mpt conformance --backend sim`; `.ci/run`'],
};

const fail = (text) => {
  console.error(`support-matrix: ${text}`);
  process.exit(2);
};

/** A result of the suite, small enough to be kept: only what did not pass is named. */
async function condensed(file) {
  const text = readFileSync(file, 'utf8');
  const result = text.startsWith('{') ? JSON.parse(text) : fromTap(text);
  if (!Array.isArray(result.cases)) fail(`${file} is no result of mpt conformance`);
  const skipped = {};
  const failed = {};
  for (const { id, status, reason } of result.cases) {
    if (status === 'skip') skipped[reason] = [...(skipped[reason] ?? []), id];
    else if (status !== 'pass') failed[id] = reason;
  }
  const { backend, version, capabilities } = result;
  const date = statSync(file).mtime.toISOString().slice(0, 10);
  return { backend, version, date, cases: result.cases.length, capabilities, operations: await byOperation(result), failed, skipped };
}

/** How many cases are about each operation, by the suite as it is now: a case may be about several. */
async function byOperation({ cases }) {
  const { CASES } = await import(new URL('build/src/conformance/index.js', ROOT).href);
  const operationsOf = new Map(CASES.map(({ id, operations }) => [id, operations]));
  const counts = {};
  for (const { id, status } of cases)
    for (const operation of operationsOf.get(id) ?? []) {
      counts[operation] ??= { pass: 0, fail: 0, all: 0 };
      const count = counts[operation];
      count.all++;
      if (status !== 'skip') count[status === 'pass' ? 'pass' : 'fail']++;
    }
  return counts;
}

function fromTap(text) {
  const [, name = '', version = ''] = /^# (\S+) ?(.*)$/m.exec(text) ?? [];
  const declared = /^# declares (.*)$/m.exec(text)?.[1];
  if (declared === undefined) fail('the TAP does not tell what the backend declares: is it of mpt conformance?');
  const cases = [...text.matchAll(/^(not )?ok \d+ - (\S+)(?: # (SKIP|TODO|time)[ =]?(.*))?$/gm)].map(([, not, id, word, reason]) => ({
    id,
    status: word === 'SKIP' ? 'skip' : not === undefined ? 'pass' : 'fail',
    reason: word === 'SKIP' ? reason : '',
  }));
  return { backend: name, version, capabilities: JSON.parse(declared), cases };
}

const args = process.argv.slice(2);
if (args[0] === '--add') {
  const [, name, file] = args;
  if (RUNS[name] === undefined || file === undefined) fail(`--add NAME RESULT; names: ${Object.keys(RUNS).join(', ')}`);
  writeFileSync(new URL(`${name}.json`, RESULTS), `${JSON.stringify(await condensed(file), null, 1)}\n`);
}

const present = new Set(readdirSync(RESULTS));
const results = new Map(
  Object.keys(RUNS)
    .filter((name) => present.has(`${name}.json`))
    .map((name) => [name, JSON.parse(readFileSync(new URL(`${name}.json`, RESULTS), 'utf8'))]),
);

const skippedOf = ({ skipped }) => Object.values(skipped).flat();
const totals = (result) => {
  const [fails, skips] = [Object.keys(result.failed).length, skippedOf(result).length];
  return [result.cases - fails - skips, fails, skips];
};

/** `12` passed, `12 of 15` where cases of a capability that is absent were skipped. */
function cell({ operations }, operation) {
  const { pass, fail, all } = operations[operation] ?? { pass: 0, fail: 0, all: 0 };
  if (fail > 0) return `**${fail} fail**`;
  return pass === all ? `${all}` : `${pass} of ${all}`;
}

const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
const told = (value) => (typeof value === 'boolean' ? (value ? 'yes' : 'no') : (value ?? 'no'));
const reasons = [...new Set([...results.values()].flatMap(({ skipped }) => Object.keys(skipped)))]
  .map((reason) => /declares (.*)$/.exec(reason)?.[1])
  .filter((reason) => reason !== undefined);
const names = [...results.keys()];
const all = [...results.values()];

const text = `# Backends

Written by \`node scripts/support-matrix.mjs\` from results of the conformance suite that are in [results](results); not by hand.

## Where each is tested

${table(
  ['run', 'kind', 'tested on', 'version', 'pass', 'fail', 'skip', 'when', 'how'],
  Object.entries(RUNS).map(([name, [kind, on, how]]) => {
    const result = results.get(name);
    const numbers = result === undefined ? ['', '', '', '', 'not yet'] : [result.version, ...totals(result), result.date];
    return [name, kind, on, ...numbers, how];
  }),
)}

No ACRN machine has been tried: what the stand-in is, and what to do on a real service VM, is in [acrn.md](acrn.md).

Page track has two levels; cases about one run at it where the backend offers it. A result is taken by \`node scripts/support-matrix.mjs --add RUN FILE\`.

## Cases that pass, by operation

A case is skipped where it needs a capability that the backend declares absent; the suite then checks that the operation answers
\`UNSUPPORTED\`. Reasons: ${[...new Set(reasons)]
  .sort()
  .map((reason) => `declares ${reason}`)
  .join('; ')}.

${table(
  ['operation', ...names],
  MPT_OPERATIONS.map(({ name }) => [`\`${name}\``, ...all.map((result) => cell(result, name))]),
)}

## What is declared

\`mpt backends\` tells it of any machine.

${table(
  ['capability', ...names],
  Object.keys(all[0].capabilities).map((capability) => [
    `\`${capability}\``,
    ...all.map(({ capabilities }) => told(capabilities[capability])),
  ]),
)}
`;

if (args[0] !== '--check') writeFileSync(DOCUMENT, text);
else if (readFileSync(DOCUMENT, 'utf8') !== text) {
  console.error(`${fileURLToPath(DOCUMENT)} is not what docs/results says; write it again with scripts/support-matrix.mjs`);
  process.exitCode = 1;
}
