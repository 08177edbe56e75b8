/**
 * `npm run bench:daemon [-- --json] [-- --rounds N] [-- NAME-PREFIX]`: an attribute of the management tree, read by a C program, against the same
 * two attributes out of a FUSE server in C. `npm run bench:daemon -- many` tells what 1,000 vGPUs take.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noTree } from '../../src/sysfs/index.js';
import { PACE } from '../compare.js';
import { type Row, US } from '../rows.js';
import { runSuite, type Suite } from '../suite.js';
import { runMany } from './many.js';

const MPT = fileURLToPath(new URL('../../src/cli/mpt.js', import.meta.url));
const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
/** What the project promises for one attribute. */
const LIMIT_NS = 150_000;

const row = (name: string, path: string): Row => ({
  name,
  unit: US,
  kind: 'subject',
  ours: [path],
  baseline: ['reader', path, '--', 'build/bench-baseline/fuse-server', 'MOUNT'],
  limitNs: LIMIT_NS,
});

const folder = mkdtempSync(join(tmpdir(), 'mpt-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const config = join(folder, 'config.json');
writeFileSync(config, JSON.stringify({ vgpus: [{ type: 'mdpy-xga', uuid: UUID }], log: { level: 'error' } }));

const suite: Suite = {
  backend: 'daemon',
  command: 'npm run bench:daemon --',
  probe: () => {
    const reason = noTree();
    return reason === undefined ? { available: true, reason: 'FUSE', version: 'the management tree' } : { available: false, reason };
  },
  rows: [
    row('attribute/type', 'class/mdev_bus/mdpy/mdev_supported_types/mdpy-xga/available_instances'),
    row('attribute/vgpu', `bus/mdev/devices/${UUID}/weight`),
  ],
  sources: {
    programs: { reader: ['sysfs/reader.c', 'subject.c'], 'fuse-server': ['sysfs/fuse-server.c', 'subject.c'] },
    flags: [],
    hint: 'install gcc and the headers of libc and Linux (Debian: gcc libc6-dev linux-libc-dev)',
  },
  pace: PACE,
  realTime: true,
  ours: ({ ours: [path = ''] }, baseline) => [
    baseline.program('reader'),
    path,
    '--',
    process.execPath,
    MPT,
    'daemon',
    '--runtime',
    'RUN',
    '--mount',
    'MOUNT',
    '--config',
    config,
  ],
};

const args = process.argv.slice(2);
const named = args.filter((arg) => arg !== '--json');
if (named.length === 1 && named[0] === 'many') await runMany(args.length > 1);
else await runSuite(suite, args);
