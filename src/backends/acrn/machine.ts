/**
 * A VM of our own: one opened char device, RAM that the kernel shares with the hypervisor, vCPUs that the hypervisor runs beside this
 * process. Closing the device destroys the VM, so a killed process leaves none.
 */
import { type Gpa, PAGE_SIZE, type VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { mapRegion, type RamRegion } from '../../core/guest-ram.js';
import type { IoRequest } from '../../core/io-request.js';
import { checkBootImage, type Machine, type MachineSpec, type StopToken } from '../../core/machine.js';
import type { RamAccess } from '../../core/ram-access.js';
import { OwnedFd } from '../../native/fd.js';
import { InterruptTimer } from '../../native/interrupt-timer.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { PageFrames } from '../../native/page-frames.js';
import { O, type Syscalls } from '../../native/syscalls.js';
import { ACRN_STRUCT } from './abi.js';
import { AcrnCalls, type AcrnDialect, ARGUMENTS_SIZE, checkAcrn } from './calls.js';
import { identityBytes, type VmIdentities } from './identities.js';
import { AcrnIrq } from './irq.js';
import { AcrnRam, type AcrnRegion } from './ram.js';
import { AcrnRequests } from './requests.js';
import { MemorySegments } from './segments.js';
import { RequestWait } from './wait.js';

const { acrn_regs: REGS } = ACRN_STRUCT;
/** Real mode: code segment present, executable, readable, accessed; 64 KiB; interrupt vectors at 0. */
const CS_RIGHTS = 0x9b;
const SEGMENT_LIMIT = 0xffff;
const IDT_LIMIT = 0x3ff;
/** CR0: numeric error, extension type: as ACRN's own device model starts a vCPU. */
const CR0 = 0x30;
/** Bit 1 of the flags is always set. */
const RFLAGS = 2;

const CREATE_HINT = 'ACRN 2.x creates the VMs of its scenario only: name one by option vms; 3.x wants to be told CPUs: option cpus';
const NO_CPU_HINT = 'name physical CPUs by option cpus';

/** What the VM needs of its backend. */
export interface AcrnVmOwner {
  readonly sys: Syscalls;
  readonly dialect: AcrnDialect;
  readonly device: string;
  readonly pagemap: PageFrames;
  readonly identities: VmIdentities;
  /** Physical CPUs for the vCPUs of a VM; none: as the hypervisor has it. */
  readonly cpus: readonly number[];
  readonly stopFlag: SharedArrayBuffer | undefined;
  route(vmId: VmId, request: IoRequest, from?: number): number;
  vmClosed(vm: AcrnMachine): void;
}

type RunState = 'created' | 'running' | 'paused';

export class AcrnMachine implements Machine {
  readonly vmId: VmId;
  readonly memory: AcrnRam;
  readonly calls: AcrnCalls;
  readonly segments: MemorySegments;
  readonly irq: AcrnIrq;
  readonly requests: AcrnRequests;
  /** The page in which requests arrive, for `VhmApi`. */
  readonly page: ArrayBuffer;
  readonly stopToken: StopToken;
  /** Register files of set_pvmmio that the guest reads: its writes to them are carried out here. */
  readonly registerFiles = new Set<RamAccess>();
  readonly #owner: AcrnVmOwner;
  /** Released in reverse order. */
  readonly #resources: { close(): void }[] = [];
  #state: RunState = 'created';
  #closed = false;

  constructor(owner: AcrnVmOwner, spec: MachineSpec) {
    this.#owner = owner;
    const { sys, dialect, device } = owner;
    try {
      // One page for the requests, one for what the calls take.
      const shared = this.#own(OwnedMapping.memfd(sys, 2 * PAGE_SIZE, 'the request page', 'mpt-acrn-requests'));
      const regions = spec.ram.map((region) => this.#mapRam(region));
      const fd = this.#own(new OwnedFd(sys, sys.open(device, O.RDWR | O.CLOEXEC), `opening ${device}`));
      const args = { bytes: new Uint8Array(shared.buffer, PAGE_SIZE, ARGUMENTS_SIZE), address: shared.hva + PAGE_SIZE };
      this.page = shared.buffer;
      this.calls = new AcrnCalls(sys, dialect, fd.fd, args);
      const identity = owner.identities.take();
      this.#own({ close: () => owner.identities.release(identity) });
      const created = this.calls.createVm({ requestPage: shared.hva, identity: identityBytes(identity), cpus: owner.cpus });
      checkAcrn(created, `CREATE_VM of '${identity}'`, { hint: CREATE_HINT });
      this.vmId = this.calls.vm.vmId as VmId;
      this.#own({ close: () => void this.calls.destroyVm() });
      // ACRN 3.x makes such a VM of a name that its scenario has not, unless CPUs are named.
      if (this.calls.vm.vcpus === 0) throw new MptError('HYPERVISOR', `the VM '${identity}' has no vCPU`, { hint: NO_CPU_HINT });
      this.memory = new AcrnRam(regions, owner.pagemap);
      this.segments = new MemorySegments(this.calls);
      for (const { gpa, size, hva } of regions) this.segments.map(gpa, size, hva);
      checkAcrn(this.calls.createClient(), 'CREATE_IOREQ_CLIENT');
      this.#own({ close: () => void this.calls.destroyClient() });
      const timer = this.#own(new InterruptTimer(sys));
      const attachClient = (): number => this.calls.attachClient();
      const attach = (ms: number, now: number): number => timer.limit(ms, now, attachClient);
      this.irq = this.#own(new AcrnIrq(sys, this.calls));
      const flag = owner.stopFlag ?? new SharedArrayBuffer(4);
      // The flag alone is enough: no wait of ours is longer than a few milliseconds.
      this.stopToken = { flag, tid: 0, pid: 0 };
      this.requests = new AcrnRequests({
        calls: this.calls,
        page: this.page,
        wait: new RequestWait({ attach, rest: () => timer.rest() }),
        stopFlag: new Int32Array(flag),
        route: (request, from) => owner.route(this.vmId, request, from),
        memoryAt: (address) => this.memoryAt(address),
        run: () => this.start(),
      });
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  get ram(): readonly RamRegion[] {
    return this.memory.regions.map(({ gpa, size }) => ({ gpa, size }));
  }

  get closed(): boolean {
    return this.#closed;
  }

  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op: 'boot' });
    if (this.requests.pending) throw new MptError('BUSY', 'a guest access is not completed', { op: 'boot' });
    checkBootImage(gpa, image);
    this.#reset();
    this.memory.write(gpa, image, 0, image.length);
    checkAcrn(this.calls.setVcpuRegs(0, realMode(gpa)), 'SET_VCPU_REGS');
    this.requests.restart();
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.requests.counts();
  }

  /** Memory that the guest has at an address, for an access that came as a request all the same. */
  memoryAt(address: number): RamAccess | undefined {
    if (this.memory.find(address) !== undefined) return this.memory;
    if (this.registerFiles.size === 0) return undefined;
    for (const file of this.registerFiles) if (file.find(address) !== undefined) return file;
    return undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.requests.close();
    this.#owner.vmClosed(this);
    this.#release();
  }

  /** Lets the guest run. */
  start(): void {
    if (this.#state === 'running') return;
    checkAcrn(this.calls.startVm(), 'START_VM');
    this.#state = 'running';
  }

  /** Brings a VM that runs back to where it was after creation. A step that failed is made again by the next boot. */
  #reset(): void {
    if (this.#state === 'running') {
      checkAcrn(this.calls.pauseVm(), 'PAUSE_VM');
      this.#state = 'paused';
    }
    if (this.#state !== 'paused') return;
    checkAcrn(this.calls.clearRequests(), 'CLEAR_VM_IOREQ');
    checkAcrn(this.calls.resetVm(), 'RESET_VM');
    this.#state = 'created';
  }

  #own<T extends { close(): void }>(resource: T): T {
    this.#resources.push(resource);
    return resource;
  }

  #release(): void {
    for (let resource = this.#resources.pop(); resource !== undefined; resource = this.#resources.pop()) resource.close();
  }

  #mapRam({ gpa, size }: RamRegion): AcrnRegion {
    const mapping = this.#own(OwnedMapping.memfd(this.#owner.sys, size, 'guest RAM', 'mpt-guest-ram'));
    const frames = new Float64Array(size / PAGE_SIZE);
    return { ...mapRegion(gpa, new Uint8Array(mapping.buffer)), hva: mapping.hva, frames };
  }
}

/** `struct acrn_regs` of a vCPU that begins at `gpa` in real mode: CS = gpa >> 4, IP = 0. */
function realMode(gpa: number): Uint8Array {
  const regs = new DataView(new ArrayBuffer(REGS.size));
  regs.setUint16(REGS['gdt.limit'], SEGMENT_LIMIT, true);
  regs.setUint16(REGS['idt.limit'], IDT_LIMIT, true);
  regs.setUint32(REGS.cs_base, gpa, true);
  regs.setUint32(REGS.cr0, CR0, true);
  regs.setUint32(REGS.rflags, RFLAGS, true);
  regs.setUint32(REGS.cs_ar, CS_RIGHTS, true);
  regs.setUint32(REGS.cs_limit, SEGMENT_LIMIT, true);
  regs.setUint16(REGS.cs_sel, gpa >> 4, true);
  return new Uint8Array(regs.buffer);
}
