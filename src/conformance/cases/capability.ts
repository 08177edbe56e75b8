/**
 * Capabilities are honest both ways. Each case holds for every backend and is never skipped: what is declared works,
 * what is not declared answers UNSUPPORTED.
 */
import { bdf, Gfn, Gpa, HUGE_PAGE_SIZE, type Mfn, PAGE_SIZE } from '../../core/addresses.js';
import type { Capability } from '../../core/capabilities.js';
import { MPT_OPERATIONS, type MptOperationName, OP_INDEX } from '../../core/mpt.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok } from '../expect.js';
import { firstFrame, HOLE, lastByte, MSI_ADDRESS, RAM_LAYOUT, SCRATCH_FRAME } from '../layout.js';
import { HANDLE_CALLS } from './handle-calls.js';
import { edidBlock } from './optional.js';

interface Probe {
  readonly capability: Capability;
  /** Name in errors. */
  readonly op: string;
  readonly operations: readonly MptOperationName[];
  /** Without a VM the call can be made too. */
  readonly vm?: false;
  /** Prepares what the call needs where the capability is declared, and gives the call. */
  prepare(ctx: CaseContext): () => unknown;
}

const frame = Gfn(SCRATCH_FRAME);
const hole = Gfn(firstFrame(HOLE));

/** One call for each operation that a capability stands for. */
const PROBES: readonly Probe[] = [
  {
    capability: 'pageTrack',
    op: 'enable_page_track',
    operations: ['enable_page_track'],
    prepare:
      ({ handle }) =>
      () =>
        handle.enablePageTrack(frame),
  },
  {
    capability: 'pageTrack',
    op: 'disable_page_track',
    operations: ['disable_page_track'],
    prepare:
      ({ handle }) =>
      () =>
        handle.disablePageTrack(frame),
  },
  {
    capability: 'mapGfnToMfn',
    op: 'map_gfn_to_mfn',
    operations: ['map_gfn_to_mfn'],
    prepare: (ctx) => {
      const { handle } = ctx;
      const mfn = ctx.has('hostPages') ? ctx.hostPages(1).mfn : (1 as Mfn);
      return () => handle.mapGfnToMfn(hole, mfn, 1, true);
    },
  },
  {
    capability: 'setTrapArea',
    op: 'set_trap_area',
    operations: ['set_trap_area'],
    prepare:
      ({ handle }) =>
      () =>
        handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true),
  },
  {
    capability: 'setPvmmio',
    op: 'set_pvmmio',
    operations: ['set_pvmmio'],
    prepare: (ctx) => {
      const pages = ctx.has('hostPages') ? { pvmmio: { registerFile: ctx.hostPages(512), sharedPage: ctx.hostPages(1) } } : {};
      const handle = ctx.attach(pages);
      if (ctx.has('setTrapArea')) handle.setTrapArea(Gpa(HOLE.gpa), Gpa(lastByte(HOLE)), true);
      return () => handle.setPvmmio(Gpa(HOLE.gpa), Gpa(lastByte(HOLE)), true);
    },
  },
  {
    capability: 'dom0Ready',
    op: 'dom0_ready',
    operations: ['dom0_ready'],
    vm: false,
    prepare:
      ({ backend }) =>
      () =>
        backend.dom0Ready(),
  },
  {
    capability: 'setOpregion',
    op: 'set_opregion',
    operations: ['set_opregion'],
    prepare: (ctx) => {
      const { handle } = ctx;
      const bytes = new Uint8Array(2 * PAGE_SIZE);
      const pages = ctx.has('hostPages') ? ctx.hostPages(2) : { mfn: 1 as Mfn, hva: PAGE_SIZE as never, count: 2, bytes, release() {} };
      return () => handle.setOpregion(pages);
    },
  },
  {
    capability: 'setEdid',
    op: 'set_edid',
    operations: ['set_edid'],
    prepare:
      ({ handle }) =>
      () =>
        handle.setEdid(1, edidBlock()),
  },
  {
    capability: 'vfioDevice',
    op: 'get_vfio_device',
    operations: ['get_vfio_device'],
    prepare:
      ({ handle }) =>
      () =>
        handle.getVfioDevice(),
  },
  {
    capability: 'vfioDevice',
    op: 'put_vfio_device',
    operations: ['put_vfio_device'],
    prepare: (ctx) => {
      const { handle } = ctx;
      if (ctx.has('vfioDevice')) handle.getVfioDevice();
      return () => handle.putVfioDevice();
    },
  },
  {
    capability: 'isValidGfn',
    op: 'is_valid_gfn',
    operations: ['is_valid_gfn'],
    prepare:
      ({ handle }) =>
      () =>
        handle.isValidGfn(frame),
  },
  {
    capability: 'dmaPin',
    op: 'dma_pin_guest_page',
    operations: ['dma_pin_guest_page'],
    prepare: ({ handle }) => {
      const address = handle.dmaMapGuestPage(frame, PAGE_SIZE);
      return () => handle.dmaPinGuestPage(address);
    },
  },
  {
    capability: 'dmaHugePage',
    op: 'dma_map_guest_page',
    operations: ['dma_map_guest_page'],
    prepare:
      ({ handle }) =>
      () =>
        handle.dmaMapGuestPage(Gfn(512), HUGE_PAGE_SIZE),
  },
  {
    capability: 'hostPages',
    op: 'allocate_host_pages',
    operations: [],
    vm: false,
    prepare:
      ({ backend }) =>
      () =>
        backend.allocateHostPages(1),
  },
  {
    capability: 'machine',
    op: 'create_machine',
    operations: [],
    vm: false,
    prepare:
      ({ backend }) =>
      () =>
        backend.createMachine({ ram: RAM_LAYOUT }).close(),
  },
  {
    capability: 'foreignVm',
    op: 'open_machine',
    operations: [],
    vm: false,
    prepare: (ctx) => {
      const vmId = ctx.has('foreignVm') && ctx.has('machine') ? ctx.open().createMachine({ ram: RAM_LAYOUT }).vmId : 1;
      return () => ctx.backend.openMachine(vmId).close();
    },
  },
  {
    capability: 'msiEventfd',
    op: 'arm_msi',
    operations: ['inject_msi'],
    prepare:
      ({ handle }) =>
      () =>
        handle.armMsi(MSI_ADDRESS, 0x40),
  },
];

const honesty = PROBES.map(
  ({ capability, op, operations, vm, prepare }): CaseSpec => ({
    name: `${op.replaceAll('_', '-')}-honest`,
    rule: `${op} works where ${capability} is declared and answers UNSUPPORTED where it is not.`,
    operations,
    ...(vm === false ? { vm } : {}),
    run(ctx) {
      const declared = ctx.has(capability);
      const call = prepare(ctx);
      if (declared) call();
      else ctx.refuses('UNSUPPORTED', op, call);
    },
  }),
);

/** Not an operation: nothing to call, so nothing that answers UNSUPPORTED. */
const barAccess: CaseSpec = {
  name: 'bar-access-honest',
  rule: 'A guest access where the guest placed BAR 0 is delivered to the vGPU where barAccess is declared, and to no vGPU where it is not.',
  guest: true,
  run(ctx) {
    ctx.placeBar(HOLE.gpa);
    ctx.agent.write(HOLE.gpa + 0x100, 4, 1);
    ctx.recorder.expectOne({ kind: 'mmio', write: true, address: HOLE.gpa + 0x100, vgpu: ctx.has('barAccess') ? 1 : 0 });
  },
};

const wholeBus: CaseSpec = {
  name: 'whole-bus-honest',
  rule: 'A store to an address without RAM that no vGPU owns is delivered where wholeBus is declared, and is not where it is not.',
  guest: true,
  run(ctx) {
    ok(ctx.handle.attached, 'the vGPU is not attached');
    ctx.agent.write(HOLE.gpa + 0x80_0000, 4, 1);
    if (ctx.has('wholeBus')) ctx.recorder.expectOne({ kind: 'mmio', write: true, address: HOLE.gpa + 0x80_0000, vgpu: 0 });
    else ctx.recorder.expectNone('wholeBus is not declared');
  },
};

const declaration: CaseSpec[] = [
  {
    name: 'declaration-complete',
    rule: 'Every capability is declared: a boolean each, and trap, sync or null for page track.',
    vm: false,
    run(ctx) {
      const { capabilities } = ctx.backend;
      const names = [...new Set<Capability>([...PROBES.map((probe) => probe.capability), 'barAccess', 'wholeBus'])].sort();
      equal(Object.keys(capabilities).sort().join(), names.join(), 'names declared');
      for (const name of names)
        if (name === 'pageTrack') ok(['trap', 'sync', null].includes(capabilities.pageTrack), `pageTrack is ${capabilities.pageTrack}`);
        else equal(typeof capabilities[name], 'boolean', name);
    },
  },
  {
    name: 'declaration-constant',
    rule: 'What a backend declares does not change while it works, and two of the same kind declare the same.',
    vm: false,
    run(ctx) {
      const before = JSON.stringify(ctx.backend.capabilities);
      ctx.backend.hostExit();
      equal(JSON.stringify(ctx.backend.capabilities), before, 'after host_exit');
      equal(JSON.stringify(ctx.open().capabilities), before, 'of another backend');
    },
  },
  {
    name: 'declaration-frozen',
    rule: 'The declaration cannot be changed from outside.',
    vm: false,
    run(ctx) {
      ok(Object.isFrozen(ctx.backend.capabilities), 'the capabilities object is not frozen');
    },
  },
  {
    name: 'calls-counted',
    rule: 'Each call of a handle is counted once under its operation, refused ones too.',
    operations: MPT_OPERATIONS.filter(({ on }) => on === 'handle').map(({ name }) => name),
    run(ctx) {
      const { calls } = ctx.backend;
      ctx.handle.detachVgpu();
      equal(calls[OP_INDEX.detach_vgpu], 1, 'count of detach_vgpu');
      for (const [op, call] of HANDLE_CALLS) {
        if (!(op in OP_INDEX)) continue;
        const index = OP_INDEX[op as MptOperationName];
        const before = calls[index] as number;
        const all = calls.reduce((sum, count) => sum + count, 0);
        ctx.refuses('DETACHED', op, () => call(ctx.handle));
        equal((calls[index] as number) - before, 1, `calls counted of ${op}`);
        equal(calls.reduce((sum, count) => sum + count, 0) - all, 1, `calls counted in all for ${op}`);
      }
    },
  },
  {
    name: 'successful-calls-counted',
    rule: 'Calls that succeed are counted as well.',
    operations: ['host_init', 'attach_vgpu', 'read_gpa', 'write_gpa', 'gfn_to_mfn'],
    run(ctx) {
      ctx.poke(0, Uint8Array.of(1));
      ctx.peek(0, 1);
      ctx.handle.gfnToMfn(frame);
      const { calls } = ctx.backend;
      for (const op of ['host_init', 'attach_vgpu', 'read_gpa', 'write_gpa', 'gfn_to_mfn'] as const)
        equal(calls[OP_INDEX[op]], 1, `calls of ${op}`);
      equal(calls[OP_INDEX.host_exit], 0, 'calls of host_exit');
    },
  },
  {
    name: 'state-before-capability',
    rule: 'A detached handle answers DETACHED also to operations that the backend does not support.',
    run(ctx) {
      const handle = ctx.attach({ bdf: bdf(0, 4, 0) });
      handle.detachVgpu();
      ctx.refuses('DETACHED', 'set_edid', () => handle.setEdid(1, edidBlock()));
      ctx.refuses('DETACHED', 'get_vfio_device', () => handle.getVfioDevice());
    },
  },
];

export const CAPABILITY_CASES: readonly ConformanceCase[] = group('capability', { operations: [] }, [
  ...honesty,
  barAccess,
  wholeBus,
  ...declaration,
]);
