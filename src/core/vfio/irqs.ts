/**
 * A device's interrupts as VFIO_DEVICE_SET_IRQS controls them (linux/vfio.h): which event each vector raises, and the mask of
 * level-triggered ones. Knows no file descriptors: the transport wraps them as `IrqEvent`.
 */
import { Errno, IrqFlag, IrqIndex, type VfioIrq } from './device.js';

/** VFIO_IRQ_SET_*: one DATA and one ACTION bit. */
export const IrqSetFlag = { DATA_NONE: 1, DATA_BOOL: 2, DATA_EVENTFD: 4, MASK: 8, UNMASK: 0x10, TRIGGER: 0x20 } as const;
const DATA = IrqSetFlag.DATA_NONE | IrqSetFlag.DATA_BOOL | IrqSetFlag.DATA_EVENTFD;
const ACTION = IrqSetFlag.MASK | IrqSetFlag.UNMASK | IrqSetFlag.TRIGGER;

/** Vectors that one interrupt index may have: MSI-X's limit. */
export const VECTORS_MAX = 2048;

/** An eventfd, or what stands for it. */
export interface IrqEvent {
  /** Raises it. Never throws. */
  signal(): void;
  /** Takes what was raised from the other side: true when there was something. For mask and unmask events. */
  consume(): boolean;
  /** Gives it up, once. */
  close(): void;
}

/** One SET_IRQS, decoded. */
export interface IrqSetRequest {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** DATA_BOOL: `count` values. */
  readonly bools?: ArrayLike<number>;
  /** DATA_EVENTFD: `count` events, undefined for -1 (de-assign). Owned by the set, taken or not, from the call on. */
  readonly events?: readonly (IrqEvent | undefined)[];
}

interface Vector {
  trigger: IrqEvent | undefined;
  maskEvent: IrqEvent | undefined;
  unmaskEvent: IrqEvent | undefined;
  masked: boolean;
  /** Line of a level-triggered interrupt, or an edge that came while masked. */
  pending: boolean;
}

const newVector = (): Vector => ({ trigger: undefined, maskEvent: undefined, unmaskEvent: undefined, masked: false, pending: false });

/** Exactly one bit of `mask`. */
const oneOf = (flags: number, mask: number): boolean => {
  const bits = flags & mask;
  return bits !== 0 && (bits & (bits - 1)) === 0;
};

export class IrqSet {
  readonly info: readonly VfioIrq[];
  readonly #vectors: readonly Vector[][];
  #events = 0;

  /** @param irqs by `IrqIndex`; what is missing has no vectors */
  constructor(irqs: Readonly<Partial<Record<number, VfioIrq>>> = {}) {
    this.info = Array.from({ length: IrqIndex.COUNT }, (_, index) => irqs[index] ?? { flags: 0, count: 0 });
    this.#vectors = this.info.map(({ count }) => Array.from({ length: Math.min(count, VECTORS_MAX) }, newVector));
  }

  /** A trigger is assigned to the vector. */
  armed(index: number, vector: number): boolean {
    return this.#vectors[index]?.[vector]?.trigger !== undefined;
  }

  /** VFIO_DEVICE_SET_IRQS. Events that are not taken are closed. */
  set(request: IrqSetRequest): Errno {
    const status = this.#check(request);
    if (status !== Errno.OK) {
      for (const event of request.events ?? []) event?.close();
      return status;
    }
    const { flags, index, start, count, bools, events } = request;
    const vectors = this.#vectors[index] as Vector[];
    if (count === 0) {
      this.#disable(index);
      return Errno.OK;
    }
    for (let i = 0; i < count; i++) {
      const vector = vectors[start + i] as Vector;
      if ((flags & IrqSetFlag.DATA_EVENTFD) !== 0) this.#assign(vector, index, flags, events?.[i]);
      else if ((flags & IrqSetFlag.DATA_NONE) !== 0 || bools?.[i] !== 0) this.#act(vector, flags, index);
    }
    return Errno.OK;
  }

  /** Raises an edge-triggered vector. @returns false when nothing is assigned to it */
  trigger(index: number, vector: number): boolean {
    const entry = this.#vectors[index]?.[vector];
    if (entry?.trigger === undefined) return false;
    if (entry.masked) entry.pending = true;
    else entry.trigger.signal();
    return true;
  }

  /** Sets the line of a level-triggered interrupt. An automasked one is raised once until it is unmasked. */
  setLevel(index: number, vector: number, high: boolean): void {
    const entry = this.#vectors[index]?.[vector];
    if (entry === undefined) return;
    const rose = high && !entry.pending;
    entry.pending = high;
    if (rose) this.#raiseLevel(index, entry);
  }

  /** A mask or unmask event is assigned. */
  get polls(): boolean {
    return this.#events > 0;
  }

  /** The mask and unmask events that are assigned: to wait for. */
  polled(): IrqEvent[] {
    if (this.#events === 0) return [];
    const events = this.#vectors.flat().flatMap(({ maskEvent, unmaskEvent }) => [maskEvent, unmaskEvent]);
    return events.filter((event) => event !== undefined);
  }

  /** Takes mask and unmask events that were raised. */
  pollEvents(): void {
    if (this.#events === 0) return;
    for (const [index, vectors] of this.#vectors.entries())
      for (const vector of vectors) {
        if (vector.maskEvent?.consume() === true) vector.masked = true;
        if (vector.unmaskEvent?.consume() === true) this.#unmask(index, vector);
      }
  }

  /** Takes over the events and masks of another set of the same shape, which has none from then on: the client does not notice. */
  adopt(other: IrqSet): void {
    this.clear();
    for (const [index, vectors] of this.#vectors.entries())
      for (const [i, vector] of vectors.entries()) {
        const from = other.#vectors[index]?.[i];
        if (from !== undefined) Object.assign(vector, from);
        if (from !== undefined) Object.assign(from, newVector());
      }
    this.#events = other.#events;
    other.#events = 0;
  }

  /** Gives up every event and mask: the client is gone. */
  clear(): void {
    for (let index = 0; index < this.#vectors.length; index++) this.#disable(index);
  }

  #check({ flags, index, start, count, bools, events }: IrqSetRequest): Errno {
    if ((flags & ~(DATA | ACTION)) !== 0 || !oneOf(flags, DATA) || !oneOf(flags, ACTION)) return Errno.EINVAL;
    const info = this.info[index];
    const vectors = this.#vectors[index];
    // Numbers, not 32-bit integers: start + count cannot wrap.
    if (info === undefined || vectors === undefined || start >= info.count || start + count > vectors.length) return Errno.EINVAL;
    const none = (flags & IrqSetFlag.DATA_NONE) !== 0;
    // "Disable all": DATA_NONE, TRIGGER, count 0. Any other request names vectors.
    if (count === 0) return none && (flags & IrqSetFlag.TRIGGER) !== 0 ? Errno.OK : Errno.EINVAL;
    if ((flags & (IrqSetFlag.MASK | IrqSetFlag.UNMASK)) !== 0 && (info.flags & IrqFlag.MASKABLE) === 0) return Errno.EINVAL;
    if ((flags & IrqSetFlag.DATA_BOOL) !== 0 && bools?.length !== count) return Errno.EINVAL;
    if ((flags & IrqSetFlag.DATA_EVENTFD) !== 0 && ((info.flags & IrqFlag.EVENTFD) === 0 || events?.length !== count)) return Errno.EINVAL;
    return Errno.OK;
  }

  #assign(vector: Vector, index: number, flags: number, event: IrqEvent | undefined): void {
    if ((flags & IrqSetFlag.TRIGGER) !== 0) {
      vector.trigger?.close();
      vector.trigger = event;
      // A level that was high before anybody listened is raised now.
      if (vector.pending && this.#isLevel(index)) this.#raiseLevel(index, vector);
      return;
    }
    const key = (flags & IrqSetFlag.MASK) !== 0 ? 'maskEvent' : 'unmaskEvent';
    if (vector[key] !== undefined) this.#events--;
    vector[key]?.close();
    vector[key] = event;
    if (event !== undefined) this.#events++;
  }

  #act(vector: Vector, flags: number, index: number): void {
    if ((flags & IrqSetFlag.MASK) !== 0) vector.masked = true;
    else if ((flags & IrqSetFlag.UNMASK) !== 0) this.#unmask(index, vector);
    else if (vector.masked) vector.pending = true;
    else vector.trigger?.signal();
  }

  #unmask(index: number, vector: Vector): void {
    vector.masked = false;
    if (!vector.pending) return;
    if (this.#isLevel(index)) this.#raiseLevel(index, vector);
    else {
      vector.pending = false;
      vector.trigger?.signal();
    }
  }

  #raiseLevel(index: number, vector: Vector): void {
    if (vector.masked || vector.trigger === undefined) return;
    if (((this.info[index] as VfioIrq).flags & IrqFlag.AUTOMASKED) !== 0) vector.masked = true;
    vector.trigger.signal();
  }

  #isLevel(index: number): boolean {
    return index === IrqIndex.INTX;
  }

  #disable(index: number): void {
    for (const vector of this.#vectors[index] as Vector[]) {
      for (const event of [vector.trigger, vector.maskEvent, vector.unmaskEvent]) event?.close();
      if (vector.maskEvent !== undefined) this.#events--;
      if (vector.unmaskEvent !== undefined) this.#events--;
      const { pending } = vector;
      // The line of a level-triggered interrupt is the device's, not the client's.
      Object.assign(vector, newVector(), this.#isLevel(index) ? { pending } : {});
    }
  }
}
