/**
 * One ACRN VM as its char device offers it: a method for each request. Each opened device is one VM; what it takes lies in a
 * page of arguments at a fixed address. The two ABIs differ in numbers and in a few structures: `AcrnDialect` has those.
 *
 * A call returns its result, or minus the errno. One that a signal or a busy kernel ended (EINTR, EAGAIN) is made again.
 */
import type { Hva } from '../../core/addresses.js';
import { MptError, type MptErrorDetails } from '../../core/errors.js';
import { EAGAIN, EINTR, type Syscalls } from '../../native/syscalls.js';
import { ACRN_CONST, ACRN_STRUCT, type AcrnRequest } from './abi.js';

const { acrn_vm_creation: CREATION, acrn_msi_entry: MSI, acrn_vcpu_regs: VCPU_REGS } = ACRN_STRUCT;
const { acrn_irqfd: IRQFD, acrn_ioeventfd: IOEVENTFD } = ACRN_STRUCT;

const DWORD = 2 ** 32;
const ENOMEM = 12;
/** A call that is interrupted more often in a row is given up. */
const TRIES = 16;

/** Where the arguments of one VM's calls lie. Each structure has its own place: none is cleared between calls. */
const AT = { creation: 0, memseg: 64, notify: 128, irqfd: 160, ioeventfd: 192, msi: 256, regs: 512 } as const;
/** Bytes of the arguments. */
export const ARGUMENTS_SIZE = 1024;

/** What one ABI does in its own way. */
export interface AcrnDialect {
  readonly name: 'hsm' | 'vhm';
  readonly device: string;
  /** Class of the device in /sys/class. */
  readonly sysfsClass: string;
  readonly requests: Readonly<Record<AcrnRequest, number>>;
  /** Offset in a request slot of the word that must equal `AcrnCalls.slotOwner` for a request of ours. */
  readonly ownerWord: number;
  /** Lays out a memory segment. */
  memseg(args: DataView, at: number, segment: Segment): void;
  /** Lays out the note that a request is finished. */
  notify(args: DataView, at: number, vmId: number, client: number, vcpu: number): void;
  /** vCPUs that we create where the hypervisor made none; 0 where there is no call for it. */
  readonly vcpusOfOurs: number;
  /** What must be done after CREATE_VM. @returns 0 or minus the errno */
  created(call: (request: number, value: number) => number, args: DataView, address: number, vm: CreatedVm, requestPage: Hva): number;
  /** CREATE_IOREQ_CLIENT's answer as the client's number, which later calls take as argument. */
  client(answer: number): number;
  /** What the owner word of a slot holds for a request of this client. */
  slotOwner(client: number): number;
}

export interface Segment {
  readonly gpa: number;
  /** Bytes, a multiple of 4 KiB. */
  readonly size: number;
  /** `ACRN_MEMMAP_RAM`: `from` is an address of this process. `ACRN_MEMMAP_MMIO`: a physical address of the service VM. */
  readonly type: number;
  readonly from: number;
  /** `ACRN_MEM_ACCESS_*`. */
  readonly rights: number;
}

/** What a VM is created with. */
export interface NewVm {
  /** The page in which its requests are to arrive. */
  readonly requestPage: Hva;
  /** 16 bytes by which the hypervisor knows it (`identityBytes`). */
  readonly identity: Uint8Array;
  /** Physical CPUs for its vCPUs, 0 to 63; none: those of the hypervisor's configuration. */
  readonly cpus: readonly number[];
}

export interface CreatedVm {
  readonly vmId: number;
  /** vCPUs that the hypervisor gave it. */
  readonly vcpus: number;
}

export const setU64 = (view: DataView, at: number, value: number): void => {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / DWORD), true);
};

/** Throws the MptError of a failed call. */
export function checkAcrn(result: number, what: string, details: MptErrorDetails = {}): number {
  if (result < 0) throw new MptError(-result === ENOMEM ? 'NO_MEMORY' : 'HYPERVISOR', `${what} failed`, { errno: -result, ...details });
  return result;
}

/** An ioctl that is made again while a signal or a busy kernel ends it. */
export function repeatedly(sys: Syscalls, fd: number, request: number, value: number): number {
  let result = sys.ioctl(fd, request, value);
  for (let tries = 1; (result === -EINTR || result === -EAGAIN) && tries < TRIES; tries++) result = sys.ioctl(fd, request, value);
  return result;
}

export class AcrnCalls {
  readonly dialect: AcrnDialect;
  readonly #sys: Syscalls;
  readonly #fd: number;
  readonly #address: number;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #vm: CreatedVm = { vmId: 0, vcpus: 0 };
  #client = 0;

  /** @param args 1 KiB of zeroed memory at a fixed address */
  constructor(sys: Syscalls, dialect: AcrnDialect, fd: number, args: { readonly bytes: Uint8Array; readonly address: number }) {
    this.#sys = sys;
    this.dialect = dialect;
    this.#fd = fd;
    this.#address = args.address;
    this.#bytes = args.bytes;
    this.#view = new DataView(args.bytes.buffer, args.bytes.byteOffset, args.bytes.length);
  }

  get vm(): CreatedVm {
    return this.#vm;
  }

  /** Number of the I/O request client, once it was created; an argument of its other calls. */
  get client(): number {
    return this.#client;
  }

  /** What the owner word of a slot holds for a request of our client. */
  get slotOwner(): number {
    return this.dialect.slotOwner(this.#client);
  }

  createVm({ requestPage, identity, cpus }: NewVm): number {
    const view = this.#view;
    // vmid and vcpu_num are answers: a call that is made again must not take those of the first for its arguments.
    this.#bytes.fill(0, AT.creation, AT.creation + CREATION.size);
    this.#bytes.set(identity, AT.creation + CREATION.uuid);
    setU64(view, AT.creation + CREATION.ioreq_buf, requestPage);
    view.setBigUint64(
      AT.creation + CREATION.cpu_affinity,
      cpus.reduce((mask, cpu) => mask | (1n << BigInt(cpu)), 0n),
      true,
    );
    const result = this.#call('CREATE_VM', this.#address + AT.creation);
    if (result < 0) return result;
    const vmId = view.getUint16(AT.creation + CREATION.vmid, true);
    const vcpus = view.getUint16(AT.creation + CREATION.vcpu_num, true) || this.dialect.vcpusOfOurs;
    this.#vm = { vmId, vcpus };
    return this.dialect.created((request, value) => this.#repeat(request, value), view, this.#address, this.#vm, requestPage);
  }

  destroyVm(): number {
    return this.#call('DESTROY_VM', 0);
  }

  startVm(): number {
    return this.#call('START_VM', 0);
  }

  pauseVm(): number {
    return this.#call('PAUSE_VM', 0);
  }

  resetVm(): number {
    return this.#call('RESET_VM', 0);
  }

  /** @param regs `struct acrn_regs` */
  setVcpuRegs(vcpu: number, regs: Uint8Array): number {
    this.#view.setUint16(AT.regs + VCPU_REGS.vcpu_id, vcpu, true);
    this.#bytes.set(regs, AT.regs + VCPU_REGS.vcpu_regs);
    return this.#call('SET_VCPU_REGS', this.#address + AT.regs);
  }

  setMemseg(segment: Segment): number {
    this.dialect.memseg(this.#view, AT.memseg, segment);
    return this.#call('SET_MEMSEG', this.#address + AT.memseg);
  }

  /** Takes guest-physical addresses away. Both kernels refuse it for type RAM, and take any mapping away by type MMIO. */
  unsetMemseg(gpa: number, size: number): number {
    this.dialect.memseg(this.#view, AT.memseg, { gpa, size, type: ACRN_CONST.ACRN_MEMMAP_MMIO, from: 0, rights: 0 });
    return this.#call('UNSET_MEMSEG', this.#address + AT.memseg);
  }

  injectMsi(address: number, data: number): number {
    setU64(this.#view, AT.msi + MSI.msi_addr, address);
    this.#view.setUint32(AT.msi + MSI.msi_data, data, true);
    return this.#call('INJECT_MSI', this.#address + AT.msi);
  }

  /** @param operation `ACRN_HYPERVISOR.GSI_*`. The packed number is the argument itself, though HSM's request says a pointer. */
  setIrqline(gsi: number, operation: number): number {
    return this.#call('SET_IRQLINE', operation * DWORD + gsi);
  }

  /** @param page a page of this process that the hypervisor fills with counts of interrupts */
  monitorInterrupts(page: Hva): number {
    return this.#call('VM_INTR_MONITOR', page);
  }

  createClient(): number {
    const result = this.#call('CREATE_IOREQ_CLIENT', 0);
    if (result >= 0) this.#client = this.dialect.client(result);
    return result;
  }

  /** Blocks until there is a request for the client. A signal ends it with 0, or EINTR. */
  attachClient(): number {
    return this.#sys.ioctl(this.#fd, this.dialect.requests.ATTACH_IOREQ_CLIENT, this.#client);
  }

  destroyClient(): number {
    return this.#call('DESTROY_IOREQ_CLIENT', this.#client);
  }

  clearRequests(): number {
    return this.#call('CLEAR_VM_IOREQ', 0);
  }

  /** The request in the slot of a vCPU is finished: its vCPU goes on. */
  notifyFinished(vcpu: number): number {
    this.dialect.notify(this.#view, AT.notify, this.#vm.vmId, this.#client, vcpu);
    return this.#call('NOTIFY_REQUEST_FINISH', this.#address + AT.notify);
  }

  /** Binds an eventfd to a message, or unbinds it. */
  irqfd(fd: number, address: number, data: number, bind: boolean): number {
    const view = this.#view;
    view.setInt32(AT.irqfd + IRQFD.fd, fd, true);
    view.setUint32(AT.irqfd + IRQFD.flags, bind ? 0 : ACRN_CONST.ACRN_IRQFD_FLAG_DEASSIGN, true);
    setU64(view, AT.irqfd + IRQFD['msi.msi_addr'], address);
    setU64(view, AT.irqfd + IRQFD['msi.msi_data'], data);
    return this.#call('IRQFD', this.#address + AT.irqfd);
  }

  /** Binds an eventfd to guest writes of `length` bytes at an address (or port), or unbinds it. */
  ioeventfd(fd: number, { address, length, port = false, data, bind }: IoeventfdRange): number {
    const view = this.#view;
    const { ACRN_IOEVENTFD_FLAG_PIO: PIO, ACRN_IOEVENTFD_FLAG_DATAMATCH: MATCH, ACRN_IOEVENTFD_FLAG_DEASSIGN: OFF } = ACRN_CONST;
    view.setInt32(AT.ioeventfd + IOEVENTFD.fd, fd, true);
    view.setUint32(AT.ioeventfd + IOEVENTFD.flags, (port ? PIO : 0) | (data === undefined ? 0 : MATCH) | (bind ? 0 : OFF), true);
    setU64(view, AT.ioeventfd + IOEVENTFD.addr, address);
    view.setUint32(AT.ioeventfd + IOEVENTFD.len, length, true);
    setU64(view, AT.ioeventfd + IOEVENTFD.data, data ?? 0);
    return this.#call('IOEVENTFD', this.#address + AT.ioeventfd);
  }

  #call(request: AcrnRequest, value: number): number {
    return this.#repeat(this.dialect.requests[request], value);
  }

  #repeat(request: number, value: number): number {
    return repeatedly(this.#sys, this.#fd, request, value);
  }
}

/** Which guest writes raise an eventfd. */
export interface IoeventfdRange {
  readonly address: number;
  /** 1, 2, 4 or 8 bytes. */
  readonly length: number;
  /** The address is a port. */
  readonly port?: boolean;
  /** Only writes of this value. */
  readonly data?: number;
  readonly bind: boolean;
}
