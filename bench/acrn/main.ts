/**
 * `npm run lab:acrn -- --abi hsm node build/bench/acrn/main.js [--json] [--rounds N] [NAME-PREFIX]`: ACRN against C programs that are clients of
 * the same `/dev/acrn_hsm`.
 */
import { acrn } from '../../src/backends/acrn/index.js';
import { PACE } from '../compare.js';
import { runSuite } from '../suite.js';
import { ACRN_ROWS } from './rows.js';

await runSuite(
  {
    backend: 'acrn',
    command: 'node build/bench/acrn/main.js',
    probe: () => acrn.probe({ abi: 'hsm' }),
    rows: ACRN_ROWS,
    sources: {
      programs: { acrn: ['acrn/main.c', 'subject.c'] },
      flags: [],
      hint: 'install gcc and the kernel headers (Debian: gcc libc6-dev linux-libc-dev)',
    },
    pace: { ...PACE, sampleNs: 30e6, rowNs: 6e9 },
  },
  process.argv.slice(2),
);
