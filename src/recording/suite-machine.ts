/** A VM under the conformance suite, recorded or replayed: its guest's accesses as they came, in the order in which they were asked for. */
import type { Bdf, Gpa, VgpuId, VmId } from '../core/addresses.js';
import { type IoKind, IoRequest, type RequestSource } from '../core/io-request.js';
import type { Machine, StopToken } from '../core/machine.js';
import type { RamRegion } from '../core/ram-access.js';
import { hashBytes } from './page-copies.js';
import type { SuiteBackend } from './suite-backend.js';
import type { SuiteTape } from './suite-tape.js';

export interface MachineFacts {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
}

/** What `next` answered: an access, or the milliseconds after which there was none. */
type Next =
  | { readonly ms: number }
  | {
      readonly kind: IoKind;
      readonly write: boolean;
      readonly address: number;
      readonly size: number;
      readonly value: readonly [low: number, high: number];
      readonly bdf: Bdf;
      readonly vcpu: number;
      readonly vgpu: VgpuId;
    };

/** What a wait lasts at most, in a replay. */
const WAIT_MAX_MS = 60_000;
const asleep = new Int32Array(new SharedArrayBuffer(4));

export class SuiteMachine implements Machine, RequestSource {
  readonly vmId: VmId;
  readonly ram: readonly RamRegion[];
  readonly stopToken: StopToken;
  readonly #backend: SuiteBackend;
  readonly #tape: SuiteTape;
  readonly #inner: Machine | undefined;
  /** In a replay. */
  readonly #request = new IoRequest();

  constructor(backend: SuiteBackend, tape: SuiteTape, { vmId, ram }: MachineFacts, inner: Machine | undefined) {
    this.#backend = backend;
    this.#tape = tape;
    this.vmId = vmId;
    this.ram = ram;
    this.#inner = inner;
    this.stopToken = inner?.stopToken ?? { flag: new SharedArrayBuffer(4), tid: 0, pid: process.pid };
  }

  get requests(): RequestSource {
    return this;
  }

  boot(gpa: Gpa, image: Uint8Array): void {
    this.#call('boot', [gpa, image.length, hashBytes(image)], (inner) => inner.boot(gpa, image));
  }

  exitCounts(): Readonly<Record<string, number>> {
    return this.#call('exit_counts', [], (inner) => inner.exitCounts());
  }

  close(): void {
    this.#call('close_machine', [], (inner) => inner.close());
    this.#backend.closed(this.vmId);
  }

  // --- RequestSource --------------------------------------------------------------------------------------------------

  get stopped(): boolean {
    return this.#call('stopped', [], ({ requests }) => requests.stopped);
  }

  stop(): void {
    this.#call('stop', [], ({ requests }) => requests.stop());
  }

  /** A wait for nothing takes its time in a replay too: whoever waits has a deadline. */
  next(timeoutMs?: number): IoRequest | undefined {
    let request: IoRequest | undefined;
    const answer = this.#call('next', [], ({ requests }): Next => {
      const started = performance.now();
      request = requests.next(timeoutMs);
      if (request === undefined) return { ms: Math.ceil(performance.now() - started) };
      const { kind, write, address, size, value, bdf, vcpu, vgpu } = request;
      return { kind, write, address, size, value: [value[0] as number, value[1] as number], bdf, vcpu, vgpu };
    });
    if (!this.#tape.replaying) return request;
    if ('ms' in answer) {
      Atomics.wait(asleep, 0, 0, Math.min(Number(answer.ms), timeoutMs ?? 0, WAIT_MAX_MS));
      return undefined;
    }
    const { value, ...fields } = answer;
    this.#request.value.set(value);
    return Object.assign(this.#request, fields);
  }

  complete(request: IoRequest): void {
    const { write, size, value } = request;
    const [low, high] = [value[0] as number, value[1] as number];
    // Bytes beyond the size are whatever its handler left.
    const answer = write ? [] : size >= 4 ? [low, size === 8 ? high : 0] : [low & ((1 << (size * 8)) - 1)];
    this.#call('complete', answer, ({ requests }) => requests.complete(request));
  }

  #call<T>(what: string, args: readonly unknown[], run: (inner: Machine) => T): T {
    return this.#tape.call(what, [this.vmId, ...args], () => run(this.#inner as Machine));
  }
}
