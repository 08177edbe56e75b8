/** Stopping a device thread within a deadline, whatever it is stuck in. */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { kvm } from '../../src/backends/kvm/index.js';
import { DeviceThread } from '../../src/device-thread/device-thread.js';
import { SpareThread } from '../../src/device-thread/spare-thread.js';
import type { StuckIn } from './jobs.js';

const probe = kvm.probe();
const skip = probe.available ? false : probe.reason;
const JOBS = new URL('./jobs.js', import.meta.url);
const STUCK: StuckIn[] = ['spin', 'halt', 'flood', 'between machines'];

const ready = (thread: DeviceThread<unknown>): Promise<void> => new Promise((resolve) => thread.once('progress', () => resolve()));

t.test('stop() ends a thread that is stuck in the guest', { skip }, async (t) => {
  for (const what of STUCK) {
    const thread = new DeviceThread<unknown>(JOBS, what);
    await ready(thread);
    const started = performance.now();
    t.equal(await thread.stop(1000), true, `${what}: ended by itself within the deadline`);
    t.ok(performance.now() - started < 1000, `${what}: in ${Math.round(performance.now() - started)} ms`);
    await t.rejects(thread.result, { code: 'STOPPED' }, what);
  }
});

t.test('results and failures cross the thread', { skip }, async (t) => {
  t.same(await new DeviceThread(JOBS, 'result').result, { exits: 0 });
  await t.rejects(new DeviceThread(JOBS, 'failure').result, { code: 'LIMIT', op: 'job', limit: 3, message: 'job: on purpose (limit 3)' });
  await t.rejects(new DeviceThread(JOBS, 'defect').result, { code: 'INTERNAL', message: /a plain defect/ });
});

t.test('a stop before the job has begun', { skip }, async (t) => {
  const thread = new DeviceThread<unknown>(JOBS, 'spin');
  t.equal(await thread.stop(3000), true);
  await t.rejects(thread.result, { code: 'STOPPED' });
});

t.test('a thread that has loaded a job waits for its input', async (t) => {
  const spare = new SpareThread(JOBS);
  await t.rejects(new DeviceThread(spare, 'failure').result, { code: 'LIMIT', message: 'job: on purpose (limit 3)' });
  t.equal(spare.ended, true);
  const broken = new SpareThread(JOBS, { modules: [new URL('./nowhere.js', import.meta.url)] });
  await t.rejects(new DeviceThread(broken, 'failure').result, { code: 'INTERNAL', message: /nowhere.js/ }, 'what it could not load');
  const stopped = new DeviceThread(new SpareThread(JOBS), 'failure');
  t.equal(await stopped.stop(5000), true);
  await t.rejects(stopped.result, { code: 'STOPPED' });
  const alive = setInterval(() => {}, 1000);
  const unused = new SpareThread(JOBS);
  await unused.discard();
  clearInterval(alive);
  t.equal(unused.ended, true);
  const module = new URL('../../src/device-thread/spare-thread.js', import.meta.url).href;
  const program = `import { SpareThread } from '${module}'; new SpareThread(new URL('${JOBS.href}'))`;
  const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    timeout: 20_000,
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  t.same([status, signal], [0, null], 'it keeps no process');
});

/** Ends of the whole process: exit code (or signal) and time from `ready`. */
const processEnd = (
  what: StuckIn,
  how: string,
  signal?: NodeJS.Signals,
): Promise<{ code: number | null; signal: string | null; ms: number }> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [fileURLToPath(new URL('./main.js', import.meta.url)), what, how], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let started = 0;
    const deadline = setTimeout(() => child.kill('SIGKILL'), 15_000);
    child.stdout.once('data', () => {
      started = performance.now();
      if (signal !== undefined) child.kill(signal);
    });
    child.on('close', (code, ended) => {
      clearTimeout(deadline);
      resolve({ code, signal: ended, ms: performance.now() - started });
    });
  });

t.test('the process ends although a thread is in the guest', { skip }, async (t) => {
  for (const what of STUCK) {
    const exit = await processEnd(what, 'exit');
    t.match(exit, { code: 7, signal: null }, `${what}: process.exit()`);
    t.ok(exit.ms < 2000, `${what}: ${Math.round(exit.ms)} ms`);
    const thrown = await processEnd(what, 'throw');
    t.match(thrown, { code: 1, signal: null }, `${what}: uncaught exception`);
    t.ok(thrown.ms < 2000, `${what}: ${Math.round(thrown.ms)} ms`);
  }
  t.match(await processEnd('spin', 'wait', 'SIGTERM'), { code: null, signal: 'SIGTERM' }, 'SIGTERM keeps its default');
});
