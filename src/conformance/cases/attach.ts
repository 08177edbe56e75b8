/** attach_vgpu. */
import { type Bdf, bdf, VgpuId, VmId } from '../../core/addresses.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import { equal, ok, refuses } from '../expect.js';
import { SCRATCH, SECOND_BDF, VGPU_BDF } from '../layout.js';

export const ATTACH_CASES: readonly ConformanceCase[] = group('attach', { operations: ['attach_vgpu'] }, [
  {
    name: 'gives-a-live-handle',
    rule: 'attach_vgpu gives a handle that is attached and carries what was attached.',
    run(ctx) {
      const handle = ctx.attach({ id: 3 });
      ok(handle.attached, 'the handle is not attached');
      equal(handle.vgpu.id, 3, 'vGPU number');
      equal(handle.vgpu.vmId, ctx.machine.vmId, 'VM');
      equal(handle.vgpu.bdf, VGPU_BDF, 'PCI address');
      equal(ctx.backend.attachedCount, 1, 'attached vGPUs');
    },
  },
  {
    name: 'before-host-init',
    rule: 'attach_vgpu before host_init answers NOT_INITIALIZED.',
    vm: false,
    run(ctx) {
      const backend = ctx.open();
      refuses('NOT_INITIALIZED', () => backend.attachVgpu({ id: VgpuId(1), vmId: VmId(1), bdf: VGPU_BDF }), {
        op: 'attach_vgpu',
        backend: backend.name,
      });
    },
  },
  ...(
    [
      ['never-created', 0x7fff_fff0],
      ['nan', Number.NaN],
      ['negative', -1],
      ['fraction', 1.5],
    ] as const
  ).map(
    ([name, vmId]): CaseSpec => ({
      name: `unknown-vm-${name}`,
      rule: 'attach_vgpu to a VM that the hypervisor does not have answers VM_NOT_FOUND and attaches nothing.',
      run(ctx) {
        ok(ctx.machine.vmId !== vmId, 'the VM exists by accident');
        ctx.refuses('VM_NOT_FOUND', 'attach_vgpu', () => ctx.backend.attachVgpu({ id: VgpuId(1), vmId: VmId(vmId), bdf: VGPU_BDF }));
        equal(ctx.backend.attachedCount, 0, 'attached vGPUs');
      },
    }),
  ),
  {
    name: 'closed-vm',
    rule: 'attach_vgpu to a VM that was destroyed answers VM_NOT_FOUND.',
    run(ctx) {
      ctx.machine.close();
      ctx.refuses('VM_NOT_FOUND', 'attach_vgpu', () => ctx.attach());
    },
  },
  {
    name: 'twice-same-vm',
    rule: 'Attaching an attached vGPU again answers ALREADY_ATTACHED and leaves the first attachment working.',
    run(ctx) {
      const { handle } = ctx;
      ctx.refuses('ALREADY_ATTACHED', 'attach_vgpu', () => ctx.attach({ bdf: SECOND_BDF }));
      ok(handle.attached, 'the first handle was detached');
      ctx.peek(SCRATCH, 4);
    },
  },
  {
    name: 'twice-other-vm',
    rule: 'One vGPU cannot be attached to two VMs: the second attach answers ALREADY_ATTACHED.',
    run(ctx) {
      const second = ctx.createMachine();
      ctx.attach();
      ctx.refuses('ALREADY_ATTACHED', 'attach_vgpu', () => ctx.attach({ machine: second }));
    },
  },
  {
    name: 'two-vgpus-one-vm',
    rule: 'Two vGPUs with different PCI addresses can be attached to one VM and detached separately.',
    run(ctx) {
      const first = ctx.attach({ id: 1 });
      const second = ctx.attach({ id: 2, bdf: SECOND_BDF });
      equal(ctx.backend.attachedCount, 2, 'attached vGPUs');
      first.detachVgpu();
      ok(second.attached, 'detaching one detached the other');
      ctx.peek(SCRATCH, 4, second);
    },
  },
  {
    name: 'same-pci-address',
    rule: 'A second vGPU at a PCI address that is taken in this VM answers OVERLAP and names the address.',
    run(ctx) {
      ctx.attach({ id: 1 });
      ctx.refuses('OVERLAP', 'attach_vgpu', () => ctx.attach({ id: 2 }), { address: VGPU_BDF });
    },
  },
  {
    name: 'same-pci-address-in-two-vms',
    rule: 'The same PCI address may be used in two VMs.',
    run(ctx) {
      const second = ctx.createMachine();
      ctx.attach({ id: 1 });
      ctx.attach({ id: 2, machine: second });
      equal(ctx.backend.attachedCount, 2, 'attached vGPUs');
    },
  },
  {
    name: 'again-after-detach',
    rule: 'A detached vGPU can be attached again, to the same or to another VM.',
    run(ctx) {
      ctx.attach().detachVgpu();
      ctx.attach().detachVgpu();
      const moved = ctx.attach({ machine: ctx.createMachine() });
      ok(moved.attached, 'the vGPU is not attached');
    },
  },
  ...(
    [
      ['zero', 0],
      ['negative', -1],
      ['fraction', 1.5],
      ['nan', Number.NaN],
      ['above-16-bits', 0x1_0000],
    ] as const
  ).map(
    ([name, id]): CaseSpec => ({
      name: `vgpu-id-${name}`,
      rule: 'attach_vgpu refuses a vGPU number outside 1 to 65535 as INVALID_ARGUMENT.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'attach_vgpu', () => ctx.attach({ id }));
        equal(ctx.backend.attachedCount, 0, 'attached vGPUs');
      },
    }),
  ),
  ...(
    [
      ['negative', -1],
      ['fraction', 0.5],
      ['nan', Number.NaN],
      ['above-16-bits', 0x1_0000],
    ] as const
  ).map(
    ([name, address]): CaseSpec => ({
      name: `pci-address-${name}`,
      rule: 'attach_vgpu refuses a PCI address that has not 16 bits as INVALID_ARGUMENT.',
      run(ctx) {
        ctx.refuses('INVALID_ARGUMENT', 'attach_vgpu', () => ctx.attach({ bdf: address as Bdf }));
      },
    }),
  ),
  {
    name: 'vgpu-id-last',
    rule: 'vGPU number 65535 is accepted.',
    run(ctx) {
      equal(ctx.attach({ id: 0xffff }).vgpu.id, 0xffff, 'vGPU number');
    },
  },
  ...(
    [
      ['first', bdf(0, 0, 0)],
      ['last', bdf(255, 31, 7)],
    ] as const
  ).map(
    ([name, address]): CaseSpec => ({
      name: `pci-address-${name}`,
      needs: ['wholeBus'],
      rule: 'The first and the last PCI address are accepted.',
      run(ctx) {
        equal(ctx.attach({ bdf: address }).vgpu.bdf, address, 'PCI address');
      },
    }),
  ),
]);
