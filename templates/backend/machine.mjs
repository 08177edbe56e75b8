/**
 * scaffold: a VM of our own.
 *
 * Replace: create the VM, give it its RAM, one vCPU and a local APIC, and release all of it in reverse order, also when creating fails
 * half-way. Where the hypervisor's own tools create VMs, leave this file out, declare `machine: false`, and attach by VM number.
 */
import { GuestRam, MptError } from 'mediated-passthrough';
import { makeMapping, Pc } from 'mediated-passthrough/pc';
import { FIRST_FRAME, GAP_FRAMES } from './abi.mjs';
import { ScaffoldRequests } from './requests.mjs';

const PAGE_SIZE = 4096;
/** Frames are never given out twice, so a stale one hits nothing. */
let nextFrame = FIRST_FRAME;

/** Host frames for a RAM region, in the same place inside 2 MiB as its guest frames. */
function takeFrames(gpa, size) {
  const first = Math.ceil(nextFrame / 512) * 512 + ((gpa / PAGE_SIZE) % 512);
  nextFrame = first + size / PAGE_SIZE + GAP_FRAMES;
  return first;
}

export class ScaffoldMachine {
  vmId;
  pc;
  memory;
  requests;
  #owner;
  #closed = false;

  /** @param owner the backend @param spec RAM regions, checked and in order */
  constructor(owner, vmId, { ram }) {
    this.#owner = owner;
    this.vmId = vmId;
    // Replace: map the VM's RAM into this process. The views must stay valid until close().
    const regions = ram.map(({ gpa, size }) => ({ ...makeMapping(gpa, new Uint8Array(size)), frame: takeFrames(gpa, size) }));
    this.memory = new GuestRam(regions);
    this.pc = new Pc({
      ram: regions,
      stopFlag: owner.stopFlag,
      route: (request, from) => owner.route(vmId, request, from),
      backend: owner.name,
    });
    this.requests = new ScaffoldRequests(this.pc.requests);
  }

  get ram() {
    return this.memory.regions.map(({ gpa, size }) => ({ gpa, size }));
  }

  /** Replace: `{ flag, tid, pid }` of the thread that blocks in the hypervisor, when a flag alone does not wake it. */
  get stopToken() {
    return this.pc.stopToken;
  }

  boot(gpa, image) {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { backend: this.#owner.name, op: 'boot' });
    this.pc.boot(gpa, image, (at, bytes) => this.memory.write(at, bytes, 0, bytes.length));
  }

  exitCounts() {
    return this.requests.counts();
  }

  /** Host frame behind a guest frame. @throws MptError NOT_RAM unless one region holds all of `size` */
  hostFrame(gfn, size) {
    const region = this.memory.find(gfn * PAGE_SIZE);
    if (region === undefined || gfn * PAGE_SIZE - region.gpa + size > region.size)
      throw new MptError('NOT_RAM', 'the frame is not guest RAM of one region', { address: gfn * PAGE_SIZE, size });
    return region.frame + (gfn * PAGE_SIZE - region.gpa) / PAGE_SIZE;
  }

  /** The bytes at an address that was made of `hostFrame`. */
  hostBytes(address, length) {
    for (const { frame, bytes } of this.memory.regions) {
      const at = address - frame * PAGE_SIZE;
      if (at >= 0 && at + length <= bytes.length) return bytes.subarray(at, at + length);
    }
    throw new MptError('NOT_MAPPED', 'no RAM is at this address', { address, size: length });
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.requests.vmGone();
    this.#owner.closed(this);
  }
}
