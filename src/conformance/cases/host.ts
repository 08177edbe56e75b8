/** host_init, host_exit, from_virt_to_mfn, dom0_ready and what an unbound or closed backend refuses. */
import { Hva, PAGE_SIZE, VgpuId, VmId } from '../../core/addresses.js';
import type { GvtOps } from '../../core/gvt-ops.js';
import type { MptBackend } from '../../core/mpt-backend.js';
import { BAD_ADDRESSES, type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok, refuses } from '../expect.js';
import { RAM_LAYOUT, VGPU_BDF } from '../layout.js';
import { Recorder } from '../recorder.js';

const ANY_VGPU = { id: VgpuId(1), vmId: VmId(1), bdf: VGPU_BDF };

const hostInit = group('host-init', { operations: ['host_init'], vm: false }, [
  {
    name: 'binds-the-ops-table',
    rule: 'After host_init the backend reaches exactly the table that it was given.',
    run(ctx) {
      const backend = ctx.open();
      const table = new Recorder();
      equal(backend.state, 'created', 'state before');
      backend.hostInit(table);
      equal(backend.state, 'initialized', 'state after');
      equal(backend.ops, table, 'the table');
    },
  },
  {
    name: 'no-table-before',
    rule: 'Before host_init asking for the ops table answers NOT_INITIALIZED.',
    run(ctx) {
      const backend = ctx.open();
      refuses('NOT_INITIALIZED', () => backend.ops, { backend: backend.name });
    },
  },
  {
    name: 'twice',
    rule: 'A second host_init answers ALREADY_INITIALIZED and leaves the first table in force.',
    run(ctx) {
      const first = ctx.backend.ops;
      ctx.refuses('ALREADY_INITIALIZED', 'host_init', () => ctx.backend.hostInit(new Recorder()));
      equal(ctx.backend.ops, first, 'the table');
    },
  },
  ...([null, undefined, 7] as const).map(
    (table): CaseSpec => ({
      name: `table-is-${table}`,
      rule: 'host_init refuses what is no ops table as INVALID_ARGUMENT and stays unbound.',
      run(ctx) {
        const backend = ctx.open();
        refuses('INVALID_ARGUMENT', () => backend.hostInit(table as unknown as GvtOps), { op: 'host_init', backend: backend.name });
        equal(backend.state, 'created', 'state');
      },
    }),
  ),
  {
    name: 'again-after-host-exit',
    rule: 'After host_exit a backend can be bound to another table.',
    run(ctx) {
      ctx.backend.hostExit();
      const table = new Recorder();
      ctx.backend.hostInit(table);
      equal(ctx.backend.ops, table, 'the table');
    },
  },
]);

const hostExit = group('host-exit', { operations: ['host_exit'], vm: false }, [
  {
    name: 'unbinds',
    rule: 'After host_exit the ops table is out of reach and attach_vgpu answers NOT_INITIALIZED.',
    run(ctx) {
      ctx.backend.hostExit();
      equal(ctx.backend.state, 'exited', 'state');
      refuses('NOT_INITIALIZED', () => ctx.backend.ops);
      ctx.refuses('NOT_INITIALIZED', 'attach_vgpu', () => ctx.backend.attachVgpu(ANY_VGPU));
    },
  },
  {
    name: 'without-host-init',
    rule: 'host_exit without host_init answers NOT_INITIALIZED.',
    run(ctx) {
      const backend = ctx.open();
      refuses('NOT_INITIALIZED', () => backend.hostExit(), { op: 'host_exit', backend: backend.name });
    },
  },
  {
    name: 'twice',
    rule: 'A second host_exit answers NOT_INITIALIZED.',
    run(ctx) {
      ctx.backend.hostExit();
      ctx.refuses('NOT_INITIALIZED', 'host_exit', () => ctx.backend.hostExit());
    },
  },
  {
    name: 'busy-while-attached',
    rule: 'host_exit answers BUSY while a vGPU is attached and succeeds after the last one is detached.',
    vm: true,
    run(ctx) {
      const { handle } = ctx;
      ctx.refuses('BUSY', 'host_exit', () => ctx.backend.hostExit());
      ok(handle.attached, 'the refused host_exit detached the vGPU');
      handle.detachVgpu();
      ctx.backend.hostExit();
    },
  },
]);

/** Calls that a closed backend refuses, by the operation that the error names. */
const CLOSED_CALLS: readonly (readonly [string, CaseSpec['operations'], (backend: MptBackend) => unknown])[] = [
  ['host_init', ['host_init'], (backend) => backend.hostInit(new Recorder())],
  ['host_exit', ['host_exit'], (backend) => backend.hostExit()],
  ['attach_vgpu', ['attach_vgpu'], (backend) => backend.attachVgpu(ANY_VGPU)],
  ['from_virt_to_mfn', ['from_virt_to_mfn'], (backend) => backend.fromVirtToMfn(Hva(PAGE_SIZE))],
  ['dom0_ready', ['dom0_ready'], (backend) => backend.dom0Ready()],
  ['allocate_host_pages', [], (backend) => backend.allocateHostPages(1)],
  ['create_machine', [], (backend) => backend.createMachine({ ram: RAM_LAYOUT })],
];

const close = group('close', { operations: [], vm: false }, [
  ...CLOSED_CALLS.map(
    ([op, operations = [], call]): CaseSpec => ({
      name: `${op.replaceAll('_', '-')}-refused`,
      rule: `A closed backend answers CLOSED to ${op}.`,
      operations,
      run(ctx) {
        ctx.backend.close();
        ctx.refuses('CLOSED', op, () => call(ctx.backend));
      },
    }),
  ),
  {
    name: 'idempotent',
    rule: 'Closing a closed backend does nothing.',
    run(ctx) {
      ctx.backend.close();
      ctx.backend.close();
      equal(ctx.backend.state, 'closed', 'state');
    },
  },
  {
    name: 'before-host-init',
    rule: 'A backend that was never bound can be closed.',
    run(ctx) {
      const backend = ctx.open();
      backend.close();
      equal(backend.state, 'closed', 'state');
    },
  },
  {
    name: 'one-of-two-backends',
    rule: 'Closing one backend leaves another backend of the same kind working.',
    run(ctx) {
      const other = ctx.open();
      other.close();
      ctx.backend.hostExit();
      ctx.backend.hostInit(ctx.recorder);
    },
  },
]);

const fromVirt = group('from-virt', { operations: ['from_virt_to_mfn'], vm: false }, [
  {
    name: 'matches-host-pages',
    rule: 'from_virt_to_mfn of each host page gives the frame that allocateHostPages told, first to last byte.',
    needs: ['hostPages'],
    run(ctx) {
      const { hva, mfn, count } = ctx.hostPages(3);
      equal(count, 3, 'pages');
      for (let page = 0; page < 3; page++) {
        equal(ctx.backend.fromVirtToMfn(Hva(hva + page * PAGE_SIZE)), mfn + page, `frame of page ${page}, first byte`);
        equal(ctx.backend.fromVirtToMfn(Hva(hva + page * PAGE_SIZE + PAGE_SIZE - 1)), mfn + page, `frame of page ${page}, last byte`);
      }
    },
  },
  {
    name: 'two-allocations-differ',
    rule: 'Two allocations of host pages share no frame.',
    needs: ['hostPages'],
    run(ctx) {
      const [a, b] = [ctx.hostPages(2), ctx.hostPages(2)];
      ok(a.mfn + 2 <= b.mfn || b.mfn + 2 <= a.mfn, `frames ${a.mfn} and ${b.mfn} overlap`);
    },
  },
  {
    name: 'host-pages-are-zero',
    rule: 'Host pages are zeroed and as large as asked.',
    needs: ['hostPages'],
    operations: [],
    run(ctx) {
      const { bytes } = ctx.hostPages(2);
      equal(bytes.length, 2 * PAGE_SIZE, 'bytes');
      ok(
        bytes.every((byte) => byte === 0),
        'a byte is not zero',
      );
    },
  },
  {
    name: 'released-pages',
    rule: 'After release the address of a host page is refused as INVALID_ADDRESS.',
    needs: ['hostPages'],
    run(ctx) {
      const pages = ctx.hostPages(1);
      pages.release();
      ctx.refuses('INVALID_ADDRESS', 'from_virt_to_mfn', () => ctx.backend.fromVirtToMfn(pages.hva));
    },
  },
  {
    name: 'unmapped-address',
    rule: 'from_virt_to_mfn refuses an address that no host memory backs as INVALID_ADDRESS and names it.',
    run(ctx) {
      ctx.refuses('INVALID_ADDRESS', 'from_virt_to_mfn', () => ctx.backend.fromVirtToMfn(Hva(PAGE_SIZE)), { address: PAGE_SIZE });
    },
  },
  ...[...BAD_ADDRESSES, ['zero', 0] as const].map(
    ([name, hva]): CaseSpec => ({
      name: `address-${name}`,
      rule: 'from_virt_to_mfn refuses what is no host virtual address as INVALID_ADDRESS.',
      run(ctx) {
        ctx.refuses('INVALID_ADDRESS', 'from_virt_to_mfn', () => ctx.backend.fromVirtToMfn(Hva(hva)), { address: hva });
      },
    }),
  ),
  ...(
    [
      ['zero', 0],
      ['negative', -1],
      ['fraction', 1.5],
      ['nan', Number.NaN],
      ['above-65536', 65_537],
    ] as const
  ).map(
    ([name, count]): CaseSpec => ({
      name: `host-pages-count-${name}`,
      rule: 'allocateHostPages refuses a number of pages outside 1 to 65536 as INVALID_ARGUMENT.',
      needs: ['hostPages'],
      operations: [],
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'allocate_host_pages', () => ctx.backend.allocateHostPages(count), { limit: 65_536 });
      },
    }),
  ),
]);

const dom0Ready = group('dom0-ready', { operations: ['dom0_ready'], needs: ['dom0Ready'], vm: false }, [
  {
    name: 'accepted',
    rule: 'dom0_ready succeeds on a bound backend, also repeatedly.',
    run(ctx) {
      ctx.backend.dom0Ready();
      ctx.backend.dom0Ready();
    },
  },
  {
    name: 'before-host-init',
    rule: 'dom0_ready before host_init answers NOT_INITIALIZED.',
    run(ctx) {
      const backend = ctx.open();
      refuses('NOT_INITIALIZED', () => backend.dom0Ready(), { op: 'dom0_ready', backend: backend.name });
    },
  },
]);

export const HOST_CASES: readonly ConformanceCase[] = [...hostInit, ...hostExit, ...close, ...fromVirt, ...dom0Ready];
