/**
 * uffd: a VM of our own. Its RAM is memory of this process under userfaultfd write protection; the interpreter stands in for a vCPU
 * and stores through the protected mapping, as a real one would.
 */
import { GuestRam, MptError, mapRegion } from 'mediated-passthrough';
import { makeMapping, Pc } from 'mediated-passthrough/pc';
import { FIRST_FRAME, GAP_FRAMES } from './abi.mjs';
import { givePages, takePages } from './ram.mjs';
import { UffdRequests } from './requests.mjs';

const PAGE_SIZE = 4096;
/** Frames are never given out twice, so a stale one hits nothing. */
let nextFrame = FIRST_FRAME;

/** Host frames for a RAM region, in the same place inside 2 MiB as its guest frames. */
function takeFrames(gpa, size) {
  const first = Math.ceil(nextFrame / 512) * 512 + ((gpa / PAGE_SIZE) % 512);
  nextFrame = first + size / PAGE_SIZE + GAP_FRAMES;
  return first;
}

export class UffdMachine {
  vmId;
  pc;
  memory;
  requests;
  #owner;
  #regions = [];
  #closed = false;

  /** @param owner the backend @param spec RAM regions, checked and in order */
  constructor(owner, vmId, { ram }) {
    this.#owner = owner;
    this.vmId = vmId;
    const regions = ram.map(({ gpa, size }) => ({ gpa, pages: takePages(size), frame: takeFrames(gpa, size) }));
    this.#regions = regions;
    // The host reads and writes through its own mapping, the guest through the protected one.
    this.memory = new GuestRam(regions.map(({ gpa, pages, frame }) => ({ ...mapRegion(gpa, pages.host), frame, pages })));
    this.pc = new Pc({
      ram: regions.map(({ gpa, pages }) => makeMapping(gpa, pages.guest)),
      stopFlag: owner.stopFlag,
      route: (request, from) => owner.route(vmId, request, from),
      backend: owner.name,
    });
    this.requests = new UffdRequests(this.pc.requests);
  }

  get ram() {
    return this.memory.regions.map(({ gpa, size }) => ({ gpa, size }));
  }

  /** `{ flag, tid, pid }` of the device thread: the flag alone is enough. */
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

  /** True when the guest wrote the frame since it was last asked. */
  takeWritten(gfn) {
    const region = this.memory.find(gfn * PAGE_SIZE);
    return region.pages.takeWritten(gfn * PAGE_SIZE - region.gpa);
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.requests.vmGone();
    this.#owner.closed(this);
    for (const { pages } of this.#regions) givePages(pages);
  }
}
