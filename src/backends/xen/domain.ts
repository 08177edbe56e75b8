/** One domain as everything here sees it: its state, its memory, its grants, the ioreq server of its vGPUs. */
import type { VmId } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls, XenEventChannels } from '../../native/xen-calls.js';
import { XEN_CONST as C, SHUTDOWN_REASONS, type XenctrlLayout } from './abi.js';
import { DirtyLog } from './dirty-log.js';
import { ERRNO, type FailurePlace, xenFailure } from './failure.js';
import { type ForeignOwner, ForeignRam } from './foreign-ram.js';
import { GrantTable } from './grants.js';
import { IoreqServer, VCPUS_MAX } from './ioreq-server.js';
import type { Journal } from './journal.js';

/** What a domain needs of its backend. */
export interface XenHost {
  readonly sys: Syscalls;
  readonly xen: XenCalls;
  readonly layout: XenctrlLayout;
  readonly journal: Journal;
  /** The domain is gone: its vGPUs answer VM_GONE from now on. */
  domainGone(vmId: VmId): void;
}

export interface DomainInfo {
  readonly dying: boolean;
  readonly hvm: boolean;
  readonly hap: boolean;
  readonly paused: boolean;
  /** Why the domain stopped by itself, or undefined. */
  readonly shutdown: string | undefined;
  readonly vcpus: number;
  readonly pages: number;
  /** Nanoseconds that its vCPUs ran. */
  readonly cpuTime: number;
  /** Its handle (UUID). */
  readonly handle: Uint8Array;
}

const HANDLE_SIZE = 16;

/** State of a domain, or undefined when none has the id. @throws MptError HYPERVISOR */
export function readDomainInfo(calls: XenCalls, layout: XenctrlLayout, domid: number): DomainInfo | undefined {
  const { xc_domaininfo_t: INFO } = layout;
  const bytes = new Uint8Array(INFO.size);
  const result = calls.domainInfo(domid, bytes);
  if (result === -ERRNO.ESRCH || result > domid) return undefined;
  if (result < 0) throw xenFailure('getdomaininfo', result, { domid });
  const view = new DataView(bytes.buffer);
  const flags = view.getUint32(INFO.flags, true);
  const reason = (flags >>> C.XEN_DOMINF_shutdownshift) & C.XEN_DOMINF_shutdownmask;
  return {
    dying: (flags & C.XEN_DOMINF_dying) !== 0,
    hvm: (flags & C.XEN_DOMINF_hvm_guest) !== 0,
    hap: (flags & C.XEN_DOMINF_hap) !== 0,
    paused: (flags & C.XEN_DOMINF_paused) !== 0,
    shutdown: (flags & C.XEN_DOMINF_shutdown) === 0 ? undefined : (SHUTDOWN_REASONS[reason] ?? `reason ${reason}`),
    vcpus: view.getUint32(INFO.max_vcpu_id, true) + 1,
    pages: Number(view.getBigUint64(INFO.tot_pages, true)),
    cpuTime: Number(view.getBigUint64(INFO.cpu_time, true)),
    handle: bytes.slice(INFO.handle, INFO.handle + HANDLE_SIZE),
  };
}

export class XenDomain implements ForeignOwner {
  readonly domid: number;
  readonly vcpus: number;
  readonly ram: ForeignRam;
  readonly grants: GrantTable;
  readonly dirty: DirtyLog;
  readonly events: XenEventChannels;
  /** Claims what the vGPUs of the domain own. */
  readonly server: IoreqServer;
  /** Claims what only this machine has: everything where the machine is ours, a few ports where it is not. */
  readonly platform: IoreqServer;
  readonly #host: XenHost;
  #gone = false;
  #memTypeClaimed = false;
  /** Calls that take something back and failed. */
  readonly #unfinished: (() => number)[] = [];

  /** Everything is released again when a part of it fails. */
  constructor(host: XenHost, domid: number, vcpus: number) {
    const { sys, xen: calls } = host;
    this.#host = host;
    this.domid = domid;
    this.vcpus = vcpus;
    if (vcpus > VCPUS_MAX)
      throw new MptError('LIMIT', `domain ${domid} has more vCPUs than an ioreq server's page holds`, { size: vcpus, limit: VCPUS_MAX });
    this.ram = new ForeignRam(sys, calls, this);
    this.grants = new GrantTable(sys, calls, this, host.journal);
    this.dirty = new DirtyLog(calls, this);
    const events = calls.openEventChannels();
    if (typeof events === 'number') throw xenFailure('xenevtchn_open', events, { domid });
    this.events = events;
    let platform: IoreqServer | undefined;
    try {
      // Xen asks the server with the highest id first, so the platform's comes first: it gets what no vGPU claims.
      platform = new IoreqServer(sys, calls, events, domid, vcpus);
      this.server = new IoreqServer(sys, calls, events, domid, vcpus);
      this.platform = platform;
    } catch (error) {
      platform?.close();
      events.close();
      throw error;
    }
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Throws the MptError of a failed call. A domain that no longer exists is noticed here. */
  fail(call: string, result: number, place: FailurePlace = {}): never {
    if (result === -ERRNO.ESRCH) this.noteGone();
    // A domain that is being torn down answers many calls by other errors.
    else this.requireAlive();
    throw xenFailure(call, result, { domid: this.domid, ...place });
  }

  /** Throws unless the call succeeded. @returns its result */
  check(call: string, result: number, place?: FailurePlace): number {
    if (result < 0) this.fail(call, result, place);
    return result;
  }

  noteGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#host.domainGone(this.domid as VmId);
  }

  /** @throws MptError VM_GONE when the domain does not exist or is being destroyed */
  info(): DomainInfo {
    const info = readDomainInfo(this.#host.xen, this.#host.layout, this.domid);
    if (info !== undefined && !info.dying) return info;
    this.noteGone();
    throw new MptError('VM_GONE', `domain ${this.domid} was destroyed`, { hint: 'detach the vGPU' });
  }

  requireAlive(): void {
    this.info();
  }

  /** Runs `change` while no vCPU of the domain runs. */
  paused<T>(change: () => T): T {
    const { xen: calls } = this.#host;
    this.check('pausedomain', calls.pause(this.domid));
    try {
      return change();
    } finally {
      calls.unpause(this.domid);
    }
  }

  /**
   * Takes something back that the domain must not keep when we let go of it. What fails is tried once more by `finish`.
   * @returns the call's result
   */
  undo(call: () => number): number {
    const result = call();
    if (result < 0) this.#unfinished.push(call);
    return result;
  }

  /** Tries once more what could not be taken back. */
  finish(): void {
    for (const call of this.#unfinished.splice(0)) call();
  }

  /** Makes Xen send writes to frames of type ioreq_server to the vGPUs' server. @throws MptError BUSY, UNSUPPORTED, VM_GONE */
  claimMemType(): void {
    if (this.#memTypeClaimed) return;
    const { xen: calls } = this.#host;
    this.check(
      'map_mem_type_to_ioreq_server',
      calls.mapMemType(this.domid, this.server.id, C.HVMMEM_ioreq_server, C.XEN_DMOP_IOREQ_MEM_ACCESS_WRITE),
    );
    this.#memTypeClaimed = true;
  }

  /** Releases everything that this process holds of the domain. Never throws: the domain may be gone. */
  close(): void {
    const { xen: calls } = this.#host;
    this.finish();
    this.dirty.stop();
    if (this.#memTypeClaimed) calls.mapMemType(this.domid, this.server.id, C.HVMMEM_ioreq_server, 0);
    this.server.close();
    this.platform.close();
    this.events.close();
    this.ram.invalidate();
    this.grants.close();
  }
}
