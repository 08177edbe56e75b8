/**
 * Base class of every backend. A template method: the public operations check arguments, keep the state machine
 * (created → initialized → exited → closed), count calls and wrap failures; a backend overrides only the protected
 * `do…` methods and cannot forget a check.
 */
import { GPA_LIMIT, type Hva, type Mfn, type VgpuId, type VmId } from './addresses.js';
import { type Capabilities, type Capability, has } from './capabilities.js';
import { MptError, type MptErrorDetails } from './errors.js';
import { checkRamLayout } from './guest-ram.js';
import type { GvtOps } from './gvt-ops.js';
import type { IoRequest } from './io-request.js';
import type { Machine, MachineSpec, OpenMachineSpec } from './machine.js';
import {
  type HostPages,
  MPT_OPERATIONS,
  type MptHostOps,
  type MptOperationName,
  type MptVgpuOps,
  OP_INDEX,
  type VgpuAttachment,
} from './mpt.js';
import type { MptHandle } from './mpt-handle.js';
import type { VfioDevice } from './vfio/device.js';

type HostState = 'created' | 'initialized' | 'exited' | 'closed';

/** Frames that one allocateHostPages may ask for: 256 MiB, above every use of the device model. */
const HOST_PAGES_MAX = 65_536;

export abstract class MptBackend implements MptHostOps {
  /** Name in the registry and in errors. */
  abstract readonly name: string;
  /** Version of the hypervisor, for people. */
  abstract readonly version: string;
  abstract readonly capabilities: Readonly<Capabilities>;

  /** Calls of each operation since creation, by index in `MPT_OPERATIONS`. */
  readonly calls = new Float64Array(MPT_OPERATIONS.length);

  /**
   * Stop flag that machines created from now on share, so that one `StopToken` stops whatever runs on the device thread.
   * Without it each machine has its own.
   */
  stopFlag: SharedArrayBuffer | undefined;

  #state: HostState = 'created';
  #ops: GvtOps | undefined;
  readonly #handles = new Map<VmId, MptHandle[]>();

  get state(): HostState {
    return this.#state;
  }

  /** The core's table. @throws MptError NOT_INITIALIZED */
  get ops(): GvtOps {
    if (this.#ops === undefined) throw this.error('NOT_INITIALIZED', 'host_init has not been called', {});
    return this.#ops;
  }

  hostInit(ops: GvtOps): void {
    this.enter('host_init');
    if (this.#state === 'initialized')
      throw this.error('ALREADY_INITIALIZED', 'the backend is bound to a device model', { op: 'host_init', hint: 'call host_exit first' });
    if (ops === null || typeof ops !== 'object') throw this.error('INVALID_ARGUMENT', 'the ops table is missing', { op: 'host_init' });
    this.guard('host_init', () => this.doHostInit(ops));
    this.#ops = ops;
    this.#state = 'initialized';
  }

  hostExit(): void {
    this.enter('host_exit');
    this.#requireInitialized('host_exit');
    const attached = this.attachedCount;
    if (attached > 0)
      throw this.error('BUSY', `${attached} vGPU${attached === 1 ? ' is' : 's are'} still attached`, {
        op: 'host_exit',
        hint: 'detach every vGPU first',
      });
    this.guard('host_exit', () => this.doHostExit());
    this.#ops = undefined;
    this.#state = 'exited';
  }

  attachVgpu(vgpu: VgpuAttachment): MptHandle {
    const op = 'attach_vgpu';
    this.enter(op);
    this.#requireInitialized(op);
    const { id, vmId, bdf } = vgpu;
    if (!Number.isInteger(id) || id < 1 || id > 0xffff) throw this.error('INVALID_ARGUMENT', `vGPU id ${id} is not in 1..65535`, { op });
    if (!Number.isInteger(bdf) || bdf < 0 || bdf > 0xffff)
      throw this.error('INVALID_ARGUMENT', `PCI address ${bdf} is not in 0..65535`, { op });
    if (!Number.isSafeInteger(vmId) || !this.doHasVm(vmId))
      throw this.error('VM_NOT_FOUND', `no VM has the id ${vmId}`, { op, hint: 'create or name a running VM' });
    for (const handles of this.#handles.values())
      for (const other of handles) {
        if (other.vgpu.id === id)
          throw this.error('ALREADY_ATTACHED', `vGPU ${id} is attached to VM ${other.vgpu.vmId}`, { op, hint: 'detach it first' });
        if (other.vgpu.vmId === vmId && other.vgpu.bdf === bdf)
          throw this.error('OVERLAP', `VM ${vmId} has a vGPU at this PCI address`, { op, address: bdf });
      }
    const handle = this.guard(op, () => this.doAttachVgpu(Object.freeze({ ...vgpu })));
    const list = this.#handles.get(vmId);
    if (list === undefined) this.#handles.set(vmId, [handle]);
    else list.push(handle);
    return handle;
  }

  /**
   * Shows an attached vGPU to its VM as a VFIO device, where VMs see their devices so (vfio-user). Elsewhere the hypervisor delivers what
   * the vGPU's trap areas and PCI function receive, and the view is not asked for.
   * @throws MptError BUSY when it is presented, IO
   */
  presentVgpu(handle: MptVgpuOps, view: () => VfioDevice): void {
    this.checkOpen('present_vgpu');
    this.guard('present_vgpu', () => this.doPresentVgpu(handle, view));
  }

  fromVirtToMfn(hva: Hva): Mfn {
    const op = 'from_virt_to_mfn';
    this.enter(op);
    if (!Number.isSafeInteger(hva) || hva <= 0 || hva >= GPA_LIMIT)
      throw this.error('INVALID_ADDRESS', 'not a host virtual address', { op, address: hva });
    return this.guard(op, () => this.doFromVirtToMfn(hva));
  }

  dom0Ready(): void {
    this.enter('dom0_ready');
    this.require('dom0Ready', 'dom0_ready');
    this.#requireInitialized('dom0_ready');
    this.guard('dom0_ready', () => this.doDom0Ready());
  }

  /** Host pages that map_gfn_to_mfn accepts, zeroed. @param count 1..65536 frames */
  allocateHostPages(count: number): HostPages {
    const op = 'allocate_host_pages';
    this.checkOpen(op);
    this.require('hostPages', op);
    if (!Number.isInteger(count) || count < 1 || count > HOST_PAGES_MAX)
      throw this.error('INVALID_ARGUMENT', 'the number of pages is not in range', { op, size: count, limit: HOST_PAGES_MAX });
    return this.guard(op, () => this.doAllocateHostPages(count));
  }

  /** Creates a VM of our own. @throws MptError UNSUPPORTED, INVALID_ARGUMENT, OVERLAP, NO_MEMORY, HYPERVISOR */
  createMachine(spec: MachineSpec): Machine {
    const op = 'create_machine';
    this.checkOpen(op);
    this.require('machine', op);
    const ram = this.guard(op, () => checkRamLayout(spec.ram, op));
    return this.guard(op, () => this.doCreateMachine({ ...spec, ram }));
  }

  /**
   * Takes up a VM that something else created, by the hypervisor's number or name for it. Closing the machine lets go of the
   * VM and leaves it in being.
   * @throws MptError UNSUPPORTED, VM_NOT_FOUND, BUSY (already taken up), HYPERVISOR
   */
  openMachine(vm: number | string, spec: OpenMachineSpec = {}): Machine {
    const op = 'open_machine';
    this.checkOpen(op);
    this.require('foreignVm', op);
    return this.guard(op, () => this.doOpenMachine(vm, spec));
  }

  /** Releases everything: attached vGPUs, machines, file descriptors. Idempotent. */
  close(): void {
    if (this.#state === 'closed') return;
    for (const handles of [...this.#handles.values()])
      for (const handle of [...handles]) {
        try {
          handle.detachVgpu();
        } catch {
          // The VM may be gone; close() releases what is left.
        }
      }
    this.#ops = undefined;
    this.#state = 'closed';
    this.guard('close', () => this.doClose());
  }

  get attachedCount(): number {
    let count = 0;
    for (const handles of this.#handles.values()) count += handles.length;
    return count;
  }

  /** Handles attached to a VM. */
  handlesOf(vmId: VmId): readonly MptHandle[] {
    return this.#handles.get(vmId) ?? [];
  }

  /**
   * Fills in `request.vgpu`: the first vGPU of this VM, at or after position `from`, that owns the address, or 0. For a
   * backend's `requests.ts`. A write to a frame that several vGPUs track is delivered to each: the backend calls again with
   * the answer until that is 0.
   * @returns the position to go on from, 0 when no vGPU owns the address
   */
  route(vmId: VmId, request: IoRequest, from = 0): number {
    request.vgpu = 0 as VgpuId;
    const handles = this.#handles.get(vmId);
    if (handles === undefined) return 0;
    for (let i = from; i < handles.length; i++) {
      const handle = handles[i] as MptHandle;
      if (handle.claims(request)) {
        request.vgpu = handle.vgpu.id;
        return i + 1;
      }
    }
    return 0;
  }

  /** For MptHandle only. */
  forget(handle: MptHandle): void {
    const { vmId } = handle.vgpu;
    const rest = (this.#handles.get(vmId) ?? []).filter((other) => other !== handle);
    if (rest.length === 0) this.#handles.delete(vmId);
    else this.#handles.set(vmId, rest);
  }

  /** For `HostPages.release`. @throws MptError BUSY while a guest has any of the pages */
  protected requireUnused(pages: HostPages): void {
    for (const handles of this.#handles.values())
      for (const handle of handles)
        if (handle.usesHostPages(pages))
          throw this.error('BUSY', 'the host pages are mapped into a guest', {
            op: 'release',
            address: pages.mfn,
            hint: 'unmap them first',
          });
  }

  /** Tells the attached handles that their VM is gone. For a backend that destroys, or notices the death of, a VM. */
  protected vmGone(vmId: VmId): void {
    for (const handle of this.#handles.get(vmId) ?? []) handle.markVmGone();
  }

  /** Counts a call and refuses a closed backend. */
  protected enter(op: MptOperationName): void {
    this.calls[OP_INDEX[op]] = (this.calls[OP_INDEX[op]] as number) + 1;
    this.checkOpen(op);
  }

  protected checkOpen(op: string): void {
    if (this.#state === 'closed') throw this.error('CLOSED', 'the backend is closed', { op });
  }

  #requireInitialized(op: string): void {
    if (this.#state !== 'initialized')
      throw this.error('NOT_INITIALIZED', 'the backend is not bound to a device model', { op, hint: 'call host_init first' });
  }

  /** @throws MptError UNSUPPORTED when the capability is not declared. */
  require(capability: Capability, op: string): void {
    if (!has(this.capabilities, capability))
      throw this.error('UNSUPPORTED', `the backend declares no ${capability}`, { op, hint: 'see: mpt backends' });
  }

  /** An MptError that names this backend. */
  error(code: MptError['code'], what: string, details: MptErrorDetails): MptError {
    return new MptError(code, what, { backend: this.name, ...details });
  }

  /** Runs a backend's operation; what it throws leaves as an MptError that names operation and backend. */
  guard<T>(op: string, run: () => T): T {
    try {
      return run();
    } catch (error) {
      throw this.wrap(op, error);
    }
  }

  wrap(op: string, error: unknown): MptError {
    if (error instanceof MptError) {
      if (error.backend !== undefined && error.op !== undefined) return error;
      const { code, errno, address, size, limit, hint, cause } = error;
      const details = { op: error.op ?? op, errno, address, size, limit, hint, cause };
      return this.error(code, error.text, Object.fromEntries(Object.entries(details).filter(([, v]) => v !== undefined)));
    }
    return this.error('INTERNAL', error instanceof Error ? error.message : String(error), { op, cause: error });
  }

  protected doHostInit(_ops: GvtOps): void {}
  protected doHostExit(): void {}
  protected abstract doHasVm(vmId: VmId): boolean;
  protected abstract doAttachVgpu(vgpu: VgpuAttachment): MptHandle;
  protected abstract doFromVirtToMfn(hva: Hva): Mfn;
  protected abstract doClose(): void;
  protected doPresentVgpu(_handle: MptVgpuOps, _view: () => VfioDevice): void {}
  protected doDom0Ready(): void {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doAllocateHostPages(_count: number): HostPages {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doOpenMachine(_vm: number | string, _spec: OpenMachineSpec): Machine {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
  protected doCreateMachine(_spec: MachineSpec): Machine {
    throw new MptError('UNSUPPORTED', 'not provided');
  }
}
