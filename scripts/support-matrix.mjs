/**
 * Writes docs/backends.md from results of the suite.
 *
 *   node scripts/support-matrix.mjs RESULT.json...       writes the document
 *   node scripts/support-matrix.mjs --check RESULT.json... exit 1 when the document says something else
 *
 * A result is what `mpt conformance --backend NAME --reporter json` prints. What a backend declares comes from the build.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('..', import.meta.url);
const DOCUMENT = new URL('docs/backends.md', ROOT);
const { BACKENDS } = await import(new URL('build/src/backends/index.js', ROOT).href);
const { MPT_OPERATIONS } = await import(new URL('build/src/core/mpt.js', ROOT).href);
const { CASES } = await import(new URL('build/src/conformance/index.js', ROOT).href);

/** Where a backend whose results are not given here is tested. */
const ELSEWHERE = {
  kvm: 'on machines with /dev/kvm: `.ci/run`, levels trap and sync',
  acrn: '`npm run lab:acrn`: both ABIs, by a stand-in over KVM; no real ACRN yet',
  xen: '`npm run lab:xen`: Xen 4.17 in QEMU, HVM and PVH guests',
};
const HERE = {
  sim: '`.ci/run`, every machine: levels trap, sync and none',
  'vfio-user': '`.ci/run`, every machine: an interpreted client; `npm run lab:qemu`: QEMU',
};

const args = process.argv.slice(2);
const check = args[0] === '--check';
const results = (check ? args.slice(1) : args).map((file) => JSON.parse(readFileSync(file, 'utf8')));
const resultOf = (name) => results.find(({ backend }) => backend === name);

const operationsOf = new Map(CASES.map(({ id, operations }) => [id, operations]));
/** `12` passed, `12 of 15` where cases of a capability that is absent were skipped. */
function cell(result, operation) {
  const about = result.cases.filter(({ id }) => operationsOf.get(id)?.includes(operation));
  const count = (status) => about.filter((one) => one.status === status).length;
  if (count('fail') > 0) return `**${count('fail')} fail**`;
  return count('pass') === about.length ? `${about.length}` : `${count('pass')} of ${about.length}`;
}

const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
const tested = BACKENDS.filter(({ name }) => resultOf(name) !== undefined);
const declared = BACKENDS.map((backend) => [backend.name, backend.probe().capabilities]).filter(([, caps]) => caps !== undefined);

const text = `# Backends

Written by \`node scripts/support-matrix.mjs\` from results of the conformance suite; not by hand.

## Where each is tested

${table(
  ['backend', 'kind', 'tested', 'suite here'],
  BACKENDS.map(({ name, kind }) => {
    const totals = resultOf(name)?.totals;
    return [
      name,
      kind,
      HERE[name] ?? ELSEWHERE[name] ?? 'nowhere',
      totals === undefined ? 'not run where this was written' : `${totals.pass} pass, ${totals.fail} fail, ${totals.skip} skip`,
    ];
  }),
)}

## Cases that pass, by operation

A case is skipped where it needs a capability that the backend declares absent; the suite then checks that the operation answers
\`UNSUPPORTED\`.

${table(
  ['operation', ...tested.map(({ name }) => name)],
  MPT_OPERATIONS.map(({ name }) => [`\`${name}\``, ...tested.map((backend) => cell(resultOf(backend.name), name))]),
)}

## What is declared

Of the backends that are available where this was written; \`mpt backends\` tells it of any machine.

${table(
  ['capability', ...declared.map(([name]) => name)],
  Object.keys(declared[0][1]).map((capability) => [
    `\`${capability}\``,
    ...declared.map(([, caps]) => (typeof caps[capability] === 'boolean' ? (caps[capability] ? 'yes' : 'no') : (caps[capability] ?? 'no'))),
  ]),
)}
`;

if (!check) writeFileSync(DOCUMENT, text);
else if (readFileSync(DOCUMENT, 'utf8') !== text) {
  console.error(`${fileURLToPath(DOCUMENT)} is not what these results say; write it again with scripts/support-matrix.mjs`);
  process.exitCode = 1;
}
