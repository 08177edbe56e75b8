/**
 * How guest accesses arrive: a request in a page shared with Xen, told by an event channel. One request may hold several
 * accesses (a string instruction): each is delivered and completed on its own, then the vCPU goes on. Writes that Xen does
 * not wait for come through a ring; they are older than any request that is waiting, so they are delivered first.
 */
import { Bdf, type Gpa, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { IoKind, IoRequest, type RequestSource } from '../../core/io-request.js';
import { PciConfigPorts } from '../../core/pci-ports.js';
import type { RamAccess } from '../../core/ram-access.js';
import { type Route, TrackedWrite } from '../../core/tracked-write.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { KickSignal } from '../../native/thread.js';
import { XEN_CONST as C, XEN_STRUCT } from './abi.js';
import { masked, takePosted } from './buffered-ring.js';
import type { XenDomain } from './domain.js';
import { EventWait } from './event-wait.js';
import type { IoreqServer, IoreqSlot } from './ioreq-server.js';

const { ioreq: IOREQ } = XEN_STRUCT;

/** Byte 30 of a request. */
const STATE_MASK = 0x0f;
const DATA_IS_PTR = 0x10;
const DIR_READ = 0x20;
const DF = 0x40;

const HIGH = 2 ** 32;
/** Repetitions that one request can have: Xen splits string instructions at page ends. */
const COUNT_MAX = PAGE_SIZE;
/** A guest that crashed or was destroyed sends no event: the longest time until that is seen. */
const LIVENESS_MS = 50;
/** Accesses answered here between two looks at the clock. */
const ANSWERS_PER_CHECK = 256;

/** What the requests need of the machine. */
export interface RequestContext {
  readonly sys: Syscalls;
  readonly domain: XenDomain;
  readonly ram: RamAccess;
  readonly kick: KickSignal;
  /** Non-zero when a stop was asked, from any thread. */
  readonly stopFlag: Int32Array;
  readonly route: Route;
  /** Lets the guest run; called once, by the first wait. */
  readonly run: () => void;
}

export interface XenExitCounts extends Record<string, number> {
  mmio: number;
  pio: number;
  pci: number;
  wp: number;
  buffered: number;
  invalidate: number;
}

export class XenRequests implements RequestSource {
  readonly #c: RequestContext;
  readonly #servers: readonly IoreqServer[];
  readonly #slots: readonly IoreqSlot[];
  readonly #events: EventWait;
  readonly #request = new IoRequest();
  #ports = new PciConfigPorts();
  readonly #counts: XenExitCounts = { mmio: 0, pio: 0, pci: 0, wp: 0, buffered: 0, invalidate: 0 };
  readonly #trackedWrite = new TrackedWrite();
  readonly #element = new Uint8Array(8);
  readonly #elementWords = new Uint32Array(this.#element.buffer);
  /** Where the search for a waiting vCPU goes on, so that none is served twice before another. */
  #nextSlot = 0;
  /** The request in progress; undefined between two, and for a write from the ring. */
  #slot: IoreqSlot | undefined;
  /** Its fields, copied once: the accesses [#done, #count) are to be delivered. */
  #type = 0;
  #flags = 0;
  #size = 0;
  #count = 0;
  #done = 0;
  #address = 0;
  #dataLow = 0;
  #dataHigh = 0;
  #delivered = false;
  /** The delivered access came from the ring: nobody waits for an answer. */
  #posted = false;
  #started = false;
  #closed = false;
  /** A request was taken up, if only to be answered here: look again before waiting. */
  #progress = false;
  /** Waited in vain since the last event. */
  #quietMs = 0;
  /** What ended the run. */
  #fault: MptError | undefined;

  constructor(context: RequestContext) {
    this.#c = context;
    const { domain, kick, sys } = context;
    this.#servers = [domain.server, domain.platform];
    this.#slots = this.#servers.flatMap((server) => server.slots);
    this.#events = new EventWait(sys, domain.events.fd, kick);
  }

  get stopped(): boolean {
    return Atomics.load(this.#c.stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#c.stopFlag, 0, 1);
  }

  counts(): XenExitCounts {
    return { ...this.#counts };
  }

  /** True while an access waits for `complete()`. */
  get pending(): boolean {
    return this.#delivered;
  }

  /**
   * Answers all ones to every access that waits, so that a new boot does not complete it into the new guest's registers.
   * @returns true while one of them is a memory access, whose instruction Xen carries out again when its vCPU runs
   */
  abandon(): boolean {
    let memory = false;
    this.#trackedWrite.clear();
    for (const slot of this.#slots) {
      const state = this.#stateOf(slot);
      if (state === C.STATE_IOREQ_NONE) continue;
      if (slot.server.requests.getUint8(slot.at + IOREQ.type) === C.IOREQ_TYPE_COPY) memory = true;
      if (state === C.STATE_IORESP_READY) continue;
      this.#slot = slot;
      this.#flags = slot.server.requests.getUint8(slot.at + IOREQ.flags);
      this.#dataLow = this.#dataHigh = 0xffff_ffff;
      this.#answer();
    }
    this.#slot = undefined;
    this.#ports = new PciConfigPorts();
    return memory;
  }

  /** A new boot: the guest runs from the next wait on. */
  restart(): void {
    this.#started = false;
    this.#fault = undefined;
  }

  /** The machine closes: its pages go, and must not be reached through a request that was kept. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#events.close();
  }

  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    this.#checkOpen('next');
    if (this.#delivered) throw new MptError('INTERNAL', 'the previous access was not completed', { op: 'next' });
    if (this.#fault !== undefined) throw this.#fault;
    if (!this.#started) {
      this.#c.run();
      this.#started = true;
    }
    let left = timeoutMs;
    /** When the second wait began; the clock is not asked for the first, which is nearly always the only one. */
    let since = 0;
    let answered = 0;
    for (;;) {
      if (Atomics.load(this.#c.stopFlag, 0) !== 0) return undefined;
      if (this.#trackedWrite.pending) {
        if (this.#trackedWrite.next(this.#request, this.#c.route)) return this.#deliver();
        if (this.#done === this.#count) this.#answer();
        continue;
      }
      this.#progress = false;
      const request = this.#slot === undefined ? this.#take() : this.#nextAccess();
      if (request !== undefined) return request;
      if (this.#slot !== undefined || this.#progress) {
        // A guest that makes only accesses which end here must not escape the clock.
        if (++answered % ANSWERS_PER_CHECK !== 0 || timeoutMs === Number.POSITIVE_INFINITY) continue;
        if (since === 0) since = performance.now();
        else if (performance.now() - since >= timeoutMs) return undefined;
        continue;
      }
      if (left <= 0) return undefined;
      const slice = this.#wait(left);
      if (timeoutMs === Number.POSITIVE_INFINITY) continue;
      if (slice > 0) left -= slice;
      else if (since === 0) since = performance.now();
      // Events without a request must not keep the caller for ever.
      else left = Math.min(left, timeoutMs - (performance.now() - since));
    }
  }

  complete(request: IoRequest): void {
    this.#checkOpen('complete');
    if (!this.#delivered || request !== this.#request) throw new MptError('INTERNAL', 'no such access is pending', { op: 'complete' });
    this.#delivered = false;
    if (this.#posted) return;
    if ((this.#flags & DIR_READ) !== 0) this.#finishRead(request);
    // Several vGPUs may have to be told of one write before its vCPU goes on: the next wait looks for them.
    if (this.#done === this.#count && !this.#trackedWrite.pending) this.#answer();
  }

  // --- taking requests ------------------------------------------------------------------------------------------------

  /** A plain load: between two looks there is a call into the kernel, and x86 keeps loads and stores in order. */
  #stateOf({ server, at }: IoreqSlot): number {
    return (server.requestBytes[at + IOREQ.flags] as number) & STATE_MASK;
  }

  /** The next access: of the ring first, then of the vCPUs in turn. */
  #take(): IoRequest | undefined {
    const servers = this.#servers;
    for (let i = 0; i < servers.length; i++) {
      const { ring } = servers[i] as IoreqServer;
      if (ring[0] === ring[1]) continue;
      this.#progress = true;
      const posted = this.#takePosted(ring);
      if (posted !== undefined) return posted;
    }
    const slots = this.#slots;
    let index = this.#nextSlot;
    for (let i = 0; i < slots.length; i++, index++) {
      if (index >= slots.length) index = 0;
      const slot = slots[index] as IoreqSlot;
      if (this.#stateOf(slot) !== C.STATE_IOREQ_READY) continue;
      this.#nextSlot = index + 1;
      this.#progress = true;
      this.#enter(slot);
      return this.#slot === undefined ? undefined : this.#nextAccess();
    }
    return undefined;
  }

  /** Copies the request out of the shared page, once. */
  #enter(slot: IoreqSlot): void {
    const { requests, requestBytes } = slot.server;
    const { at } = slot;
    const flags = requestBytes[at + IOREQ.flags] as number;
    this.#setState(slot, flags, C.STATE_IOREQ_INPROCESS);
    this.#slot = slot;
    this.#flags = flags;
    this.#type = requests.getUint8(at + IOREQ.type);
    this.#size = requests.getUint32(at + IOREQ.size_, true);
    this.#count = requests.getUint32(at + IOREQ.count, true);
    this.#dataLow = requests.getUint32(at + IOREQ.data, true);
    this.#dataHigh = requests.getUint32(at + IOREQ.data + 4, true);
    const low = requests.getUint32(at + IOREQ.addr, true);
    const high = requests.getUint32(at + IOREQ.addr + 4, true);
    this.#done = 0;
    const request = this.#request;
    request.vcpu = slot.vcpu;
    request.write = (flags & DIR_READ) === 0;
    request.size = this.#size;
    this.#posted = false;
    if (this.#type === C.IOREQ_TYPE_PCI_CONFIG) {
      // Segment, bus, device and function above the register; there is one segment.
      request.bdf = Bdf(high & 0xffff);
      this.#address = low;
    } else this.#address = high * HIGH + low;
    if (this.#accepted()) return;
    if (this.#type === C.IOREQ_TYPE_INVALIDATE) {
      this.#counts.invalidate++;
      this.#c.domain.ram.invalidate();
    } else this.#dataLow = this.#dataHigh = 0xffff_ffff;
    this.#answer();
  }

  /** Requests that are accesses, of a shape that Xen makes. */
  #accepted(): boolean {
    const { IOREQ_TYPE_PIO, IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG } = C;
    if (this.#type !== IOREQ_TYPE_PIO && this.#type !== IOREQ_TYPE_COPY && this.#type !== IOREQ_TYPE_PCI_CONFIG) return false;
    const size = this.#size;
    return (size === 1 || size === 2 || size === 4 || size === 8) && this.#count >= 1 && this.#count <= COUNT_MAX;
  }

  /** The next access of the request in progress; undefined when it was answered here. */
  #nextAccess(): IoRequest | undefined {
    const request = this.#request;
    const step = this.#done++ * ((this.#flags & DF) === 0 ? this.#size : -this.#size);
    // Only memory moves on from access to access: a port stays.
    request.address = this.#type === C.IOREQ_TYPE_COPY ? this.#address + step : this.#address;
    request.size = this.#size;
    request.write = (this.#flags & DIR_READ) === 0;
    if (request.write && !this.#loadValue(step)) return this.#skip();
    switch (this.#type) {
      case C.IOREQ_TYPE_PCI_CONFIG:
        request.kind = IoKind.PCI_CONFIG;
        this.#counts.pci++;
        break;
      case C.IOREQ_TYPE_PIO:
        request.kind = IoKind.PIO;
        if (this.#ports.translate(request)) {
          this.#finishRead(request);
          return this.#skip();
        }
        this.#counts.pio++;
        break;
      default:
        return this.#memoryAccess();
    }
    this.#c.route(request);
    return this.#deliver();
  }

  #memoryAccess(): IoRequest | undefined {
    const request = this.#request;
    request.kind = IoKind.MMIO;
    this.#c.route(request);
    // A write that no trap area claims and the vGPUs' server received is one to a tracked page: only their type brings it here.
    if (request.vgpu === 0 && request.write && this.#slot?.server === this.#c.domain.server) return this.#trackedStore();
    this.#counts.mmio++;
    return this.#deliver();
  }

  /** The guest's store has not happened: it is done here, before the trackers learn of it. */
  #trackedStore(): IoRequest | undefined {
    const request = this.#request;
    this.#elementWords.set(request.value);
    try {
      this.#c.ram.write(request.address, this.#element, 0, request.size);
    } catch (error) {
      // The trap area or the page went while the access was on its way; a store to nothing is dropped as a bus does.
      if (!MptError.is(error, 'NOT_RAM')) throw error;
      return this.#skip();
    }
    request.kind = IoKind.WP;
    const from = this.#c.route(request);
    // Nobody tracks the frame any more.
    if (from === 0) return this.#skip();
    this.#counts.wp++;
    this.#trackedWrite.delivered(request, from);
    return this.#deliver();
  }

  /** The access needs no device model. */
  #skip(): undefined {
    if (this.#done === this.#count) this.#answer();
    return undefined;
  }

  /** Puts the value of a write into the request. @returns false when it lies in memory that is not RAM */
  #loadValue(step: number): boolean {
    const { value, size } = this.#request;
    if ((this.#flags & DATA_IS_PTR) === 0) {
      value[0] = masked(this.#dataLow, size);
      value[1] = size === 8 ? this.#dataHigh : 0;
      return true;
    }
    this.#elementWords.fill(0);
    try {
      this.#c.ram.read((this.#dataHigh * HIGH + this.#dataLow + step) as Gpa, this.#element, 0, size);
    } catch (error) {
      if (!MptError.is(error, 'NOT_RAM') && !MptError.is(error, 'VM_GONE')) throw error;
      return false;
    }
    value.set(this.#elementWords);
    return true;
  }

  /** Takes the value of a read: to the request itself, or to guest memory. */
  #finishRead(request: IoRequest): void {
    if (request.write) return;
    const { value, size } = request;
    if ((this.#flags & DATA_IS_PTR) === 0) {
      this.#dataLow = masked(value[0] as number, size);
      this.#dataHigh = size === 8 ? (value[1] as number) : 0;
      return;
    }
    this.#elementWords.set(value);
    const step = (this.#done - 1) * ((this.#flags & DF) === 0 ? size : -size);
    try {
      this.#c.ram.write(this.#dataHigh * HIGH + this.#dataLow + step, this.#element, 0, size);
    } catch (error) {
      if (!MptError.is(error, 'NOT_RAM') && !MptError.is(error, 'VM_GONE')) throw error;
    }
  }

  /** Lets the vCPU go on. */
  #answer(): void {
    const slot = this.#slot as IoreqSlot;
    this.#slot = undefined;
    const { requests } = slot.server;
    if ((this.#flags & DATA_IS_PTR) === 0) {
      requests.setUint32(slot.at + IOREQ.data, this.#dataLow, true);
      requests.setUint32(slot.at + IOREQ.data + 4, this.#dataHigh, true);
    }
    this.#setState(slot, this.#flags, C.STATE_IORESP_READY);
    // A port that is gone belongs to a domain that is: the next wait tells.
    this.#c.domain.events.notify(slot.port);
  }

  #setState({ server, at }: IoreqSlot, flags: number, state: number): void {
    server.requestBytes[at + IOREQ.flags] = (flags & ~STATE_MASK) | state;
  }

  /** A write that came through a ring; undefined for what is no access. */
  #takePosted(ring: Uint32Array): IoRequest | undefined {
    const request = this.#request;
    if (!takePosted(ring, request)) return undefined;
    this.#posted = true;
    this.#counts.buffered++;
    this.#c.route(request);
    return this.#deliver();
  }

  #deliver(): IoRequest {
    this.#delivered = true;
    return this.#request;
  }

  // --- waiting --------------------------------------------------------------------------------------------------------

  /** Waits for an event, a kick or the time. @returns ms waited in vain, 0 after an event. @throws MptError GUEST_FAULT, VM_GONE */
  #wait(ms: number): number {
    const slice = ms >= LIVENESS_MS ? LIVENESS_MS : Math.ceil(ms);
    if (this.#events.wait(slice)) {
      this.#quietMs = 0;
      return 0;
    }
    this.#quietMs += slice;
    if (this.#quietMs >= LIVENESS_MS) this.#checkAlive();
    return slice;
  }

  #checkAlive(): void {
    this.#quietMs = 0;
    try {
      const { shutdown } = this.#c.domain.info();
      if (shutdown === undefined) return;
      this.#fault = new MptError('GUEST_FAULT', `the guest cannot go on: domain ${this.#c.domain.domid} shut down, ${shutdown}`, {
        op: 'next',
      });
    } catch (error) {
      if (!MptError.is(error, 'VM_GONE')) throw error;
      this.#fault = new MptError('VM_GONE', error.text, { op: 'next' });
    }
    throw this.#fault;
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op });
  }
}
