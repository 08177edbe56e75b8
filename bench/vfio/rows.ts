/** The rows of the vfio-user server. Ours: the C client with a server of `mpt serve`. The other side: messages of the same lengths. */
import { NS, type Row, US } from '../rows.js';

/** Bytes of REGION_READ and of every reply to an access, without data. */
const FIELDS = 32;
/** An offset of BAR0 that mbochs has as plain video memory. */
const MEMORY = '0x1000';
/** A register of BAR0 that the GVT model stores and gives back. */
const REGISTER = '0x4f100';
/** Messages that one send carries. */
const BURST = 200;
const ENTRY = 24;
const ENTRIES = 200;

/** Arguments of the client, and which device the server shows. */
export interface VfioRow extends Row {
  readonly device: 'mbochs' | 'gvt';
}

const row = (
  name: string,
  client: readonly string[],
  baseline: readonly [kind: string, ...sizes: number[]],
  rest: Partial<VfioRow> = {},
): VfioRow => ({
  name,
  unit: US,
  kind: 'subject',
  ours: client,
  baseline: ['ping-pong', ...baseline.map(String)],
  device: 'mbochs',
  ...rest,
});

export const VFIO_ROWS: readonly VfioRow[] = [
  row('read/4B', ['read', '0', MEMORY, '4'], ['round-trip', FIELDS, FIELDS + 4], { target: 1.3 }),
  row('read/4KiB', ['read', '0', MEMORY, '4096'], ['round-trip', FIELDS, FIELDS + 4096], { target: 1.4 }),
  row('read/gvt', ['read', '0', REGISTER, '4', 'place-bar'], ['round-trip', FIELDS, FIELDS + 4], { device: 'gvt' }),
  row('write/4B', ['write', '0', MEMORY, '4'], ['round-trip', FIELDS + 4, FIELDS]),
  row('write/4KiB', ['write', '0', MEMORY, '4096'], ['round-trip', FIELDS + 4096, FIELDS]),
  row('posted/4B', ['posted', '0', MEMORY, '4'], ['stream', FIELDS + 4, 1], { limitNs: 2000 }),
  row('posted/200', ['burst', '0', MEMORY, '4'], ['stream', FIELDS + 4, BURST]),
  row('posted/gvt', ['posted', '0', REGISTER, '4', 'place-bar'], ['stream', FIELDS + 4, 1], { device: 'gvt' }),
  row('multi/4B', ['multi', '0', MEMORY, '4'], ['stream', ENTRY, ENTRIES], { unit: NS }),
];
