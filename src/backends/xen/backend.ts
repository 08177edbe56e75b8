/** The host half of the MPT operations on Xen: dom0 with its libraries, the domains that it serves. */
import { type Hva, Mfn, PAGE_SIZE, VmId } from '../../core/addresses.js';
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { MptError } from '../../core/errors.js';
import type { Machine, MachineSpec, OpenMachineSpec } from '../../core/machine.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { MptBackend } from '../../core/mpt-backend.js';
import { DEFAULT_LIMITS } from '../../core/mpt-handle.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls } from '../../native/xen-calls.js';
import { DOM0, DOMID_LIMIT, XENCTRL, type XenctrlLayout } from './abi.js';
import { openXenCalls } from './calls.js';
import { type DomainInfo, readDomainInfo } from './domain.js';
import { XenHandle } from './handle.js';
import { HostPagePool } from './host-pages.js';
import { Journal, recoverStale } from './journal.js';
import { type GuestKind, XenMachine, type XenVmOwner } from './machine.js';
import { PciBars } from './pci-bars.js';
import { requireControl, requireXen, xenCapabilities } from './probe.js';

export interface XenOptions {
  /** `trap` (memory type, default) or `sync` (dirty log). */
  readonly pageTrack?: PageTrackLevel;
  /** Pages that one vGPU's DMA mappings may pin. Default: no limit but the domain's grant table. */
  readonly pinLimitPages?: number;
  /** Guests of `createMachine`: `hvm` (default) or `pvh`. */
  readonly guest?: GuestKind;
  /** vCPUs of guests of `createMachine`; vCPU 0 boots. Default 1. */
  readonly vcpus?: number;
  /** PCI functions of dom0 whose memory BARs map_gfn_to_mfn may give to guests, as `0000:00:02.0`. */
  readonly mapPciDevices?: readonly string[];
  /** `ioctl`: the kernel's interface instead of Xen's libraries, libxenctrl apart. Default `libraries`. */
  readonly calls?: 'libraries' | 'ioctl';
}

/** Most vCPUs of a guest that we create: what one page of requests holds. */
export const CREATED_VCPUS_MAX = 128;

export class XenBackend extends MptBackend implements XenVmOwner {
  readonly name = 'xen';
  readonly version: string;
  readonly capabilities: Readonly<Capabilities>;
  readonly sys: Syscalls;
  readonly xen: XenCalls;
  readonly layout: XenctrlLayout;
  readonly journal: Journal;
  readonly hostPages: HostPagePool;
  readonly bars: PciBars;
  readonly pinLimit: number;
  readonly guestKind: GuestKind;
  readonly vcpus: number;
  readonly #vms = new Map<VmId, XenMachine>();

  /** @param wrap stands between the backend and Xen's calls: tests inject failures here. @throws MptError UNAVAILABLE, INVALID_ARGUMENT */
  constructor(sys: Syscalls, options: XenOptions = {}, wrap: (calls: XenCalls) => XenCalls = (calls) => calls) {
    super();
    const { pageTrack = 'trap', pinLimitPages = DEFAULT_LIMITS.pinnedPages, guest = 'hvm', vcpus = 1, mapPciDevices = [], calls } = options;
    if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > CREATED_VCPUS_MAX)
      throw this.error('INVALID_ARGUMENT', `vcpus is ${vcpus}, not an integer from 1 on`, { op: 'open', limit: CREATED_VCPUS_MAX });
    this.sys = sys;
    this.pinLimit = pinLimitPages;
    this.guestKind = guest;
    this.vcpus = vcpus;
    this.capabilities = xenCapabilities(pageTrack);
    const version = requireXen(sys);
    this.version = `Xen ${version}`;
    this.layout = XENCTRL[version];
    this.bars = new PciBars(sys, mapPciDevices);
    this.xen = wrap(this.guard('open', () => openXenCalls(sys, version, calls === 'ioctl').calls));
    try {
      requireControl(this.xen, version);
      recoverStale(sys, this.xen, this.layout);
      this.journal = new Journal(sys);
      this.hostPages = new HostPagePool(this, (pages) => this.requireUnused(pages));
    } catch (error) {
      this.xen.close();
      throw error;
    }
  }

  /** For XenDomain only: Xen says that the domain does not exist. */
  domainGone(vmId: VmId): void {
    this.vmGone(vmId);
  }

  /** For XenMachine only: it lets go of its domain, which goes on or, when it is ours, ends. */
  vmClosed(vm: XenMachine): void {
    // Pages that are still pinned would keep the domain's memory, and with it the domain's id, until the last detach.
    for (const handle of this.handlesOf(vm.vmId)) (handle as XenHandle).releasePins(!vm.own && !vm.domain.gone);
    this.vmGone(vm.vmId);
    this.#vms.delete(vm.vmId);
  }

  protected override doHasVm(vmId: VmId): boolean {
    return this.#vms.has(vmId);
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): XenHandle {
    return new XenHandle(this, this.#vms.get(vgpu.vmId) as XenMachine, vgpu);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    const pages = this.hostPages.atHva(hva);
    if (pages === undefined) throw new MptError('INVALID_ADDRESS', 'the address is in no host pages of this backend', { address: hva });
    return Mfn(pages.mfn + Math.floor((hva - pages.hva) / PAGE_SIZE));
  }

  protected override doAllocateHostPages(count: number): HostPages {
    return this.hostPages.allocate(count);
  }

  protected override doCreateMachine(spec: MachineSpec): Machine {
    return this.#took(XenMachine.create(this, spec));
  }

  protected override doOpenMachine(vm: number | string, spec: OpenMachineSpec): Machine {
    const domid = this.#findDomain(vm);
    if (this.#vms.has(VmId(domid))) throw new MptError('BUSY', `domain ${domid} is taken up already`);
    return this.#took(XenMachine.adopt(this, domid, this.#requireServable(domid), spec));
  }

  protected override doClose(): void {
    for (const vm of [...this.#vms.values()]) vm.close();
    this.hostPages.close();
    this.journal.close(this.hostPages.kept);
    this.xen.close();
  }

  #took(machine: XenMachine): XenMachine {
    this.#vms.set(machine.vmId, machine);
    return machine;
  }

  /** The id of a domain given by id or name. @throws MptError VM_NOT_FOUND */
  #findDomain(vm: number | string): number {
    const number = typeof vm === 'number' ? vm : /^\d+$/.test(vm) ? Number(vm) : undefined;
    if (number !== undefined) {
      if (Number.isSafeInteger(number) && number >= 0 && number < DOMID_LIMIT) return number;
      throw new MptError('VM_NOT_FOUND', `${vm} is no domain id`, { limit: DOMID_LIMIT - 1, hint: 'see: xl list' });
    }
    const info = new Uint8Array(this.layout.xc_domaininfo_t.size);
    const names: string[] = [];
    for (let domid = this.xen.domainInfo(0, info); domid >= 0; domid = this.xen.domainInfo(domid + 1, info)) {
      const name = this.xen.domainName(domid);
      if (name === vm) return domid;
      if (name !== undefined) names.push(name);
    }
    const known = names.length === 0 ? 'xenstore knows no names: give the number' : `there are ${names.join(', ')}`;
    throw new MptError('VM_NOT_FOUND', `no domain is called '${vm}'`, { hint: known });
  }

  /** @throws MptError VM_NOT_FOUND, UNSUPPORTED */
  #requireServable(domid: number): DomainInfo {
    const info = readDomainInfo(this.xen, this.layout, domid);
    if (info === undefined || info.dying) throw new MptError('VM_NOT_FOUND', `there is no domain ${domid}`, { hint: 'see: xl list' });
    if (domid === DOM0) throw new MptError('UNSUPPORTED', 'domain 0 is the control domain', { hint: 'name a guest: xl list' });
    if (!info.hvm)
      throw new MptError('UNSUPPORTED', `domain ${domid} is a PV guest, which has no emulated devices`, {
        hint: "set type='hvm' or type='pvh' in its configuration",
      });
    if (!info.hap)
      throw new MptError('UNSUPPORTED', `domain ${domid} has no hardware-assisted paging, without which pages cannot be tracked`, {
        hint: 'set hap=1 in its configuration',
      });
    if (info.shutdown !== undefined)
      throw new MptError('VM_NOT_FOUND', `domain ${domid} has shut down: ${info.shutdown}`, { hint: 'start it again' });
    return info;
  }
}
