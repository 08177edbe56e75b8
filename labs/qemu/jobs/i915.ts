/**
 * Debian's unmodified i915 on the GVT vGPU, display fused off: it binds, its engines do what GEM programs and Debian's benchmarks ask, and
 * a batch that hangs costs one reset of its engine.
 */
import { i915Complaint } from '../i915-complaint.js';
import { i915Probe } from '../i915-probe.js';
import { type Job, type Lab, LINE_LIMIT_S, mustEqual } from '../job.js';
import { igt } from '../trees.js';

/** Benchmarks with arguments that make each take seconds in an emulated guest. The short names of engines: the long ones all mean rcs. */
const BENCHMARKS: readonly (readonly [name: string, command: string, exit?: number])[] = [
  ...['rcs', 'bcs', 'vcs', 'vecs'].map((engine) => [`gem_exec_nop on ${engine}`, `gem_exec_nop -e ${engine} -r 2`] as const),
  ['gem_create', 'gem_create -r 2 -s 4096'],
  ['gem_exec_ctx', 'gem_exec_ctx -b nop -e rcs'],
  ['gem_latency', 'gem_latency -t 2'],
  ['gem_blt', 'gem_blt -s 1048576 -r 2 -t 1'],
  ['gem_exec_reloc', 'gem_exec_reloc -b 10 -r 1 -s 1000'],
  ['gem_prw', 'gem_prw -r 2'],
  // As it is it ends with ENOENT, on any machine: guest/low-taken.c has why, and lets it run.
  ['gem_busy as it is', 'gem_busy -r 1', 98],
  ['gem_busy', 'LD_PRELOAD=/bin/low-taken.so gem_busy -r 2'],
];
const BENCHMARK_LIMIT_S = 120;

const HANGS: readonly (readonly [what: string, engine: string])[] = [
  ['garbage', 'bcs0'],
  ['spin', 'rcs0'],
  ['semaphore', 'vecs0'],
];
const HANG_LIMIT_S = 90;
/** i915 gives a batch about five heartbeats. */
const HEARTBEAT_MS = 200;
/**
 * It then captures the engine's state through the aperture, which takes an emulated guest 2 to 25 s, depending on what else the machine does;
 * 20 s after its submission a request would be cancelled by another reset. Contexts made from now on have this limit instead.
 */
const REQUEST_TIMEOUT_MS = 120_000;

const resets = `$(dmesg | grep -c 'Resetting')`;

const SCRIPT = `
ls /dev/dri
gem-check || exit
echo "resets before ${resets}"
${BENCHMARKS.map(
  ([name, command]) => `echo 'benchmark ${name}'
timeout ${BENCHMARK_LIMIT_S} env ${command} 2>&1
echo "ended $? resets ${resets}"`,
).join('\n')}
for engine in /sys/class/drm/card0/engine/*; do echo ${HEARTBEAT_MS} >$engine/heartbeat_interval_ms; done
mount -t debugfs debug /sys/kernel/debug
echo ${REQUEST_TIMEOUT_MS} >/sys/kernel/debug/dri/0/i915_params/request_timeout_ms
${HANGS.map(([what, engine]) => `gem-hang ${what} ${engine}\necho "resets of ${engine} $(dmesg | grep -c 'Resetting ${engine}')"`).join('\n')}
echo "resets after ${resets}"
`;

/** The first things that a benchmark said. */
const figures = (said: readonly string[]): string =>
  said
    .filter((words) => words !== '')
    .slice(0, 4)
    .join(' | ');

async function run(lab: Lab): Promise<void> {
  const programs = await lab.programs('gem-check', 'gem-hang', 'low-taken.so');
  const guestOptions = { modules: ['i915'], programs, packaged: await igt(), script: SCRIPT };
  await lab.withGuest({ device: 'gvt', type: 'GVTg_V4_8', display: false }, guestOptions, async (guest, server) => {
    server.expect(/command 0xdeadbeef is not allowed/);
    const line = async (pattern: RegExp, limitS = LINE_LIMIT_S): Promise<string> => (await guest.line(pattern, limitS))[1] as string;
    const devices = `${await line(/^(card0.*)$/)}`;
    await lab.check('i915 makes a card and a render node', () => {
      if (!/renderD128/.test(devices)) throw new Error(`there is ${devices}`);
    });
    await lab.check('gem-check: stores, blits and contexts are right byte for byte', async () => void (await line(/^(gem-check done)$/)));
    mustEqual('resets', await line(/^resets before (\d+)$/), '0');
    await lab.check('i915 has nothing to complain of', () => mustEqual('its first complaint', i915Complaint(guest.console), undefined));
    lab.tell(`i915: ${i915Probe(guest.console).ms} ms from detected to initialised`);

    for (const [name, , exit = 0] of BENCHMARKS) {
      const said: string[] = [];
      await line(new RegExp(`^(benchmark ${name})$`));
      for (;;) {
        const text = await line(/^(.*)$/, BENCHMARK_LIMIT_S + LINE_LIMIT_S);
        if (!text.startsWith('ended ')) {
          said.push(text.trim());
          continue;
        }
        lab.tell(`${name}: ${figures(said)}`);
        await lab.check(`${name} ${exit === 0 ? 'finishes' : `ends with its own error ${exit}`}, without a reset`, () =>
          mustEqual('its end', text, `ended ${exit} resets 0`),
        );
        break;
      }
    }

    for (const [what, engine] of HANGS) {
      const name = `hang ${what} on ${engine}`;
      const next = (): Promise<string> => line(new RegExp(`^${name}: (.*)$`), HANG_LIMIT_S);
      await lab.check(`${name}: other engines go on`, async () => mustEqual('the other engine', await next(), 'other engine works'));
      const ended = await next();
      lab.tell(`${name}: ${ended}`);
      await lab.check(`${name}: its context alone is guilty`, () => {
        if (!/guilty 1 innocent 0$/.test(ended)) throw new Error(ended);
      });
      await lab.check(`${name}: what is behind it is done`, async () => mustEqual('it', await next(), 'behind it right'));
      await lab.check(`${name}: the engine works afterwards`, async () => mustEqual('it', await next(), 'afterwards right'));
      const count = await line(new RegExp(`^resets of ${engine} (\\d+)$`));
      await lab.check(`${name}: the engine was reset once`, () => mustEqual('the number of its resets', count, '1'));
    }
    const all = await line(/^resets after (\d+)$/);
    await lab.check('no other engine was reset', () => mustEqual('the number of resets', all, String(HANGS.length)));
  });
}

export const I915: Job = { name: 'i915', timeoutS: 600, run };
