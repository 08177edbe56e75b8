/** Fault injection: makes an operation fail as a hypervisor would, before it has any effect. */
import { type ErrorCode, MptError } from '../../core/errors.js';
import { MPT_OPERATIONS, type MptOperationName } from '../../core/mpt.js';
import { nearestName } from '../../core/nearest-name.js';

/** Operations beside the table's that reach the hypervisor. */
const OTHER_OPERATIONS = ['allocate_host_pages', 'create_machine', 'sync_page_track', 'dma_view', 'dma_copy'] as const;

/** dma_pin_guest_page only counts a reference: it does not reach the hypervisor, so it cannot fail there. */
const LOCAL = 'dma_pin_guest_page';

export type FaultableOperation = Exclude<MptOperationName, typeof LOCAL> | (typeof OTHER_OPERATIONS)[number];

const NAMES: readonly string[] = [...MPT_OPERATIONS.map(({ name }) => name).filter((name) => name !== LOCAL), ...OTHER_OPERATIONS];

export interface FaultSpec {
  /** Default HYPERVISOR. */
  readonly code?: ErrorCode;
  /** Default 5 (EIO) with code HYPERVISOR, none with others. */
  readonly errno?: number;
  /** Calls that still succeed before the first failure; default 0. */
  readonly after?: number;
  /** Calls that fail; default 1, `Infinity` for all until `clear()`. */
  readonly times?: number;
}

interface ArmedFault {
  readonly code: ErrorCode;
  readonly errno: number | undefined;
  after: number;
  times: number;
}

export class SimFaults {
  readonly #armed = new Map<FaultableOperation, ArmedFault>();
  #injected = 0;

  /** Failures caused so far. */
  get injected(): number {
    return this.#injected;
  }

  /** Arms one fault for the operation; a later call for the same operation replaces it. @throws MptError INVALID_ARGUMENT */
  inject(op: FaultableOperation, spec: FaultSpec = {}): void {
    const { code = 'HYPERVISOR', after = 0, times = 1 } = spec;
    if (!NAMES.includes(op)) {
      const nearest = nearestName(op, NAMES);
      throw new MptError('INVALID_ARGUMENT', `no operation that reaches the hypervisor is called '${op}'`, {
        op: 'inject',
        hint: nearest === undefined ? 'see MPT_OPERATIONS' : `did you mean ${nearest}?`,
      });
    }
    if (!Number.isInteger(after) || after < 0 || !(times === Number.POSITIVE_INFINITY || (Number.isInteger(times) && times > 0)))
      throw new MptError('INVALID_ARGUMENT', `after ${after} is not an integer from 0 or times ${times} not one from 1`, { op: 'inject' });
    this.#armed.set(op, { code, errno: spec.errno ?? (code === 'HYPERVISOR' ? 5 : undefined), after, times });
  }

  /** Disarms one operation, or all. */
  clear(op?: FaultableOperation): void {
    if (op === undefined) this.#armed.clear();
    else this.#armed.delete(op);
  }

  /** Called by each operation first. @throws MptError the injected failure */
  check(op: FaultableOperation): void {
    if (this.#armed.size === 0) return;
    const fault = this.#armed.get(op);
    if (fault === undefined) return;
    if (fault.after > 0) {
      fault.after--;
      return;
    }
    if (--fault.times <= 0) this.#armed.delete(op);
    this.#injected++;
    throw new MptError(fault.code, 'injected fault', fault.errno === undefined ? { op } : { op, errno: fault.errno });
  }
}
