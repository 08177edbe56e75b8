/** Two VMs of one backend share nothing. */
import { Gfn, Gpa, PAGE_SIZE } from '../../core/addresses.js';
import type { Machine } from '../../core/machine.js';
import type { MptHandle } from '../../core/mpt-handle.js';
import type { GuestAgent } from '../../guest/agent.js';
import { type CaseSpec, type ConformanceCase, group } from '../case.js';
import type { CaseContext } from '../context.js';
import { equal, ok, pattern, refuses, sameBytes } from '../expect.js';
import { firstFrame, HOLE, MSI_ADDRESS, RAM_HIGH, SCRATCH, SCRATCH_FRAME, VGPU_BDF } from '../layout.js';

const PAGE = Gfn(SCRATCH_FRAME);

interface Vm {
  readonly machine: Machine;
  readonly handle: MptHandle;
}
interface RunningVm extends Vm {
  readonly agent: GuestAgent;
}

/** Two VMs with vGPU 1 and 2 at the same PCI address. */
function pair(ctx: CaseContext): readonly [Vm, Vm] {
  const machine = ctx.createMachine();
  return [
    { machine: ctx.machine, handle: ctx.handle },
    { machine, handle: ctx.attach({ id: 2, machine }) },
  ];
}
function runningPair(ctx: CaseContext): readonly [RunningVm, RunningVm] {
  const [a, b] = pair(ctx);
  return [
    { ...a, agent: ctx.agent },
    { ...b, agent: ctx.bootAgent(b.machine) },
  ];
}

const host: CaseSpec[] = [
  {
    name: 'vm-ids-differ',
    rule: 'Two VMs have different ids.',
    operations: [],
    run(ctx) {
      const [a, b] = pair(ctx);
      ok(a.machine.vmId !== b.machine.vmId, `both have the id ${a.machine.vmId}`);
    },
  },
  {
    name: 'memory',
    rule: 'A write to one VM changes no memory of the other, at equal addresses in every region.',
    operations: ['read_gpa', 'write_gpa'],
    run(ctx) {
      const [a, b] = pair(ctx);
      for (const gpa of [SCRATCH, RAM_HIGH.gpa]) {
        ctx.poke(gpa, pattern(64, 1), a.handle);
        ctx.poke(gpa, pattern(64, 2), b.handle);
        sameBytes(ctx.peek(gpa, 64, a.handle), pattern(64, 1), 'memory of the first VM');
        sameBytes(ctx.peek(gpa, 64, b.handle), pattern(64, 2), 'memory of the second VM');
      }
    },
  },
  {
    name: 'host-frames',
    rule: 'The same guest frame of two VMs has different host frames.',
    operations: ['gfn_to_mfn'],
    run(ctx) {
      const [a, b] = pair(ctx);
      ok(a.handle.gfnToMfn(PAGE) !== b.handle.gfnToMfn(PAGE), 'both VMs have the same host frame');
    },
  },
  {
    name: 'dma-address',
    rule: 'A DMA address of one VM is refused for the vGPU of the other: view, copy, unmap and pin.',
    operations: ['dma_map_guest_page', 'dma_unmap_guest_page', 'dma_pin_guest_page'],
    run(ctx) {
      const [a, b] = pair(ctx);
      const address = a.handle.dmaMapGuestPage(PAGE, PAGE_SIZE);
      refuses('NOT_MAPPED', () => b.handle.view(address, 4));
      refuses('NOT_MAPPED', () => b.handle.copyFrom(address, new Uint8Array(4), 0, 4));
      ctx.refuses('NOT_MAPPED', 'dma_unmap_guest_page', () => b.handle.dmaUnmapGuestPage(address));
      if (ctx.has('dmaPin')) ctx.refuses('NOT_MAPPED', 'dma_pin_guest_page', () => b.handle.dmaPinGuestPage(address));
      a.handle.view(address, PAGE_SIZE);
    },
  },
  {
    name: 'dma-addresses-differ',
    rule: 'The same guest frame of two VMs has different DMA addresses, each showing its own VM.',
    operations: ['dma_map_guest_page'],
    run(ctx) {
      const [a, b] = pair(ctx);
      ctx.poke(SCRATCH, pattern(16, 1), a.handle);
      ctx.poke(SCRATCH, pattern(16, 2), b.handle);
      const [addressA, addressB] = [a.handle.dmaMapGuestPage(PAGE, PAGE_SIZE), b.handle.dmaMapGuestPage(PAGE, PAGE_SIZE)];
      ok(addressA !== addressB, 'both VMs have the same DMA address');
      sameBytes(a.handle.view(addressA, 16), pattern(16, 1), 'first VM');
      sameBytes(b.handle.view(addressB, 16), pattern(16, 2), 'second VM');
    },
  },
  {
    name: 'close-one',
    rule: 'Destroying one VM leaves the other and its vGPU working.',
    operations: ['read_gpa', 'write_gpa', 'dma_map_guest_page'],
    run(ctx) {
      const [a, b] = pair(ctx);
      const address = b.handle.dmaMapGuestPage(PAGE, PAGE_SIZE);
      a.machine.close();
      ctx.refuses('VM_GONE', 'read_gpa', () => ctx.peek(SCRATCH, 4, a.handle));
      ctx.poke(SCRATCH, pattern(8, 3), b.handle);
      sameBytes(b.handle.view(address, 8), pattern(8, 3), 'memory of the VM that is left');
    },
  },
];

const guest: CaseSpec[] = [
  {
    name: 'guest-memory',
    rule: 'A store of one guest is not seen by the other.',
    operations: ['read_gpa'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      a.agent.write(SCRATCH, 4, 0x1111_1111);
      equal(b.agent.read(SCRATCH, 4), 0, 'memory of the other guest');
    },
  },
  {
    name: 'accesses',
    rule: 'The same trap area and PCI address in two VMs deliver each access to the vGPU of its own VM.',
    operations: ['set_trap_area', 'attach_vgpu'],
    needs: ['setTrapArea'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      for (const { handle } of [a, b]) handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      for (const { agent, machine, handle } of [a, b]) {
        ctx.recorder.clear();
        agent.read(HOLE.gpa, 4);
        ctx.recorder.expectOne({ kind: 'mmio', vm: machine.vmId, vgpu: handle.vgpu.id });
        ctx.recorder.clear();
        agent.pciRead(VGPU_BDF, 0, 4);
        ctx.recorder.expectOne({ kind: 'pci', vm: machine.vmId, vgpu: handle.vgpu.id });
      }
    },
  },
  {
    name: 'trap-area-of-one',
    rule: 'A trap area of one VM claims nothing in another.',
    operations: ['set_trap_area'],
    needs: ['setTrapArea'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      a.handle.setTrapArea(Gpa(HOLE.gpa), Gpa(HOLE.gpa + 0xfff), true);
      b.agent.read(HOLE.gpa, 4);
      ctx.recorder.expectOne({ kind: 'mmio', vm: b.machine.vmId, vgpu: 0 });
    },
  },
  {
    name: 'page-track',
    rule: 'Tracking a frame of one VM reports nothing that the other VM writes.',
    operations: ['enable_page_track'],
    needs: ['pageTrack'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      a.handle.enablePageTrack(PAGE);
      b.agent.write(SCRATCH, 4, 7);
      ctx.recorder.expectNone('the other VM wrote');
      equal(a.handle.syncPageTrack(), 0, 'frames reported');
      equal(b.agent.read(SCRATCH, 4), 7, 'memory of the other VM');
    },
  },
  {
    name: 'interrupts',
    rule: 'A message to one VM raises nothing in the other.',
    operations: ['inject_msi'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      a.handle.injectMsi(MSI_ADDRESS, 0x61);
      b.handle.injectMsi(MSI_ADDRESS, 0x62);
      a.agent.waitInterrupt(0x61, 1);
      b.agent.waitInterrupt(0x62, 1);
      equal(a.agent.interruptCount(0x62), 0, 'vector of the second VM in the first');
      equal(b.agent.interruptCount(0x61), 0, 'vector of the first VM in the second');
    },
  },
  {
    name: 'mappings',
    rule: 'Host pages mapped into one VM are not there in another, unless mapped there too; then both share them.',
    operations: ['map_gfn_to_mfn'],
    needs: ['mapGfnToMfn', 'hostPages'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      const { mfn } = ctx.hostPages(1);
      const at = Gfn(firstFrame(HOLE));
      a.handle.mapGfnToMfn(at, mfn, 1, true);
      equal(b.agent.read(HOLE.gpa, 4), 0xffff_ffff, 'value in the VM without the mapping');
      ctx.recorder.expectOne({ kind: 'mmio', vm: b.machine.vmId });
      b.handle.mapGfnToMfn(at, mfn, 1, true);
      a.agent.write(HOLE.gpa, 4, 0x5151_5151);
      equal(b.agent.read(HOLE.gpa, 4), 0x5151_5151, 'value in the VM that shares the page');
    },
  },
  {
    name: 'close-one-running',
    rule: 'Destroying one running VM leaves the guest of the other running.',
    operations: ['attach_vgpu'],
    run(ctx) {
      const [a, b] = runningPair(ctx);
      a.agent.write(SCRATCH, 4, 1);
      a.machine.close();
      b.agent.write(SCRATCH, 4, 2);
      equal(b.agent.read(SCRATCH, 4), 2, 'memory of the guest that is left');
    },
  },
];

export const ISOLATION_CASES: readonly ConformanceCase[] = [
  ...group('isolation', { operations: [] }, host),
  ...group('isolation', { operations: [], guest: true }, guest),
];
