/**
 * The MPT operations for VMs that run in another process and reach us over vfio-user. Frame numbers and DMA addresses are guest
 * ones in a window of the VM's (`abi.ts`), looked up in the client's maps at each use: memory that the client maps anew is found, and
 * memory that it took away is not.
 *
 * Here VMs come to a socket; `backend.ts` makes some of our own besides. A device thread needs no more than this, and loads no more.
 */
import { GFN_LIMIT, type Hva, Mfn, PAGE_SIZE, VmId } from '../../core/addresses.js';
import type { Capabilities } from '../../core/capabilities.js';
import { MptError } from '../../core/errors.js';
import type { GvtOps } from '../../core/gvt-ops.js';
import type { MptVgpuOps, VgpuAttachment } from '../../core/mpt.js';
import { MptBackend } from '../../core/mpt-backend.js';
import type { VfioDevice } from '../../core/vfio/device.js';
import { DmaMaps } from '../../vfio/dma-maps.js';
import type { ServerCalls, ServerEvents, ServerPlace } from '../../vfio/server.js';
import { VfioUserHandle, type VfioUserVm } from './handle.js';
import { PlainFunction } from './plain-function.js';
import { PresentedFunction } from './presented.js';
import { probeVfioUser, SERVING, VERSION } from './probe.js';
import { ServedMachine } from './served-machine.js';

export interface ServingOptions {
  /** Map guest memory even when its file can be shortened, which would end this process. Default false. */
  readonly trustClient?: boolean;
  /** Pages that one vGPU's DMA mappings may pin. Default: no limit. */
  readonly pinLimitPages?: number;
}

/** What the backend needs of its VMs. */
export interface VfioUserMachine extends VfioUserVm {
  readonly vmId: VmId;
  /** A vGPU was attached. */
  adopt(presented: PresentedFunction): void;
  /** Shows the vGPU to the VM as this device. */
  present(presented: PresentedFunction, view: VfioDevice): void;
  /** Guest-physical address behind a host virtual one, or undefined. */
  gpaOfHva(hva: number): number | undefined;
  close(): void;
}

/** VM numbers are the process's own. */
let lastVmId = 0;

export class ServingBackend extends MptBackend {
  readonly name = 'vfio-user';
  readonly version = VERSION;
  readonly capabilities: Readonly<Capabilities> = SERVING;
  readonly system: ServerCalls;
  readonly pinLimit: number;
  readonly trustClient: boolean;
  readonly #vms = new Map<VmId, VfioUserMachine>();

  constructor(calls: ServerCalls, { trustClient = false, pinLimitPages = GFN_LIMIT }: ServingOptions = {}) {
    super();
    const probe = probeVfioUser(calls);
    if (!probe.available) throw new MptError('UNAVAILABLE', probe.reason, { backend: 'vfio-user', op: 'open' });
    this.system = calls;
    this.trustClient = trustClient;
    this.pinLimit = pinLimitPages;
  }

  /**
   * A VM that will come to a socket, or has come to a connection: QEMU. It is served once a vGPU is attached and presented; one vGPU a place.
   * @throws MptError CLOSED
   */
  serve(place: ServerPlace, events: ServerEvents = {}): ServedMachine {
    this.checkOpen('serve');
    return this.add(new ServedMachine(this, this.newVmId(), place, events));
  }

  /** Guest memory of one connection. */
  newMemory(): DmaMaps {
    return new DmaMaps(this.system.sys, { trustFiles: this.trustClient });
  }

  protected override doHasVm(vmId: VmId): boolean {
    return this.#vms.has(vmId);
  }

  protected override doAttachVgpu(vgpu: VgpuAttachment): VfioUserHandle {
    const vm = this.#vms.get(vgpu.vmId) as VfioUserMachine;
    const presented = new PresentedFunction(vgpu, new PlainFunction(), this.newMemory());
    vm.adopt(presented);
    const ops = (): GvtOps | undefined => (this.state === 'initialized' ? this.ops : undefined);
    presented.watchMemory(
      () => ops()?.memoryUnmapped?.(vgpu.id),
      () => ops()?.memoryMapped?.(vgpu.id),
    );
    return new VfioUserHandle(this, vm, vgpu, presented);
  }

  protected override doPresentVgpu(handle: MptVgpuOps, view: () => VfioDevice): void {
    const { presented, vgpu } = handle as VfioUserHandle;
    this.#vms.get(vgpu.vmId)?.present(presented, view());
  }

  protected override doFromVirtToMfn(hva: Hva): Mfn {
    for (const vm of this.#vms.values()) {
      const gpa = vm.gpaOfHva(hva);
      if (gpa !== undefined) return Mfn(vm.firstFrame + Math.floor(gpa / PAGE_SIZE));
    }
    throw new MptError('INVALID_ADDRESS', 'the address is not guest RAM of this backend', { address: hva });
  }

  /** For machines only: the VM closes. */
  vmClosed(vm: VfioUserMachine): void {
    this.vmGone(vm.vmId);
    this.#vms.delete(vm.vmId);
  }

  protected override doClose(): void {
    for (const vm of [...this.#vms.values()]) vm.close();
  }

  protected newVmId(): VmId {
    return VmId(++lastVmId);
  }

  protected add<T extends VfioUserMachine>(vm: T): T {
    this.#vms.set(vm.vmId, vm);
    return vm;
  }
}
