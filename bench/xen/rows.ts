/** The rows of Xen. The C side is one program, `xen`, with the subject as its first argument. */
import { IMAGE, MS, NS, type Row, type Unit, US } from '../rows.js';

const PROGRAM = 'xen';

const row = (
  name: string,
  unit: Unit,
  subject: readonly string[],
  { target, image = false }: { target?: number; image?: boolean } = {},
): Row => ({
  name,
  unit,
  ...(target === undefined ? {} : { target }),
  kind: 'subject',
  ours: subject,
  baseline: [PROGRAM, ...subject, ...(image ? [IMAGE] : [])],
});

const exits = (what: string): Row => ({
  ...row(`${what}/bare`, US, ['exits', what], { target: 1.25, image: true }),
  ours: ['exits', what, 'bare'],
});

export const XEN_ROWS: readonly Row[] = [
  exits('mmio-read'),
  exits('mmio-write'),
  row('read_gpa/8B', NS, ['copies', 'read', '8']),
  row('read_gpa/4KiB', NS, ['copies', 'read', '4096'], { target: 2.5 }),
  row('read_gpa/64KiB', NS, ['copies', 'read', '65536']),
  row('page-track/4096', MS, ['page-track'], { target: 1.25 }),
  row('inject_msi', US, ['msi'], { image: true }),
  row('dma-map-unmap', US, ['dma']),
  row('create-destroy', MS, ['create']),
];
