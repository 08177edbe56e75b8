/** Device accesses of one instruction, in order: a bounded list without allocation. */
import { MptError } from '../core/errors.js';

/** Above the accesses of any one instruction: PUSHA or POPA over a page boundary makes 8 + 2, a far transfer less. */
const ACCESSES_MAX = 64;

export class AccessList {
  readonly kind = new Uint8Array(ACCESSES_MAX);
  readonly address = new Float64Array(ACCESSES_MAX);
  readonly size = new Uint8Array(ACCESSES_MAX);
  readonly lo = new Uint32Array(ACCESSES_MAX);
  readonly hi = new Uint32Array(ACCESSES_MAX);
  length = 0;

  push(kind: number, address: number, size: number, lo: number, hi: number): void {
    const i = this.length;
    if (i >= ACCESSES_MAX) throw new MptError('INTERNAL', 'an instruction makes too many accesses', { address, limit: ACCESSES_MAX });
    this.kind[i] = kind;
    this.address[i] = address;
    this.size[i] = size;
    this.lo[i] = lo;
    this.hi[i] = hi;
    this.length = i + 1;
  }
}
