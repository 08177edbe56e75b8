/** The rows of the device model. Ours: its parts over the KVM backend's memory. The other side: C that does the same with the same data. */
import { IMAGE, MS, NS, type Row, US } from '../rows.js';

const row = (name: string, ours: readonly string[], baseline: Row['baseline'], rest: Partial<Row> = {}): Row => ({
  name,
  unit: NS,
  kind: 'subject',
  ours,
  baseline,
  ...rest,
});

const build = (mib: number): Row => {
  const args = ['build', String(mib)];
  return row(`ppgtt-build/${mib < 1024 ? `${mib}MiB` : `${mib / 1024}GiB`}`, ['ppgtt', ...args], ['ppgtt', ...args], { target: 3 });
};

const resync = (changed: number, target?: number): Row => {
  const args = ['resync', String(changed)];
  const limit = target === undefined ? {} : { target };
  return row(`ppgtt-resync/${changed}`, ['ppgtt', ...args], ['ppgtt', ...args], { unit: US, ...limit });
};

export const GVT_ROWS: readonly Row[] = [
  build(2),
  build(64),
  build(1024),
  resync(1, 3),
  resync(512, 3),
  row('ggtt-update', ['ggtt', 'store'], ['ggtt'], { target: 2 }),
  row('ggtt-update-and-use', ['ggtt', 'use'], ['ggtt']),
  row('blit-clear', ['blit', 'clear'], ['blit', 'fill'], { unit: MS, target: 1.5 }),
  row('blit-fill', ['blit', 'fill'], ['blit', 'fill'], { unit: MS, target: 1.5 }),
  row('blit-copy', ['blit', 'copy'], ['blit', 'copy'], { unit: MS, target: 1.5 }),
  row('submission/silent', ['submission', 'silent'], ['exits', 'mmio-write', IMAGE], { unit: US }),
  row('submission/told', ['submission', 'told'], ['exits', 'mmio-write', IMAGE], { unit: US }),
];
