/**
 * How guest accesses arrive: a slot of the request page for each vCPU, which the kernel marks when its request is for us. A
 * request is taken, delivered in naturally sized pieces, and finished by one call.
 *
 * ACRN does not carry out a store to a page without the right to write: it is done here, before the trackers learn of it. So is
 * whatever the guest does to RAM while a frame of it is being mapped again.
 */
import { PAGE_SIZE, pageOffset } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { IoKind, IoRequest, type RequestSource } from '../../core/io-request.js';
import type { RamAccess } from '../../core/ram-access.js';
import { type Route, TrackedWrite } from '../../core/tracked-write.js';
import { ACRN_HYPERVISOR, ACRN_CONST as C } from './abi.js';
import { type AcrnCalls, checkAcrn } from './calls.js';
import { RequestPage } from './request-page.js';
import type { RequestWait } from './wait.js';

/** Accesses answered here between two looks at the clock. */
const ANSWERS_PER_CHECK = 256;

/** What the requests need of the machine. */
export interface RequestContext {
  readonly calls: AcrnCalls;
  readonly page: ArrayBuffer;
  readonly wait: RequestWait;
  /** Non-zero when a stop was asked, from any thread. */
  readonly stopFlag: Int32Array;
  readonly route: Route;
  /** Memory of the guest at an address, although the access came as a request; undefined where there is none. */
  readonly memoryAt: (address: number) => RamAccess | undefined;
  /** Lets the guest run; called by the first wait after a boot. */
  readonly run: () => void;
}

export interface AcrnExitCounts extends Record<string, number> {
  mmio: number;
  pio: number;
  pci: number;
  wp: number;
  /** Requests that no access can be. */
  malformed: number;
}

export class AcrnRequests implements RequestSource {
  readonly #c: RequestContext;
  readonly #page: RequestPage;
  readonly #request = new IoRequest();
  readonly #counts: AcrnExitCounts = { mmio: 0, pio: 0, pci: 0, wp: 0, malformed: 0 };
  readonly #trackedWrite = new TrackedWrite();
  readonly #bytes = new Uint8Array(8);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  /** vCPU whose request is in progress, or -1. */
  #vcpu = -1;
  /** Bytes of it that were delivered or answered. */
  #done = 0;
  #delivered = false;
  #started = false;
  #closed = false;
  #nextVcpu = 0;
  /** What ended the run. */
  #fault: MptError | undefined;
  readonly #owner: number;
  readonly #ready: () => boolean;

  constructor(context: RequestContext) {
    this.#c = context;
    const { calls } = context;
    const page = new RequestPage(context.page, calls.vm.vcpus, calls.dialect.ownerWord);
    this.#page = page;
    const owner = calls.slotOwner;
    this.#ready = () => page.find(0, owner) >= 0;
    this.#owner = owner;
  }

  get stopped(): boolean {
    return Atomics.load(this.#c.stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#c.stopFlag, 0, 1);
  }

  counts(): AcrnExitCounts {
    return { ...this.#counts };
  }

  /** True while an access waits for `complete()`. */
  get pending(): boolean {
    return this.#delivered;
  }

  /** A new boot: what is left of the last requests belongs to the guest that was. */
  restart(): void {
    this.#started = false;
    this.#fault = undefined;
    this.#vcpu = -1;
    this.#trackedWrite.clear();
  }

  /** The machine closes: its page goes, and must not be reached through a request that was kept. */
  close(): void {
    this.#closed = true;
  }

  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    this.#checkOpen('next');
    if (this.#delivered) throw new MptError('INTERNAL', 'the previous access was not completed', { op: 'next' });
    if (this.#fault !== undefined) throw this.#fault;
    if (!this.#started) {
      this.#c.run();
      this.#started = true;
    }
    let request: IoRequest | undefined;
    try {
      request = this.#take(timeoutMs);
      return request;
    } finally {
      if (request === undefined) this.#c.wait.rest();
    }
  }

  #take(timeoutMs: number): IoRequest | undefined {
    /** When the time is over; the clock is asked at the first wait. */
    let until = -1;
    let answered = 0;
    for (;;) {
      if (Atomics.load(this.#c.stopFlag, 0) !== 0) return undefined;
      if (this.#vcpu >= 0) {
        const request = this.#nextAccess();
        if (request !== undefined) return request;
        // A guest that makes only accesses which end here must not escape the clock.
        if (++answered % ANSWERS_PER_CHECK !== 0) continue;
      } else {
        this.#vcpu = this.#page.find(this.#nextVcpu, this.#owner);
        if (this.#vcpu >= 0) {
          this.#enter();
          continue;
        }
      }
      const now = performance.now();
      if (until < 0) until = now + timeoutMs;
      if (now >= until) return undefined;
      if (this.#vcpu < 0) this.#c.wait.wait(this.#ready, now, until);
    }
  }

  complete(request: IoRequest): void {
    this.#checkOpen('complete');
    if (!this.#delivered || request !== this.#request) throw new MptError('INTERNAL', 'no such access is pending', { op: 'complete' });
    if (!request.write) this.#page.answer(this.#vcpu, request, this.#done - request.size);
    // Several vGPUs may have to be told of one write before its vCPU goes on: the next wait looks for them.
    if (this.#done === this.#page.size && !this.#trackedWrite.pending) this.#finish();
    this.#delivered = false;
  }

  /** Takes up the request of `#vcpu`. */
  #enter(): void {
    const page = this.#page;
    this.#nextVcpu = this.#vcpu + 1;
    this.#done = 0;
    if (page.read(this.#vcpu)) return;
    this.#counts.malformed++;
    page.answerNothing(this.#vcpu);
    this.#done = page.size = 0;
  }

  /** The next piece of the request in progress; undefined when it was answered here or there is none. */
  #nextAccess(): IoRequest | undefined {
    const page = this.#page;
    const request = this.#request;
    if (this.#trackedWrite.pending) {
      if (this.#trackedWrite.next(request, this.#c.route)) return this.#deliver();
      return this.#skip();
    }
    if (this.#done === page.size) return this.#skip();
    const address = page.address + this.#done;
    // Of an access that crosses pages the parts are on their own: what is behind the second one may be something else.
    const left = Math.min(page.size - this.#done, PAGE_SIZE - pageOffset(address));
    const size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    request.vcpu = this.#vcpu;
    request.write = page.write;
    request.address = address;
    request.size = size;
    this.#load(size);
    this.#done += size;
    switch (page.type) {
      case C.ACRN_IOREQ_TYPE_PCICFG:
        request.kind = IoKind.PCI_CONFIG;
        request.bdf = page.bdf;
        this.#counts.pci++;
        break;
      case C.ACRN_IOREQ_TYPE_PORTIO:
        this.#port();
        break;
      default:
        return this.#memory();
    }
    this.#c.route(request);
    return this.#deliver();
  }

  /** The kernel makes configuration requests of 0xCF8 and 0xCFC: what comes as a port is one. @throws MptError GUEST_FAULT */
  #port(): void {
    const request = this.#request;
    request.kind = IoKind.PIO;
    this.#counts.pio++;
    const { PM1A_CNT_PORT, PM1A_S5 } = ACRN_HYPERVISOR;
    if (!request.write || request.address !== PM1A_CNT_PORT || request.size !== 2 || request.value[0] !== PM1A_S5) return;
    this.#fault = new MptError('GUEST_FAULT', 'the guest cannot go on: a triple fault, or it switched itself off', { op: 'next' });
    this.#finish();
    throw this.#fault;
  }

  #memory(): IoRequest | undefined {
    const request = this.#request;
    const { address, size, write } = request;
    request.kind = IoKind.MMIO;
    const memory = this.#c.memoryAt(address);
    if (memory === undefined) {
      this.#counts.mmio++;
      this.#c.route(request);
      return this.#deliver();
    }
    if (!write) {
      // The frame was being mapped again: the guest reads what is in it.
      memory.read(address, this.#bytes, 0, size);
      request.value.set(this.#words);
      this.#page.answer(this.#vcpu, request, this.#done - size);
      return this.#skip();
    }
    this.#words.set(request.value);
    memory.write(address, this.#bytes, 0, size);
    request.kind = IoKind.WP;
    const from = this.#c.route(request);
    // Nobody tracks the frame any more.
    if (from === 0) return this.#skip();
    this.#counts.wp++;
    this.#trackedWrite.delivered(request, from);
    return this.#deliver();
  }

  /** Moves the piece's data from the request; bytes past its size are zero. */
  #load(size: number): void {
    const { value } = this.#request;
    value[0] = 0;
    value[1] = 0;
    if (!this.#page.write) return;
    this.#words.set(this.#page.value);
    for (let i = 0; i < size; i++) value[i >>> 2] = (value[i >>> 2] as number) | ((this.#bytes[this.#done + i] as number) << ((i & 3) * 8));
  }

  /** The piece needs no device model. */
  #skip(): undefined {
    if (this.#done === this.#page.size) this.#finish();
    return undefined;
  }

  #deliver(): IoRequest {
    this.#delivered = true;
    return this.#request;
  }

  /** The vCPU goes on. @throws MptError HYPERVISOR; then the request is still in progress */
  #finish(): void {
    checkAcrn(this.#c.calls.notifyFinished(this.#vcpu), 'NOTIFY_REQUEST_FINISH');
    this.#vcpu = -1;
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op });
  }
}
