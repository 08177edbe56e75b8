/**
 * I/O request clients of one VM. The char device gives a process one client a VM; AcrnGT had one for each vGPU, in the kernel. Here the
 * device's client is shared out: by intercepted PCI function, by range, or to the fallback client.
 */
import { ACRN_CONST as C } from './abi.js';
import type { AcrnMachine } from './machine.js';
import { REQ_MMIO, REQ_PCICFG, REQ_STATE_PROCESSING, REQUEST_READ, VhmRequest } from './vhm-request.js';

/** Runs for each request of its client; without one the client's owner attaches and looks for itself. */
export type IoreqHandler = (client: number, vcpu: number) => void;

interface IoRange {
  readonly type: number;
  readonly start: number;
  readonly end: number;
}

export interface IoreqClient {
  readonly id: number;
  readonly name: string;
  readonly handler: IoreqHandler | undefined;
  readonly fallback: boolean;
  readonly vm: VhmVm;
  readonly ranges: IoRange[];
  /** Intercepted function as bus << 8 | dev << 3 | func, or -1. */
  bdf: number;
  /** vCPUs whose request waits for this client. */
  pending: number;
}

/** Ranges of one client: more is a client that forgets to give them back. */
export const RANGES_MAX = 1024;

/** `struct vhm_vm`: one VM with its clients and slots. */
export class VhmVm {
  readonly vmid: number;
  readonly machine: AcrnMachine;
  readonly requests: readonly VhmRequest[];
  readonly clients = new Set<IoreqClient>();
  /** References of find_get_vm that were not put. */
  references = 0;
  readonly #ownerWord: number;
  readonly #owner: number;
  readonly #vcpus: number;

  constructor(machine: AcrnMachine) {
    this.vmid = machine.vmId;
    this.machine = machine;
    const { calls } = machine;
    this.#ownerWord = calls.dialect.ownerWord;
    this.#owner = calls.slotOwner;
    this.#vcpus = Math.min(calls.vm.vcpus, C.ACRN_IO_REQUEST_MAX);
    this.requests = Array.from({ length: this.#vcpus }, (_, vcpu) => new VhmRequest(machine.page, vcpu));
  }

  /** True while the kernel has given us a request that no client has yet. */
  readonly waiting = (): boolean => this.requests.some((request) => this.#isNew(request));

  /** Gives each new request to its client. What no client wants is answered as a bus without a device does. */
  distribute(complete: (vcpu: number) => void): void {
    for (let vcpu = 0; vcpu < this.#vcpus; vcpu++) {
      const request = this.requests[vcpu] as VhmRequest;
      if (!this.#isNew(request)) continue;
      const client = this.#clientFor(request);
      if (client === undefined) {
        if (request.direction === REQUEST_READ) {
          request.value = 0xffff_ffff;
          if (request.type === REQ_MMIO) request.value_high = 0xffff_ffff;
        }
        complete(vcpu);
        continue;
      }
      this.give(vcpu, client);
      client.handler?.(client.id, vcpu);
    }
  }

  give(vcpu: number, client: IoreqClient): void {
    (this.requests[vcpu] as VhmRequest).client = client.id;
    client.pending |= 1 << vcpu;
  }

  /** Takes a request back from its client. */
  forget(vcpu: number): void {
    const request = this.requests[vcpu];
    if (request === undefined) return;
    for (const client of this.clients) client.pending &= ~(1 << vcpu);
    request.client = 0;
  }

  #isNew(request: VhmRequest): boolean {
    return request.client === 0 && request.processed === REQ_STATE_PROCESSING && request.owner(this.#ownerWord) === this.#owner;
  }

  #clientFor(request: VhmRequest): IoreqClient | undefined {
    const { type } = request;
    let fallback: IoreqClient | undefined;
    const bdf = type === REQ_PCICFG ? (request.bus << 8) | (request.dev << 3) | request.func : -2;
    const [first, last] = type === REQ_PCICFG ? [0, -1] : [request.address, request.address + request.size - 1];
    for (const client of this.clients) {
      if (client.fallback) fallback = client;
      if (
        client.bdf === bdf ||
        (last >= first && client.ranges.some((range) => range.type === type && range.start <= first && range.end >= last))
      )
        return client;
    }
    return fallback;
  }
}
