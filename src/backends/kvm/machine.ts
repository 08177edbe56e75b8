/** A VM of our own: RAM, in-kernel interrupt controllers and one vCPU, which runs on the thread that created it. */

import { type Gpa, PAGE_SIZE, type VmId } from '../../core/addresses.js';
import { DmaBlock } from '../../core/dma-block.js';
import { MptError } from '../../core/errors.js';
import { GuestRam, type MappedRegion, mapRegion, type RamRegion } from '../../core/guest-ram.js';
import type { IoRequest } from '../../core/io-request.js';
import { checkBootImage, type Machine, type MachineSpec, type StopToken } from '../../core/machine.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import { ThreadKick } from '../../native/thread.js';
import { KVM_IOCTL } from './abi.js';
import { KvmIrq } from './irq.js';
import { Memslots } from './memslots.js';
import { KvmRequests } from './requests.js';
import { checkCall, KvmVcpu } from './vcpu.js';

/** Three pages of guest address space that Intel's VMX needs for real mode, and one for its identity map; below the BIOS. */
const TSS_GPA = 0xfffb_d000;
const IDENTITY_MAP_GPA = 0xfffb_c000;

/** What the VM needs of its backend. */
export interface KvmVmOwner {
  readonly sys: Syscalls;
  readonly kvmFd: number;
  readonly maxSlots: number;
  readonly stopFlag: SharedArrayBuffer | undefined;
  route(vmId: VmId, request: IoRequest, from?: number): number;
  vmClosed(vm: KvmMachine): void;
}

/** One RAM region and the host memory behind it. */
export interface KvmRam extends MappedRegion {
  readonly hva: number;
  /** The region by DMA address, which is the host's. */
  readonly block: DmaBlock;
}

export class KvmMachine implements Machine {
  readonly vmId: VmId;
  readonly memory: GuestRam<KvmRam>;
  readonly regions: readonly KvmRam[];
  readonly slots: Memslots;
  readonly irq: KvmIrq;
  readonly requests: KvmRequests;
  readonly stopToken: StopToken;
  readonly #owner: KvmVmOwner;
  readonly #vcpu: KvmVcpu;
  /** Released in reverse order. */
  readonly #resources: { close(): void }[] = [];
  #closed = false;

  constructor(owner: KvmVmOwner, vmId: VmId, spec: MachineSpec) {
    this.#owner = owner;
    this.vmId = vmId;
    const { sys, kvmFd } = owner;
    try {
      const vm = this.#own(new OwnedFd(sys, sys.ioctl(kvmFd, KVM_IOCTL.KVM_CREATE_VM, 0), 'KVM_CREATE_VM'));
      this.#prepare(vm.fd);
      this.slots = this.#own(new Memslots(sys, vm.fd, owner.maxSlots));
      this.regions = spec.ram.map((region) => this.#mapRam(region));
      this.memory = new GuestRam(this.regions);
      this.irq = this.#own(new KvmIrq(sys, vm.fd));
      const kick = this.#own(new ThreadKick(sys));
      const vcpu = this.#own(new KvmVcpu(sys, kvmFd, vm.fd, kick));
      this.#vcpu = vcpu;
      const flag = owner.stopFlag ?? new SharedArrayBuffer(4);
      this.stopToken = { flag, tid: kick.tid, pid: kick.pid };
      this.requests = new KvmRequests({
        sys,
        vcpuFd: vcpu.fd,
        run: vcpu.run,
        ram: this.memory,
        kick,
        stopFlag: new Int32Array(flag),
        route: (request, from) => owner.route(vmId, request, from),
      });
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  get ram(): readonly RamRegion[] {
    return this.regions.map(({ gpa, size }) => ({ gpa, size }));
  }

  get closed(): boolean {
    return this.#closed;
  }

  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op: 'boot' });
    if (this.requests.pending) throw new MptError('BUSY', 'a guest access is not completed', { op: 'boot' });
    checkBootImage(gpa, image);
    this.memory.write(gpa, image, 0, image.length);
    this.#vcpu.reset(gpa);
    this.requests.restart();
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.requests.counts();
  }

  /** The RAM region behind a host virtual address. */
  regionAtHva(hva: number): KvmRam | undefined {
    return this.regions.find((region) => hva >= region.hva && hva - region.hva < region.size);
  }

  /** True when one RAM region covers [hva, hva + length). */
  coversHva(hva: number, length: number): boolean {
    const region = this.regionAtHva(hva);
    return region !== undefined && hva + length <= region.hva + region.size;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.requests.close();
    this.#owner.vmClosed(this);
    this.#release();
  }

  #own<T extends { close(): void }>(resource: T): T {
    this.#resources.push(resource);
    return resource;
  }

  #release(): void {
    for (let resource = this.#resources.pop(); resource !== undefined; resource = this.#resources.pop()) resource.close();
  }

  #prepare(vmFd: number): void {
    const { sys } = this.#owner;
    const identity = new Uint8Array(new BigUint64Array([BigInt(IDENTITY_MAP_GPA)]).buffer);
    checkCall(sys.ioctl(vmFd, KVM_IOCTL.KVM_SET_TSS_ADDR, TSS_GPA), 'KVM_SET_TSS_ADDR');
    checkCall(sys.ioctlBuffer(vmFd, KVM_IOCTL.KVM_SET_IDENTITY_MAP_ADDR, identity), 'KVM_SET_IDENTITY_MAP_ADDR');
    // Before the first vCPU, or its local APIC is not created.
    checkCall(sys.ioctl(vmFd, KVM_IOCTL.KVM_CREATE_IRQCHIP, 0), 'KVM_CREATE_IRQCHIP');
  }

  #mapRam({ gpa, size }: RamRegion): KvmRam {
    const mapping = this.#own(OwnedMapping.anonymous(this.#owner.sys, size, 'guest RAM'));
    this.slots.add(gpa / PAGE_SIZE, size / PAGE_SIZE, mapping.hva);
    const region = mapRegion(gpa, new Uint8Array(mapping.buffer));
    return { ...region, hva: mapping.hva, block: new DmaBlock(mapping.hva, region.bytes) };
  }
}
