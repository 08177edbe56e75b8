/** The suite itself: its cases as data, its runner and reporters. Backends run it in backends.test.ts. */
import t from 'tap';
import { sim } from '../../src/backends/sim/index.js';
import {
  CASES,
  type ConformanceCase,
  type ConformanceOptions,
  type ConformanceReport,
  group,
  nodeTestSuite,
  reportAsJson,
  reportAsTap,
  runConformance,
  selectCases,
  tapSuite,
} from '../../src/conformance/index.js';
import { Gfn } from '../../src/core/addresses.js';
import type { Capabilities, Capability, PageTrackLevel } from '../../src/core/capabilities.js';
import { MptError } from '../../src/core/errors.js';
import { MPT_OPERATIONS } from '../../src/core/mpt.js';
import type { MptBackend } from '../../src/core/mpt-backend.js';

const open: ConformanceOptions['open'] = (options = {}) => sim.open(options);

/** Cases that pass, fail and need what sim lacks, in the suite's own form. */
const SAMPLE: readonly ConformanceCase[] = group('sample', { operations: [] }, [
  { name: 'pass', rule: 'Passes.', run: (ctx) => void ctx.handle },
  {
    name: 'fail',
    rule: 'Fails.',
    run() {
      throw new Error('first line\n  second "line" # not a directive');
    },
  },
  { name: 'skip', rule: 'Is skipped.', needs: ['msiEventfd'], run: () => undefined },
]);

const sample = (extra: Partial<ConformanceOptions> = {}): ConformanceReport =>
  runConformance({ name: 'sim', version: 'v#1', open, cases: SAMPLE, ...extra });

t.test('cases', async (t) => {
  t.ok(CASES.length >= 150, `${CASES.length} cases`);
  t.equal(new Set(CASES.map(({ id }) => id)).size, CASES.length, 'ids are unique');
  t.same(
    CASES.filter(({ id }) => !/^mpt\/[a-z0-9]+(-[a-z0-9]+)*\/[a-z0-9]+(-[a-z0-9]+)*$/.test(id)).map(({ id }) => id),
    [],
    'ids are mpt/group/name in kebab-case',
  );
  t.same(
    CASES.filter(({ rule }) => !/^[A-Z0-9a-z].{15,}[^.]\.$/.test(rule) || /\.\s/.test(rule)).map(({ id, rule }) => `${id}: ${rule}`),
    [],
    'each rule is one sentence that ends with a period',
  );
  for (const { name } of MPT_OPERATIONS) {
    const about = CASES.filter(({ operations }) => (operations as readonly string[]).includes(name));
    t.ok(about.length >= 4, `${name}: ${about.length} cases`);
    const ids = about.map(({ id }) => id).join(' ');
    if (!['host_init', 'host_exit', 'attach_vgpu', 'from_virt_to_mfn', 'dom0_ready', 'detach_vgpu'].includes(name)) {
      t.match(ids, `mpt/detach/${name.replaceAll('_', '-')}-refused-after`, `${name} after detach`);
      t.match(ids, `mpt/vm-gone/${name.replaceAll('_', '-')}-refused`, `${name} after the VM is gone`);
    }
  }
});

t.test('every capability has a case of its honesty', async (t) => {
  const backend = sim.open();
  const honest: Partial<Record<Capability, readonly string[]>> = {
    msiEventfd: ['arm-msi'],
    hostPages: ['allocate-host-pages'],
    machine: ['create-machine'],
    foreignVm: ['open-machine'],
    barAccess: ['bar-access'],
    wholeBus: ['whole-bus'],
  };
  const ids = new Set(CASES.map(({ id }) => id));
  for (const name of Object.keys(backend.capabilities) as Capability[]) {
    const operations = MPT_OPERATIONS.filter((op) => 'capability' in op && op.capability === name).map((op) =>
      op.name.replaceAll('_', '-'),
    );
    const expected = honest[name] ?? (name === 'dmaHugePage' ? ['dma-map-guest-page'] : operations);
    t.ok(expected.length > 0, `${name} stands for an operation`);
    for (const op of expected) t.ok(ids.has(`mpt/capability/${op}-honest`), `mpt/capability/${op}-honest`);
  }
  backend.close();
});

t.test('filter selects by the beginning of the id', async (t) => {
  t.equal(selectCases().length, CASES.length);
  const some = selectCases('mpt/read-gpa/');
  t.ok(some.length > 10 && some.every(({ id }) => id.startsWith('mpt/read-gpa/')));
  t.equal(selectCases('mpt/read-gpa/zero-length').length, 1);
  t.same(selectCases('read-gpa'), []);
  const { cases, totals } = runConformance({ name: 'sim', open, filter: 'mpt/host-exit/' });
  t.same(
    cases.map(({ id }) => id),
    selectCases('mpt/host-exit/').map(({ id }) => id),
  );
  t.same(totals, { pass: cases.length, fail: 0, skip: 0 });
});

t.test('report', async (t) => {
  const seen: string[] = [];
  const report = sample({ onResult: ({ id, status }, done, total) => seen.push(`${id} ${status} ${done}/${total}`) });
  t.same(seen, ['mpt/sample/pass pass 1/3', 'mpt/sample/fail fail 2/3', 'mpt/sample/skip skip 3/3']);
  t.same(report.totals, { pass: 1, fail: 1, skip: 1 });
  t.equal(report.cases[1]?.reason, 'first line second "line" # not a directive', 'a reason is one line');
  t.equal(report.cases[2]?.reason, 'sim declares no msiEventfd');
  t.ok(report.cases.every(({ ms }) => ms >= 0));

  t.test('json', async (t) => {
    const text = reportAsJson(report);
    t.equal(text.indexOf('\n'), text.length - 1, 'one line');
    const document = JSON.parse(text) as ConformanceReport;
    t.same(document, report);
    t.same(Object.keys(document), ['backend', 'version', 'capabilities', 'cases', 'totals']);
    t.same(Object.keys(document.cases[0] as object), ['id', 'status', 'reason', 'ms']);
  });

  t.test('tap', async (t) => {
    const capabilities = { pageTrack: null } as ConformanceReport['capabilities'];
    const text = reportAsTap({ ...report, capabilities, cases: report.cases.map((result) => ({ ...result, ms: 1.5 })) });
    t.equal(
      text,
      [
        'TAP version 14',
        '# sim v\\#1',
        '# declares {"pageTrack":null}',
        '1..3',
        'ok 1 - mpt/sample/pass # time=1.5ms',
        'not ok 2 - mpt/sample/fail # time=1.5ms',
        '  ---',
        '  message: "first line second \\"line\\" # not a directive"',
        '  ...',
        'ok 3 - mpt/sample/skip # SKIP sim declares no msiEventfd',
        '# pass 1',
        '# fail 1',
        '# skip 1',
        '',
      ].join('\n'),
    );
  });
});

t.test('stop skips the rest and what it interrupted', async (t) => {
  let asked = 0;
  const before = sample({ stop: () => ++asked > 1 });
  t.same(
    before.cases.map(({ status, reason }) => `${status} ${reason}`.trim()),
    ['pass', 'skip stopped', 'skip stopped'],
  );
  asked = 0;
  const inside = sample({ stop: () => ++asked > 2 });
  t.same(inside.totals, { pass: 1, fail: 0, skip: 2 });
});

t.test('a backend that cannot be opened is an error, not a report', async (t) => {
  const unavailable = new MptError('UNAVAILABLE', 'not here');
  const fails = (): never => {
    throw unavailable;
  };
  t.throws(() => sample({ open: fails }), unavailable);
});

t.test('a failing release fails the case', async (t) => {
  let open = 0;
  const leaky: ConformanceOptions['open'] = () => {
    const backend = sim.open();
    const close = backend.close.bind(backend);
    if (++open > 1)
      backend.close = () => {
        close();
        throw new Error('cannot close');
      };
    return backend;
  };
  t.equal(sample({ open: leaky }).cases[0]?.reason, "releasing the case's objects failed: cannot close");
});

t.test('tapSuite reports to the test that it is given', async (t) => {
  const lines: string[] = [];
  tapSuite(
    {
      pass: (...[message, extra]) => lines.push(`pass ${message} ${extra?.skip ?? ''}`.trim()),
      fail: (...[message, extra]) => lines.push(`fail ${message} (${String(extra?.rule)})`),
    },
    { name: 'sim', open, cases: SAMPLE },
  );
  t.same(lines, [
    'pass mpt/sample/pass',
    'fail mpt/sample/fail: first line second "line" # not a directive (Fails.)',
    'pass mpt/sample/skip sim declares no msiEventfd',
  ]);
  lines.length = 0;
  tapSuite(
    { pass: () => lines.push('pass'), fail: (message) => lines.push(message) },
    { name: 'sim', open, cases: SAMPLE, filter: 'no/such' },
  );
  t.same(lines, ["no conformance case has an id that begins with 'no/such'"], 'nothing ran is a failure');
});

t.test('nodeTestSuite registers each case', async (t) => {
  const lines: string[] = [];
  const count = nodeTestSuite(
    (name, run) => {
      const skips: string[] = [];
      try {
        run({ skip: (message = '') => skips.push(message) });
        lines.push(`${name} ${skips.length === 0 ? 'pass' : `skip ${skips.join()}`}`);
      } catch (error) {
        lines.push(`${name} threw ${(error as Error).message}`);
      }
    },
    { name: 'sim', open, cases: SAMPLE },
  );
  t.equal(count, 3);
  t.same(lines, [
    'mpt/sample/pass pass',
    'mpt/sample/fail threw first line second "line" # not a directive (rule: Fails.)',
    'mpt/sample/skip skip sim declares no msiEventfd',
  ]);
});

t.test('what does not apply is skipped with its reason', async (t) => {
  const reasons = (level: PageTrackLevel | 'none'): Record<string, string> =>
    Object.fromEntries(
      runConformance({
        name: 'sim',
        open: (options) => sim.open({ pageTrack: level, ...options }),
        filter: 'mpt/page-track/',
        noPinLimit: true,
      })
        .cases.filter(({ status }) => status === 'skip')
        .map(({ id, reason }) => [id, reason]),
    );
  t.equal(reasons('trap')['mpt/page-track/sync-no-exit'], 'sim declares pageTrack level trap, not sync');
  t.equal(reasons('sync')['mpt/page-track/trap-every-write'], 'sim declares pageTrack level sync, not trap');
  t.equal(reasons('none')['mpt/page-track/trap-every-write'], 'sim declares no pageTrack');
  const { cases } = runConformance({ name: 'sim', open, filter: 'mpt/dma-limit/exact', noPinLimit: true });
  t.same(cases[0]?.reason, 'sim is opened without a pin limit');
});

/** Backends with one rule broken, and the case that states the rule. */
const BROKEN: readonly (readonly [string, string, (backend: MptBackend) => void])[] = [
  [
    'a capability declared and not provided',
    'mpt/capability/set-edid-honest',
    (backend) => {
      backend.require = (capability) => {
        if (capability === 'setEdid') throw backend.error('UNSUPPORTED', 'no', { op: 'set_edid' });
      };
    },
  ],
  [
    'an absent capability that works',
    'mpt/capability/arm-msi-honest',
    (backend) => {
      const attach = backend.attachVgpu.bind(backend);
      backend.attachVgpu = (vgpu) => Object.assign(attach(vgpu), { armMsi: () => 3 });
    },
  ],
  [
    'a hole that reads as memory',
    'mpt/read-gpa/not-ram-one-past-next',
    (backend) => {
      const attach = backend.attachVgpu.bind(backend);
      backend.attachVgpu = (vgpu) => Object.assign(attach(vgpu), { readGpa: () => undefined });
    },
  ],
  [
    'a failure returned as a frame',
    'mpt/gfn-to-mfn/not-ram-one-past-high',
    (backend) => {
      const attach = backend.attachVgpu.bind(backend);
      backend.attachVgpu = (vgpu) => Object.assign(attach(vgpu), { gfnToMfn: () => 2 ** 40 - 1 });
    },
  ],
  [
    'an error that names neither operation nor backend',
    'mpt/host-exit/twice',
    (backend) => {
      backend.error = (code, what) => new MptError(code, what);
    },
  ],
  [
    'a message that raises another vector too',
    'mpt/inject-msi/vector-0x20',
    (backend) => {
      const attach = backend.attachVgpu.bind(backend);
      backend.attachVgpu = (vgpu) => {
        const handle = attach(vgpu);
        const inject = handle.injectMsi.bind(handle);
        return Object.assign(handle, {
          injectMsi(address: number, data: number) {
            inject(address, data);
            inject(address, data + 1);
          },
        });
      };
    },
  ],
  [
    'page track that forgets to stop',
    'mpt/page-track/trap-untrack-stops',
    (backend) => {
      const attach = backend.attachVgpu.bind(backend);
      backend.attachVgpu = (vgpu) => Object.assign(attach(vgpu), { disablePageTrack: (gfn: number) => void Gfn(gfn) });
    },
  ],
];

t.test('a broken backend fails the case that states the rule', async (t) => {
  for (const [what, id, damage] of BROKEN) {
    const { cases } = runConformance({
      name: 'sim',
      filter: id,
      open(options) {
        const backend = open(options);
        damage(backend);
        return backend;
      },
    });
    t.equal(cases.find((result) => result.id === id)?.status, 'fail', `${what}: ${id}`);
  }
});

t.test('a backend without any optional capability answers UNSUPPORTED and fails nothing', async (t) => {
  // wholeBus is no operation: what the simulation's VMs are does not change by what is declared.
  const bare: ConformanceOptions['open'] = (options) => {
    const backend = open(options);
    const absent = Object.fromEntries(
      Object.entries(backend.capabilities).map(([name, value]) => [name, typeof value === 'boolean' ? false : null]),
    );
    Object.defineProperty(backend, 'capabilities', { value: Object.freeze({ ...absent, machine: true, wholeBus: true }) });
    return backend;
  };
  const { cases, totals } = runConformance({ name: 'bare', open: bare });
  t.same(
    cases.filter(({ status }) => status === 'fail'),
    [],
  );
  t.ok(totals.pass > 300, `${totals.pass} cases passed`);
  t.ok(
    cases.filter(({ id }) => id.startsWith('mpt/capability/')).every(({ status }) => status === 'pass'),
    'the cases of honesty are never skipped',
  );
});

t.test('capabilities of sim are what the filters above assume', async (t) => {
  const backend = sim.open();
  const { msiEventfd, pageTrack, machine }: Capabilities = backend.capabilities;
  t.same({ msiEventfd, pageTrack, machine }, { msiEventfd: false, pageTrack: 'trap', machine: true });
  backend.close();
});
