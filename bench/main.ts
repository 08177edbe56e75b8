/** `npm run bench [-- --json] [-- --rounds N] [-- NAME-PREFIX]`: KVM against C programs that do the same with the same guest. */
import { kvm } from '../src/backends/kvm/index.js';
import { PACE } from './compare.js';
import { ROWS } from './rows.js';
import { runSuite } from './suite.js';

await runSuite(
  {
    backend: 'kvm',
    command: 'npm run bench --',
    probe: () => kvm.probe(),
    rows: ROWS,
    sources: {
      programs: {
        exits: ['exits.c', 'agent.c', 'vm.c', 'subject.c'],
        msi: ['msi.c', 'agent.c', 'vm.c', 'subject.c'],
        copies: ['copies.c', 'vm.c', 'subject.c'],
        attach: ['attach.c', 'vm.c', 'subject.c'],
        'cold-start': ['cold-start.c', 'vm.c', 'subject.c'],
      },
      flags: [],
      hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
    },
    pace: PACE,
  },
  process.argv.slice(2),
);
