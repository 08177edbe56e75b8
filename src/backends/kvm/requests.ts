/**
 * How guest accesses arrive: exits of KVM_RUN, turned into `IoRequest`s. One exit may hold several accesses (string
 * I/O, odd-sized fragments of a page-crossing store); each is delivered and completed on its own before the guest runs.
 */
import { MptError } from '../../core/errors.js';
import type { GuestRam } from '../../core/guest-ram.js';
import { IoKind, IoRequest, type RequestSource } from '../../core/io-request.js';
import { PciConfigPorts } from '../../core/pci-ports.js';
import { type Route, TrackedWrite } from '../../core/tracked-write.js';
import { EAGAIN, EINTR, type Syscalls } from '../../native/syscalls.js';
import type { ThreadKick } from '../../native/thread.js';
import { EXIT_NAMES, KVM_CONST, KVM_IOCTL, KVM_STRUCT } from './abi.js';

const RUN = KVM_STRUCT.kvm_run;

/** What the exits need of the VM. */
export interface ExitContext {
  readonly sys: Syscalls;
  readonly vcpuFd: number;
  /** The vCPU's shared `struct kvm_run` and the I/O page after it. */
  readonly run: ArrayBuffer;
  readonly ram: GuestRam;
  readonly kick: ThreadKick;
  /** Non-zero when a stop was asked, from any thread. */
  readonly stopFlag: Int32Array;
  readonly route: Route;
}

/** The least time that the guest gets in one wait, ms. */
const SHORTEST_MS = 0.05;

const COUNTED = ['mmio', 'pio', 'wp', 'intr'] as const;

export class KvmRequests implements RequestSource {
  readonly #c: ExitContext;
  readonly #run: DataView;
  readonly #request = new IoRequest();
  #ports = new PciConfigPorts();
  readonly #counts = { mmio: 0, pio: 0, wp: 0, intr: 0 };
  readonly #store = new Uint8Array(8);
  readonly #storeWords = new Uint32Array(this.#store.buffer);
  /** Accesses of the current exit that are not yet delivered: [#done, #total) in bytes (MMIO) or elements (PIO). */
  #exit = 0;
  #done = 0;
  #total = 0;
  /** Byte offset of the current piece's data in the run area, for a read's value. */
  #dataAt = 0;
  #delivered = false;
  readonly #trackedWrite = new TrackedWrite();
  #armedMs = 0;
  /** A kick ended the last wait: by now the next one may be pending, too. */
  #kicked = false;
  #closed = false;

  constructor(context: ExitContext) {
    this.#c = context;
    this.#run = new DataView(context.run);
  }

  get stopped(): boolean {
    return Atomics.load(this.#c.stopFlag, 0) !== 0;
  }

  stop(): void {
    Atomics.store(this.#c.stopFlag, 0, 1);
  }

  counts(): Record<(typeof COUNTED)[number], number> {
    return { ...this.#counts };
  }

  /** True while an access waits for `complete()`: registers must not be changed then. */
  get pending(): boolean {
    return this.#delivered;
  }

  /** A new boot: what is left of the last exit belongs to the guest that was. */
  restart(): void {
    this.#ports = new PciConfigPorts();
    this.#done = 0;
    this.#total = 0;
    this.#trackedWrite.clear();
  }

  /** The machine closes: its memory and descriptors go, and must not be reached through a request that was kept. */
  close(): void {
    this.#closed = true;
  }

  next(timeout = Number.POSITIVE_INFINITY): IoRequest | undefined {
    this.#checkOpen('next');
    if (this.#delivered) throw new MptError('INTERNAL', 'the previous access was not completed', { op: 'next' });
    // 0 in the timer's sense: for ever. A shorter wait than the shortest would not let the guest in at all.
    const timeoutMs = timeout === Number.POSITIVE_INFINITY ? 0 : Math.max(timeout, SHORTEST_MS);
    // A periodic kick is left armed between accesses: re-arming costs two system calls. After a kick it is armed anew and
    // what is pending taken: when the caller's slice took longer than the period, KVM_RUN would end before the guest runs.
    if (timeoutMs !== this.#armedMs || this.#kicked) {
      if (timeoutMs > 0) this.#c.kick.arm(timeoutMs);
      else this.#c.kick.disarm();
      this.#armedMs = timeoutMs;
      if (this.#kicked) this.#c.kick.drain();
      this.#kicked = false;
    }
    for (;;) {
      if (Atomics.load(this.#c.stopFlag, 0) !== 0) return undefined;
      if (this.#trackedWrite.pending && this.#trackedWrite.next(this.#request, this.#c.route)) return this.#deliver();
      if (this.#done < this.#total) {
        const request = this.#exit === KVM_CONST.KVM_EXIT_MMIO ? this.#mmioPiece() : this.#pioElement();
        if (request !== undefined) return request;
        continue;
      }
      const result = this.#c.sys.ioctl(this.#c.vcpuFd, KVM_IOCTL.KVM_RUN, 0);
      if (result < 0) {
        if (result !== -EINTR && result !== -EAGAIN) throw new MptError('HYPERVISOR', 'KVM_RUN failed', { op: 'next', errno: -result });
        this.#counts.intr++;
        this.#c.kick.drain();
        if (timeoutMs > 0 || this.stopped) {
          this.#kicked = true;
          return undefined;
        }
        continue;
      }
      this.#enter(this.#run.getUint32(RUN.exit_reason, true));
    }
  }

  complete(request: IoRequest): void {
    this.#checkOpen('complete');
    if (!this.#delivered || request !== this.#request) throw new MptError('INTERNAL', 'no such access is pending', { op: 'complete' });
    this.#delivered = false;
    if (request.write) return;
    const low = request.value[0] as number;
    switch (request.size) {
      case 1:
        this.#run.setUint8(this.#dataAt, low);
        break;
      case 2:
        this.#run.setUint16(this.#dataAt, low, true);
        break;
      case 4:
        this.#run.setUint32(this.#dataAt, low, true);
        break;
      default:
        this.#run.setUint32(this.#dataAt, low, true);
        this.#run.setUint32(this.#dataAt + 4, request.value[1] as number, true);
    }
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new MptError('CLOSED', 'the machine is closed', { op });
  }

  /** Takes up a new exit. */
  #enter(reason: number): void {
    switch (reason) {
      case KVM_CONST.KVM_EXIT_MMIO:
        this.#exit = reason;
        this.#done = 0;
        this.#total = this.#run.getUint32(RUN['mmio.len'], true);
        this.#counts.mmio++;
        return;
      case KVM_CONST.KVM_EXIT_IO:
        this.#exit = reason;
        this.#done = 0;
        this.#total = this.#run.getUint32(RUN['io.count'], true);
        this.#counts.pio++;
        return;
      case KVM_CONST.KVM_EXIT_INTR:
        this.#counts.intr++;
        return;
      default:
        throw this.#fatal(reason);
    }
  }

  /** The next naturally sized part of an MMIO exit; lengths other than 1, 2, 4, 8 are split. */
  #mmioPiece(): IoRequest | undefined {
    const run = this.#run;
    const request = this.#request;
    const left = this.#total - this.#done;
    const size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const address = run.getUint32(RUN['mmio.phys_addr'], true) + run.getUint32(RUN['mmio.phys_addr'] + 4, true) * 2 ** 32 + this.#done;
    this.#dataAt = RUN['mmio.data'] + this.#done;
    this.#done += size;
    request.kind = IoKind.MMIO;
    request.address = address;
    request.size = size;
    request.write = run.getUint8(RUN['mmio.is_write']) !== 0;
    if (request.write) {
      this.#load(size);
      if (this.#c.ram.find(address) !== undefined) return this.#trackedStore(address, size);
    }
    this.#c.route(request);
    return this.#deliver();
  }

  #deliver(): IoRequest {
    this.#delivered = true;
    return this.#request;
  }

  /**
   * A write exit inside RAM comes from a read-only slot: the guest's store has not happened, so it is done here, before
   * the trackers learn of it.
   * @returns undefined when nobody tracks the frame any more
   */
  #trackedStore(address: number, size: number): IoRequest | undefined {
    const request = this.#request;
    this.#storeWords[0] = request.value[0] as number;
    this.#storeWords[1] = request.value[1] as number;
    this.#c.ram.write(address, this.#store, 0, size);
    request.kind = IoKind.WP;
    const from = this.#c.route(request);
    if (from === 0) return undefined;
    this.#counts.wp++;
    this.#trackedWrite.delivered(request, from);
    return this.#deliver();
  }

  /** The next element of a port exit, or undefined when it was answered here (the PCI address register). */
  #pioElement(): IoRequest | undefined {
    const run = this.#run;
    const request = this.#request;
    const size = run.getUint8(RUN['io.size']);
    this.#dataAt = run.getUint32(RUN['io.data_offset'], true) + this.#done * size;
    this.#done++;
    request.kind = IoKind.PIO;
    request.address = run.getUint16(RUN['io.port'], true);
    request.size = size;
    request.write = run.getUint8(RUN['io.direction']) === KVM_CONST.KVM_EXIT_IO_OUT;
    if (request.write) this.#load(size);
    this.#delivered = true;
    if (this.#ports.translate(request)) {
      this.complete(request);
      return undefined;
    }
    this.#c.route(request);
    return request;
  }

  /** Moves the access's data from the run area to the request; bytes past the size are zero. */
  #load(size: number): void {
    const { value } = this.#request;
    const at = this.#dataAt;
    value[0] = size === 1 ? this.#run.getUint8(at) : size === 2 ? this.#run.getUint16(at, true) : this.#run.getUint32(at, true);
    value[1] = size === 8 ? this.#run.getUint32(at + 4, true) : 0;
  }

  #fatal(reason: number): MptError {
    const name = EXIT_NAMES[reason] ?? 'unexpected exit';
    const detail =
      reason === KVM_CONST.KVM_EXIT_INTERNAL_ERROR
        ? `, suberror ${this.#run.getUint32(RUN['internal.suberror'], true)}`
        : reason === KVM_CONST.KVM_EXIT_FAIL_ENTRY
          ? `, hardware reason ${this.#run.getUint32(RUN['fail_entry.hardware_entry_failure_reason'], true)}`
          : '';
    return new MptError('GUEST_FAULT', `the vCPU cannot go on: exit ${reason}, ${name}${detail}`, { op: 'next' });
  }
}
