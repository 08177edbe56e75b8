/**
 * What a VM is created as. The hypervisor knows the VMs of its scenario by UUID (ACRN 1.x and 2.x) or by name (3.x, which
 * also makes VMs that it never heard of); both are the same 16 bytes of CREATE_VM. One that has it already is refused.
 *
 * Source: acrn-hypervisor, hypervisor/common/hypercall.c (hcall_create_vm) and hypervisor/common/vm.c.
 */
import { MptError } from '../../core/errors.js';

/** Bytes of a UUID, and of a name that ends with a zero. */
export const IDENTITY_SIZE = 16;
/** A UUID, or a name of at most 15 printable characters. */
export const IDENTITY_PATTERN = '^([!-~]{1,15}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$';

/** The bytes as ACRN's configuration has them: a UUID's digits in the order in which they are written. */
export function identityBytes(identity: string): Uint8Array {
  const bytes = new Uint8Array(IDENTITY_SIZE);
  if (identity.length < IDENTITY_SIZE) bytes.set(Buffer.from(identity, 'latin1'));
  else bytes.set(Buffer.from(identity.replaceAll('-', ''), 'hex'));
  return bytes;
}

/** Names made by this process: its backends must not meet either. */
let made = 0;

export class VmIdentities {
  readonly #given: readonly string[] | undefined;
  readonly #pid: number;
  readonly #taken = new Set<string>();

  /** @param given those of the scenario; none: names of our own */
  constructor(given: readonly string[] | undefined, pid: number) {
    const wrong = given?.find((identity) => !new RegExp(IDENTITY_PATTERN).test(identity));
    if (wrong !== undefined || given?.length === 0)
      throw new MptError('INVALID_ARGUMENT', `vms: '${wrong ?? ''}' is no VM of ACRN`, {
        backend: 'acrn',
        op: 'open',
        hint: 'a UUID of the scenario, or a name of at most 15 characters',
      });
    this.#given = given;
    this.#pid = pid;
  }

  /** The first that no open VM of this backend has. @throws MptError LIMIT */
  take(): string {
    const free = this.#given === undefined ? this.#name() : this.#given.find((identity) => !this.#taken.has(identity));
    if (free === undefined)
      throw new MptError('LIMIT', 'all VMs of option vms are in use', {
        limit: this.#given?.length ?? 0,
        hint: 'name another one of the scenario, or close a machine',
      });
    this.#taken.add(free);
    return free;
  }

  release(identity: string): void {
    this.#taken.delete(identity);
  }

  /** Of this process, so that two processes do not meet; a process id has seven digits at most. */
  #name(): string {
    return `mpt-${this.#pid}-${made++ % 1000}`;
  }
}
