/**
 * What each operation of a handle begins with, and how it fails: it is counted, the vGPU is attached and its VM there, the arguments
 * are in range. Messages name the operation, the address and the limit.
 */
import { GFN_LIMIT, type Gfn, GPA_LIMIT, type Gpa } from './addresses.js';
import type { ErrorCode, MptError, MptErrorDetails } from './errors.js';
import { type MptOperationName, OP_INDEX, type VgpuAttachment } from './mpt.js';
import type { MptBackend } from './mpt-backend.js';
import { fits, isSpan, msiFault } from './mpt-checks.js';
import { MptHandleHooks } from './mpt-hooks.js';

const ATTACHED = 0;
const DETACHED = 1;
const VM_GONE = 2;

export abstract class MptHandleChecks extends MptHandleHooks {
  readonly backend: MptBackend;
  readonly vgpu: VgpuAttachment;
  /** Calls of each operation, shared by all handles of the backend. */
  protected readonly calls: Float64Array;
  #state = ATTACHED;

  constructor(backend: MptBackend, vgpu: VgpuAttachment) {
    super();
    this.backend = backend;
    this.vgpu = vgpu;
    this.calls = backend.calls;
  }

  get attached(): boolean {
    return this.#state === ATTACHED;
  }

  /** For MptBackend only: the VM was destroyed. Mappings went with it. */
  markVmGone(): void {
    if (this.#state === ATTACHED) this.#state = VM_GONE;
  }

  protected get detached(): boolean {
    return this.#state === DETACHED;
  }

  /** From now on every operation answers DETACHED. */
  protected markDetached(): void {
    this.#state = DETACHED;
  }

  protected enter(op: MptOperationName): void {
    this.calls[OP_INDEX[op]] = (this.calls[OP_INDEX[op]] as number) + 1;
    this.requireAttached(op);
  }

  protected requireAttached(op: string): void {
    if (this.#state === ATTACHED) return;
    if (this.#state === DETACHED) throw this.fail('DETACHED', `vGPU ${this.vgpu.id} was detached`, op);
    throw this.fail('VM_GONE', `VM ${this.vgpu.vmId} was destroyed`, op, { hint: 'detach the vGPU' });
  }

  protected checkCopy(op: string, gpa: Gpa, buffer: Uint8Array, offset: number, length: number): void {
    this.requireAttached(op);
    // The length first: the address rule adds it. Each rule is false for NaN and fractions.
    if (!fits(buffer, offset, length))
      throw this.fail('INVALID_ARGUMENT', 'the length is zero or does not fit the buffer', op, {
        address: gpa,
        size: length,
        limit: Math.max(0, buffer.length - offset),
      });
    if (!(Number.isSafeInteger(gpa) && gpa >= 0 && gpa + length <= GPA_LIMIT))
      throw this.fail('INVALID_ADDRESS', 'not a guest-physical range below 2^52', op, { address: gpa, size: length, limit: GPA_LIMIT });
  }

  protected checkGfn(op: string, gfn: Gfn): void {
    if (!(Number.isSafeInteger(gfn) && gfn >= 0 && gfn < GFN_LIMIT))
      throw this.fail('INVALID_ADDRESS', 'not a guest frame below 2^40', op, { address: gfn, limit: GFN_LIMIT });
  }

  protected checkSpan(op: string, start: Gpa, end: Gpa): void {
    if (!isSpan(start, end))
      throw this.fail('INVALID_ADDRESS', 'not a range [start, end] below 2^52 with start <= end', op, {
        address: start,
        limit: GPA_LIMIT,
      });
  }

  protected checkMsi(address: number, data: number, op: string): void {
    const fault = msiFault(address, data);
    if (fault !== undefined)
      throw this.fail('BAD_MSI', fault.what, op, { address, ...(fault.limit === undefined ? {} : { limit: fault.limit }) });
  }

  protected guard<T>(op: string, run: () => T): T {
    return this.backend.guard(op, run);
  }

  protected fail(code: ErrorCode, what: string, op: string, details: MptErrorDetails = {}): MptError {
    return this.backend.error(code, what, { op, ...details });
  }
}
