/**
 * `node build/bench/xen/main.js [--json] [--rounds N] [NAME-PREFIX]`, in dom0: Xen against C programs that do the same through the
 * same libraries.
 */
import { join } from 'node:path';
import { xen } from '../../src/backends/xen/index.js';
import type { Pace } from '../compare.js';
import { runSuite } from '../suite.js';
import { XEN_ROWS } from './rows.js';

/** Of this folder of bench/baseline. */
const SOURCES = ['main', 'agent', 'copies', 'create', 'dma', 'domain', 'exits', 'memory', 'msi', 'page-track', 'requests'];
const LIBRARIES = ['xenctrl', 'xendevicemodel', 'xenforeignmemory', 'xenevtchn', 'xencall'];

/** In the laboratory Xen's headers and libraries are not installed but lie in a tree of their own. */
function places(): string[] {
  const { MPT_LAB_TREE: tree } = process.env;
  if (tree === undefined || tree === '') return [];
  const libraries = join(tree, 'usr/lib/x86_64-linux-gnu');
  return [`-I${join(tree, 'usr/include')}`, `-L${libraries}`, `-Wl,-rpath-link,${libraries}`];
}

/** For what takes a hundred microseconds and more: there a hypercall, and V8 is slow to compile, where the processor is emulated. */
const PACE: Pace = { sampleNs: 150e6, rowNs: 12e9, warmCount: 20_000, warmNs: 8e9 };

await runSuite(
  {
    backend: 'xen',
    command: 'node build/bench/xen/main.js',
    probe: () => xen.probe(),
    rows: XEN_ROWS,
    sources: {
      programs: { xen: [...SOURCES.map((name) => `xen/${name}.c`), 'subject.c'] },
      flags: [...places(), ...LIBRARIES.map((name) => `-l${name}`)],
      hint: 'install gcc and the headers of Xen (Debian: gcc libc6-dev libxen-dev), or set MPT_LAB_TREE to a tree that has them',
    },
    pace: PACE,
  },
  process.argv.slice(2),
);
