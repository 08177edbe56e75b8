/** A VM of our own: RAM, in-kernel interrupt controllers and one vCPU, which runs on the thread that created it. */
import { type Gpa, PAGE_SIZE, type VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { GuestRam, type MappedRegion, mapRegion, type RamRegion } from '../../core/guest-ram.js';
import type { IoRequest } from '../../core/io-request.js';
import type { Machine, MachineSpec, StopToken } from '../../core/machine.js';
import { OwnedFd } from '../../native/fd.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import { KICK_SIGNAL, ThreadKick } from '../../native/thread.js';
import { KVM_IOCTL, KVM_STRUCT } from './abi.js';
import { KvmIrq } from './irq.js';
import { Memslots } from './memslots.js';
import { KvmRequests } from './requests.js';

/** Three pages of guest address space that Intel's VMX needs for real mode, and one for its identity map; below the BIOS. */
const TSS_GPA = 0xfffb_d000;
const IDENTITY_MAP_GPA = 0xfffb_c000;
const CPUID_ENTRIES = 256;
const MIB = 0x10_0000;

/** What the VM needs of its backend. */
export interface KvmVmOwner {
  readonly sys: Syscalls;
  readonly kvmFd: number;
  readonly maxSlots: number;
  readonly stopFlag: SharedArrayBuffer | undefined;
  route(vmId: VmId, request: IoRequest): void;
  isTracked(vmId: VmId, gfn: number): boolean;
  vmClosed(vm: KvmMachine): void;
}

/** One RAM region and the host memory behind it. */
export interface KvmRam extends MappedRegion {
  readonly hva: number;
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
  readonly #kick: ThreadKick;
  /** System registers as KVM creates the vCPU: every boot starts from them, whatever mode the last guest left. */
  readonly #resetSregs = new DataView(new ArrayBuffer(KVM_STRUCT.kvm_sregs.size));
  readonly #vcpu: OwnedFd;
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
      this.irq = new KvmIrq(sys, vm.fd);
      this.#vcpu = this.#own(new OwnedFd(sys, sys.ioctl(vm.fd, KVM_IOCTL.KVM_CREATE_VCPU, 0), 'KVM_CREATE_VCPU'));
      const runSize = sys.ioctl(kvmFd, KVM_IOCTL.KVM_GET_VCPU_MMAP_SIZE, 0);
      const run = this.#own(OwnedMapping.file(sys, this.#vcpu.fd, runSize, 'the vCPU'));
      this.#setCpuid();
      this.#vcpuCall('KVM_GET_SREGS', this.#resetSregs);
      this.#kick = this.#own(new ThreadKick(sys));
      this.#setSignalMask();
      const flag = owner.stopFlag ?? new SharedArrayBuffer(4);
      this.stopToken = { flag, tid: this.#kick.tid, pid: this.#kick.pid };
      this.requests = new KvmRequests({
        sys,
        vcpuFd: this.#vcpu.fd,
        run: run.buffer,
        ram: this.memory,
        kick: this.#kick,
        stopFlag: new Int32Array(flag),
        route: (request) => owner.route(vmId, request),
        isTracked: (gfn) => owner.isTracked(vmId, gfn),
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
    if (!Number.isInteger(gpa) || gpa < 0 || gpa % 16 !== 0 || gpa + image.length > MIB)
      throw new MptError('INVALID_ADDRESS', 'a boot image is 16-byte aligned and ends below 1 MiB', {
        op: 'boot',
        address: gpa,
        size: image.length,
      });
    this.memory.write(gpa, image, 0, image.length);
    const { kvm_sregs: SREGS, kvm_segment: SEGMENT, kvm_regs: REGS } = KVM_STRUCT;
    const sregs = new DataView(this.#resetSregs.buffer.slice(0));
    sregs.setBigUint64(SREGS.cs + SEGMENT.base, BigInt(gpa), true);
    sregs.setUint16(SREGS.cs + SEGMENT.selector, gpa >> 4, true);
    this.#vcpuCall('KVM_SET_SREGS', sregs);
    const regs = new DataView(new ArrayBuffer(REGS.size));
    regs.setUint32(REGS.rip, 0, true);
    regs.setUint32(REGS.rflags, 2, true);
    this.#vcpuCall('KVM_SET_REGS', regs);
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.requests.counts();
  }

  /** The RAM region behind a host virtual address. */
  regionAtHva(hva: number): KvmRam | undefined {
    return this.regions.find((region) => hva >= region.hva && hva - region.hva < region.size);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
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
    this.#check(sys.ioctl(vmFd, KVM_IOCTL.KVM_SET_TSS_ADDR, TSS_GPA), 'KVM_SET_TSS_ADDR');
    this.#check(sys.ioctlBuffer(vmFd, KVM_IOCTL.KVM_SET_IDENTITY_MAP_ADDR, identity), 'KVM_SET_IDENTITY_MAP_ADDR');
    // Before the first vCPU, or its local APIC is not created.
    this.#check(sys.ioctl(vmFd, KVM_IOCTL.KVM_CREATE_IRQCHIP, 0), 'KVM_CREATE_IRQCHIP');
  }

  #mapRam({ gpa, size }: RamRegion): KvmRam {
    const mapping = this.#own(OwnedMapping.anonymous(this.#owner.sys, size, 'guest RAM'));
    this.slots.add(gpa / PAGE_SIZE, size / PAGE_SIZE, mapping.hva);
    return { ...mapRegion(gpa, new Uint8Array(mapping.buffer)), hva: mapping.hva };
  }

  /** The guest sees the host's CPU features; without them KVM refuses long mode, MMX and SSE. */
  #setCpuid(): void {
    const { kvm_cpuid2: CPUID, kvm_cpuid_entry2: ENTRY } = KVM_STRUCT;
    const cpuid = new DataView(new ArrayBuffer(CPUID.size + CPUID_ENTRIES * ENTRY.size));
    cpuid.setUint32(CPUID.nent, CPUID_ENTRIES, true);
    const bytes = new Uint8Array(cpuid.buffer);
    const { sys, kvmFd } = this.#owner;
    this.#check(sys.ioctlBuffer(kvmFd, KVM_IOCTL.KVM_GET_SUPPORTED_CPUID, bytes), 'KVM_GET_SUPPORTED_CPUID');
    this.#check(sys.ioctlBuffer(this.#vcpu.fd, KVM_IOCTL.KVM_SET_CPUID2, bytes), 'KVM_SET_CPUID2');
  }

  /** Unblocks the kick signal inside KVM_RUN only. The kernel's sigset_t is 8 bytes. */
  #setSignalMask(): void {
    const { kvm_signal_mask: MASK } = KVM_STRUCT;
    const mask = new Uint8Array(MASK.size + 8);
    mask[MASK.len] = 8;
    mask.set(this.#kick.outerMask.subarray(0, 8), MASK.sigset);
    const at = MASK.sigset + ((KICK_SIGNAL - 1) >> 3);
    mask[at] = (mask[at] as number) & ~(1 << ((KICK_SIGNAL - 1) & 7));
    this.#check(this.#owner.sys.ioctlBuffer(this.#vcpu.fd, KVM_IOCTL.KVM_SET_SIGNAL_MASK, mask), 'KVM_SET_SIGNAL_MASK');
  }

  #vcpuCall(name: 'KVM_GET_SREGS' | 'KVM_SET_SREGS' | 'KVM_SET_REGS', view: DataView): void {
    this.#check(this.#owner.sys.ioctlBuffer(this.#vcpu.fd, KVM_IOCTL[name], new Uint8Array(view.buffer)), name);
  }

  #check(result: number, what: string): void {
    if (result < 0) throw new MptError(-result === 12 ? 'NO_MEMORY' : 'HYPERVISOR', `${what} failed`, { errno: -result });
  }
}
