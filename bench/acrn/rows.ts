/** The rows of ACRN. The C side is one program, `acrn`, a client of the same device. */
import { IMAGE, type Row, US } from '../rows.js';

const PROGRAM = 'acrn';

const exits = (what: string): Row => ({
  name: `${what}/bare`,
  unit: US,
  target: 1.15,
  kind: 'subject',
  ours: ['exits', what, 'bare'],
  baseline: [PROGRAM, 'exits', what, IMAGE],
});

export const ACRN_ROWS: readonly Row[] = [
  exits('mmio-read'),
  exits('mmio-write'),
  { name: 'inject_msi', unit: US, target: 1.15, kind: 'subject', ours: ['msi'], baseline: [PROGRAM, 'msi', IMAGE] },
];
