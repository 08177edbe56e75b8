/** The suite finds each rule that is broken: every mutant is killed by the case that states its rule. */
import t from 'tap';
import { CASES } from '../../src/conformance/index.js';
import { MPT_OPERATIONS } from '../../src/core/mpt.js';
import { control, type MutantResult, runMutant } from './mutant.js';
import { asTable, complaint, reportOf } from './report.js';
import { MUTANTS } from './table/index.js';

const MINIMUM = 100;
/** Mutants of an operation that every backend has, or that any has. */
const MINIMUM_EACH = 5;

t.test('the table', async (t) => {
  t.ok(MUTANTS.length >= MINIMUM, `${MUTANTS.length} mutants`);
  t.equal(new Set(MUTANTS.map(({ id }) => id)).size, MUTANTS.length, 'ids are unique');
  t.same(
    MUTANTS.filter(({ id }) => !/^[a-z0-9-]+\/[a-z0-9]+(-[a-z0-9]+)*$/.test(id)).map(({ id }) => id),
    [],
    'ids are operation/name in kebab-case',
  );
  t.same(
    MUTANTS.filter(({ breaks }) => !/^[A-Z].{10,}[^.]\.$/.test(breaks) || /\.\s/.test(breaks)).map(({ id }) => id),
    [],
    'what is broken is one sentence',
  );
  const cases = new Set(CASES.map(({ id }) => id));
  t.same(
    MUTANTS.filter(({ killer }) => !cases.has(killer)).map(({ id, killer }) => `${id}: ${killer}`),
    [],
    'each killer is a case',
  );
  for (const { name } of MPT_OPERATIONS) {
    const { length } = MUTANTS.filter(({ operation }) => operation === name);
    t.ok(length >= MINIMUM_EACH, `${name}: ${length} mutants`);
  }
});

t.test('the cases that kill pass on the simulation as it is', async (t) => {
  const killers = [...new Set(MUTANTS.map(({ killer }) => killer))];
  const failed = killers.map(control).filter(({ status }) => status !== 'pass');
  t.same(failed, [], `${killers.length} cases`);
});

t.test('every mutant is killed by the case that states its rule', async (t) => {
  const start = performance.now();
  const results = MUTANTS.map(runMutant);
  const report = reportOf(results, performance.now() - start);
  t.same(results.filter(({ status }) => status !== 'killed').map(complaint), []);
  t.equal(report.killed, MUTANTS.length);
  t.comment(asTable(report));
});

t.test('the report tells who survived', async (t) => {
  const mutant = MUTANTS[0] as (typeof MUTANTS)[number];
  const harmless = runMutant({ ...mutant, patch: () => undefined });
  t.equal(harmless.status, 'survived', 'a patch that changes nothing survives');
  const misplaced: MutantResult = { ...harmless, status: 'elsewhere', by: 'mpt/x/y' };
  const report = reportOf([harmless, misplaced], 1000);
  t.match({ total: report.total, killed: report.killed }, { total: 2, killed: 0 });
  const lines = asTable(report).trimEnd().split('\n');
  t.match(lines.at(-2) ?? '', /passes, and so does every case of the operation$/);
  t.match(lines.at(-1) ?? '', /passes; mpt\/x\/y fails$/);
});
