/**
 * How guest accesses arrive: a request in a page shared with Xen (`vcpu-request.ts`), told by an event channel. One request
 * may hold several accesses: each is delivered and completed on its own, then the vCPU goes on. Writes that Xen does not
 * wait for come through a ring; they are older than any request that is waiting, so they are delivered first.
 */
import { MptError } from '../../core/errors.js';
import { IoKind, IoRequest, type RequestSource } from '../../core/io-request.js';
import { PciConfigPorts } from '../../core/pci-ports.js';
import type { RamAccess } from '../../core/ram-access.js';
import { type Route, TrackedWrite } from '../../core/tracked-write.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { KickSignal } from '../../native/thread.js';
import { XEN_CONST as C } from './abi.js';
import { takePosted } from './buffered-ring.js';
import type { XenDomain } from './domain.js';
import { EventWait } from './event-wait.js';
import type { IoreqServer, IoreqSlot } from './ioreq-server.js';
import { stateOf, typeOf, VcpuRequest } from './vcpu-request.js';

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
  /** The request of a vCPU that is in progress. */
  readonly #current: VcpuRequest;
  /** Where the search for a waiting vCPU goes on, so that none is served twice before another. */
  #nextSlot = 0;
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
    this.#current = new VcpuRequest(context.ram, domain.events);
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
      const state = stateOf(slot);
      if (state === C.STATE_IOREQ_NONE) continue;
      if (typeOf(slot) === C.IOREQ_TYPE_COPY) memory = true;
      if (state !== C.STATE_IORESP_READY) this.#current.abandon(slot);
    }
    this.#current.slot = undefined;
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
        if (this.#current.exhausted) this.#current.answer();
        continue;
      }
      this.#progress = false;
      const request = this.#current.slot === undefined ? this.#take() : this.#nextAccess();
      if (request !== undefined) return request;
      if (this.#current.slot !== undefined || this.#progress) {
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
    const current = this.#current;
    current.takeValue(request);
    // Several vGPUs may have to be told of one write before its vCPU goes on: the next wait looks for them.
    if (current.exhausted && !this.#trackedWrite.pending) current.answer();
  }

  // --- taking requests ------------------------------------------------------------------------------------------------

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
      if (stateOf(slot) !== C.STATE_IOREQ_READY) continue;
      this.#nextSlot = index + 1;
      this.#progress = true;
      this.#enter(slot);
      return this.#current.slot === undefined ? undefined : this.#nextAccess();
    }
    return undefined;
  }

  /** Takes up a request; what is no access is answered here. */
  #enter(slot: IoreqSlot): void {
    const current = this.#current;
    this.#posted = false;
    if (current.enter(slot, this.#request)) return;
    if (current.type !== C.IOREQ_TYPE_INVALIDATE) {
      current.answerNothing();
      return;
    }
    this.#counts.invalidate++;
    this.#c.domain.ram.invalidate();
    current.answer();
  }

  /** The next access of the request in progress; undefined when it was answered here. */
  #nextAccess(): IoRequest | undefined {
    const request = this.#request;
    const current = this.#current;
    if (!current.next(request)) return this.#skip();
    switch (current.type) {
      case C.IOREQ_TYPE_PCI_CONFIG:
        request.kind = IoKind.PCI_CONFIG;
        this.#counts.pci++;
        break;
      case C.IOREQ_TYPE_PIO:
        request.kind = IoKind.PIO;
        if (this.#ports.translate(request)) {
          current.takeValue(request);
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
    if (request.vgpu === 0 && request.write && this.#current.slot?.server === this.#c.domain.server) return this.#trackedStore();
    this.#counts.mmio++;
    return this.#deliver();
  }

  /** The guest's store has not happened: it is done here, before the trackers learn of it. */
  #trackedStore(): IoRequest | undefined {
    const request = this.#request;
    try {
      this.#current.store(request);
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
    if (this.#current.exhausted) this.#current.answer();
    return undefined;
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
