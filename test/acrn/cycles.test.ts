/** Lives of a VM: neither the process nor the hypervisor is left with anything. Processes that are killed: `labs/acrn`, job `kills`. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { ABIS, noAcrn, noStandIn, standInAtRest, standInState } from './support.js';

const PROGRAM = fileURLToPath(new URL('./cycles-program.js', import.meta.url));
const CYCLES = 1000;
const AT_REST = { files: [], leaked: { fds: 0, threads: 0, mappings: 0 } };

t.setTimeout(240_000);

for (const abi of ABIS)
  t.test(`${abi}: ${CYCLES} times create, run, destroy`, { skip: noAcrn }, async (t) => {
    const before = noStandIn === false ? standInState() : undefined;
    const { stdout, stderr, status } = spawnSync(process.execPath, [PROGRAM, abi, String(CYCLES)], { encoding: 'utf8' });
    t.equal(status, 0, stderr);
    const { first, last } = JSON.parse(stdout) as { first: unknown; last: unknown };
    t.same(last, first, 'descriptors and memory files of the process');
    if (before === undefined) return;
    const after = await standInAtRest();
    t.equal(after.created - before.created, CYCLES);
    t.equal(after.destroyed, after.created);
    t.match(after, AT_REST, 'the hypervisor');
  });

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
