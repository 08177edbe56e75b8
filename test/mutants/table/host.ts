/** host_init, host_exit, from_virt_to_mfn, dom0_ready, broken. */
import { PAGE_SIZE } from '../../../src/core/addresses.js';
import type { HostPages } from '../../../src/core/mpt.js';
import { type Mutant, mutantsOf } from '../mutant.js';
import { all, backendProperty, onBackend, recodeBackend, silentBackend, vagueBackend } from '../patch.js';

const hostInit = mutantsOf('host_init', [
  [
    'binds-a-copy',
    'Another table than the given one is bound.',
    'host-init/binds-the-ops-table',
    onBackend('hostInit', (original) => (ops) => original(typeof ops === 'object' && ops !== null ? { ...ops } : ops)),
  ],
  [
    'second-replaces',
    'A second host_init replaces the first table.',
    'host-init/twice',
    onBackend('hostInit', (original, backend) => (ops) => {
      if (backend.state === 'initialized') backend.hostExit();
      original(ops);
    }),
  ],
  ['second-wrong-code', 'A second host_init answers BUSY.', 'host-init/twice', recodeBackend('hostInit', 'ALREADY_INITIALIZED', 'BUSY')],
  [
    'takes-null',
    'A missing table is replaced by an empty one.',
    'host-init/table-is-null',
    onBackend('hostInit', (original) => (ops) => original(ops ?? {})),
  ],
  [
    'takes-a-number',
    'Anything that is not null is taken for a table.',
    'host-init/table-is-7',
    silentBackend('hostInit', 'INVALID_ARGUMENT'),
  ],
  [
    'bound-after-refusal',
    'A refused table leaves the backend bound.',
    'host-init/table-is-undefined',
    onBackend('hostInit', (original) => (ops) => {
      if (typeof ops !== 'object') original({});
      original(ops);
    }),
  ],
  [
    'only-once',
    'After host_exit a backend cannot be bound again.',
    'host-init/again-after-host-exit',
    onBackend('hostInit', (original, backend) => {
      let bound = false;
      return (ops) => {
        if (bound && backend.state === 'exited') throw backend.error('ALREADY_INITIALIZED', 'bound once', { op: 'host_init' });
        original(ops);
        bound = true;
      };
    }),
  ],
  ['silent-when-closed', 'A closed backend takes a table.', 'close/host-init-refused', silentBackend('hostInit', 'CLOSED')],
  [
    'no-table-is-empty',
    'Before host_init the table is an empty object instead of an error.',
    'host-init/no-table-before',
    backendProperty('ops', (backend, original) => (backend.state === 'created' ? {} : original)),
  ],
]);

const hostExit = mutantsOf('host_exit', [
  ['does-nothing', 'The table stays bound.', 'host-exit/unbinds', onBackend('hostExit', () => () => undefined)],
  ['silent-twice', 'A second host_exit succeeds.', 'host-exit/twice', silentBackend('hostExit', 'NOT_INITIALIZED')],
  [
    'silent-without-init',
    'Without host_init it succeeds.',
    'host-exit/without-host-init',
    onBackend('hostExit', (original, backend) => () => {
      if (backend.state !== 'created') original();
    }),
  ],
  [
    'detaches',
    'Attached vGPUs are detached instead of refused as BUSY.',
    'host-exit/busy-while-attached',
    onBackend('hostExit', (original, backend) => {
      const handles: { attached: boolean; detachVgpu(): void }[] = [];
      onBackend('attachVgpu', (attach) => (vgpu) => {
        const handle = attach(vgpu);
        handles.push(handle);
        return handle;
      })(backend);
      return () => {
        for (const handle of handles) if (handle.attached) handle.detachVgpu();
        original();
      };
    }),
  ],
  [
    'busy-for-ever',
    'BUSY stays after the last vGPU was detached.',
    'host-exit/busy-while-attached',
    onBackend('hostExit', (original, backend) => {
      let refused = false;
      return () => {
        refused ||= backend.attachedCount > 0;
        if (refused) throw backend.error('BUSY', 'attached', { op: 'host_exit' });
        original();
      };
    }),
  ],
  [
    'wrong-code',
    'BUSY is reported as NOT_INITIALIZED.',
    'host-exit/busy-while-attached',
    recodeBackend('hostExit', 'BUSY', 'NOT_INITIALIZED'),
  ],
  ['silent-when-closed', 'A closed backend accepts host_exit.', 'close/host-exit-refused', silentBackend('hostExit', 'CLOSED')],
]);

const frames = (make: (mfn: number, hva: number, backend: { fromVirtToMfn(hva: never): unknown }) => number) =>
  onBackend('doFromVirtToMfn', (original, backend) => (hva) => make(original(hva), hva, backend));
const pages = (change: (pages: HostPages) => HostPages) =>
  onBackend('doAllocateHostPages', (original) => (count) => change(original(count)));
/** The same host pages with some of their properties replaced. */
const changed = (from: HostPages, changes: Partial<HostPages>): HostPages => {
  for (const [name, value] of Object.entries(changes)) Object.defineProperty(from, name, { value });
  return from;
};

const fromVirt = mutantsOf('from_virt_to_mfn', [
  ['off-by-one', 'The frame behind the right one is given.', 'from-virt/matches-host-pages', frames((mfn) => mfn + 1)],
  [
    'first-of-block',
    'Every page of a block has the frame of its first page.',
    'from-virt/matches-host-pages',
    onBackend('doFromVirtToMfn', (original) => {
      let first: number | undefined;
      return (hva) => (first ??= original(hva));
    }),
  ],
  [
    'rounds-up',
    'The last byte of a page belongs to the next frame.',
    'from-virt/matches-host-pages',
    frames((mfn, hva) => (hva % PAGE_SIZE === PAGE_SIZE - 1 ? mfn + 1 : mfn)),
  ],
  [
    'stale',
    'Released pages still have a frame.',
    'from-virt/released-pages',
    onBackend('doFromVirtToMfn', (original, backend) => {
      const known = new Map<number, number>();
      onBackend('doAllocateHostPages', (allocate) => (count) => {
        const got = allocate(count);
        known.set(got.hva, got.mfn);
        return got;
      })(backend);
      return (hva) => known.get(hva) ?? original(hva);
    }),
  ],
  [
    'all-ones',
    'An address without memory gives the all-ones frame instead of an error.',
    'from-virt/unmapped-address',
    silentBackend('doFromVirtToMfn', 'INVALID_ADDRESS', 2 ** 40 - 1),
  ],
  [
    'names-no-address',
    'The error does not name the address.',
    'from-virt/unmapped-address',
    vagueBackend('fromVirtToMfn', 'INVALID_ADDRESS', 'address'),
  ],
  [
    'takes-zero',
    'Address 0 has a frame.',
    'from-virt/address-zero',
    onBackend('fromVirtToMfn', (original) => (hva) => (hva === 0 ? 0 : original(hva))),
  ],
  [
    'takes-nan',
    'NaN is an address.',
    'from-virt/address-nan',
    onBackend('fromVirtToMfn', (original) => (hva) => (Number.isNaN(hva) ? 0 : original(hva))),
  ],
  [
    'takes-fractions',
    'A fraction is rounded to an address.',
    'from-virt/address-fraction',
    onBackend('fromVirtToMfn', (original) => (hva) => (hva % 1 === 0 ? original(hva) : 1)),
  ],
  [
    'limit-ignored',
    'Addresses at 2^52 are looked up.',
    'from-virt/address-at-2-52',
    onBackend('fromVirtToMfn', (original) => (hva) => (hva === 2 ** 52 ? 1 : original(hva))),
  ],
  [
    'wrong-code',
    'An address without memory answers NOT_RAM.',
    'from-virt/unmapped-address',
    recodeBackend('fromVirtToMfn', 'INVALID_ADDRESS', 'NOT_RAM'),
  ],
  [
    'pages-overlap',
    'The second allocation of host pages begins inside the first.',
    'from-virt/two-allocations-differ',
    onBackend('doAllocateHostPages', (original) => {
      let last: HostPages | undefined;
      return (count) => {
        const got = original(count);
        const before = last;
        last = got;
        return before === undefined ? got : changed(got, { mfn: (before.mfn + 1) as HostPages['mfn'] });
      };
    }),
  ],
  [
    'pages-dirty',
    'Host pages are not zeroed.',
    'from-virt/host-pages-are-zero',
    pages((got) => {
      got.bytes[got.bytes.length - 1] = 1;
      return got;
    }),
  ],
  [
    'pages-short',
    'One byte less than asked is allocated.',
    'from-virt/host-pages-are-zero',
    pages((got) => changed(got, { bytes: got.bytes.subarray(1) })),
  ],
  [
    'pages-limit',
    'One page more than the limit is allocated.',
    'from-virt/host-pages-count-above-65536',
    onBackend('allocateHostPages', (original) => (count) => original(Math.min(count, 65_536))),
  ],
  ['silent-when-closed', 'A closed backend gives a frame.', 'close/from-virt-to-mfn-refused', silentBackend('fromVirtToMfn', 'CLOSED', 1)],
]);

const dom0Ready = mutantsOf('dom0_ready', [
  [
    'once',
    'The second call fails.',
    'dom0-ready/accepted',
    onBackend('doDom0Ready', (original, backend) => () => {
      if (backend.dom0ReadyCount > 0) throw backend.error('BUSY', 'told before', { op: 'dom0_ready' });
      original();
    }),
  ],
  ['unbound', 'It succeeds before host_init.', 'dom0-ready/before-host-init', silentBackend('dom0Ready', 'NOT_INITIALIZED')],
  [
    'declared-but-absent',
    'The capability is declared, but the operation answers UNSUPPORTED.',
    'capability/dom0-ready-honest',
    onBackend('require', (original, backend) => (capability, op) => {
      if (op === 'dom0_ready') throw backend.error('UNSUPPORTED', 'not here', { op });
      original(capability, op);
    }),
  ],
  [
    'absent-but-works',
    'The capability is declared absent, but the operation works.',
    'capability/dom0-ready-honest',
    all(
      backendProperty('capabilities', (_, original) => Object.freeze({ ...(original as object), dom0Ready: false })),
      silentBackend('require', 'UNSUPPORTED'),
    ),
  ],
  ['silent-when-closed', 'A closed backend accepts it.', 'close/dom0-ready-refused', silentBackend('dom0Ready', 'CLOSED')],
]);

export const HOST_MUTANTS: readonly Mutant[] = [...hostInit, ...hostExit, ...fromVirt, ...dom0Ready];
