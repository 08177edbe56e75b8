/** An interpreted PC: guest memory, local APIC, one vCPU, and the accesses that it makes. Ports, devices and PCI are its user's. */
import type { Gpa } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import { checkBootImage, type StopToken } from '../core/machine.js';
import type { Route } from '../core/tracked-write.js';
import { AddressSpace, type Mapping } from './address-space.js';
import { Attention } from './attention.js';
import { Bus } from './bus.js';
import { Cpu, SEG } from './cpu/cpu.js';
import { Lapic } from './lapic.js';
import { PcRequests } from './requests.js';

export interface PcOptions {
  /** RAM, disjoint, in ascending order. */
  readonly ram: readonly Mapping[];
  /** Shared stop flag, 4 bytes or more; a new one when absent. */
  readonly stopFlag?: SharedArrayBuffer | undefined;
  /** Instructions after which a wait with a timeout ends early. */
  readonly instructionBudget?: number;
  readonly route: Route;
  /** Name of the backend in errors. */
  readonly backend: string;
}

export class Pc {
  readonly space: AddressSpace;
  readonly lapic: Lapic;
  readonly requests: PcRequests;
  /** The flag alone is enough: a halted vCPU sleeps on it, a running one looks at it. */
  readonly stopToken: StopToken;
  readonly #cpu: Cpu;
  readonly #backend: string;

  constructor({ ram, stopFlag, instructionBudget = Number.POSITIVE_INFINITY, route, backend }: PcOptions) {
    this.#backend = backend;
    this.space = new AddressSpace(ram);
    const attention = new Attention();
    this.lapic = new Lapic(attention);
    const bus = new Bus(this.space, this.lapic, attention);
    this.#cpu = new Cpu(bus, this.lapic, attention);
    const flag = stopFlag ?? new SharedArrayBuffer(4);
    this.stopToken = { flag, tid: 0, pid: process.pid };
    this.requests = new PcRequests({ cpu: this.#cpu, bus, stopFlag: new Int32Array(flag), instructionBudget, route, backend });
  }

  /** Instructions that the guest executed since it was booted. */
  get instructions(): number {
    return this.#cpu.instructions;
  }

  /**
   * Puts the image into memory by `write`, resets the vCPU and its local APIC, and lets it start there.
   * @throws MptError INVALID_ADDRESS, BUSY while an access waits, what `write` throws
   */
  boot(gpa: Gpa, image: Uint8Array, write: (gpa: number, image: Uint8Array) => void): void {
    if (this.requests.pending) throw new MptError('BUSY', 'a guest access is not completed', { backend: this.#backend, op: 'boot' });
    checkBootImage(gpa, image);
    write(gpa, image);
    this.requests.reset();
    this.lapic.reset();
    this.#cpu.reset();
    this.#cpu.selector[SEG.CS] = gpa >> 4;
    this.#cpu.base[SEG.CS] = gpa;
    this.#cpu.eip = 0;
  }
}
