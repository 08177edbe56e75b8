/** The rows of ACRN, on each of its devices. The C side is one program, `acrn`, with device and subject as its first arguments. */
import { IMAGE, type Row, US } from '../rows.js';

const PROGRAM = 'acrn';
const TARGET = 1.15;

const row = (abi: string, name: string, subject: readonly string[], cSubject: readonly string[]): Row => ({
  name: `${abi}/${name}`,
  unit: US,
  target: TARGET,
  kind: 'subject',
  ours: [`acrn-${abi}`, ...subject],
  baseline: [PROGRAM, abi, ...cSubject, IMAGE],
});

const exits = (abi: string, what: string, model: string): Row => row(abi, `${what}/${model}`, ['exits', what, model], ['exits', what]);

export const ACRN_ROWS: readonly Row[] = ['hsm', 'vhm'].flatMap((abi) => [
  exits(abi, 'mmio-read', 'bare'),
  exits(abi, 'mmio-read', 'gvt'),
  exits(abi, 'mmio-write', 'bare'),
  exits(abi, 'mmio-write', 'gvt'),
  row(abi, 'inject_msi', ['msi'], ['msi']),
]);
