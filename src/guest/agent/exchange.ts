/**
 * The host's end of the protocol: answers the agent's fetches, takes its results and faults, and sends every other
 * access to `dispatch`. The fetch that finds no command is left open: the guest stands still until there is one.
 */
import { hex } from '../../core/addresses.js';
import { type ErrorCode, MptError } from '../../core/errors.js';
import { IoKind, type IoRequest } from '../../core/io-request.js';
import type { Machine } from '../../core/machine.js';
import { AGENT_COMMANDS, AGENT_FAULT_PORT, AGENT_PORT, type AgentCommand, EXCEPTION_NAMES } from './protocol.js';

/** How long `requests.next()` waits before `onIdle` and the deadline get their turn, while there is work for `onIdle`. */
const SLICE_MS = 1;
/** The same without work: a timed kick costs as much as three accesses, and vertical blanks are 16 ms apart. */
const QUIET_SLICE_MS = 15;
/** What an access that a command is known to make may take besides: where the hypervisor itself is emulated, milliseconds. */
const ACCESS_MS = 10;
/** Accesses between two looks at the clock while the guest keeps exiting. */
const CLOCK_INTERVAL = 1024;
const NO_DATA: ArrayLike<number> = [];
const WAIT = AGENT_COMMANDS.wait_interrupt;
const BOOT: AgentCommand = { name: 'boot', opcode: -1, args: 0 };

export class AgentExchange {
  readonly #machine: Machine;
  readonly #dispatch: (request: IoRequest) => void;
  readonly #timeoutMs: number;
  readonly #onIdle: (() => void) | undefined;
  readonly #hasWork: () => boolean;
  /** The agent's open fetch. */
  #fetch: IoRequest | undefined;
  /** Command that the guest carries out, or did last. */
  #command = BOOT;
  readonly #args = new Uint32Array(3);
  #argsSent = 0;
  #data = NO_DATA;
  #dataSent = 0;
  #results = 0;
  readonly #fault = new Uint32Array(3);
  #faultDwords = 0;
  #failure: MptError | undefined;
  #state: 'new' | 'ready' | 'running' = 'new';

  /** Commands that the guest fetched. */
  commands = 0;
  /** The last result and the one before it. */
  last = 0;
  previous = 0;

  /**
   * @param timeoutMs for each command, and for the boot
   * @param hasWork whether `onIdle` is wanted soon; only a write or `onIdle` itself may change the answer
   */
  constructor(
    machine: Machine,
    dispatch: (request: IoRequest) => void,
    timeoutMs: number,
    onIdle: (() => void) | undefined,
    hasWork: () => boolean,
  ) {
    this.#machine = machine;
    this.#dispatch = dispatch;
    this.#timeoutMs = timeoutMs;
    this.#onIdle = onIdle;
    this.#hasWork = hasWork;
  }

  get started(): boolean {
    return this.#state !== 'new';
  }

  /** Runs a guest that stands at the image's first byte until it fetches. */
  start(): void {
    this.#pump();
  }

  /** Gives the agent a command and runs the guest until it asks for the next one. */
  run(command: AgentCommand, a = 0, b = 0, c = 0, data = NO_DATA): void {
    this.#settle();
    const fetch = this.#fetch as IoRequest;
    this.#fetch = undefined;
    this.#command = command;
    this.#args[0] = a;
    this.#args[1] = b;
    this.#args[2] = c;
    this.#argsSent = 0;
    this.#data = data;
    this.#dataSent = 0;
    this.#results = 0;
    this.commands++;
    fetch.value[0] = command.opcode;
    this.#machine.requests.complete(fetch);
    this.#pump(data.length * ACCESS_MS);
  }

  /** Brings the agent to where it waits for a command. */
  #settle(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === 'new') throw new MptError('NOT_INITIALIZED', 'the agent is not booted', { op: 'agent', hint: 'call boot() first' });
    if (this.#state === 'running')
      throw new MptError('BUSY', `the guest is inside '${this.#command.name}'`, {
        op: 'agent',
        hint: 'do not command it from dispatch or onIdle',
      });
    if (this.#fetch === undefined) this.#pump();
  }

  /** Runs the guest and serves its accesses until it fetches and there is nothing to send. */
  #pump(moreMs = 0): void {
    const { requests } = this.#machine;
    const deadline = performance.now() + this.#timeoutMs + moreMs;
    this.#state = 'running';
    let slice = this.#slice();
    try {
      for (let accesses = 1; ; accesses++) {
        const request = requests.next(slice);
        if (request === undefined) {
          if (requests.stopped) throw this.#error('STOPPED', `the machine was stopped while the guest was inside '${this.#command.name}'`);
          this.#onIdle?.();
          slice = this.#slice();
          this.#checkDeadline(deadline);
        } else if (request.kind === IoKind.PIO && request.address === AGENT_PORT && request.size === 4) {
          if (request.write) this.#takeResult(request);
          else if (!this.#send(request)) return;
        } else if (request.kind === IoKind.PIO && request.address === AGENT_FAULT_PORT && request.write) this.#takeFault(request);
        else {
          const { write } = request;
          this.#deliver(request);
          if (write) slice = this.#slice();
        }
        if (accesses % CLOCK_INTERVAL === 0) {
          // A guest that polls a register leaves no pause: its wait must not stop what it waits for.
          if (this.#hasWork()) this.#onIdle?.();
          this.#checkDeadline(deadline);
        }
      }
    } finally {
      this.#state = 'ready';
    }
  }

  #slice(): number {
    return this.#hasWork() ? SLICE_MS : QUIET_SLICE_MS;
  }

  /** Completed even when the handler throws: an access left open would hang the guest. */
  #deliver(request: IoRequest): void {
    try {
      this.#dispatch(request);
    } finally {
      this.#machine.requests.complete(request);
    }
  }

  /** Answers a fetch with the next argument or dword of data; false when there is none, and the fetch stays open. */
  #send(request: IoRequest): boolean {
    if (this.#argsSent < this.#command.args) request.value[0] = this.#args[this.#argsSent++] as number;
    else if (this.#dataSent < this.#data.length) request.value[0] = this.#data[this.#dataSent++] as number;
    else {
      this.#fetch = request;
      this.#data = NO_DATA;
      return false;
    }
    this.#machine.requests.complete(request);
    return true;
  }

  #takeResult(request: IoRequest): void {
    this.previous = this.last;
    this.last = request.value[0] as number;
    this.#results++;
    this.#machine.requests.complete(request);
  }

  #takeFault(request: IoRequest): void {
    this.#fault[this.#faultDwords++] = request.value[0] as number;
    this.#machine.requests.complete(request);
    if (this.#faultDwords < this.#fault.length) return;
    const [vector = 0, eip = 0, code = 0] = this.#fault;
    const name = EXCEPTION_NAMES[vector] ?? 'unknown';
    const what = `exception ${vector} (${name}) at EIP ${hex(eip)}, error code ${hex(code)}, inside '${this.#command.name}'`;
    this.#failure = new MptError('GUEST_FAULT', what, { op: 'agent', address: eip });
    throw this.#failure;
  }

  #checkDeadline(deadline: number): void {
    if (performance.now() < deadline) return;
    const [vector = 0, wanted = 0] = this.#args;
    const seen = this.#results === 0 ? 'no count reported' : `${this.last} seen`;
    const detail = this.#command === WAIT ? `: vector ${hex(vector)}, ${wanted} interrupts wanted, ${seen}` : '';
    throw this.#error('TIMEOUT', `the guest did not finish '${this.#command.name}' within ${this.#timeoutMs} ms${detail}`);
  }

  #error(code: ErrorCode, what: string): MptError {
    const addressed = this.#command.args > 0 && this.#command !== WAIT;
    return new MptError(code, what, addressed ? { op: 'agent', address: this.#args[0] as number } : { op: 'agent' });
  }
}
