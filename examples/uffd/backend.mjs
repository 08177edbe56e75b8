/** uffd: the MPT operations over memory under userfaultfd write protection. */
import { DEFAULT_LIMITS, MptBackend, MptError, MptHandle } from 'mediated-passthrough';
import { UffdMachine } from './machine.mjs';
import { CAPABILITIES, VERSION } from './probe.mjs';

const PAGE_SIZE = 4096;
/** VM numbers are the process's own. */
let lastVmId = 0;

export class UffdBackend extends MptBackend {
  name = 'uffd';
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

  doHasVm(vmId) {
    return this.#machines.has(vmId);
  }

  doAttachVgpu(vgpu) {
    return new UffdHandle(this, vgpu, this.#limits);
  }

  /** Without host pages no host address has a frame. */
  doFromVirtToMfn(hva) {
    throw new MptError('INVALID_ADDRESS', 'this backend has no host pages', { address: hva });
  }

  doCreateMachine(spec) {
    const machine = new UffdMachine(this, ++lastVmId, spec);
    this.#machines.set(machine.vmId, machine);
    return machine;
  }

  /** For UffdMachine: the VM is gone. */
  closed(machine) {
    this.#machines.delete(machine.vmId);
    this.vmGone(machine.vmId);
  }

  doClose() {
    for (const machine of [...this.#machines.values()]) machine.close();
  }
}

class UffdHandle extends MptHandle {
  #machine;
  /** Tracked frames that were found written and are not yet reported. */
  #written = new Set();

  constructor(backend, vgpu, limits) {
    super(backend, vgpu, limits);
    this.#machine = backend.machine(vgpu.vmId);
  }

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

  doInjectMsi(address, data) {
    this.#machine.pc.lapic.message(address, data);
  }

  // Page track, level `sync`: the kernel notes which protected pages were written.

  doEnablePageTrack(gfn) {
    if (!this.doIsValidGfn(gfn)) throw new MptError('NOT_RAM', 'the frame is not guest RAM', { address: gfn * PAGE_SIZE });
    // Taking the mark protects the page. Earlier writes belong to those who track the frame already.
    this.#collect();
    this.#machine.takeWritten(gfn);
    this.#written.delete(gfn);
  }

  doDisablePageTrack(gfn) {
    this.#collect();
    this.#written.delete(gfn);
  }

  doSyncPageTrack(report) {
    this.#collect();
    const frames = [...this.#written];
    this.#written.clear();
    for (const gfn of frames) report(gfn);
  }

  doDetach() {
    this.#written.clear();
  }

  /** Moves the kernel's marks to every vGPU that tracks the frame: taking a mark clears it for all. */
  #collect() {
    const handles = this.backend.handlesOf(this.vgpu.vmId);
    const tracked = new Set(handles.flatMap((handle) => [...handle.trackedFrames()]));
    for (const gfn of tracked)
      if (this.doIsValidGfn(gfn) && this.#machine.takeWritten(gfn))
        for (const handle of handles) if (handle.tracks(gfn)) handle.#written.add(gfn);
  }

  /** Every access without memory arrives, so there is nothing to set. */
  doSetTrapArea(_start, _end, _map) {}

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
