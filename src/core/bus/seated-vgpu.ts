/**
 * The part of a GPU driver that does not depend on the GPU: a vGPU as a seat, which is data that a device can be made from anywhere,
 * and a host, which makes it: in this process, or on a thread of its own.
 */
import type { RunningVgpu, VgpuExtensions, VgpuOps } from './driver.js';

/** Where devices run. */
export interface DeviceHost<Seat> {
  /** There is a vGPU whose device will be wanted some time. */
  expect?(seat: Seat): void;
  /**
   * Makes the seat's device and serves it.
   * @param attachment the access driver's
   * @param counters written by the device, in the order of the driver's names; seen by both sides
   * @throws MptError when it cannot
   */
  open(seat: Seat, attachment: unknown, counters: SharedArrayBuffer): RunningVgpu;
}

export interface SeatParts<Seat> {
  readonly id: number;
  /** What is asked for at each start: a weight may have changed since. */
  readonly seat: () => Seat;
  readonly host: DeviceHost<Seat>;
  readonly resources: VgpuOps['resources'];
  /** Names of what the device counts. */
  readonly counters: readonly string[];
  readonly extensions?: Omit<VgpuExtensions, 'statistics'>;
  readonly setWeight?: (weight: number) => void;
  readonly release: () => void;
}

export class SeatedVgpu<Seat> implements VgpuOps {
  readonly id: number;
  readonly resources: VgpuOps['resources'];
  readonly extensions: VgpuExtensions;
  readonly #parts: SeatParts<Seat>;
  /** Made at the first start: most vGPUs idle. */
  #counters: SharedArrayBuffer | undefined;
  #destroyed = false;

  constructor(parts: SeatParts<Seat>) {
    this.id = parts.id;
    this.resources = parts.resources;
    this.#parts = parts;
    this.extensions = { ...parts.extensions, statistics: () => this.#statistics() };
    parts.host.expect?.(parts.seat());
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#parts.release();
  }

  start(attachment: unknown): RunningVgpu {
    const { host, seat, counters } = this.#parts;
    this.#counters ??= new SharedArrayBuffer(8 * counters.length);
    return host.open(seat(), attachment, this.#counters);
  }

  setWeight(weight: number): void {
    this.#parts.setWeight?.(weight);
  }

  #statistics(): Record<string, number> {
    const values = this.#counters === undefined ? undefined : new Float64Array(this.#counters);
    return Object.fromEntries(this.#parts.counters.map((name, i) => [name, values?.[i] ?? 0]));
  }
}
