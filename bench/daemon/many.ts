/** What 1,000 idle vGPUs take: time of each creation, from the first to the last, and memory of the daemon. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { askDaemon } from '../../src/cli/daemon/control-client.js';

const MPT = fileURLToPath(new URL('../../src/cli/mpt.js', import.meta.url));
const COUNT = 1000;
/** Those at each end that are compared. */
const PART = 100;
/** Creations before, which are removed again: what the compiler learns is no growth. */
const WARM = 500;

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] as number;
const uuid = (i: number): string => `83b8f4f2-509f-382f-3c1e-${(0xe6bf_e0fa_0000 + i).toString(16)}`;

/** Bytes of a process, by a field of its status. */
const memory = (pid: number, field: 'VmRSS' | 'RssAnon'): number =>
  Number(new RegExp(`^${field}:\\s*(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;

export async function runMany(json: boolean): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'mpt-bench-'));
  const config = join(folder, 'config.json');
  writeFileSync(config, JSON.stringify({ gpus: [{ name: 'm', driver: 'mdpy', instances: COUNT }], log: { level: 'error' } }));
  const args = [MPT, 'daemon', '--runtime', join(folder, 'run'), '--mount', join(folder, 'sys'), '--config', config];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await new Promise<void>((resolve) => createInterface(child.stdout).once('line', () => resolve()));
    const control = join(folder, 'run/control.sock');
    const create = (i: number) => askDaemon(control, { op: 'create', type: 'mdpy-vga', uuid: uuid(i) });
    for (let i = 0; i < WARM; i++) await create(i);
    for (let i = 0; i < WARM; i++) await askDaemon(control, { op: 'remove', uuid: uuid(i) });
    const pid = child.pid as number;
    const before = memory(pid, 'RssAnon');
    const times: number[] = [];
    for (let i = 0; i < COUNT; i++) {
      const begin = performance.now();
      await create(i);
      times.push(performance.now() - begin);
    }
    const after = memory(pid, 'RssAnon');
    const first = median(times.slice(0, PART));
    const last = median(times.slice(-PART));
    const result = {
      vgpus: COUNT,
      firstUs: Math.round(first * 1000),
      lastUs: Math.round(last * 1000),
      ratio: Number((last / first).toFixed(2)),
      residentMiB: Math.round(memory(pid, 'VmRSS') / 2 ** 20),
      kibPerIdleVgpu: Number(((after - before) / COUNT / 1024).toFixed(1)),
    };
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else
      process.stdout.write(
        `${COUNT} vGPUs: creation by the control socket, median of the first ${PART} ${result.firstUs} us, of the last ${PART} ${result.lastUs} us, ratio ${result.ratio}; ` +
          `${result.kibPerIdleVgpu} KiB an idle vGPU, ${result.residentMiB} MiB resident in all\n`,
      );
  } finally {
    child.kill('SIGTERM');
    await new Promise((resolve) => child.once('close', resolve));
    rmSync(folder, { recursive: true, force: true });
  }
}
