/**
 * An in-memory hypervisor: any number of VMs, whose instructions are interpreted, over a machine address space of its
 * own. Machine frames and DMA addresses are numbers in that space, never equal to the guest frames behind them, and
 * never used again after they were given back.
 */
import { EventEmitter } from 'eventemitter3';
import { GFN_LIMIT, Hva, Mfn, PAGE_SIZE, VmId } from '../../core/addresses.js';
import type { Capabilities, PageTrackLevel } from '../../core/capabilities.js';
import { MptError } from '../../core/errors.js';
import type { GvtOps } from '../../core/gvt-ops.js';
import type { MachineSpec } from '../../core/machine.js';
import type { HostPages, VgpuAttachment } from '../../core/mpt.js';
import { MptBackend } from '../../core/mpt-backend.js';
import { HVA_OFFSET } from './abi.js';
import { SimFaults } from './faults.js';
import { SimHandle } from './handle.js';
import { type HostBlock, HostMemory } from './host-memory.js';
import { SimMachine, type SimVmOwner } from './machine.js';
import { SIM_VERSION, simCapabilities } from './probe.js';

export interface SimOptions {
  /** Level of page tracking to offer; default `trap`. */
  readonly pageTrack?: PageTrackLevel | 'none';
  /** Pages that one vGPU's DMA mappings may pin. Default: no limit. */
  readonly pinLimitPages?: number;
  /** Guest instructions after which `requests.next()` with a timeout returns even if time is left. Default: no limit. */
  readonly instructionBudget?: number;
}

export interface SimEvents {
  /** dom0_ready was called: the service VM's display is up. */
  'dom0-ready': () => void;
  /** A VM was created or is gone. */
  'vm-created': (vm: SimMachine) => void;
  'vm-gone': (vm: SimMachine) => void;
}

/** VM numbers are the process's own. */
let lastVmId = 0;

export class SimBackend extends MptBackend implements SimVmOwner {
  readonly name = 'sim';
  readonly version = SIM_VERSION;
  readonly capabilities: Readonly<Capabilities>;
  /** Makes operations fail on request. */
  readonly faults = new SimFaults();
  readonly events = new EventEmitter<SimEvents>();
  readonly hostMemory = new HostMemory();
  readonly pinLimit: number;
  readonly instructionBudget: number;
  readonly #vms = new Map<VmId, SimMachine>();
  readonly #hostPages = new Set<SimHostPages>();
  #dom0ReadyCount = 0;

  /** @throws MptError INVALID_ARGUMENT */
  constructor(options: SimOptions = {}) {
    super();
    this.capabilities = simCapabilities(pageTrackLevel(options));
    this.pinLimit = positive(options.pinLimitPages, 'pinLimitPages', GFN_LIMIT);
    this.instructionBudget = positive(options.instructionBudget, 'instructionBudget', Number.POSITIVE_INFINITY);
  }

  /** Calls of dom0_ready. */
  get dom0ReadyCount(): number {
    return this.#dom0ReadyCount;
  }

  /** A VM by number. @throws MptError VM_NOT_FOUND */
  vm(vmId: VmId): SimMachine {
    const vm = this.#vms.get(vmId);
    if (vm === undefined) throw this.error('VM_NOT_FOUND', `no VM has the id ${vmId}`, { op: 'vm' });
    return vm;
  }

  /** Destroys a VM under its vGPUs' feet, as a hypervisor's management can at any time. @throws MptError VM_NOT_FOUND */
  destroyVm(vmId: VmId): void {
    this.vm(vmId).close();
  }

  protected override doHostInit(_ops: GvtOps): void {
    this.faults.check('host_init');
  }

  protected override doHostExit(): void {
    this.faults.check('host_exit');
  }

  protected override doHasVm(vmId: VmId): boolean {
    return this.#vms.has(vmId);
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): SimHandle {
    this.faults.check('attach_vgpu');
    return new SimHandle(this, this.vm(vgpu.vmId), vgpu);
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    this.faults.check('from_virt_to_mfn');
    const address = hva - HVA_OFFSET;
    if (this.hostMemory.find(address, 1) === undefined)
      throw new MptError('INVALID_ADDRESS', 'the address is neither guest RAM nor host pages of this backend', { address: hva });
    return Mfn(Math.floor(address / PAGE_SIZE));
  }

  protected override doDom0Ready(): void {
    this.faults.check('dom0_ready');
    this.#dom0ReadyCount++;
    this.events.emit('dom0-ready');
  }

  protected override doAllocateHostPages(count: number): HostPages {
    this.faults.check('allocate_host_pages');
    const pages = new SimHostPages(this, this.hostMemory.allocate(count * PAGE_SIZE));
    this.#hostPages.add(pages);
    return pages;
  }

  protected override doCreateMachine(spec: MachineSpec): SimMachine {
    this.faults.check('create_machine');
    const vm = new SimMachine(this, VmId(++lastVmId), spec);
    this.#vms.set(vm.vmId, vm);
    this.events.emit('vm-created', vm);
    return vm;
  }

  /** For SimMachine only: the VM closes. */
  vmClosed(vm: SimMachine): void {
    this.vmGone(vm.vmId);
    this.#vms.delete(vm.vmId);
    this.events.emit('vm-gone', vm);
  }

  /** For SimHostPages only. @throws MptError BUSY */
  released(pages: SimHostPages): void {
    this.requireUnused(pages);
    this.#hostPages.delete(pages);
  }

  protected override doClose(): void {
    for (const vm of [...this.#vms.values()]) vm.close();
    for (const pages of [...this.#hostPages]) pages.release();
  }
}

export class SimHostPages implements HostPages {
  readonly #backend: SimBackend;
  readonly #block: HostBlock;
  #open = true;

  constructor(backend: SimBackend, block: HostBlock) {
    this.#backend = backend;
    this.#block = block;
  }

  get mfn(): Mfn {
    return Mfn(this.#block.base / PAGE_SIZE);
  }

  get hva(): Hva {
    return Hva(this.#block.base + HVA_OFFSET);
  }

  get count(): number {
    return this.#block.size / PAGE_SIZE;
  }

  get bytes(): Uint8Array {
    return this.#block.bytes;
  }

  release(): void {
    if (!this.#open) return;
    this.#backend.released(this);
    this.#backend.hostMemory.free(this.#block);
    this.#open = false;
  }
}

const LEVELS: Readonly<Record<string, PageTrackLevel | null>> = { trap: 'trap', sync: 'sync', none: null };

/** @throws MptError INVALID_ARGUMENT */
export function pageTrackLevel({ pageTrack = 'trap' }: SimOptions): PageTrackLevel | null {
  const level = LEVELS[pageTrack];
  if (level === undefined)
    throw new MptError('INVALID_ARGUMENT', `pageTrack '${pageTrack}' is not trap, sync or none`, { backend: 'sim', op: 'open' });
  return level;
}

function positive(value: number | undefined, name: string, absent: number): number {
  if (value === undefined) return absent;
  if (!Number.isSafeInteger(value) || value < 1)
    throw new MptError('INVALID_ARGUMENT', `${name} is ${value}, not an integer of 1 or more`, { backend: 'sim', op: 'open' });
  return value;
}
