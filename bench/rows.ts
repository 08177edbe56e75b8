/** What is measured: one row a line of the table, each with the two programs that do the same work. The rows of KVM. */

export interface Unit {
  readonly name: 'ns' | 'us' | 'ms';
  /** Nanoseconds in one. */
  readonly ns: number;
}

export const NS: Unit = { name: 'ns', ns: 1 };
export const US: Unit = { name: 'us', ns: 1e3 };
export const MS: Unit = { name: 'ms', ns: 1e6 };

export interface Row {
  readonly name: string;
  readonly unit: Unit;
  /** Ratio that the project promises not to pass. */
  readonly target?: number;
  /** The same of our time itself, in nanoseconds. */
  readonly limitNs?: number;
  /** `subject`: a process that answers counts. `start`: a process is started for each sample. */
  readonly kind: 'subject' | 'start';
  /** Arguments of bench/ours/main.js, or of what the suite has in its place. */
  readonly ours: readonly string[];
  /** Program of bench/baseline and its arguments; IMAGE stands for the guest agent's file. */
  readonly baseline: readonly [program: string, ...args: string[]];
}

/** In a baseline's arguments: the file with the guest agent's bytes. */
export const IMAGE = 'IMAGE';

const exits = (what: string, model: string, target?: number): Row => ({
  name: `${what}/${model}`,
  unit: US,
  ...(target === undefined ? {} : { target }),
  kind: 'subject',
  ours: ['exits', what, model],
  baseline: ['exits', what, IMAGE],
});

const copy = (direction: 'read' | 'write', label: string, length: number, target?: number): Row => ({
  name: `${direction}_gpa/${label}`,
  unit: NS,
  ...(target === undefined ? {} : { target }),
  kind: 'subject',
  ours: ['copies', direction, String(length)],
  baseline: ['copies', direction, String(length)],
});

const KIB = 1024;

export const ROWS: readonly Row[] = [
  exits('mmio-read', 'bare', 1.1),
  exits('mmio-read', 'gvt', 1.1),
  exits('mmio-write', 'bare', 1.1),
  exits('mmio-write', 'gvt', 1.1),
  exits('page-track', 'bare', 1.1),
  exits('page-track', 'gvt', 1.1),
  { name: 'inject_msi', unit: NS, target: 1.25, kind: 'subject', ours: ['msi'], baseline: ['msi', IMAGE] },
  copy('read', '8B', 8),
  copy('read', '4KiB', 4 * KIB, 2.5),
  copy('read', '64KiB', 64 * KIB, 1.2),
  copy('read', '1MiB', KIB * KIB, 1.05),
  copy('write', '8B', 8),
  copy('write', '4KiB', 4 * KIB),
  copy('write', '64KiB', 64 * KIB),
  copy('write', '1MiB', KIB * KIB),
  { name: 'attach-detach/empty', unit: US, kind: 'subject', ours: ['attach', 'empty'], baseline: ['attach', 'empty'] },
  { name: 'attach-detach/used', unit: US, kind: 'subject', ours: ['attach', 'used'], baseline: ['attach', 'used'] },
  { name: 'cold-start/machine', unit: MS, kind: 'subject', ours: ['cold-start', 'machine'], baseline: ['cold-start', 'machine', IMAGE] },
  { name: 'cold-start/process', unit: MS, kind: 'start', ours: ['cold-start', 'process'], baseline: ['cold-start', 'process', IMAGE] },
];
