/** Stopping under load, with a device thread that blocks in ATTACH_IOREQ_CLIENT. */
import t from 'tap';
import { endsWithItsProcess } from '../native/shutdown.js';
import { ABIS, noAcrn, noStandIn, standInAtRest } from './support.js';

t.setTimeout(120_000);
for (const abi of ABIS)
  t.test(abi, { skip: noAcrn }, async (t) => {
    endsWithItsProcess(t, 'acrn', { abi }, noAcrn);
  });

t.test('the hypervisor is left with nothing', { skip: noStandIn }, async (t) => {
  t.match(await standInAtRest(), { files: [], leaked: { fds: 0, threads: 0, mappings: 0 } });
});

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
