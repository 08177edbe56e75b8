/** A request slot as AcrnGT's glue saw it: `struct vhm_request`, by its fields' names, over the shared page. */
import { ACRN_STRUCT, ACRN_CONST as C, VHM_STRUCT } from './abi.js';

const { acrn_io_request: R } = ACRN_STRUCT;
const HIGH = 2 ** 32;

/** `enum request_type` and `enum request_direction` (acrn_common.h). */
export const REQ_PORTIO = 0;
export const REQ_MMIO = 1;
export const REQ_PCICFG = 2;
export const REQ_WP = 3;
export const REQUEST_READ = 0;
export const REQUEST_WRITE = 1;
/** `enum req_state`. */
export const REQ_STATE_PENDING = C.ACRN_IOREQ_STATE_PENDING;
export const REQ_STATE_COMPLETE = C.ACRN_IOREQ_STATE_COMPLETE;
export const REQ_STATE_PROCESSING = C.ACRN_IOREQ_STATE_PROCESSING;
export const REQ_STATE_FREE = C.ACRN_IOREQ_STATE_FREE;

/** What the hypervisor writes is read anew at each use: read a field once, check it, use the copy. */
export class VhmRequest {
  readonly #view: DataView;
  readonly #state: Int32Array;
  /** Client that the request was given to, or 0. */
  client = 0;

  constructor(page: ArrayBuffer, vcpu: number) {
    this.#view = new DataView(page, vcpu * R.size, R.size);
    this.#state = new Int32Array(page, vcpu * R.size + VHM_STRUCT.vhm_request.processed, 1);
  }

  get type(): number {
    return this.#u32(R.type);
  }
  get completion_polling(): boolean {
    return this.#u32(R.completion_polling) !== 0;
  }
  get processed(): number {
    return Atomics.load(this.#state, 0);
  }
  get direction(): number {
    return this.#u32(R['reqs.mmio_request.direction']);
  }
  /** Bytes; above 2^53 not exact, and then no access. */
  get size(): number {
    return this.#u64(R['reqs.mmio_request.size']);
  }
  /** Guest-physical address, or the port. */
  get address(): number {
    return this.#u64(R['reqs.mmio_request.address']);
  }
  get bus(): number {
    return this.#u32(R['reqs.pci_request.bus']);
  }
  get dev(): number {
    return this.#u32(R['reqs.pci_request.dev']);
  }
  get func(): number {
    return this.#u32(R['reqs.pci_request.func']);
  }
  get reg(): number {
    return this.#u32(R['reqs.pci_request.reg']);
  }
  /** Low half; all of a port's or a PCI register's. */
  get value(): number {
    return this.#u32(R['reqs.mmio_request.value']);
  }
  set value(low: number) {
    this.#view.setUint32(R['reqs.mmio_request.value'], low, true);
  }
  /** High half of an 8-byte MMIO value. A PCI request has its bus there. */
  get value_high(): number {
    return this.#u32(R['reqs.mmio_request.value'] + 4);
  }
  set value_high(high: number) {
    this.#view.setUint32(R['reqs.mmio_request.value'] + 4, high, true);
  }
  /** Word that tells whose request it is. */
  owner(offset: number): number {
    return this.#view.getInt32(offset, true);
  }

  #u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }
  #u64(offset: number): number {
    return this.#u32(offset) + this.#u32(offset + 4) * HIGH;
  }
}
