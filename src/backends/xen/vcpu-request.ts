/**
 * One request of a vCPU: copied out of the page shared with Xen once, delivered as one access or several (a string
 * instruction), answered. Its data lies in the request itself or, for a string instruction, in guest memory behind a pointer.
 */
import { Bdf, type Gpa, PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { IoRequest } from '../../core/io-request.js';
import type { RamAccess } from '../../core/ram-access.js';
import type { XenEventChannels } from '../../native/xen-calls.js';
import { XEN_CONST as C, XEN_STRUCT } from './abi.js';
import { masked } from './buffered-ring.js';
import type { IoreqSlot } from './ioreq-server.js';

const { ioreq: IOREQ } = XEN_STRUCT;

/** Byte 30 of a request. */
const STATE_MASK = 0x0f;
const DATA_IS_PTR = 0x10;
const DIR_READ = 0x20;
const DF = 0x40;

const HIGH = 2 ** 32;
const ALL_ONES = 0xffff_ffff;
/** Repetitions that one request can have: Xen splits string instructions at page ends. */
const COUNT_MAX = PAGE_SIZE;

/** A plain load: between two looks there is a call into the kernel, and x86 keeps loads and stores in order. */
export const stateOf = ({ server, at }: IoreqSlot): number => (server.requestBytes[at + IOREQ.flags] as number) & STATE_MASK;

export const typeOf = ({ server, at }: IoreqSlot): number => server.requests.getUint8(at + IOREQ.type);

const setState = ({ server, at }: IoreqSlot, flags: number, state: number): void => {
  server.requestBytes[at + IOREQ.flags] = (flags & ~STATE_MASK) | state;
};

export class VcpuRequest {
  readonly #ram: RamAccess;
  readonly #events: XenEventChannels;
  readonly #element = new Uint8Array(8);
  readonly #elementWords = new Uint32Array(this.#element.buffer);
  /** Where it lies; undefined between two requests. */
  slot: IoreqSlot | undefined;
  /** IOREQ_TYPE_* */
  type = 0;
  /** Its fields, copied once: the accesses [#done, #count) are to be delivered. */
  #flags = 0;
  #size = 0;
  #count = 0;
  #done = 0;
  #address = 0;
  #dataLow = 0;
  #dataHigh = 0;

  constructor(ram: RamAccess, events: XenEventChannels) {
    this.#ram = ram;
    this.#events = events;
  }

  /** Every access of it was delivered. */
  get exhausted(): boolean {
    return this.#done === this.#count;
  }

  /**
   * Takes up the request that waits at `slot`, and puts what its accesses have in common into `request`.
   * @returns false when it is none of a shape that Xen makes of an access
   */
  enter(slot: IoreqSlot, request: IoRequest): boolean {
    const { requests, requestBytes } = slot.server;
    const { at } = slot;
    const flags = requestBytes[at + IOREQ.flags] as number;
    setState(slot, flags, C.STATE_IOREQ_INPROCESS);
    this.slot = slot;
    this.#flags = flags;
    this.type = requests.getUint8(at + IOREQ.type);
    this.#size = requests.getUint32(at + IOREQ.size_, true);
    this.#count = requests.getUint32(at + IOREQ.count, true);
    this.#dataLow = requests.getUint32(at + IOREQ.data, true);
    this.#dataHigh = requests.getUint32(at + IOREQ.data + 4, true);
    const low = requests.getUint32(at + IOREQ.addr, true);
    const high = requests.getUint32(at + IOREQ.addr + 4, true);
    this.#done = 0;
    request.vcpu = slot.vcpu;
    if (this.type === C.IOREQ_TYPE_PCI_CONFIG) {
      // Segment, bus, device and function above the register; there is one segment.
      request.bdf = Bdf(high & 0xffff);
      this.#address = low;
    } else this.#address = high * HIGH + low;
    return this.#isAccess();
  }

  #isAccess(): boolean {
    const { IOREQ_TYPE_PIO, IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG } = C;
    if (this.type !== IOREQ_TYPE_PIO && this.type !== IOREQ_TYPE_COPY && this.type !== IOREQ_TYPE_PCI_CONFIG) return false;
    const size = this.#size;
    return (size === 1 || size === 2 || size === 4 || size === 8) && this.#count >= 1 && this.#count <= COUNT_MAX;
  }

  /** Puts the next access into `request`. @returns false when it is a write whose value lies in memory that is not RAM */
  next(request: IoRequest): boolean {
    const step = this.#step(this.#done++);
    // Only memory moves on from access to access: a port stays.
    request.address = this.type === C.IOREQ_TYPE_COPY ? this.#address + step : this.#address;
    request.size = this.#size;
    request.write = (this.#flags & DIR_READ) === 0;
    return !request.write || this.#loadValue(request, step);
  }

  /** Puts the value of a write into guest RAM, as the guest's own store would. @throws MptError NOT_RAM, VM_GONE */
  store(request: IoRequest): void {
    this.#elementWords.set(request.value);
    this.#ram.write(request.address, this.#element, 0, request.size);
  }

  /** Takes the value of a read: to the request itself, or to guest memory. */
  takeValue({ write, value, size }: IoRequest): void {
    if (write || (this.#flags & DIR_READ) === 0) return;
    if ((this.#flags & DATA_IS_PTR) === 0) {
      this.#dataLow = masked(value[0] as number, size);
      this.#dataHigh = size === 8 ? (value[1] as number) : 0;
      return;
    }
    this.#elementWords.set(value);
    const at = this.#dataHigh * HIGH + this.#dataLow + this.#step(this.#done - 1);
    this.#unlessGone(() => this.#ram.write(at, this.#element, 0, size));
  }

  /** Lets the vCPU go on. */
  answer(): void {
    const slot = this.slot as IoreqSlot;
    this.slot = undefined;
    const { requests } = slot.server;
    if ((this.#flags & DATA_IS_PTR) === 0) {
      requests.setUint32(slot.at + IOREQ.data, this.#dataLow, true);
      requests.setUint32(slot.at + IOREQ.data + 4, this.#dataHigh, true);
    }
    setState(slot, this.#flags, C.STATE_IORESP_READY);
    // A port that is gone belongs to a domain that is: the next wait tells.
    this.#events.notify(slot.port);
  }

  /** Answers all ones, as a bus does where nothing is. */
  answerNothing(): void {
    this.#dataLow = this.#dataHigh = ALL_ONES;
    this.answer();
  }

  /** The same for a request that was not taken up, or was and is not to go on. */
  abandon(slot: IoreqSlot): void {
    this.slot = slot;
    this.#flags = slot.server.requests.getUint8(slot.at + IOREQ.flags);
    this.answerNothing();
  }

  #step(index: number): number {
    return index * ((this.#flags & DF) === 0 ? this.#size : -this.#size);
  }

  #loadValue({ value, size }: IoRequest, step: number): boolean {
    if ((this.#flags & DATA_IS_PTR) === 0) {
      value[0] = masked(this.#dataLow, size);
      value[1] = size === 8 ? this.#dataHigh : 0;
      return true;
    }
    this.#elementWords.fill(0);
    const at = (this.#dataHigh * HIGH + this.#dataLow + step) as Gpa;
    if (!this.#unlessGone(() => this.#ram.read(at, this.#element, 0, size))) return false;
    value.set(this.#elementWords);
    return true;
  }

  /** @returns false when the memory is not there (any more) */
  #unlessGone(copy: () => void): boolean {
    try {
      copy();
      return true;
    } catch (error) {
      if (!MptError.is(error, 'NOT_RAM') && !MptError.is(error, 'VM_GONE')) throw error;
      return false;
    }
  }
}
