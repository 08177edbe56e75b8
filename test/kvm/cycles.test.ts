/** A thousand machines, one after another in one process, leave nothing behind. */
import t from 'tap';
import { describeEnd, runChild } from '../native/child.js';
import { noKvm } from './support.js';

const CYCLES = 1000;
const WARM_UP = 50;
/** Growth of the resident set that V8's own heaps make. One kept 2 MiB RAM per hundred cycles would be 19 MiB. */
const RSS_GROWTH_MIB = 12;
/** Lines of /proc/self/maps that V8's own heaps add; one kept mapping per ten cycles would be 95. */
const MAPS_GROWTH = 40;

t.setTimeout(90_000);

t.test(`${CYCLES} create-attach-run-detach-destroy cycles`, { skip: noKvm }, async (t) => {
  const start = performance.now();
  const end = await runChild(new URL('./cycles-program.js', import.meta.url), {
    args: [String(CYCLES), String(WARM_UP)],
    execArgv: ['--expose-gc'],
    deadlineMs: 60_000,
  });
  t.equal(end.code, 0, describeEnd(end));
  if (end.code !== 0) return;
  const samples = JSON.parse(end.stdout) as { cycle: number; fds: number; maps: number; kvmMaps: number; rssMib: number }[];
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined) throw new Error('no samples');
  t.equal(samples.length, CYCLES / WARM_UP);
  t.same([...new Set(samples.map(({ fds }) => fds))], [first.fds], 'the same number of descriptors at every sample');
  t.same([...new Set(samples.map(({ kvmMaps }) => kvmMaps))], [0], 'no guest RAM and no vCPU stays mapped');
  t.ok(last.maps - first.maps <= MAPS_GROWTH, `/proc/self/maps: ${first.maps} -> ${last.maps} lines`);
  const growth = last.rssMib - first.rssMib;
  t.ok(growth <= RSS_GROWTH_MIB, `resident: ${first.rssMib.toFixed(1)} -> ${last.rssMib.toFixed(1)} MiB`);
  t.comment(`${Math.round(performance.now() - start)} ms; resident MiB: ${samples.map(({ rssMib }) => rssMib.toFixed(0)).join(' ')}`);
});
