/**
 * The page in which requests arrive: 16 slots of 256 bytes, one for each vCPU. What a slot holds is read once, checked, and then
 * used; a slot that says what no access can be is answered with all ones.
 */
import { Bdf, GPA_LIMIT } from '../../core/addresses.js';
import type { IoRequest } from '../../core/io-request.js';
import { ACRN_HYPERVISOR, ACRN_STRUCT, ACRN_CONST as C } from './abi.js';

const { acrn_io_request: R } = ACRN_STRUCT;
const HIGH = 2 ** 32;
const WORDS = R.size / 4;
const word = (offset: number): number => offset / 4;

/** Word numbers in a slot. */
const TYPE = word(R.type);
const DIRECTION = word(R['reqs.mmio_request.direction']);
const ADDRESS = word(R['reqs.mmio_request.address']);
const SIZE = word(R['reqs.mmio_request.size']);
const VALUE = word(R['reqs.mmio_request.value']);
const PCI = {
  bus: word(R['reqs.pci_request.bus']),
  dev: word(R['reqs.pci_request.dev']),
  func: word(R['reqs.pci_request.func']),
  reg: word(R['reqs.pci_request.reg']),
} as const;
const STATE = word(R.processed);

const CONFIG_SIZE = 4096;
const PORTS = 0x1_0000;
/** Bytes of the largest access: a store that crosses pages may come in parts of any size up to it. */
const SIZE_MAX = 8;

export class RequestPage {
  /** The slots' words. Atomics on them are plain loads that the compiler does not move. */
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #owner: number;
  readonly #vcpus: number;
  /** What the request in progress is, checked. */
  type = 0;
  write = false;
  address = 0;
  size = 0;
  bdf = Bdf(0);
  readonly value = new Uint32Array(2);

  /** @param ownerWord offset of the word that tells whose a request is */
  constructor(page: ArrayBuffer, vcpus: number, ownerWord: number) {
    this.#words = new Int32Array(page, 0, (C.ACRN_IO_REQUEST_MAX * R.size) / 4);
    this.#bytes = new Uint8Array(page);
    this.#vcpus = Math.min(Math.max(vcpus, 1), C.ACRN_IO_REQUEST_MAX);
    this.#owner = word(ownerWord);
  }

  /** The next vCPU, from `from` on, whose request is for us; -1 when there is none. @param owner `AcrnCalls.slotOwner` */
  find(from: number, owner: number): number {
    const words = this.#words;
    for (let i = 0, vcpu = from; i < this.#vcpus; i++, vcpu++) {
      if (vcpu >= this.#vcpus) vcpu = 0;
      const at = vcpu * WORDS;
      if (Atomics.load(words, at + STATE) === C.ACRN_IOREQ_STATE_PROCESSING && words[at + this.#owner] === owner) return vcpu;
    }
    return -1;
  }

  /** Reads the slot of a vCPU. @returns false when it is no access that there can be */
  read(vcpu: number): boolean {
    const at = vcpu * WORDS;
    this.type = this.#u32(at + TYPE);
    const direction = this.#u32(at + DIRECTION);
    this.write = direction === C.ACRN_IOREQ_DIR_WRITE;
    this.size = this.#u32(at + SIZE);
    if (this.#u32(at + SIZE + 1) !== 0 || direction > C.ACRN_IOREQ_DIR_WRITE || this.size < 1 || this.size > SIZE_MAX) return false;
    const wide = this.type === C.ACRN_IOREQ_TYPE_MMIO || this.type === ACRN_HYPERVISOR.IOREQ_TYPE_WP;
    this.value[0] = this.#u32(at + VALUE);
    this.value[1] = wide ? this.#u32(at + VALUE + 1) : 0;
    if (this.type === C.ACRN_IOREQ_TYPE_PCICFG) {
      const bus = this.#u32(at + PCI.bus);
      const dev = this.#u32(at + PCI.dev);
      const func = this.#u32(at + PCI.func);
      this.address = this.#u32(at + PCI.reg);
      if (bus > 0xff || dev > 0x1f || func > 7 || !natural(this.size) || this.size > 4 || this.address + this.size > CONFIG_SIZE)
        return false;
      this.bdf = Bdf((bus << 8) | (dev << 3) | func);
      return true;
    }
    this.address = this.#u32(at + ADDRESS) + this.#u32(at + ADDRESS + 1) * HIGH;
    if (this.type === C.ACRN_IOREQ_TYPE_PORTIO) return natural(this.size) && this.size <= 4 && this.address + this.size <= PORTS;
    if (this.type === ACRN_HYPERVISOR.IOREQ_TYPE_WP && !this.write) return false;
    return wide && this.address + this.size <= GPA_LIMIT;
  }

  /** Puts a read's value, or part of it, into the slot. @param done bytes of the access before it */
  answer(vcpu: number, request: IoRequest, done: number): void {
    const at = vcpu * R.size + R['reqs.mmio_request.value'] + done;
    const { size, value } = request;
    for (let i = 0; i < size; i++) this.#bytes[at + i] = (value[i >>> 2] as number) >>> ((i & 3) * 8);
  }

  /** What a bus without a device answers. */
  answerNothing(vcpu: number): void {
    const at = vcpu * WORDS;
    this.#words[at + VALUE] = -1;
    // A PCI request has its bus there.
    if (this.type === C.ACRN_IOREQ_TYPE_MMIO) this.#words[at + VALUE + 1] = -1;
  }

  #u32(index: number): number {
    return (this.#words[index] as number) >>> 0;
  }
}

const natural = (size: number): boolean => (size & (size - 1)) === 0;
