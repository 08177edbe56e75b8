/**
 * `npm run bench:vfio [-- --json] [-- --rounds N] [-- NAME-PREFIX]`: the server of `mpt serve`, asked by a client in C, against two C
 * programs that exchange messages of the same lengths. `npm run bench:vfio -- memory` tells what devices take.
 */
import { fileURLToPath } from 'node:url';
import { vfioUser } from '../../src/backends/vfio-user/index.js';
import { PACE } from '../compare.js';
import { runSuite, type Suite } from '../suite.js';
import { runMemory } from './memory.js';
import { VFIO_ROWS, type VfioRow } from './rows.js';

const MPT = fileURLToPath(new URL('../../src/cli/mpt.js', import.meta.url));

const suite: Suite = {
  backend: 'vfio-user',
  command: 'npm run bench:vfio --',
  probe: () => vfioUser.probe(),
  rows: VFIO_ROWS,
  sources: {
    programs: {
      client: ['vfio/client.c', 'vfio/messages.c', 'subject.c'],
      'ping-pong': ['vfio/ping-pong.c', 'vfio/messages.c', 'subject.c'],
    },
    flags: [],
    hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
  },
  // The server has a second of its own work behind it before the first sample.
  pace: { ...PACE, warmCount: 60_000, warmNs: 2e9 },
  realTime: true,
  ours: (row, baseline) => {
    const { device } = row as VfioRow;
    return [baseline.program('client'), ...row.ours, '--', process.execPath, MPT, 'serve', '--device', device, '--socket', 'SOCKET'];
  },
};

const args = process.argv.slice(2);
const named = args.filter((arg) => arg !== '--json');
if (named.length === 1 && named[0] === 'memory') await runMemory(args.length > 1);
else await runSuite(suite, args);
