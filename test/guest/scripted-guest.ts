/**
 * A guest without a hypervisor: a generator yields the accesses that a vCPU would make and receives the values of its
 * reads. `scriptedAgent` plays the agent's side of the protocol.
 */
import type { Gpa } from '../../src/core/addresses.js';
import { VmId } from '../../src/core/addresses.js';
import { IoKind, IoRequest, type RequestSource } from '../../src/core/io-request.js';
import type { Machine } from '../../src/core/machine.js';
import { AGENT_COMMANDS, AGENT_COUNTERS_GPA, AGENT_FAULT_PORT, AGENT_PORT } from '../../src/guest/agent.js';

export interface Access {
  readonly kind: IoKind;
  readonly write: boolean;
  readonly address: number;
  readonly size: number;
  readonly low?: number;
  readonly high?: number;
}

/** `idle` is a time slice without an access. A finished guest is idle for ever. */
export type Guest = Generator<Access | 'idle', void, number>;

export const fetchDword = (port: number = AGENT_PORT): Access => ({ kind: IoKind.PIO, write: false, address: port, size: 4 });
export const reportDword = (low: number, port: number = AGENT_PORT): Access => ({
  kind: IoKind.PIO,
  write: true,
  address: port,
  size: 4,
  low,
});

export class ScriptedRequests implements RequestSource {
  stopped = false;
  /** Accesses given out. */
  delivered = 0;
  readonly #guest: Guest;
  readonly #request = new IoRequest();
  #pending = false;

  constructor(guest: Guest) {
    this.#guest = guest;
  }

  next(): IoRequest | undefined {
    if (this.#pending) throw new Error('next() while an access is open');
    if (this.stopped) return undefined;
    const step = this.#guest.next(this.#request.value[0] as number);
    if (step.done === true || step.value === 'idle') return undefined;
    const { kind, write, address, size, low = 0, high = 0 } = step.value;
    Object.assign(this.#request, { kind, write, address, size });
    this.#request.value[0] = write ? low : 0xdead_beef;
    this.#request.value[1] = high;
    this.#pending = true;
    this.delivered++;
    return this.#request;
  }

  complete(request: IoRequest): void {
    if (!this.#pending || request !== this.#request) throw new Error('complete() without an open access');
    this.#pending = false;
  }

  stop(): void {
    this.stopped = true;
  }
}

export class ScriptedMachine implements Machine {
  readonly vmId = VmId(1);
  readonly stopToken = { flag: new SharedArrayBuffer(4), tid: 0, pid: 0 };
  readonly requests: ScriptedRequests;
  readonly booted: { gpa: number; length: number }[] = [];

  constructor(guest: Guest, ram: readonly { gpa: number; size: number }[] = [{ gpa: 0, size: 0x10_0000 }]) {
    this.requests = new ScriptedRequests(guest);
    this.ram = ram;
  }

  readonly ram: readonly { gpa: number; size: number }[];

  boot(gpa: Gpa, image: Uint8Array): void {
    this.booted.push({ gpa, length: image.length });
  }

  exitCounts(): Record<string, number> {
    return {};
  }

  close(): void {}
}

/** State that a scripted agent shares with its test. */
export interface AgentWorld {
  /** Interrupts taken by vector. */
  readonly counters: Uint32Array;
  /** Vector, EIP and error code to report instead of carrying out the command. */
  fault?: { command: string; vector: number; eip: number; code: number };
}

const mmio = (write: boolean, address: number, size: number, low = 0, high = 0): Access => ({
  kind: IoKind.MMIO,
  write,
  address,
  size,
  low,
  high,
});

/** The agent's side: everything outside its counters is MMIO; `spin` and an unsatisfied wait are idle for ever. */
export function* scriptedAgent(world: AgentWorld): Guest {
  const names = Object.values(AGENT_COMMANDS);
  for (;;) {
    const opcode = yield fetchDword();
    const command = names.find((candidate) => candidate.opcode === opcode);
    if (command === undefined) throw new Error(`opcode ${opcode}`);
    const args: number[] = [];
    while (args.length < command.args) args.push(yield fetchDword());
    const [a = 0, b = 0, c = 0] = args;
    if (world.fault?.command === command.name) {
      const { vector, eip, code } = world.fault;
      for (const dword of [vector, eip, code]) yield reportDword(dword, AGENT_FAULT_PORT);
      return;
    }
    const [, verb = '', bits = '0'] = /^([a-z_]+?)(\d*)$/.exec(command.name) ?? [];
    const size = Number(bits) / 8;
    switch (verb) {
      case 'read':
        if (a >= AGENT_COUNTERS_GPA && a < AGENT_COUNTERS_GPA + 1024) {
          yield reportDword(world.counters[(a - AGENT_COUNTERS_GPA) / 4] as number);
          break;
        }
        yield reportDword(yield mmio(false, a, size));
        if (size === 8) yield reportDword(0x0506_0708);
        break;
      case 'write':
        yield mmio(true, a, size, b, c);
        break;
      case 'in':
        yield reportDword(yield { ...fetchDword(a), size });
        break;
      case 'out':
        yield { ...reportDword(b, a), size };
        break;
      case 'stream':
        for (let i = 0; i < b; i++) yield mmio(true, a + i * size, size, yield fetchDword(), size === 8 ? yield fetchDword() : 0);
        break;
      case 'burst_read':
        for (let i = 0; i < b; i++) yield mmio(false, a, size);
        break;
      case 'burst_write':
        for (let i = 0; i < b; i++) yield mmio(true, a, size, c);
        break;
      case 'wait_interrupt':
        while ((world.counters[a] as number) < b) {
          yield reportDword(world.counters[a] as number);
          yield 'idle';
        }
        break;
      case 'poll':
        while (((yield mmio(false, a, 4)) & b) >>> 0 !== c);
        break;
      default:
        for (;;) yield 'idle';
    }
  }
}
