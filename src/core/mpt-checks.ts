/** Argument rules of the handle's operations that do not depend on its state. Written so that NaN and fractions fail. */
import { GPA_LIMIT } from './addresses.js';

/** A non-empty range inside the buffer. Written so that NaN and fractions fail. */
export const fits = (buffer: Uint8Array, offset: number, length: number): boolean =>
  Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0 && offset + length <= buffer.length;

/** [start, end] below 2^52 with start <= end. */
export const isSpan = (start: number, end: number): boolean =>
  Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && end >= start && end < GPA_LIMIT;

/** MSI messages go to the local APIC window (Intel SDM vol. 3, "Message Address Register Format"). */
const MSI_WINDOW = 0xfee;
/** Address bit 4 (Intel VT-d, "Interrupt Requests in Remappable Format"). */
const REMAPPABLE = 0x10;
/** Vectors below 16 are reserved (SDM vol. 3, "Valid Interrupt Vectors"). */
const FIRST_VECTOR = 16;

/** What is wrong with an MSI message, with the bound it breaks; undefined when it can be delivered. */
export function msiFault(address: number, data: number): { readonly what: string; readonly limit?: number } | undefined {
  if (!Number.isInteger(address) || !Number.isInteger(data) || address < 0 || address > 0xffff_ffff || address >>> 20 !== MSI_WINDOW)
    return { what: 'the message address is not in 0xfee00000-0xfeefffff' };
  if (data < 0 || data > 0xffff) return { what: 'the message data has more than 16 bits', limit: 0xffff };
  // Remappable format: the data is a subhandle, the vector stands in the guest's remapping table.
  if ((address & REMAPPABLE) !== 0) return undefined;
  // Fixed and lowest-priority delivery carry a vector; NMI, INIT and the others ignore it.
  if ((data & 0x700) <= 0x100 && (data & 0xff) < FIRST_VECTOR)
    return { what: `vector ${data & 0xff} is reserved; vectors are 16..255`, limit: FIRST_VECTOR };
  return undefined;
}
