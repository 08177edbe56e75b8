/**
 * scaffold: the MPT operations.
 *
 * The base classes have checked the arguments, the state and the bounds when a `do…` method is called, and it is called on real
 * transitions only: a frame that is tracked already is not tracked again. What it throws leaves as an MptError that names operation and
 * backend. So each method here is what the hypervisor has to do, and no more.
 */
import { DEFAULT_LIMITS, MptBackend, MptError, MptHandle } from 'mediated-passthrough';
import { PageFlag } from 'mediated-passthrough/pc';
import { ScaffoldMachine } from './machine.mjs';
import { CAPABILITIES, VERSION } from './probe.mjs';

const PAGE_SIZE = 4096;
/** VM numbers. Replace: the hypervisor's own. */
let lastVmId = 0;

export class ScaffoldBackend extends MptBackend {
  name = 'scaffold';
  version = VERSION;
  capabilities = CAPABILITIES;
  #limits;
  #machines = new Map();

  /** @param options as `optionsSchema` in index.mjs says */
  constructor({ pinLimitPages = DEFAULT_LIMITS.pinnedPages } = {}) {
    super();
    this.#limits = { ...DEFAULT_LIMITS, pinnedPages: pinLimitPages };
  }

  machine(vmId) {
    return this.#machines.get(vmId);
  }

  /** Replace: ask the hypervisor. */
  doHasVm(vmId) {
    return this.#machines.has(vmId);
  }

  doAttachVgpu(vgpu) {
    return new ScaffoldHandle(this, vgpu, this.#limits);
  }

  /** Without host pages no host address has a frame. Replace together with `hostPages`. */
  doFromVirtToMfn(hva) {
    throw new MptError('INVALID_ADDRESS', 'this backend has no host pages', { address: hva });
  }

  doCreateMachine(spec) {
    const machine = new ScaffoldMachine(this, ++lastVmId, spec);
    this.#machines.set(machine.vmId, machine);
    return machine;
  }

  /** For ScaffoldMachine: the VM is gone. Call `vmGone` also when the hypervisor says so. */
  closed(machine) {
    this.#machines.delete(machine.vmId);
    this.vmGone(machine.vmId);
  }

  doClose() {
    for (const machine of [...this.#machines.values()]) machine.close();
  }
}

class ScaffoldHandle extends MptHandle {
  #machine;

  constructor(backend, vgpu, limits) {
    super(backend, vgpu, limits);
    this.#machine = backend.machine(vgpu.vmId);
  }

  // Guest memory. Replace: where the process cannot map RAM for the VM's whole life, map it here and answer NOT_RAM
  // before a byte is copied. An aligned write of 1, 2, 4 or 8 bytes is one store: `GuestRam` does that.

  doReadGpa(gpa, target, offset, length) {
    this.#machine.memory.read(gpa, target, offset, length);
  }

  doWriteGpa(gpa, source, offset, length) {
    this.#machine.memory.write(gpa, source, offset, length);
  }

  doIsValidGfn(gfn) {
    return this.#machine.memory.find(gfn * PAGE_SIZE) !== undefined;
  }

  /** True when RAM, or a mapping of map_gfn_to_mfn, has a byte of [start, end]. */
  doOverlapsRam(start, end) {
    return this.#machine.memory.touches(start, end);
  }

  /** Replace: KVM_SIGNAL_MSI, xendevicemodel_inject_msi, … */
  doInjectMsi(address, data) {
    this.#machine.pc.lapic.message(address, data);
  }

  // Page track, level `trap`: each write is reported with its data. The interpreter reports stores to pages with this
  // flag. Replace: the hypervisor's write protection. Level `sync` has doSyncPageTrack instead of reports.

  doEnablePageTrack(gfn) {
    if (!this.doIsValidGfn(gfn)) throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
    this.#machine.pc.space.setFlag(gfn, PageFlag.TRAP, true);
  }

  doDisablePageTrack(gfn) {
    // The frame stays protected as long as another vGPU of the VM tracks it.
    if (this.backend.handlesOf(this.vgpu.vmId).some((other) => other !== this && other.tracks(gfn))) return;
    this.#machine.pc.space.setFlag(gfn, PageFlag.TRAP, false);
  }

  /** Every access without memory arrives, so there is nothing to set. Replace: register the range with the hypervisor. */
  doSetTrapArea(_start, _end, _map) {}

  // Frames and DMA. Replace: pin the page and give the address that the GPU uses. Every distinct frame has a distinct
  // address; references, limits and growing are the base class's.

  doGfnToMfn(gfn) {
    return this.#machine.hostFrame(gfn, PAGE_SIZE);
  }

  doDmaMap(gfn, size) {
    return this.#machine.hostFrame(gfn, size) * PAGE_SIZE;
  }

  doDmaUnmap(_gfn, _size, _address) {}

  doDmaView(address, length) {
    return this.#machine.hostBytes(address, length);
  }
}
