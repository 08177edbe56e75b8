/**
 * What the vCPU's loads, stores and port accesses reach: mapped memory at once, the local APIC at once, and a device
 * through a request.
 *
 * A load from a device cannot be answered inside the instruction. It throws `SUSPENDED`; the instruction has changed
 * nothing yet, and when the value has come it runs again from its start with its device loads answered in order from a
 * log. This holds because every instruction does all its loads before it stores or changes a register. Stores to
 * devices never suspend: they are queued and reported before the next instruction.
 *
 * As on hardware an access that crosses a page is split there, and what is left of odd size is split into naturally
 * sized parts.
 */
import { PAGE_SIZE } from '../core/addresses.js';
import { IoKind, type IoRequest } from '../core/io-request.js';
import { LAPIC_BASE } from './abi.js';
import { AccessList } from './access-list.js';
import { type AddressSpace, type Mapping, PageFlag } from './address-space.js';
import type { Attention } from './attention.js';
import type { Lapic } from './lapic.js';

/** Thrown out of an instruction that waits for a device. */
export const SUSPENDED = Object.freeze({ reason: 'the instruction waits for a device' });

export class Bus {
  readonly #space: AddressSpace;
  readonly #lapic: Lapic;
  readonly #attention: Attention;
  /** The mapping of the last data access; code is fetched through another one. */
  #data: Mapping;
  #code: Mapping;
  #generation = 0;
  readonly #nowhere: Mapping;
  /** Scratch for accesses in pieces, little-endian. */
  readonly #bytes = new Uint8Array(8);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  readonly #answers = new AccessList();
  #replayed = 0;
  readonly #stores = new AccessList();
  #reported = 0;
  /** A device load waits for `answer()`. */
  waiting = false;
  #waitKind = 0;
  #waitAddress = 0;
  #waitSize = 0;
  /** Upper half after `load64`. */
  hi = 0;

  constructor(space: AddressSpace, lapic: Lapic, attention: Attention) {
    this.#space = space;
    this.#lapic = lapic;
    this.#attention = attention;
    const empty = new Uint32Array(0);
    this.#nowhere = {
      gpa: 0,
      size: 0,
      bytes: new Uint8Array(0),
      u16: new Uint16Array(0),
      u32: empty,
      u64: new BigUint64Array(0),
      flags: new Uint8Array(0),
    };
    this.#data = this.#nowhere;
    this.#code = this.#nowhere;
  }

  reset(): void {
    this.#answers.length = 0;
    this.#stores.length = 0;
    this.#reported = 0;
    this.waiting = false;
  }

  // --- instructions -------------------------------------------------------------------------------------------------

  /** An instruction starts, or starts again. */
  begin(): void {
    this.#replayed = 0;
    if (this.#generation !== this.#space.generation) {
      this.#generation = this.#space.generation;
      this.#data = this.#nowhere;
      this.#code = this.#nowhere;
    }
  }

  /** True while an instruction is half done: nothing may come between it and its second run. */
  get replaying(): boolean {
    return this.#answers.length > 0;
  }

  /** The instruction is done: its log is of no more use. */
  retire(): void {
    this.#answers.length = 0;
  }

  /** One instruction byte, or -1 when no memory is there. */
  fetch(linear: number): number {
    let code = this.#code;
    let at = linear - code.gpa;
    if (at < 0 || at >= code.size) {
      const found = this.#space.find(linear);
      if (found === undefined) return -1;
      this.#code = code = found;
      at = linear - code.gpa;
    }
    return code.bytes[at] as number;
  }

  // --- memory -------------------------------------------------------------------------------------------------------

  /** Loads 1, 2 (zero-extended) or 4 bytes (as int32) at a linear address, 0 to 2^32 - 1. */
  load(linear: number, size: number): number {
    const { gpa, size: bound, bytes, u32 } = this.#data;
    const at = linear - gpa;
    if (at >= 0 && at + size <= bound) {
      if (size === 4) {
        if ((at & 3) === 0) return (u32[at >>> 2] as number) | 0;
        return (
          (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)
        );
      }
      return size === 1 ? (bytes[at] as number) : (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    }
    if (this.#enter(linear, size)) return this.load(linear, size);
    this.#loadPieces(linear, size);
    const word = this.#words[0] as number;
    return size === 4 ? word | 0 : size === 2 ? word & 0xffff : word & 0xff;
  }

  /** Loads 8 bytes as one access: returns the low half, leaves the upper one in `hi`. */
  load64(linear: number): number {
    if (this.#enter(linear, 8)) {
      const lo = this.load(linear, 4);
      this.hi = this.load(linear + 4, 4);
      return lo;
    }
    this.#loadPieces(linear, 8);
    this.hi = (this.#words[1] as number) | 0;
    return (this.#words[0] as number) | 0;
  }

  /** Stores 1, 2 or 4 bytes. A naturally aligned store is one store. */
  store(linear: number, size: number, value: number): void {
    const { gpa, size: bound, bytes, u16, u32, flags } = this.#data;
    const at = linear - gpa;
    if (at >= 0 && at + size <= bound && ((flags[at >>> 12] as number) | (flags[(at + size - 1) >>> 12] as number)) === 0) {
      if (size === 4 && (at & 3) === 0) u32[at >>> 2] = value;
      else if (size === 1) bytes[at] = value;
      else if (size === 2 && (at & 1) === 0) u16[at >>> 1] = value;
      else for (let i = 0; i < size; i++) bytes[at + i] = value >>> (8 * i);
      return;
    }
    this.#words[0] = value;
    this.#words[1] = 0;
    this.#storePieces(linear, size);
  }

  /** Stores 8 bytes as one access. */
  store64(linear: number, lo: number, hi: number): void {
    this.#words[0] = lo;
    this.#words[1] = hi;
    this.#storePieces(linear, 8);
  }

  // --- ports --------------------------------------------------------------------------------------------------------

  portIn(port: number, size: number): number {
    const i = this.#deviceLoad(IoKind.PIO, port, size);
    const word = this.#answers.lo[i] as number;
    return size === 4 ? word | 0 : size === 2 ? word & 0xffff : word & 0xff;
  }

  portOut(port: number, size: number, value: number): void {
    this.#queue(IoKind.PIO, port, size, size === 4 ? value : size === 2 ? value & 0xffff : value & 0xff, 0);
  }

  // --- requests -----------------------------------------------------------------------------------------------------

  /** Fills in the next access that a device must see: queued stores first, then the load that waits. */
  takeRequest(request: IoRequest): boolean {
    const stores = this.#stores;
    const i = this.#reported;
    if (i < stores.length) {
      request.write = true;
      request.kind = stores.kind[i] as IoKind;
      request.address = stores.address[i] as number;
      request.size = stores.size[i] as number;
      request.value[0] = stores.lo[i] as number;
      request.value[1] = stores.hi[i] as number;
      this.#reported = i + 1;
      if (i + 1 === stores.length) {
        this.#reported = 0;
        stores.length = 0;
      }
      return true;
    }
    if (!this.waiting) return false;
    request.write = false;
    request.kind = this.#waitKind as IoKind;
    request.address = this.#waitAddress;
    request.size = this.#waitSize;
    request.value[0] = 0;
    request.value[1] = 0;
    return true;
  }

  /** True while a store or load waits to be taken as a request. */
  get hasRequest(): boolean {
    return this.waiting || this.#stores.length > 0;
  }

  /** The device's value for the load that waits. */
  answer(lo: number, hi: number): void {
    this.waiting = false;
    this.#answers.push(this.#waitKind, this.#waitAddress, this.#waitSize, lo, hi);
    this.#attention.raised = true;
  }

  // --- slow paths ---------------------------------------------------------------------------------------------------

  /** Makes the mapping of the address the current one; true when the whole access lies in it. */
  #enter(linear: number, size: number): boolean {
    const found = this.#space.find(linear);
    if (found === undefined || linear - found.gpa + size > found.size) return false;
    this.#data = found;
    return true;
  }

  /** Loads into the scratch bytes page by page. */
  #loadPieces(linear: number, size: number): void {
    let done = 0;
    while (done < size) {
      const address = (linear + done) % 2 ** 32;
      const n = Math.min(size - done, PAGE_SIZE - (address & (PAGE_SIZE - 1)));
      const mapping = this.#space.find(address);
      if (mapping !== undefined) for (let i = 0; i < n; i++) this.#bytes[done + i] = mapping.bytes[address - mapping.gpa + i] as number;
      else this.#loadDevice(address, done, n);
      done += n;
    }
  }

  #loadDevice(address: number, done: number, size: number): void {
    for (let at = 0; at < size; ) {
      const n = naturalSize(size - at);
      const offset = address + at - LAPIC_BASE;
      if (offset >= 0 && offset < PAGE_SIZE) {
        for (let i = 0; i < n; i++) this.#bytes[done + at + i] = this.#lapic.read(offset + i) >>> (8 * ((offset + i) & 3));
      } else {
        const answer = this.#deviceLoad(IoKind.MMIO, address + at, n);
        for (let i = 0; i < n; i++) {
          const half = (i < 4 ? this.#answers.lo[answer] : this.#answers.hi[answer]) as number;
          this.#bytes[done + at + i] = half >>> (8 * (i & 3));
        }
      }
      at += n;
    }
  }

  /** Index of the answer in the log; suspends when there is none yet. */
  #deviceLoad(kind: number, address: number, size: number): number {
    const answers = this.#answers;
    const i = this.#replayed;
    if (i < answers.length) {
      if (answers.kind[i] === kind && answers.address[i] === address && answers.size[i] === size) {
        this.#replayed = i + 1;
        return i;
      }
      // The instruction changed under its own feet (a device wrote over it): it is another one now, with other loads.
      answers.length = i;
    }
    this.waiting = true;
    this.#waitKind = kind;
    this.#waitAddress = address;
    this.#waitSize = size;
    throw SUSPENDED;
  }

  /** Stores the scratch bytes page by page. */
  #storePieces(linear: number, size: number): void {
    let done = 0;
    while (done < size) {
      const address = (linear + done) % 2 ** 32;
      const n = Math.min(size - done, PAGE_SIZE - (address & (PAGE_SIZE - 1)));
      const mapping = this.#space.find(address);
      if (mapping === undefined) this.#storeDevice(IoKind.MMIO, address, done, n);
      else {
        const at = address - mapping.gpa;
        // Whole when aligned: what the host polls must not change half by half either.
        if (n === 4 && done === 0 && (at & 3) === 0) mapping.u32[at >>> 2] = this.#words[0] as number;
        else for (let i = 0; i < n; i++) mapping.bytes[at + i] = this.#bytes[done + i] as number;
        const page = at >>> 12;
        const flags = mapping.flags[page] as number;
        if ((flags & PageFlag.LOG) !== 0) mapping.flags[page] = flags | PageFlag.DIRTY;
        if ((flags & PageFlag.TRAP) !== 0) this.#storeDevice(IoKind.WP, address, done, n);
      }
      done += n;
    }
  }

  #storeDevice(kind: number, address: number, done: number, size: number): void {
    for (let at = 0; at < size; ) {
      const n = naturalSize(size - at);
      const lo = this.#scratch(done + at, Math.min(n, 4));
      const offset = address + at - LAPIC_BASE;
      if (kind === IoKind.MMIO && offset >= 0 && offset < PAGE_SIZE) {
        if (n === 4) this.#lapic.write(offset, lo);
      } else this.#queue(kind, address + at, n, lo, n === 8 ? this.#scratch(done + at + 4, 4) : 0);
      at += n;
    }
  }

  #scratch(at: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value |= (this.#bytes[at + i] as number) << (8 * i);
    return value >>> 0;
  }

  #queue(kind: number, address: number, size: number, lo: number, hi: number): void {
    this.#stores.push(kind, address, size, lo, hi);
    this.#attention.raised = true;
  }
}

/** The largest natural size, 8, 4, 2 or 1, that is not above `left`. */
const naturalSize = (left: number): number => (left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1);
