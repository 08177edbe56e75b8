/** What a device thread executes when it has a moment: a slice, divided among the vGPUs of its device model. */
import { ENGINES, type EngineId } from '../roles.js';
import type { Vgpu } from '../vgpu.js';
import type { Schedule } from './schedule.js';

/** Budget of one turn while several vGPUs have work for an engine. */
const TURN_UNITS = 512;
/** Slices that a thread executes at once when it is behind: its guest's accesses wait so long. */
const CATCH_UP = 4;

export class Slices {
  readonly #schedule: Schedule;
  readonly #failed: (vgpu: Vgpu, error: unknown) => void;
  /** The last slice ended by its budget. */
  canGoOn = false;

  /** @param failed told of a defect while a vGPU's commands were executed */
  constructor(schedule: Schedule, failed: (vgpu: Vgpu, error: unknown) => void) {
    this.#schedule = schedule;
    this.#failed = failed;
  }

  /** Executes commands worth at most about `budget`; more when other threads' vGPUs wait until these have had their part. */
  run(vgpus: readonly Vgpu[], budget: number): void {
    const [only] = vgpus;
    let used: number;
    let slices = 0;
    do used = vgpus.length === 1 ? this.#turn(only as Vgpu, undefined, budget) : this.#share(vgpus, budget);
    while (used > 0 && ++slices < CATCH_UP && this.#isWaitedFor(vgpus));
    this.canGoOn = used > 0;
  }

  /** Some engine is another vGPU's now, and has work of these. */
  awaitsTurn(vgpus: readonly Vgpu[]): boolean {
    for (const vgpu of vgpus) for (const { id } of ENGINES) if (vgpu.busy(id) && this.#schedule.awaitsTurn(id, vgpu.id)) return true;
    return false;
  }

  #isWaitedFor(vgpus: readonly Vgpu[]): boolean {
    for (const vgpu of vgpus) for (const { id } of ENGINES) if (vgpu.busy(id) && this.#schedule.isWaitedFor(id, vgpu.id)) return true;
    return false;
  }

  /** Engines that have work share the budget; each engine's turns go by the schedule. */
  #share(vgpus: readonly Vgpu[], budget: number): number {
    let busy = 0;
    for (const { id } of ENGINES) if (this.#next(vgpus, id, 0) !== undefined) busy++;
    let used = 0;
    for (const { id } of ENGINES) {
      let left = Math.max(1, Math.floor(budget / busy));
      let stuck = 0;
      while (left > 0) {
        const vgpu = this.#next(vgpus, id, stuck);
        if (vgpu === undefined) break;
        const spent = this.#turn(vgpu, id, Math.min(left, TURN_UNITS));
        if (spent === 0) stuck |= 1 << vgpu.id;
        left -= spent;
        used += spent;
      }
    }
    return used;
  }

  /** The vGPU whose turn it is. @param stuck ids of those that cannot go on, as a mask */
  #next(vgpus: readonly Vgpu[], engine: EngineId, stuck: number): Vgpu | undefined {
    let next: Vgpu | undefined;
    for (const vgpu of vgpus)
      if (vgpu.busy(engine) && (stuck & (1 << vgpu.id)) === 0 && (next === undefined || this.#schedule.goesFirst(engine, vgpu.id, next.id)))
        next = vgpu;
    return next;
  }

  /** @param engine undefined: all of them */
  #turn(vgpu: Vgpu, engine: EngineId | undefined, budget: number): number {
    try {
      return engine === undefined ? vgpu.runSlice(budget) : vgpu.submission.run(engine, budget);
    } catch (error) {
      this.#failed(vgpu, error);
      return 0;
    }
  }
}
