/**
 * The MPT operations on ACRN, in a service VM. A frame of guest RAM and a DMA address are physical ones of the service VM, which the
 * hypervisor maps one to one; frames of host pages are numbers of ours.
 */
import { type Hva, Mfn, type VmId } from '../../core/addresses.js';
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { MptError } from '../../core/errors.js';
import type { Machine, MachineSpec } from '../../core/machine.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { MptBackend } from '../../core/mpt-backend.js';
import { DEFAULT_LIMITS } from '../../core/mpt-handle.js';
import { PageFrames } from '../../native/page-frames.js';
import { O, type Syscalls } from '../../native/syscalls.js';
import type { AcrnDialect } from './calls.js';
import { AcrnHandle } from './handle.js';
import { HostPagePool } from './host-pages.js';
import { VmIdentities } from './identities.js';
import { AcrnMachine, type AcrnVmOwner } from './machine.js';
import { type AcrnAbi, acrnCapabilities, findAcrn } from './probe.js';

export interface AcrnOptions {
  /** ABI to speak: `hsm`, `vhm`, or `auto` (default): the first whose device answers, in this order. */
  readonly abi?: AcrnAbi;
  /** Device node, default the ABI's own. */
  readonly device?: string;
  /** `sync` (pages compared, default) or `trap` (frames without the right to write). */
  readonly pageTrack?: PageTrackLevel;
  /** Pages that one vGPU's DMA mappings may pin. Default: no limit. */
  readonly pinLimitPages?: number;
  /** VMs as the hypervisor knows them, by UUID or name: each machine takes the first that is free. Default: names of our own. */
  readonly vms?: readonly string[];
  /** Physical CPUs, 0 to 63, on which a VM's vCPUs run: one vCPU each. Default: as the hypervisor's scenario has it. */
  readonly cpus?: readonly number[];
}

/** Where a udev rule sees that the display of the service VM is up: a "change" event of the device, with a key of ours. */
const uevent = ({ sysfsClass }: AcrnDialect, device: string): string =>
  `/sys/class/${sysfsClass}/${device.slice(device.lastIndexOf('/') + 1)}/uevent`;
/** `ACTION UUID KEY=VALUE` (Documentation/ABI/testing/sysfs-uevent); listeners see SYNTH_ARG_GVT_DOM0_READY=1. */
const DOM0_READY = 'change 0b0a9a34-6c1c-4c5e-9d3f-6d70742d6163 GVT_DOM0_READY=1';
const ENOENT = 2;

export class AcrnBackend extends MptBackend implements AcrnVmOwner {
  readonly name = 'acrn';
  readonly version: string;
  readonly capabilities: Readonly<Capabilities>;
  readonly sys: Syscalls;
  readonly dialect: AcrnDialect;
  readonly device: string;
  readonly pagemap: PageFrames;
  readonly pinLimit: number;
  readonly hostPages: HostPagePool;
  readonly identities: VmIdentities;
  readonly cpus: readonly number[];
  readonly #vms = new Map<VmId, AcrnMachine>();

  constructor(sys: Syscalls, options: AcrnOptions = {}) {
    super();
    this.sys = sys;
    const { abi, device, pageTrack, pinLimitPages = DEFAULT_LIMITS.pinnedPages, vms, cpus = [] } = options;
    this.pinLimit = pinLimitPages;
    this.identities = new VmIdentities(vms, sys.getpid());
    this.cpus = checkedCpus(cpus);
    const found = findAcrn(sys, abi, device);
    if (typeof found === 'string') throw new MptError('UNAVAILABLE', found, { backend: 'acrn', op: 'open' });
    this.dialect = found.dialect;
    this.device = found.device;
    this.version = found.version;
    this.capabilities = acrnCapabilities(pageTrack);
    this.pagemap = new PageFrames(sys);
    this.hostPages = new HostPagePool(sys, (pages) => this.requireUnused(pages));
  }

  protected override doHasVm(vmId: VmId): boolean {
    return this.#vms.has(vmId);
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): AcrnHandle {
    return new AcrnHandle(this, this.#vms.get(vgpu.vmId) as AcrnMachine, vgpu);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    const pages = this.hostPages.frameAt(hva);
    if (pages !== undefined) return pages;
    for (const { memory } of this.#vms.values()) {
      const gfn = memory.gfnAt(hva);
      if (gfn !== undefined) return Mfn(memory.frameOf(gfn));
    }
    throw new MptError('INVALID_ADDRESS', 'the address is neither guest RAM nor host pages of this backend', { address: hva });
  }

  /** Where the device has no sysfs node there is nobody to tell. */
  protected override doDom0Ready(): void {
    const path = uevent(this.dialect, this.device);
    const fd = this.sys.open(path, O.RDWR | O.CLOEXEC);
    if (fd === -ENOENT) return;
    if (fd < 0) throw new MptError('IO', `${path} cannot be opened`, { errno: -fd });
    const result = this.sys.write(fd, new TextEncoder().encode(DOM0_READY));
    this.sys.close(fd);
    if (result < 0) throw new MptError('IO', `${path} cannot be written`, { errno: -result });
  }

  protected override doAllocateHostPages(count: number): HostPages {
    return this.hostPages.allocate(count);
  }

  protected override doCreateMachine(spec: MachineSpec): Machine {
    const machine = new AcrnMachine(this, spec);
    this.#vms.set(machine.vmId, machine);
    return machine;
  }

  /** The machine with this VM id, or undefined. */
  machineOf(vmId: number): AcrnMachine | undefined {
    return this.#vms.get(vmId as VmId);
  }

  /** Called by a machine that closes. */
  vmClosed(vm: AcrnMachine): void {
    this.vmGone(vm.vmId);
    this.#vms.delete(vm.vmId);
  }

  protected override doClose(): void {
    for (const vm of [...this.#vms.values()]) vm.close();
    this.hostPages.close();
    this.pagemap.close();
  }
}

const CPU_MAX = 63;

function checkedCpus(cpus: readonly number[]): readonly number[] {
  const wrong = cpus.find((cpu) => !Number.isInteger(cpu) || cpu < 0 || cpu > CPU_MAX);
  if (wrong !== undefined)
    throw new MptError('INVALID_ARGUMENT', `cpus: ${wrong} is no CPU`, { backend: 'acrn', op: 'open', limit: CPU_MAX, hint: '0 to 63' });
  return cpus;
}
