/**
 * The guest agent seen from the host: each method makes the guest execute real instructions and returns when they are
 * done. Guest and caller alternate on one thread: the guest runs only inside a method, and every access that it makes
 * on the way goes to `dispatch` and is completed before the guest's next instruction.
 */
import { hex } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import type { IoRequest } from '../core/io-request.js';
import type { Machine } from '../core/machine.js';
import { type AgentSize, type BySize, checkAddress, checkCount, checkPort, checkVector, sized } from './agent/arguments.js';
import { AgentExchange } from './agent/exchange.js';
import { AGENT_COMMANDS, AGENT_COUNTERS_GPA, AGENT_FREE_GPA, AGENT_GPA } from './agent/protocol.js';
import { AGENT_IMAGE } from './agent-image.js';

export * from './agent/protocol.js';
export type { AgentSize };
export { AGENT_IMAGE };

export interface AgentOptions {
  /** Milliseconds that one command (or `boot`) may take before TIMEOUT, and 10 more for each dword that it streams; default 5000. */
  readonly timeoutMs?: number;
  /** Called each time the guest ran for a slice of about 1 ms without an access: engine slices go here. */
  readonly onIdle?: () => void;
  /**
   * Whether `onIdle` has something to do. While it has not, slices are 15 ms. Without it they are 1 ms if there is an
   * `onIdle`.
   */
  readonly hasWork?: () => boolean;
}

const DEFAULT_TIMEOUT_MS = 5000;
const PCI_ADDRESS_PORT = 0xcf8;
const PCI_DATA_PORT = 0xcfc;
const PCI_ENABLE = 0x8000_0000;

const C = AGENT_COMMANDS;
const READ: BySize = { 1: C.read8, 2: C.read16, 4: C.read32 };
const WRITE: BySize = { 1: C.write8, 2: C.write16, 4: C.write32 };
const IN: BySize = { 1: C.in8, 2: C.in16, 4: C.in32 };
const OUT: BySize = { 1: C.out8, 2: C.out16, 4: C.out32 };
const BURST_READ: BySize = { 1: C.burst_read8, 2: C.burst_read16, 4: C.burst_read32 };
const BURST_WRITE: BySize = { 1: C.burst_write8, 2: C.burst_write16, 4: C.burst_write32 };

/**
 * Every method throws, beside what it names itself:
 * - GUEST_FAULT: the guest took an exception; the agent is dead and every later call throws the same.
 * - TIMEOUT: the command is not over yet. The next call first waits for it, with a deadline of its own.
 * - STOPPED: the machine was asked to stop.
 * - INVALID_ARGUMENT, INVALID_ADDRESS: refused before the guest sees it. Addresses end below 4 GiB.
 * - NOT_INITIALIZED before `boot()`, BUSY when called from `dispatch` or `onIdle`.
 *
 * Values are taken modulo 2^(8 * size) and returned unsigned.
 */
export class GuestAgent {
  readonly #machine: Machine;
  readonly #exchange: AgentExchange;

  /**
   * @param machine a VM whose RAM holds 0x8000-0xffff in one region; nothing else may take its requests
   * @param dispatch answers an access (fills `value` of a read); what it throws passes through the method in progress
   * @throws MptError INVALID_ARGUMENT
   */
  constructor(machine: Machine, dispatch: (request: IoRequest) => void, options: AgentOptions = {}) {
    const { timeoutMs = DEFAULT_TIMEOUT_MS, onIdle, hasWork = () => onIdle !== undefined } = options;
    if (!(timeoutMs > 0)) throw new MptError('INVALID_ARGUMENT', `timeoutMs must be above 0, not ${timeoutMs}`, { op: 'agent' });
    this.#machine = machine;
    this.#exchange = new AgentExchange(machine, dispatch, timeoutMs, onIdle, hasWork);
  }

  /** Commands that the guest fetched so far. */
  get commands(): number {
    return this.#exchange.commands;
  }

  /** Loads and starts the agent; returns when it asks for its first command. @throws MptError BUSY on a second call, NOT_RAM */
  boot(): void {
    if (this.#exchange.started) throw new MptError('BUSY', 'the agent is already booted', { op: 'boot' });
    if (!this.#machine.ram.some(({ gpa, size }) => gpa <= AGENT_GPA && gpa + size >= AGENT_FREE_GPA))
      throw new MptError('NOT_RAM', 'the agent needs RAM in one region', {
        op: 'boot',
        address: AGENT_GPA,
        size: AGENT_FREE_GPA - AGENT_GPA,
      });
    this.#machine.boot(AGENT_GPA, AGENT_IMAGE);
    this.#exchange.start();
  }

  /** Loads 1, 2 or 4 bytes from memory or MMIO. */
  read(gpa: number, size: AgentSize): number {
    this.#exchange.run(sized(READ, size, 'read'), checkAddress(gpa, size, 'read'));
    return this.#exchange.last;
  }

  /** One 8-byte load. */
  read64(gpa: number): { lo: number; hi: number } {
    this.#exchange.run(C.read64, checkAddress(gpa, 8, 'read64'));
    return { lo: this.#exchange.previous, hi: this.#exchange.last };
  }

  /** Stores 1, 2 or 4 bytes. */
  write(gpa: number, size: AgentSize, value: number): void {
    this.#exchange.run(sized(WRITE, size, 'write'), checkAddress(gpa, size, 'write'), value);
  }

  /** One 8-byte store. */
  write64(gpa: number, lo: number, hi: number): void {
    this.#exchange.run(C.write64, checkAddress(gpa, 8, 'write64'), lo, hi);
  }

  /** IN from a port. The agent's own ports (0xe00-0xe07) are refused. */
  portIn(port: number, size: AgentSize): number {
    this.#exchange.run(sized(IN, size, 'port_in'), checkPort(port, size, 'port_in'));
    return this.#exchange.last;
  }

  /** OUT to a port. */
  portOut(port: number, size: AgentSize, value: number): void {
    this.#exchange.run(sized(OUT, size, 'port_out'), checkPort(port, size, 'port_out'), value);
  }

  /**
   * PCI configuration read by mechanism #1: OUT to 0xCF8, IN from 0xCFC + (register & 3).
   * @param bdf bus << 8 | device << 3 | function
   * @param register 0..255; the access stays inside one dword
   */
  pciRead(bdf: number, register: number, size: AgentSize): number {
    const port = this.#selectPci(bdf, register, size, 'pci_read');
    return this.portIn(port, size);
  }

  /** PCI configuration write, same rules. */
  pciWrite(bdf: number, register: number, size: AgentSize, value: number): void {
    const port = this.#selectPci(bdf, register, size, 'pci_write');
    this.portOut(port, size, value);
  }

  /** Stores the dwords at gpa, gpa + 4, …: one command, one fetch and one 4-byte store each. */
  stream(gpa: number, dwords: ArrayLike<number>): void {
    const { length } = dwords;
    checkAddress(gpa, length * 4, 'stream');
    if (length > 0) this.#exchange.run(C.stream32, gpa, length, 0, dwords);
  }

  /** Stores low/high pairs at gpa, gpa + 8, … by one 8-byte store each. @throws MptError INVALID_ARGUMENT for an odd count */
  stream64(gpa: number, dwords: ArrayLike<number>): void {
    const { length } = dwords;
    if (length % 2 !== 0) throw new MptError('INVALID_ARGUMENT', 'dwords come in pairs', { op: 'stream64', size: length });
    checkAddress(gpa, length * 4, 'stream64');
    if (length > 0) this.#exchange.run(C.stream64, gpa, length / 2, 0, dwords);
  }

  /** How often the guest's handler ran for the vector, modulo 2^32, loaded by the guest. */
  interruptCount(vector: number): number {
    return this.read(AGENT_COUNTERS_GPA + checkVector(vector, 'interrupt_count') * 4, 4);
  }

  /** The guest halts until its counter of the vector (32..255) is at least `count`. TIMEOUT names wanted and seen. */
  waitInterrupt(vector: number, count: number): void {
    this.#exchange.run(C.wait_interrupt, checkVector(vector, 'wait_interrupt'), checkCount(count, 'wait_interrupt'));
  }

  /** `count` loads from one address with nothing but a loop instruction between. */
  burstRead(gpa: number, size: AgentSize, count: number): void {
    const command = sized(BURST_READ, size, 'burst_read');
    checkAddress(gpa, size, 'burst_read');
    if (checkCount(count, 'burst_read') > 0) this.#exchange.run(command, gpa, count);
  }

  /** `count` stores of the value to one address. */
  burstWrite(gpa: number, size: AgentSize, value: number, count: number): void {
    const command = sized(BURST_WRITE, size, 'burst_write');
    checkAddress(gpa, size, 'burst_write');
    if (checkCount(count, 'burst_write') > 0) this.#exchange.run(command, gpa, count, value);
  }

  /** The guest loads the dword until `(dword & mask) === value`. In RAM that makes no exits at all. */
  poll(gpa: number, mask: number, value: number): void {
    if ((value & ~mask) !== 0)
      throw new MptError('INVALID_ARGUMENT', `value ${hex(value)} has bits outside the mask ${hex(mask)}`, { op: 'poll', address: gpa });
    this.#exchange.run(C.poll, checkAddress(gpa, 4, 'poll'), mask, value);
  }

  /** The guest jumps to itself with interrupts on. Ends only by STOPPED or TIMEOUT, and the agent is of no more use. */
  spin(): void {
    this.#exchange.run(C.spin);
  }

  #selectPci(bdf: number, register: number, size: AgentSize, op: string): number {
    if (!Number.isInteger(bdf) || bdf < 0 || bdf > 0xffff)
      throw new MptError('INVALID_ARGUMENT', 'a PCI function number has 16 bits', { op, address: bdf, limit: 0xffff });
    const offset = register & 3;
    if (!Number.isInteger(register) || register < 0 || register > 0xff || offset + size > 4)
      throw new MptError('INVALID_ARGUMENT', 'a configuration access lies in one dword below 256', { op, address: register, size });
    this.portOut(PCI_ADDRESS_PORT, 4, PCI_ENABLE | (bdf << 8) | (register - offset));
    return PCI_DATA_PORT + offset;
  }
}
