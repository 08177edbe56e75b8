/** A VM of the simulation: RAM, local APIC and one interpreted vCPU. */
import { type Gpa, PAGE_SIZE, type VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { GuestRam, type RamRegion } from '../../core/guest-ram.js';
import type { IoRequest } from '../../core/io-request.js';
import type { Machine, MachineSpec, StopToken } from '../../core/machine.js';
import { type AddressSpace, type Mapping, makeMapping } from '../../pc/address-space.js';
import type { Lapic } from '../../pc/lapic.js';
import { Pc } from '../../pc/pc.js';
import type { PcRequests } from '../../pc/requests.js';
import { DoubleFetchWatches } from './double-fetch.js';
import { allocateRam, type HostBlock, type HostMemory } from './host-memory.js';

/** What the VM needs of its backend. */
export interface SimVmOwner {
  readonly hostMemory: HostMemory;
  readonly instructionBudget: number;
  readonly stopFlag: SharedArrayBuffer | undefined;
  route(vmId: VmId, request: IoRequest, from?: number): number;
  vmClosed(vm: SimMachine): void;
}

/** A RAM region and where it lies in the simulated machine address space. */
interface SimRam extends Mapping {
  readonly block: HostBlock;
}

export class SimMachine implements Machine {
  readonly vmId: VmId;
  readonly memory: GuestRam<SimRam>;
  readonly space: AddressSpace;
  readonly lapic: Lapic;
  readonly requests: PcRequests;
  readonly stopToken: StopToken;
  readonly watches: DoubleFetchWatches;
  /** Pages that DMA mappings of all vGPUs hold, each as often as it is mapped. */
  pinnedPages = 0;
  readonly #owner: SimVmOwner;
  readonly #pc: Pc;
  #closed = false;

  constructor(owner: SimVmOwner, vmId: VmId, spec: MachineSpec) {
    this.#owner = owner;
    this.vmId = vmId;
    const regions: SimRam[] = [];
    try {
      const bytes = allocateRam(spec.ram.reduce((sum, { size }) => sum + size, 0));
      let used = 0;
      for (const { gpa, size } of spec.ram) {
        const block = owner.hostMemory.allocate(size, gpa, bytes.subarray(used, used + size));
        used += size;
        regions.push({ ...makeMapping(gpa, block.bytes), block });
      }
    } catch (error) {
      for (const { block } of regions) owner.hostMemory.free(block);
      throw error;
    }
    this.memory = new GuestRam(regions);
    this.watches = new DoubleFetchWatches(this.memory);
    this.#pc = new Pc({
      ram: regions,
      stopFlag: owner.stopFlag,
      instructionBudget: owner.instructionBudget,
      route: (request, from) => owner.route(vmId, request, from),
      backend: 'sim',
    });
    this.space = this.#pc.space;
    this.lapic = this.#pc.lapic;
    this.requests = this.#pc.requests;
    this.stopToken = this.#pc.stopToken;
  }

  get ram(): readonly RamRegion[] {
    return this.memory.regions.map(({ gpa, size }) => ({ gpa, size }));
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resets the vCPU and its local APIC, then starts the image. */
  boot(gpa: Gpa, image: Uint8Array): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { backend: 'sim', op: 'boot' });
    this.#pc.boot(gpa, image, (at, bytes) => this.memory.write(at, bytes, 0, bytes.length));
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.requests.counts();
  }

  /** Instructions that the guest executed since it was booted. */
  get instructions(): number {
    return this.#pc.instructions;
  }

  /**
   * The first host copy (read_gpa or DMA copy; not a DMA view) that touches the range sees it as it is; right after it
   * `mutate` changes the bytes, once. Whoever reads any byte of the range again is counted in `doubleFetches`.
   * @throws MptError NOT_RAM unless the range lies inside one RAM region
   */
  mutateOnSecondRead(gpa: Gpa, length: number, mutate: (bytes: Uint8Array) => void): void {
    this.watches.add(gpa, length, mutate);
  }

  /** Host copies that read a byte under `mutateOnSecondRead` again. */
  get doubleFetches(): number {
    return this.watches.doubleFetches;
  }

  /** Machine address behind a guest frame. @throws MptError NOT_RAM unless one RAM region holds all of `size` */
  machineAddress(gfn: number, size: number): number {
    const gpa = gfn * PAGE_SIZE;
    const region = this.memory.find(gpa);
    if (region === undefined || gpa - region.gpa + size > region.size)
      throw new MptError('NOT_RAM', 'the frame is not guest RAM of one region', {
        address: gpa,
        size,
        hint: `RAM is ${this.memory.describe()}`,
      });
    return region.block.base + (gpa - region.gpa);
  }

  /** Guest address behind a machine address of this VM's RAM; -1 for others. */
  gpaOf(address: number): number {
    for (const { gpa, block } of this.memory.regions)
      if (address >= block.base && address - block.base < block.size) return gpa + (address - block.base);
    return -1;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.requests.vmGone();
    this.#owner.vmClosed(this);
    for (const { block } of this.memory.regions) this.#owner.hostMemory.free(block);
  }
}
