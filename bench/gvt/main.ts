/** `npm run bench:gvt [-- --json] [-- --rounds N] [-- NAME-PREFIX]`: page tables, GGTT, blits and submissions of the device model against C. */
import { fileURLToPath } from 'node:url';
import { kvm } from '../../src/backends/kvm/index.js';
import { PACE } from '../compare.js';
import { runSuite } from '../suite.js';
import { GVT_ROWS } from './rows.js';

const OURS = fileURLToPath(new URL('../ours/main.js', import.meta.url));

await runSuite(
  {
    backend: 'kvm',
    command: 'npm run bench:gvt --',
    probe: () => kvm.probe(),
    rows: GVT_ROWS,
    sources: {
      programs: {
        ppgtt: ['gvt/ppgtt.c', 'gvt/pages.c', 'subject.c'],
        ggtt: ['gvt/ggtt.c', 'gvt/pages.c', 'subject.c'],
        blit: ['gvt/blit.c', 'gvt/pages.c', 'subject.c'],
        exits: ['exits.c', 'agent.c', 'vm.c', 'subject.c'],
      },
      flags: [],
      hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
    },
    pace: PACE,
    realTime: true,
    // What the hypervisor costs (exits, memory slots for page tracking) is in no row but those of submissions.
    ours: (row) => [process.execPath, OURS, row.ours[0] === 'submission' ? 'kvm' : 'sim', ...row.ours],
  },
  process.argv.slice(2),
);
