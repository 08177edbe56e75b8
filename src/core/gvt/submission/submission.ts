/**
 * Execlist submission of one vGPU: the submission port, the engines' two virtual slots and the bounded execution of what
 * was submitted. A submission runs inline up to a budget; the rest waits for `runSlice()`, so no guest holds the device
 * thread longer than a slice, whatever its batches do.
 */
import type { Status } from '../../gvt-ops.js';
import {
  ENGINES,
  type EngineId,
  type EngineName,
  type EngineTurns,
  type EventSink,
  type GpuMemory,
  type GuestErrorLog,
  type ProcessMemory,
  type RegisterPort,
  type RegisterStore,
  type VgpuStatistics,
} from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';
import type { VgpuTrace } from '../trace/vgpu-trace.js';
import { EngineQueue } from './engine-queue.js';
import type { SwitchPacing } from './switch-events.js';

export interface SubmissionParts {
  readonly registers: RegisterStore;
  readonly commands: RegisterPort;
  /** The GGTT. */
  readonly memory: GpuMemory;
  readonly processes: ProcessMemory;
  readonly events: EventSink;
  readonly turns: EngineTurns;
  /** Told once when an engine stops. */
  readonly onHang?: (engine: EngineName, why: string) => void;
  readonly statistics: VgpuStatistics;
  readonly log: GuestErrorLog;
  /** Absent: the guest is told of each context switch at once. */
  readonly pacing?: SwitchPacing | undefined;
  /** Somebody wants to see what happens. */
  readonly trace?: VgpuTrace | undefined;
}

/**
 * Budget of what the ELSP write itself may execute: enough to fill a screen of 1024x768 at once. Measured, it takes 0.2 ms of
 * plain commands and fills, 2 ms of the slowest blits.
 */
export const INLINE_BUDGET = 4096;

export class Submission implements Saved {
  readonly #queues: readonly EngineQueue[];
  readonly #turns: EngineTurns;

  constructor(parts: SubmissionParts) {
    this.#turns = parts.turns;
    this.#queues = ENGINES.map((engine) => new EngineQueue(engine, parts));
  }

  /**
   * One of the four dwords of a submission, in the order element 1 high, low, element 0 high, low; the fourth submits.
   * @returns EINVAL for a submission that is not accepted; nothing of it is queued then
   */
  writeElsp(engine: EngineId, value: number): Status {
    return this.#queue(engine).writePort(value, INLINE_BUDGET);
  }

  /** EXECLIST_STATUS: dword 0 at 0x234, dword 1 (context id) at 0x238. */
  readStatus(engine: EngineId, dword: 0 | 1): number {
    this.settle(engine);
    return dword === 0 ? this.#queue(engine).status : this.#queue(engine).statusContextId;
  }

  /** Dword 0..11 of the context status buffer at 0x370. */
  readCsb(engine: EngineId, index: number): number {
    this.settle(engine);
    return this.#queue(engine).csb.entry(index);
  }

  readCsbPointer(engine: EngineId): number {
    this.settle(engine);
    return this.#queue(engine).csb.pointer;
  }

  writeCsbPointer(engine: EngineId, value: number): void {
    this.#queue(engine).csb.pointer = value;
  }

  /** RING_MODE's RUN_LIST_ENABLE. Submissions are refused while it is off; with the first that is on the vGPU is scheduled. */
  setEnabled(engine: EngineId, on: boolean): void {
    this.#queue(engine).enabled = on;
    if (on) this.#turns.start();
  }

  /** Something submitted is not finished, and its engine is not hung. */
  get hasWork(): boolean {
    return this.#busy() > 0;
  }

  /** Something on this engine is not finished, and it is not hung. */
  busy(engine: EngineId): boolean {
    return this.#queue(engine).hasWork;
  }

  /** Executes one engine's commands worth at most about `budget`. @returns what was used; 0 when it is no use to go on at once */
  run(engine: EngineId, budget: number): number {
    return this.#queue(engine).run(budget);
  }

  /**
   * Executes commands worth at most about `budget`, shared by the engines that have work.
   * @returns what was used; 0 when it is no use to go on at once
   */
  runSlice(budget: number): number {
    const busy = this.#busy();
    if (busy === 0) return 0;
    const share = Math.max(1, Math.floor(budget / busy));
    let used = 0;
    for (const queue of this.#queues) used += queue.run(share);
    return used;
  }

  /** Drops everything of the engines in the mask (bit = EngineId); no status entry tells of it. */
  reset(engineMask: number): void {
    for (const queue of this.#queues) if ((engineMask & (1 << queue.engine.id)) !== 0) queue.reset();
  }

  /** Somebody in the guest begins to wait for what the engine does. */
  wanted(engine: EngineId): void {
    this.#queue(engine).wanted();
  }

  /** Tells the guest of context switches that wait to be told: one engine's, or all. */
  settle(engine?: EngineId): void {
    for (const queue of this.#queues) if (engine === undefined || queue.engine.id === engine) queue.settle();
  }

  /** Tells of those that have waited long enough. */
  tick(): void {
    for (const queue of this.#queues) queue.tick();
  }

  /** Nanoseconds until `tick` has something to tell. */
  get untilTick(): number {
    let until = Number.POSITIVE_INFINITY;
    for (const queue of this.#queues) until = Math.min(until, queue.untilTick);
    return until;
  }

  exchange(state: StateStream): void {
    for (const queue of this.#queues) state.within(queue.engine.name, () => queue.exchange(state));
  }

  /** Why the engine stopped, until it is reset; undefined while it has not. */
  hung(engine: EngineId): string | undefined {
    return this.#queue(engine).hung;
  }

  /** Nothing runs on the engine. */
  idle(engine: EngineId): boolean {
    return this.#queue(engine).idle;
  }

  #busy(): number {
    let count = 0;
    for (let i = 0; i < this.#queues.length; i++) if ((this.#queues[i] as EngineQueue).hasWork) count++;
    return count;
  }

  #queue(engine: EngineId): EngineQueue {
    return this.#queues[engine] as EngineQueue;
  }
}
