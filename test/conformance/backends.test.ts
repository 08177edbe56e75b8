/** Every backend of this package against the suite, at each level of page track that it has. */
import t from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import type { BackendModule } from '../../src/backends/module.js';
import { sim } from '../../src/backends/sim/index.js';
import { vfioUser } from '../../src/backends/vfio-user/index.js';
import { type ConformanceReport, tapSuite } from '../../src/conformance/index.js';

/** Cases that must run, not merely be skipped, on any backend. */
const RUN_MINIMUM = 500;

function run(backend: BackendModule, pageTrack: string): void {
  t.test(`${backend.name}, page track ${pageTrack}`, async (t) => {
    const probe = backend.probe({ pageTrack });
    if (!probe.available) {
      t.pass(`${backend.name} at level ${pageTrack}`, { skip: probe.reason });
      return;
    }
    const report: ConformanceReport = tapSuite(t, {
      name: backend.name,
      version: probe.version ?? '',
      open: (options) => backend.open({ pageTrack, ...options }),
    });
    t.equal(report.totals.fail, 0, 'failures');
    t.ok(report.totals.pass >= RUN_MINIMUM, `${report.totals.pass} cases passed`);
    const reasons = new Set(report.cases.filter(({ status }) => status === 'skip').map(({ reason }) => reason));
    for (const reason of reasons)
      t.match(reason, /^[\w-]+ declares (no \w+|pageTrack level \w+, not \w+)$/, 'a skip is of a capability declared absent');
  });
}

for (const level of ['trap', 'sync', 'none']) run(sim as BackendModule, level);
for (const level of ['trap', 'sync']) run(kvm as BackendModule, level);
run(vfioUser as BackendModule, 'sync');
