/** One ioreq server of a domain: its shared pages, its event-channel ports, the ranges it claims. */
import { PAGE_SIZE } from '../../core/addresses.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls, XenEventChannels } from '../../native/xen-calls.js';
import { XEN_CONST as C, XEN_STRUCT } from './abi.js';
import { checkXen } from './failure.js';

const { ioreq: IOREQ } = XEN_STRUCT;
/** vCPUs whose requests fit the one page of a server. */
export const VCPUS_MAX = PAGE_SIZE / IOREQ.size;
/** Page 0 of the resource is the buffered ring, page 1 the synchronous requests. */
const PAGES = 2;

/** Kinds of range, by what they hold. */
export const RANGE = { port: C.XEN_DMOP_IO_RANGE_PORT, memory: C.XEN_DMOP_IO_RANGE_MEMORY, pci: C.XEN_DMOP_IO_RANGE_PCI } as const;
export type RangeKind = keyof typeof RANGE;

/** Where one vCPU's request lies, and the port that tells of it. */
export interface IoreqSlot {
  readonly server: IoreqServer;
  readonly vcpu: number;
  /** First byte of the request in the server's `requests`. */
  readonly at: number;
  /** Local event-channel port. */
  readonly port: number;
}

export class IoreqServer {
  readonly id: number;
  readonly slots: readonly IoreqSlot[];
  /** The synchronous requests. */
  readonly requests: DataView;
  readonly requestBytes: Uint8Array;
  /** The buffered ring: read pointer, write pointer, slots. */
  readonly ring: Uint32Array;
  readonly #calls: XenCalls;
  readonly #events: XenEventChannels;
  readonly #domid: number;
  readonly #pages: OwnedMapping;
  readonly #ports: number[] = [];
  #closed = false;

  /** @throws MptError LIMIT (8 servers a domain), VM_GONE, HYPERVISOR; nothing is left behind then */
  constructor(sys: Syscalls, calls: XenCalls, events: XenEventChannels, domid: number, vcpus: number) {
    this.#calls = calls;
    this.#events = events;
    this.#domid = domid;
    const place = { domid };
    this.id = checkXen('create_ioreq_server', calls.createIoreqServer(domid, C.HVM_IOREQSRV_BUFIOREQ_ATOMIC), place);
    let pages: OwnedMapping | undefined;
    try {
      const bufferedPort = checkXen('get_ioreq_server_info', calls.ioreqServerPort(domid, this.id), place);
      const address = checkXen(
        'map_resource of the ioreq server',
        calls.mapResource(domid, C.XENMEM_resource_ioreq_server, this.id, 0, PAGES),
        place,
      );
      pages = OwnedMapping.adopt(sys, address, PAGES * PAGE_SIZE, 'the ioreq server', () => calls.unmapResource(address, PAGES));
      this.#pages = pages;
      this.ring = new Uint32Array(pages.buffer, 0, PAGE_SIZE / 4);
      this.requests = new DataView(pages.buffer, PAGE_SIZE, PAGE_SIZE);
      this.requestBytes = new Uint8Array(pages.buffer, PAGE_SIZE, PAGE_SIZE);
      // Xen fills in the ports when the server is enabled.
      checkXen('set_ioreq_server_state', calls.setIoreqServerState(domid, this.id, true), place);
      this.slots = Array.from({ length: vcpus }, (_, vcpu) => {
        const at = vcpu * IOREQ.size;
        return { server: this, vcpu, at, port: this.#bind(this.requests.getUint32(at + IOREQ.vp_eport, true)) };
      });
      this.#bind(bufferedPort);
    } catch (error) {
      for (const port of this.#ports) events.unbind(port);
      pages?.close();
      calls.destroyIoreqServer(domid, this.id);
      throw error;
    }
  }

  /** Delivers accesses to [start, end] here. @throws MptError OVERLAP, LIMIT, VM_GONE */
  claim(kind: RangeKind, start: number, end: number): void {
    const result = this.#calls.mapIoRange(this.#domid, this.id, RANGE[kind], start, end);
    checkXen('map_io_range_to_ioreq_server', result, { domid: this.#domid, address: start, size: end - start + 1 });
  }

  /** The reverse of one `claim`. @throws MptError NOT_MAPPED, VM_GONE */
  unclaim(kind: RangeKind, start: number, end: number): void {
    const result = this.#calls.unmapIoRange(this.#domid, this.id, RANGE[kind], start, end);
    checkXen('unmap_io_range_from_ioreq_server', result, { domid: this.#domid, address: start, size: end - start + 1 });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Releases everything; vCPUs that wait for an answer go on without one. Never throws: the domain may be gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const port of this.#ports) this.#events.unbind(port);
    this.#pages.close();
    this.#calls.destroyIoreqServer(this.#domid, this.id);
  }

  #bind(remote: number): number {
    const port = checkXen('bind_interdomain', this.#events.bindInterdomain(this.#domid, remote), { domid: this.#domid });
    this.#ports.push(port);
    return port;
  }
}
