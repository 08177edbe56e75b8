/** What only a process of its own shows: files that are shortened under a mapping, and what clients and devices cost. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { describeEnd, runChild } from '../native/child.js';

const folder = mkdtempSync(join(tmpdir(), 'mpt-vfio-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const MIB = 2 ** 20;
const DEADLINE_MS = 60_000;

const sigbus = (how: string) =>
  runChild(new URL('./sigbus-program.js', import.meta.url), { args: [join(folder, `${how}.sock`), how], deadlineMs: DEADLINE_MS });

t.test('a client shortens its file in the middle of an access', async (t) => {
  const sealable = await sigbus('sealable');
  t.equal(sealable.code, 0, describeEnd(sealable));
  t.same(
    sealable.stdout.split('\n').slice(0, -1),
    ['mapped', 'kept', 'reached', 'kept', 'reached', 'served', 'done'],
    'sealed by us: it cannot',
  );
  const loose = await sigbus('loose');
  t.equal(loose.code, 0, describeEnd(loose));
  t.same(
    loose.stdout.split('\n').slice(0, -1),
    ['file', 'shortened', 'NOT_RAM', 'shortened', 'NOT_RAM', 'served', 'done'],
    'answered as an error',
  );
  const trusted = await sigbus('trusted');
  t.same([trusted.code, trusted.signal], [null, 'SIGBUS'], '--trust-client means this: the process ends');
  t.same(trusted.stdout.split('\n').slice(0, -1), ['mapped', 'shortened']);
});

t.test('descriptors that the process has no room for', async (t) => {
  const child = await runChild(new URL('./limits-program.js', import.meta.url), {
    args: [join(folder, 'limits.sock')],
    deadlineMs: DEADLINE_MS,
  });
  t.equal(child.code, 0, describeEnd(child));
  const lines = child.stdout.split('\n').slice(0, -1);
  t.same(lines.slice(0, 3), ['map 22', 'arm 22', 'maps 0, armed false'], 'refused: not a map without a file, not a de-assignment');
  t.same(lines.slice(3), ['map ok', 'arm ok', 'maps 1, armed true']);
});

t.test('clients that come and go leave nothing', async (t) => {
  const child = await runChild(new URL('./cycles-program.js', import.meta.url), {
    args: [join(folder, 'cycles.sock'), '300'],
    execArgv: ['--expose-gc'],
    deadlineMs: DEADLINE_MS,
  });
  t.equal(child.code, 0, describeEnd(child));
  const { before, after, ms } = JSON.parse(child.stdout);
  t.equal(after.fds, before.fds, 'descriptors');
  t.equal(after.maps, before.maps, 'mappings of buffers and guest memory');
  const grown = (after.rss - before.rss) / MIB;
  t.comment(`${(ms / 300).toFixed(2)} ms a client; RSS ${(before.rss / MIB).toFixed(1)} MiB, ${grown.toFixed(1)} more`);
  t.ok(grown < 8, `RSS grew by ${grown.toFixed(1)} MiB`);
});

t.test('what a device costs beyond its framebuffer', async (t) => {
  const held = async (count: number, device: string): Promise<{ own: number; shared: number }> => {
    const child = await runChild(new URL('./footprint-program.js', import.meta.url), {
      args: [folder, String(count), device],
      execArgv: ['--expose-gc'],
      deadlineMs: DEADLINE_MS,
    });
    if (child.code !== 0) t.fail(describeEnd(child));
    return JSON.parse(child.stdout);
  };
  // MiB each. Most of it is the device thread's JavaScript heap; a vGPU has its GGTT's shadow besides.
  for (const [device, limit] of [
    ['mbochs', 20],
    ['gvt', 20],
  ] as const) {
    const [one, three] = [await held(1, device), await held(3, device)];
    const each = (three.own - one.own) / 2;
    t.comment(
      `${device}: one ${one.own.toFixed(1)} MiB, three ${three.own.toFixed(1)}, each ${each.toFixed(1)}; framebuffers ${three.shared.toFixed(1)}`,
    );
    t.ok(each < limit, `${each.toFixed(1)} MiB`);
  }
});

/** Modules of ours that come with one: what it imports by a statement, and so on. */
function loadedBy(job: string): string[] {
  const urls = new Set([new URL(`../../src/${job}`, import.meta.url).href]);
  for (const url of urls)
    for (const [, name] of readFileSync(new URL(url), 'utf8').matchAll(/^(?:import|export) [^;]*'(\.[^']+)';/gm))
      urls.add(new URL(name as string, url).href);
  return [...urls].map((url) => url.replace(/^.*\/build\/src\//, ''));
}

t.test('a device thread loads what its device needs: most of what it costs is what it loads', (t) => {
  const [job, sample, gvt] = ['jobs/serve.js', 'jobs/serve-sample.js', 'jobs/serve-gvt.js'].map(loadedBy) as [string[], string[], string[]];
  const found = (modules: string[], where: RegExp): string[] => modules.filter((module) => where.test(module));
  t.ok(gvt.includes('core/gvt/engine/streamer.js') && sample.includes('core/samples/mbochs.js'), 'the device itself');
  t.same(found(job, /^(core\/(samples|bus\/bus)|recording|backends|vfio)\b/), [], 'either device');
  t.same(found(sample, /^(core\/gvt\/(?!display\/(edid|connector|monitors|timings))|recording|backends|pc)\b/), [], 'a display device');
  t.same(found(gvt, /^(recording\/(?!trace-file)|pc\/|native\/child|core\/bus\/bus|core\/samples\/(mbochs|mdpy))/), [], 'a vGPU');
  t.end();
});
