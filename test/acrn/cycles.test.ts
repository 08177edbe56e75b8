/** Many lives of a VM, and deaths of the process that has it: neither this process nor the hypervisor is left with anything. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Random } from '../core/random.js';
import { ABIS, noAcrn, noStandIn, standInAtRest, standInState } from './support.js';

const PROGRAM = fileURLToPath(new URL('./cycles-program.js', import.meta.url));
/** A thousand in all. */
const CYCLES = 500;
const KILLS = 15;
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

for (const abi of ABIS)
  t.test(`${abi}: kill -9 at random moments`, { skip: noStandIn }, async (t) => {
    const random = new Random(abi === 'hsm' ? 0x4b1 : 0x4b2);
    const children: ChildProcess[] = [];
    const { created } = standInState();
    for (let n = 0; n < KILLS; n++) {
      // Two at a time: one dies while the other goes on.
      while (children.length < 2) children.push(spawn(process.execPath, [PROGRAM, abi, '0'], { stdio: 'ignore' }));
      await new Promise((resolve) => setTimeout(resolve, 250 + random.below(250)));
      const victim = children.shift() as ChildProcess;
      victim.kill('SIGKILL');
      if (victim.exitCode === null && victim.signalCode === null) await once(victim, 'exit');
      t.equal(victim.signalCode, 'SIGKILL', 'it was alive');
    }
    for (const child of children) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    const after = await standInAtRest();
    t.ok(after.created - created > KILLS, `${after.created - created} VMs`);
    t.equal(after.destroyed, after.created, 'every VM is gone');
    t.match(after, AT_REST, 'the hypervisor');
  });

if (ABIS.length === 0) t.pass('no ACRN', { skip: noAcrn });
