/**
 * The ring of writes that Xen does not wait for (hvm/ioreq.h, struct buffered_iopage): a read and a write pointer, then 511
 * slots of 8 bytes. A slot is `struct buf_ioreq`: type in bits 0-7, direction 9, size code 10-11, address 12-31, then data.
 */
import { IoKind, type IoRequest } from '../../core/io-request.js';
import { XEN_CONST as C, XEN_STRUCT } from './abi.js';

const SLOTS = C.IOREQ_BUFFER_SLOT_NUM;
const SLOT_WORDS = XEN_STRUCT.buf_ioreq.size / 4;
const FIRST_WORD = XEN_STRUCT.buffered_iopage.buf_ioreq / 4;
const READ_POINTER = XEN_STRUCT.buffered_iopage.read_pointer / 4;

/** The low `size` bytes of a dword. */
export const masked = (value: number, size: number): number => (size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value >>> 0);

/** Takes the oldest write into `request`. @returns false when it was no access: a clock offset */
export function takePosted(ring: Uint32Array, request: IoRequest): boolean {
  const read = Atomics.load(ring, READ_POINTER);
  const at = FIRST_WORD + (read % SLOTS) * SLOT_WORDS;
  const head = ring[at] as number;
  const data = ring[at + 1] as number;
  const type = head & 0xff;
  const size = 1 << ((head >>> 10) & 3);
  // Eight bytes take two slots, the second for the high half.
  const high = size === 8 ? (ring[FIRST_WORD + ((read + 1) % SLOTS) * SLOT_WORDS + 1] as number) : 0;
  // Xen lowers both pointers together when they grow large, so the read pointer is advanced, not set.
  Atomics.add(ring, READ_POINTER, size === 8 ? 2 : 1);
  if (type !== C.IOREQ_TYPE_COPY && type !== C.IOREQ_TYPE_PIO) return false;
  request.kind = type === C.IOREQ_TYPE_COPY ? IoKind.MMIO : IoKind.PIO;
  request.write = true;
  request.address = head >>> 12;
  request.size = size;
  request.vcpu = 0;
  request.value[0] = masked(data, size);
  request.value[1] = high;
  return true;
}
