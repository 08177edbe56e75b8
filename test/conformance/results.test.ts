/** What is done with results: known failures, comparing two runs, the time limit of a case. */
import t from 'tap';
import { sim } from '../../src/backends/sim/index.js';
import {
  applyExpectations,
  type ConformanceReport,
  diffAsText,
  diffReports,
  group,
  readExpectations,
  readReport,
  reportAsTap,
  runConformance,
} from '../../src/conformance/index.js';

const reportOf = (cases: Readonly<Record<string, 'pass' | 'fail' | 'skip'>>): ConformanceReport => {
  const results = Object.entries(cases).map(([id, status]) => ({ id, status, reason: status === 'pass' ? '' : `${id} ${status}`, ms: 1 }));
  const count = (status: string): number => results.filter((result) => result.status === status).length;
  const capabilities = { pageTrack: null } as ConformanceReport['capabilities'];
  return {
    backend: 'b',
    version: '1',
    capabilities,
    cases: results,
    totals: { pass: count('pass'), fail: count('fail'), skip: count('skip') },
  };
};

t.test('expectations', async (t) => {
  const report = reportOf({ a: 'pass', b: 'fail', c: 'fail', d: 'skip', e: 'pass' });
  const applied = applyExpectations(report, { b: 'bug 7', d: 'never', e: 'bug 8' });
  t.same(
    applied.cases.map(({ id, status }) => `${id} ${status}`),
    ['a pass', 'b known', 'c fail', 'd skip', 'e fail'],
  );
  t.same(applied.totals, { pass: 1, fail: 2, skip: 1, known: 1 });
  t.equal(applied.cases[1]?.reason, 'bug 7 (b fail)');
  t.match(applied.cases[4]?.reason, /it passes, but .*bug 8/);
  t.match(reportAsTap(applied), /not ok 2 - b # TODO bug 7 \(b fail\)\n/);
  t.match(reportAsTap(applied), /# known 1\n$/);
  const known = new Set(['a']);
  t.same(readExpectations({ a: 'why' }, known), { a: 'why' });
  for (const bad of [null, [], 7, { b: 'why' }, { a: '' }, { a: 1 }])
    t.throws(() => readExpectations(bad, known), { code: 'BAD_CONFIG' }, JSON.stringify(bad));
});

t.test('diff', async (t) => {
  const before = reportOf({ same: 'pass', breaks: 'pass', mended: 'fail', stays: 'fail', left: 'pass', off: 'pass' });
  const after = reportOf({ same: 'pass', breaks: 'fail', mended: 'pass', stays: 'fail', off: 'skip', fresh: 'pass', bad: 'fail' });
  const diff = diffReports(before, after);
  const ids = Object.fromEntries(Object.entries(diff).map(([kind, changes]) => [kind, (changes as { id: string }[]).map(({ id }) => id)]));
  t.same(ids, { regressions: ['breaks', 'bad'], fixed: ['mended'], added: ['fresh'], gone: ['left'], changed: ['off'] });
  t.match(diffAsText(diff), /^regressions: 2\n {2}breaks: pass -> fail: breaks fail\n {2}bad: absent -> fail/);
  t.same(diffReports(before, before), { regressions: [], fixed: [], added: [], gone: [], changed: [] });
  t.equal(readReport(before, 'x'), before);
  for (const bad of [null, {}, { cases: [{ id: 1 }] }, { cases: [{ id: 'a', status: 'maybe' }] }])
    t.throws(() => readReport(bad, 'x.json'), { code: 'BAD_CONFIG', message: /x\.json/ });
});

t.test('a case has a time limit', async (t) => {
  const cases = group('sample', { operations: [] }, [
    {
      name: 'slow',
      rule: 'Takes longer than it may.',
      run() {
        const end = performance.now() + 5;
        while (performance.now() < end);
      },
    },
    { name: 'guest-never-ends', rule: 'The guest spins for ever.', guest: true, run: (ctx) => ctx.agent.spin() },
  ]);
  const report = runConformance({ name: 'sim', cases, caseTimeoutMs: 2, open: (options = {}) => sim.open(options) });
  t.match(report.cases[0]?.reason, /^it passed, but took \d+ ms; the limit is 2 ms$/);
  t.match(report.cases[1]?.reason, /did not finish '(spin|boot)' within 2 ms/);
});
