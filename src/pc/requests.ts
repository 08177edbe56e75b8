/** How guest accesses arrive: the interpreter runs until it makes one. */
import { MptError } from '../core/errors.js';
import { IoKind, IoRequest, type RequestSource } from '../core/io-request.js';
import { PciConfigPorts } from '../core/pci-ports.js';
import { type Route, TrackedWrite } from '../core/tracked-write.js';
import { HALT_SLICE_MS, INSTRUCTIONS_PER_CHECK } from './abi.js';
import type { Bus } from './bus.js';
import type { Cpu } from './cpu/cpu.js';
import { run } from './cpu/interpreter.js';

/** What the requests need of the VM. */
export interface GuestContext {
  readonly cpu: Cpu;
  readonly bus: Bus;
  /** Non-zero when a stop was asked, from any thread. */
  readonly stopFlag: Int32Array;
  readonly instructionBudget: number;
  readonly route: Route;
  /** Name of the backend in errors. */
  readonly backend: string;
}

/** Accesses answered here between two looks at the clock. */
const ANSWERS_PER_CHECK = 1024;

/** Counter names, indexed by `IoKind`; `halt` counts waits with nothing to execute. */
const COUNTED = ['pio', 'mmio', 'pci', 'wp'] as const;

export class PcRequests implements RequestSource {
  readonly #c: GuestContext;
  readonly #request = new IoRequest();
  #ports = new PciConfigPorts();
  readonly #counts = new Float64Array(COUNTED.length);
  #halts = 0;
  #delivered = false;
  readonly #trackedWrite = new TrackedWrite();
  #gone = false;
  /** What ended the run: the guest cannot go on after it. */
  #fault: unknown;

  constructor(context: GuestContext) {
    this.#c = context;
  }

  get stopped(): boolean {
    return Atomics.load(this.#c.stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#c.stopFlag, 0, 1);
  }

  counts(): Record<(typeof COUNTED)[number] | 'halt', number> {
    const [pio = 0, mmio = 0, pci = 0, wp = 0] = this.#counts;
    return { pio, mmio, pci, wp, halt: this.#halts };
  }

  /** True while an access waits for `complete()`. */
  get pending(): boolean {
    return this.#delivered;
  }

  /** For the machine: the guest starts afresh. */
  reset(): void {
    this.#c.bus.reset();
    this.#trackedWrite.clear();
    this.#ports = new PciConfigPorts();
    this.#fault = undefined;
  }

  /** For the machine: the VM was destroyed. */
  vmGone(): void {
    this.#gone = true;
  }

  /** @param timeoutMs checked every few thousand instructions; 0 runs one such slice */
  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    if (this.#gone) throw new MptError('VM_GONE', 'the VM was destroyed', { backend: this.#c.backend, op: 'next' });
    if (this.#delivered) throw new MptError('INTERNAL', 'the previous access was not completed', { backend: this.#c.backend, op: 'next' });
    if (this.#fault !== undefined) throw this.#fault;
    const { cpu, bus, instructionBudget } = this.#c;
    // Budget and clock bound waits only: a wait without a timeout has neither.
    let budget = timeoutMs === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : instructionBudget;
    let deadline = 0;
    if (this.#trackedWrite.pending && this.#trackedWrite.next(this.#request, this.#c.route)) return this.#deliver();
    for (let answered = 0; ; ) {
      if (bus.hasRequest) {
        const request = this.#take();
        if (request !== undefined) return request;
        answered++;
      }
      if (Atomics.load(this.#c.stopFlag, 0) !== 0 || budget <= 0) return undefined;
      if (!bus.hasRequest) budget -= this.#run(Math.min(budget, INSTRUCTIONS_PER_CHECK));
      // A guest that makes only accesses which end here must not escape the clock.
      if (bus.hasRequest && answered % ANSWERS_PER_CHECK !== ANSWERS_PER_CHECK - 1) continue;
      if (timeoutMs !== Number.POSITIVE_INFINITY) {
        // The clock is first read here: accesses that come at once, nearly all, do not pay for it.
        const now = performance.now();
        if (deadline === 0) deadline = now + timeoutMs;
        else if (now >= deadline) return undefined;
        if (timeoutMs <= 0) return undefined;
        if (cpu.halted) this.#sleep(Math.min(HALT_SLICE_MS, deadline - now));
      } else if (cpu.halted) this.#sleep(HALT_SLICE_MS);
    }
  }

  complete(request: IoRequest): void {
    if (!this.#delivered || request !== this.#request)
      throw new MptError('INTERNAL', 'no such access is pending', { backend: this.#c.backend, op: 'complete' });
    this.#delivered = false;
    if (!request.write) this.#c.bus.answer(request.value[0] as number, request.value[1] as number);
  }

  #run(instructions: number): number {
    try {
      return run(this.#c.cpu, instructions);
    } catch (error) {
      this.#fault = error;
      throw error;
    }
  }

  /** The access that waits, or undefined when it was answered here (the PCI address register). */
  #take(): IoRequest | undefined {
    const request = this.#request;
    this.#c.bus.takeRequest(request);
    if (request.kind === IoKind.PIO && this.#ports.translate(request)) {
      if (!request.write) this.#c.bus.answer(request.value[0] as number, 0);
      return undefined;
    }
    this.#counts[request.kind] = (this.#counts[request.kind] as number) + 1;
    const from = this.#c.route(request);
    if (request.kind === IoKind.WP) this.#trackedWrite.delivered(request, from);
    return this.#deliver();
  }

  #deliver(): IoRequest {
    this.#delivered = true;
    return this.#request;
  }

  /** Nothing to execute: another thread may stop us, this thread may inject an interrupt after we return. */
  #sleep(ms: number): void {
    this.#halts++;
    if (ms > 0) Atomics.wait(this.#c.stopFlag, 0, 0, ms);
  }
}
