/** A VM that connects to a socket: QEMU, or whoever speaks vfio-user. */
import type { Gpa, VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { IO_KIND_NAMES, type IoRequest, type RequestSource } from '../../core/io-request.js';
import type { Machine, StopToken } from '../../core/machine.js';
import type { RamRegion } from '../../core/ram-access.js';
import type { VfioDevice } from '../../core/vfio/device.js';
import { IrqSet } from '../../core/vfio/irqs.js';
import { type ServerEvents, type ServerPlace, VfioUserServer } from '../../vfio/server.js';
import { firstFrameOf } from './abi.js';
import { AccessPieces } from './pieces.js';
import type { PresentedFunction } from './presented.js';
import type { ServingBackend, VfioUserMachine } from './serving.js';

/** Accesses that are answered without a delivery before the caller gets its turn. */
const UNDELIVERED_MAX = 256;

export class ServedMachine implements Machine, VfioUserMachine, RequestSource {
  readonly vmId: VmId;
  readonly #place: ServerPlace;
  readonly stopToken: StopToken;
  readonly #backend: ServingBackend;
  readonly #events: ServerEvents;
  readonly #pieces = new AccessPieces();
  readonly #counts = new Float64Array(IO_KIND_NAMES.length);
  readonly #stopFlag: Int32Array;
  #presented: PresentedFunction | undefined;
  /** A vGPU that went while its client stays, and the client's interrupts. */
  #held: { readonly presented: PresentedFunction; readonly irqs: IrqSet } | undefined;
  #server: VfioUserServer | undefined;
  #delivered = false;
  #closed = false;

  constructor(backend: ServingBackend, vmId: VmId, place: ServerPlace, events: ServerEvents) {
    this.#backend = backend;
    this.vmId = vmId;
    this.#place = place;
    this.#events = events;
    const flag = backend.stopFlag ?? new SharedArrayBuffer(4);
    this.#stopFlag = new Int32Array(flag);
    // A wait lasts 100 ms at most: the flag is enough.
    this.stopToken = { flag, tid: 0, pid: process.pid };
  }

  /** Of its socket; empty when it serves one connection. */
  get path(): string {
    return typeof this.#place === 'string' ? this.#place : '';
  }

  /** The one client went, and there will be no other. */
  get ended(): boolean {
    return this.#server?.ended === true;
  }

  /** Region accesses so far; undefined until a vGPU is presented. */
  get traffic(): VfioUserServer['traffic'] | undefined {
    return this.#server?.traffic;
  }

  get requests(): RequestSource {
    return this;
  }

  /** Memory that the client has made known, as it is now. */
  get ram(): readonly RamRegion[] {
    return (this.#presented?.memory.maps ?? []).map(({ iova, size }) => ({ gpa: iova, size }));
  }

  /** No access is in progress: the vGPU can be exchanged. */
  get quiet(): boolean {
    return !this.#delivered && !this.#pieces.pending;
  }

  /**
   * The vGPU will be detached, and another one attached and presented in its place: meanwhile socket and client stay, and so do the
   * client's memory and interrupts. Whoever waits for requests waits until then.
   * @throws MptError BUSY while an access is in progress; NOT_INITIALIZED when none is presented
   */
  hold(): void {
    if (!this.quiet) throw this.#backend.error('BUSY', 'an access of the client is in progress', { op: 'hold' });
    if (this.#held !== undefined) return;
    const presented = this.#presented;
    if (presented === undefined || this.#server === undefined)
      throw this.#backend.error('NOT_INITIALIZED', 'no vGPU is presented', { op: 'hold', hint: 'call present' });
    const irqs = new IrqSet(presented.device.irqs.info);
    irqs.adopt(presented.device.irqs);
    this.#held = { presented, irqs };
  }

  /**
   * Waits while the vGPU is away; at most about 100 ms.
   * @returns true when the client went meanwhile: then its memory and interrupts went, too, and what comes back is another client's
   */
  waitHeld(timeoutMs: number): boolean {
    const held = this.#held;
    if (held === undefined || this.#server?.waitUnanswered(timeoutMs) !== true) return false;
    held.irqs.clear();
    held.presented.session = undefined;
    return true;
  }

  /**
   * Makes the socket and shows the vGPU on it, or shows it to the client that was held.
   * @throws MptError BUSY when it is presented, IO; INVALID_ARGUMENT when the held client knows other regions
   */
  present(presented: PresentedFunction, view: VfioDevice): void {
    if (this.#held !== undefined) {
      this.#presentAgain(this.#held.irqs, presented, view);
      return;
    }
    if (this.#server !== undefined) throw this.#backend.error('BUSY', `vGPU ${presented.vgpu.id} is presented`, { op: 'present_vgpu' });
    presented.device = view;
    this.#server = new VfioUserServer(this.#backend.system, this.#place, view, { ...this.#events, memory: presented.memory });
  }

  /** @throws MptError UNSUPPORTED: the client runs the guest */
  boot(_gpa: Gpa, _image: Uint8Array): void {
    throw this.#backend.error('UNSUPPORTED', 'the guest is started by the client', { op: 'boot', hint: 'start QEMU' });
  }

  exitCounts(): Readonly<Record<string, number>> {
    return Object.fromEntries(IO_KIND_NAMES.map((name, kind) => [name, this.#counts[kind] as number]));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopServer();
    this.#held?.irqs.clear();
    this.#held = undefined;
    this.#backend.vmClosed(this);
  }

  // --- VfioUserMachine ------------------------------------------------------------------------------------------------

  adopt(presented: PresentedFunction): void {
    if (this.#presented !== undefined)
      throw new MptError('LIMIT', 'a socket shows one vGPU', { limit: 1, hint: 'serve the second on a socket of its own' });
    this.#presented = presented;
    if (this.#held !== undefined) presented.succeed(this.#held.presented);
  }

  withdraw(): void {
    if (this.#held === undefined) this.#stopServer();
    this.#presented = undefined;
  }

  get firstFrame(): number {
    return firstFrameOf(this.vmId);
  }

  gpaOfHva(hva: number): number | undefined {
    return this.#presented?.memory.gpaOfHva(hva);
  }

  // --- RequestSource --------------------------------------------------------------------------------------------------

  get stopped(): boolean {
    return Atomics.load(this.#stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#stopFlag, 0, 1);
  }

  /** @param timeoutMs how long it waits at most */
  next(timeoutMs = Number.POSITIVE_INFINITY): IoRequest | undefined {
    if (this.#closed) throw this.#backend.error('VM_GONE', 'the VM was given up', { op: 'next' });
    if (this.#delivered) throw this.#backend.error('INTERNAL', 'the previous access was not completed', { op: 'next' });
    let deadline = -1;
    let wait = timeoutMs;
    let undelivered = 0;
    for (;;) {
      if (this.#pieces.pending) return this.#deliver(this.#pieces.next());
      if (this.stopped) return undefined;
      const server = this.#server;
      if (server === undefined) throw this.#backend.error('NOT_INITIALIZED', 'no vGPU is presented', { op: 'next', hint: 'call present' });
      if (deadline < 0) deadline = performance.now() + timeoutMs;
      if (this.#presented === undefined)
        throw this.#backend.error('NOT_INITIALIZED', 'the vGPU is away', { op: 'next', hint: 'present another' });
      const access = server.receive(wait);
      if (this.#presented !== undefined) this.#presented.session = server.session;
      if (access !== undefined) {
        const status = this.#pieces.begin(this.#presented as PresentedFunction, access);
        if (status !== undefined) server.complete(status);
        // A client that sends many that are not delivered does not keep the caller from its other work.
        if (status === undefined || ++undelivered < UNDELIVERED_MAX) continue;
      }
      wait = deadline - performance.now();
      if (wait <= 0 || server.ended) return undefined;
    }
  }

  complete(request: IoRequest): void {
    if (!this.#delivered || request !== this.#pieces.request)
      throw this.#backend.error('INTERNAL', 'no such access is pending', { op: 'complete' });
    this.#delivered = false;
    this.#pieces.complete();
    // The reply is not kept until the next wait: the client's vCPU stands still for it.
    if (!this.#pieces.done) return;
    this.#pieces.drop();
    this.#server?.complete(0);
  }

  #deliver(request: IoRequest): IoRequest {
    this.#delivered = true;
    this.#counts[request.kind] = (this.#counts[request.kind] as number) + 1;
    return request;
  }

  #presentAgain(irqs: IrqSet, presented: PresentedFunction, view: VfioDevice): void {
    const server = this.#server as VfioUserServer;
    server.replaceDevice(view);
    view.irqs.adopt(irqs);
    presented.device = view;
    presented.session = server.session;
    this.#held = undefined;
  }

  #stopServer(): void {
    this.#pieces.drop();
    this.#delivered = false;
    if (this.#presented !== undefined) this.#presented.session = undefined;
    this.#server?.close();
    this.#server = undefined;
  }
}
