/**
 * The in-kernel VHM API that AcrnGT was written against (gvt.md 6.1), under its own names, over the char device: so that its glue reads
 * here as it did there. Functions answer 0 or minus the errno, as they did; `null` is null.
 *
 * A VM's requests are taken either through here or through its machine's `requests`, not both. The guest starts with `machine.start()`.
 *
 * What user space cannot do is declared in `VHM_CAPABILITIES` and answers -EOPNOTSUPP.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { RangeSet } from '../../core/ranges.js';
import { ACRN_CONST as C } from './abi.js';
import type { AcrnBackend } from './backend.js';
import { type IoreqClient, type IoreqHandler, RANGES_MAX, VhmVm } from './vhm-clients.js';
import type { VhmRequest } from './vhm-request.js';
import { RequestWait } from './wait.js';

export * from './vhm-request.js';
export type { IoreqHandler, VhmVm };

const [ESRCH, ENOMEM, EFAULT, EINVAL, EOPNOTSUPP, ETIMEDOUT] = [3, 12, 14, 22, 95, 110] as const;

/** Access rights and memory types of add_memory_region. */
export const MEM_ACCESS_READ = C.ACRN_MEM_ACCESS_READ;
export const MEM_ACCESS_WRITE = C.ACRN_MEM_ACCESS_WRITE;
export const MEM_ACCESS_EXEC = C.ACRN_MEM_ACCESS_EXEC;
export const MEM_ACCESS_RWX = C.ACRN_MEM_ACCESS_RWX;
export const MEM_TYPE_UC = C.ACRN_MEM_TYPE_UC;
export const MEM_TYPE_WB = C.ACRN_MEM_TYPE_WB;

/** What this API has, on either ABI; what is false user space has no service for. */
export const VHM_CAPABILITIES = Object.freeze({
  /** find_get_vm of a VM that another process created. A VM belongs to the descriptor on which it was created. */
  foreignVm: false,
  /** A client whose handler runs in the kernel. Handlers run in acrn_ioreq_distribute_request, on the caller's thread. */
  kernelHandler: false,
  /** A hypercall that changes a page's right to write. write_protect_page maps the page again, and RAM so for a limited number of times. */
  writeProtectCall: false,
  /** add_memory_region of another memory type than uncached: the kernel passes its own. */
  memoryTypes: false,
});

/** `struct vm_info`. */
export interface VmInfo {
  vmid: number;
  max_vcpu: number;
  max_gfn: number;
}

/** Physical memory that add_memory_region mapped. */
interface MemoryRegion {
  readonly hpa: number;
  readonly access: number;
}

interface VmRecord {
  readonly vm: VhmVm;
  /** Regions of add_memory_region by guest-physical address. */
  readonly regions: RangeSet<MemoryRegion>;
  /** How often map_guest_phys gave out an address, until unmap_guest_phys. */
  readonly mapped: Map<number, number>;
}

/** Ids of clients: 1 to 1023, on the whole machine. */
const CLIENT_MAX = 1023;
/** VM id of the service VM, which is mapped one to one. */
const SERVICE_VM = 0;

export class VhmApi {
  readonly capabilities = VHM_CAPABILITIES;
  readonly #backend: AcrnBackend;
  readonly #records = new Map<number, VmRecord>();
  readonly #clients = new Map<number, IoreqClient>();
  readonly #wait = new RequestWait();

  constructor(backend: AcrnBackend) {
    this.#backend = backend;
  }

  // --- VMs ----------------------------------------------------------------------------------------------------------

  /** The VM, with a reference that put_vm drops; null when this process has no VM of this id. */
  find_get_vm(vmid: number): VhmVm | null {
    const vm = this.#record(vmid)?.vm ?? null;
    if (vm !== null) vm.references++;
    return vm;
  }

  put_vm(vm: VhmVm): void {
    if (vm.references > 0) vm.references--;
  }

  /** Fills in the number of vCPUs and the last guest frame of RAM. @returns 0, -EINVAL for an unknown VM */
  vhm_get_vm_info(vmid: number, info: VmInfo): number {
    const machine = this.#record(vmid)?.vm.machine;
    if (machine === undefined) return -EINVAL;
    const last = machine.ram.at(-1);
    Object.assign(info, {
      vmid,
      max_vcpu: machine.calls.vm.vcpus,
      max_gfn: last === undefined ? 0 : (last.gpa + last.size) / PAGE_SIZE - 1,
    });
    return 0;
  }

  // --- interrupts and addresses -------------------------------------------------------------------------------------

  /** @returns 0, -EINVAL for an unknown VM, or what the kernel answered */
  vhm_inject_msi(vmid: number, msi_addr: number, msi_data: number): number {
    return this.#record(vmid)?.vm.machine.calls.injectMsi(msi_addr, msi_data) ?? -EINVAL;
  }

  /** Physical address behind a guest-physical one. @returns -EFAULT when nothing is there: look before you shift it */
  vhm_vm_gpa2hpa(vmid: number, gpa: number): number {
    if (vmid === SERVICE_VM) return gpa;
    const record = this.#record(vmid);
    if (record === undefined) return -EFAULT;
    const region = record.regions.find(gpa);
    if (region !== undefined) return region.value.hpa + (gpa - region.start);
    return this.#try(() => record.vm.machine.memory.frameOf(Math.floor(gpa / PAGE_SIZE)) * PAGE_SIZE + (gpa % PAGE_SIZE));
  }

  /** Service-VM physical address of a machine address: the same. */
  acrn_hpa2gpa(hpa: number): number {
    return hpa;
  }

  /** Physical address of memory of this process that was touched. @returns -EFAULT when it is not present */
  virt_to_phys(hva: number): number {
    return this.#try(() => this.#backend.pagemap.frameOf(hva) * PAGE_SIZE + (hva % PAGE_SIZE));
  }

  // --- guest memory -------------------------------------------------------------------------------------------------

  /** The bytes of guest memory, live; null unless they are RAM of one region. unmap_guest_phys gives them back. */
  map_guest_phys(vmid: number, uos_phys: number, size: number): Uint8Array | null {
    const record = this.#record(vmid);
    if (record === undefined || !(size > 0)) return null;
    const { memory } = record.vm.machine;
    const region = memory.find(uos_phys);
    if (region === undefined || uos_phys - region.gpa + size > region.size) return null;
    record.mapped.set(uos_phys, (record.mapped.get(uos_phys) ?? 0) + 1);
    return memory.view(uos_phys, size);
  }

  /** @returns 0, -ESRCH for what map_guest_phys did not give out */
  unmap_guest_phys(vmid: number, uos_phys: number): number {
    const mapped = this.#record(vmid)?.mapped;
    const count = mapped?.get(uos_phys);
    if (mapped === undefined || count === undefined) return -ESRCH;
    if (count === 1) mapped.delete(uos_phys);
    else mapped.set(uos_phys, count - 1);
    return 0;
  }

  /** Mappings of map_guest_phys that were not given back. */
  mapped_guest_phys(vmid: number): number {
    let count = 0;
    for (const times of this.#record(vmid)?.mapped.values() ?? []) count += times;
    return count;
  }

  /** Maps physical memory of the service VM. @returns 0, -EINVAL, -EOPNOTSUPP for a memory type that is not UC, or the kernel's answer */
  add_memory_region(vmid: number, gpa: number, host_gpa: number, size: number, mem_type: number, access: number): number {
    const record = this.#record(vmid);
    const last = gpa + size - 1;
    if (record === undefined || (gpa | host_gpa | size) & (PAGE_SIZE - 1) || size <= 0) return -EINVAL;
    if (mem_type !== MEM_TYPE_UC) return -EOPNOTSUPP;
    const { segments, memory } = record.vm.machine;
    // Host pages and PVMMIO windows, too: the hypervisor does not survive a mapping over one.
    if (segments.touches(gpa, last) || memory.touches(gpa, last)) return -EINVAL;
    const result = this.#setRegion(record, gpa, host_gpa, size, access);
    if (result !== 0) return result;
    record.regions.add(gpa, last, { hpa: host_gpa, access });
    segments.physicalMemory(gpa, last, true);
    return 0;
  }

  /** Takes exactly what one add_memory_region mapped away. @returns 0, -EINVAL, or the kernel's answer */
  del_memory_region(vmid: number, gpa: number, size: number): number {
    const record = this.#record(vmid);
    if (record?.regions.exact(gpa, gpa + size - 1) === undefined) return -EINVAL;
    const { calls, segments } = record.vm.machine;
    const result = calls.unsetMemseg(gpa, size);
    if (result !== 0) return result;
    record.regions.delete(gpa, gpa + size - 1);
    segments.physicalMemory(gpa, gpa + size - 1, false);
    return 0;
  }

  /** Sets (or clears) the write protection of one page. @returns 0, -EINVAL when nothing is mapped there, or the kernel's answer */
  write_protect_page(vmid: number, gpa: number, set: boolean): number {
    const record = this.#record(vmid);
    if (record === undefined || gpa % PAGE_SIZE !== 0) return -EINVAL;
    const { machine } = record.vm;
    const region = record.regions.find(gpa);
    if (region !== undefined) return this.#protectRegion(record, gpa, region.value.hpa + (gpa - region.start), region.value.access, set);
    const gfn = gpa / PAGE_SIZE;
    if (machine.memory.find(gpa) === undefined) return -EINVAL;
    return this.#try(() => {
      if (set) machine.segments.protect(gfn, machine.memory.addressOf(gfn));
      else machine.segments.unprotect(gfn);
      return 0;
    });
  }

  /** A page that gets no new rights keeps its old ones. */
  #protectRegion(record: VmRecord, gpa: number, hpa: number, access: number, set: boolean): number {
    const [open, shut] = [access, access & ~MEM_ACCESS_WRITE];
    const result = record.vm.machine.calls.unsetMemseg(gpa, PAGE_SIZE);
    if (result < 0) return result;
    const changed = this.#setRegion(record, gpa, hpa, PAGE_SIZE, set ? shut : open);
    if (changed < 0) this.#setRegion(record, gpa, hpa, PAGE_SIZE, set ? open : shut);
    return changed;
  }

  /** By physical address: that needs no row of the kernel's table (`MemorySegments.rows`). */
  #setRegion({ vm }: VmRecord, gpa: number, hpa: number, size: number, access: number): number {
    return vm.machine.calls.setMemseg({ gpa, size, type: C.ACRN_MEMMAP_MMIO, from: hpa, rights: access });
  }

  // --- I/O requests -------------------------------------------------------------------------------------------------

  /** @param handler null: the owner runs its own loop with attach. @returns the id, -EINVAL for an unknown VM, -ENOMEM without an id left */
  acrn_ioreq_create_client(vmid: number, handler: IoreqHandler | null, name: string): number {
    return this.#createClient(vmid, handler, name, false);
  }

  /** The client of all that no other wants; one a VM. @returns the id, -EINVAL when the VM has one */
  acrn_ioreq_create_fallback_client(vmid: number, handler: IoreqHandler | null, name: string): number {
    for (const client of this.#record(vmid)?.vm.clients ?? []) if (client.fallback) return -EINVAL;
    return this.#createClient(vmid, handler, name, true);
  }

  /** What it had not completed goes to whoever wants it next. */
  acrn_ioreq_destroy_client(client: number): void {
    const found = this.#clients.get(client);
    if (found === undefined) return;
    this.#clients.delete(client);
    found.vm.clients.delete(found);
    for (const request of found.vm.requests) if (request.client === client) request.client = 0;
  }

  /** @param start,end first and last address. @returns 0, -EFAULT for a bad client or range, -ENOMEM */
  acrn_ioreq_add_iorange(client: number, type: number, start: number, end: number): number {
    const found = this.#clients.get(client);
    if (found === undefined || end < start) return -EFAULT;
    if (found.ranges.length >= RANGES_MAX) return -ENOMEM;
    found.ranges.push({ type, start, end });
    return 0;
  }

  /** Exactly what one call added. @returns 0, -EFAULT for a bad client or range */
  acrn_ioreq_del_iorange(client: number, type: number, start: number, end: number): number {
    const ranges = this.#clients.get(client)?.ranges;
    const at = ranges?.findIndex((range) => range.type === type && range.start === start && range.end === end) ?? -1;
    if (at < 0) return -EFAULT;
    ranges?.splice(at, 1);
    return 0;
  }

  /** The VM's slots, one a vCPU; null for a bad client. */
  acrn_ioreq_get_reqbuf(client: number): readonly VhmRequest[] | null {
    return this.#clients.get(client)?.vm.requests ?? null;
  }

  /**
   * Waits for a request of the client.
   * @param timeoutMs at most so long; the original waits for ever
   * @returns 0: there is one; 1: the client or its VM is gone, or a stop was asked; -EFAULT: bad client; -ETIMEDOUT
   */
  acrn_ioreq_attach_client(client: number, timeoutMs = Number.POSITIVE_INFINITY): number {
    const found = this.#clients.get(client);
    if (found === undefined) return -EFAULT;
    const { vm } = found;
    const until = performance.now() + timeoutMs;
    for (;;) {
      if (vm.machine.closed || !this.#clients.has(client) || vm.machine.requests.stopped) return 1;
      this.acrn_ioreq_distribute_request(vm);
      if (found.pending !== 0) return 0;
      const now = performance.now();
      if (now >= until) return -ETIMEDOUT;
      this.#wait.wait(vm.waiting, now, until);
    }
  }

  /** Gives each new request of the VM to its client, and runs the handlers. */
  acrn_ioreq_distribute_request(vm: VhmVm): void {
    if (!vm.machine.closed) vm.distribute((vcpu) => void vm.machine.calls.notifyFinished(vcpu));
  }

  /** The request in the vCPU's slot is finished. @returns 0, -EINVAL for a bad client or vCPU, or the kernel's answer */
  acrn_ioreq_complete_request(client: number, vcpu: number): number {
    const found = this.#clients.get(client);
    if (found?.vm.requests[vcpu]?.client !== client) return -EINVAL;
    // Before the kernel hears of it: the slot may hold the next request when it has.
    found.vm.forget(vcpu);
    const result = found.vm.machine.calls.notifyFinished(vcpu);
    if (result < 0) found.vm.give(vcpu, found);
    return result;
  }

  /** Configuration cycles of the function go to this client. */
  acrn_ioreq_intercept_bdf(client: number, bus: number, dev: number, func: number): void {
    const found = this.#clients.get(client);
    if (found !== undefined) found.bdf = (bus << 8) | (dev << 3) | func;
  }

  acrn_ioreq_unintercept_bdf(client: number): void {
    const found = this.#clients.get(client);
    if (found !== undefined) found.bdf = -1;
  }

  /** At a reset of the VM: no slot has a request. */
  acrn_ioreq_clear_request(vm: VhmVm): void {
    for (let vcpu = 0; vcpu < vm.requests.length; vcpu++) vm.forget(vcpu);
    vm.machine.calls.clearRequests();
  }

  #createClient(vmid: number, handler: IoreqHandler | null, name: string, fallback: boolean): number {
    const vm = this.#record(vmid)?.vm;
    if (vm === undefined) return -EINVAL;
    let id = 1;
    while (this.#clients.has(id)) id++;
    if (id > CLIENT_MAX) return -ENOMEM;
    const client: IoreqClient = { id, name, handler: handler ?? undefined, fallback, vm, ranges: [], bdf: -1, pending: 0 };
    this.#clients.set(id, client);
    vm.clients.add(client);
    return id;
  }

  /** What is kept of a VM that is open; a closed one is forgotten. */
  #record(vmid: number): VmRecord | undefined {
    const machine = this.#backend.machineOf(vmid);
    const known = this.#records.get(vmid);
    if (known !== undefined && known.vm.machine === machine) return known;
    if (known !== undefined) {
      for (const { id } of known.vm.clients) this.#clients.delete(id);
      this.#records.delete(vmid);
    }
    if (machine === undefined) return undefined;
    const record = { vm: new VhmVm(machine), regions: new RangeSet<MemoryRegion>(), mapped: new Map<number, number>() };
    this.#records.set(vmid, record);
    return record;
  }

  /** The errno of what an operation of ours throws. */
  #try(run: () => number): number {
    try {
      return run();
    } catch (error) {
      if (!MptError.is(error)) throw error;
      return -(error.errno ?? (error.code === 'LIMIT' ? ENOMEM : EFAULT));
    }
  }
}
