/**
 * The per-process address spaces of a vGPU by their roots (facts: gvt.md 4.5, 4.11): those that the guest announced through PVINFO, and
 * those that only a context image names.
 */
import { type Gfn, hex } from '../../addresses.js';
import { Status } from '../../gvt-ops.js';
import { DmaPages } from '../gpu-page.js';
import type { GpuMemory, PpgttRoot, ProcessMemory } from '../roles.js';
import type { Saved, StateStream } from '../state/stream.js';
import { AddressSpace, type SpaceOwner } from './address-space.js';
import { Shadow, type ShadowParts } from './shadow.js';

/**
 * Address spaces that keep their tables. At level `sync` each table costs a comparison at each workload, so those that were not used
 * for long give theirs back; to walk over four tables again takes about 70 us.
 */
const SPACES_MAX = 32;
/** Announced roots. i915 announces each process's; past the bound they work all the same, found by their contexts. */
const ANNOUNCED_MAX = 65_536;
/** Tables that one walk can add. */
const WALK_TABLES = 4;
/** Budget: a table is copied and tracked, or compared, in the time of so many plain commands. */
const TABLE_UNITS = 16;
const COMPARE_UNITS = 4;

type Key = number | string;

const keyOf = ({ wide, directories }: PpgttRoot): Key =>
  wide ? (directories[0] as number) : `${directories[0]},${directories[1]},${directories[2]},${directories[3]}`;

/** The directories that a key names. */
const directoriesOf = (key: Key): number[] => (typeof key === 'number' ? [key] : key.split(',').map(Number));
/** Frames of entries have 34 bits. */
const LAST_FRAME = 2 ** 34 - 1;
const COUNT_MAX = 2 ** 32 - 1;

export class Ppgtt implements ProcessMemory, SpaceOwner, Saved {
  readonly shadow: Shadow;
  /** Not saved: views of the host's memory. */
  readonly pages: DmaPages;
  readonly #parts: ShadowParts;
  /** The one used last is the last. Not saved: found again by their roots. */
  readonly #spaces = new Map<Key, AddressSpace>();
  /** How often each root was announced. */
  readonly #announced = new Map<Key, number>();
  /** Not saved: asked for by whoever caused it. */
  #cost = 0;
  /** The last one in `#spaces`, or undefined when that is not known. Not saved: of `#spaces`. */
  #last: AddressSpace | undefined;

  constructor(parts: ShadowParts) {
    this.#parts = parts;
    this.shadow = new Shadow(parts);
    this.pages = new DmaPages(parts.dma);
  }

  /** Address spaces that may hold tables. */
  get spaces(): number {
    return this.#spaces.size;
  }

  get announced(): number {
    return this.#announced.size;
  }

  /** g2v ppgtt create. @returns EINVAL when the root is not in guest memory, ENOSPC past the bound; the guest is not told */
  create(root: PpgttRoot): Status {
    const { frames, log } = this.#parts;
    const named = Array.from({ length: root.wide ? 1 : 4 }, (_, i) => root.directories[i] as number);
    const bad = named.find((gfn) => (gfn === 0 ? root.wide : frames !== undefined && !frames.isValidGfn(gfn as Gfn)));
    if (bad !== undefined) {
      log.guestError(`PPGTT: the root at frame ${hex(bad)} is not guest memory`);
      return Status.EINVAL;
    }
    const key = keyOf(root);
    const count = this.#announced.get(key) ?? 0;
    if (count === 0 && this.#announced.size >= ANNOUNCED_MAX) {
      log.guestError(`PPGTT: more than ${ANNOUNCED_MAX} roots are announced`);
      return Status.ENOSPC;
    }
    this.#announced.set(key, count + 1);
    return Status.OK;
  }

  /** g2v ppgtt destroy: the last one gives back the root's tables. @returns EINVAL when it was not announced */
  destroy(root: PpgttRoot): Status {
    const key = keyOf(root);
    const count = this.#announced.get(key);
    if (count === undefined) {
      this.#parts.log.guestError('PPGTT: a root is destroyed that was not created');
      return Status.EINVAL;
    }
    if (count > 1) this.#announced.set(key, count - 1);
    else {
      this.#announced.delete(key);
      this.#evict(key);
    }
    return Status.OK;
  }

  space(root: PpgttRoot): GpuMemory {
    const key = keyOf(root);
    let space = this.#spaces.get(key);
    if (space === undefined) {
      space = new AddressSpace(this, root);
      this.#admit(key, space);
    }
    return space;
  }

  synchronise(): void {
    this.#cost += this.shadow.synchronise() * COMPARE_UNITS;
  }

  takeCost(): number {
    const cost = this.#cost;
    this.#cost = 0;
    return cost;
  }

  /** Full GT reset: every table is given back, announced roots stay. */
  invalidate(): void {
    for (const space of this.#spaces.values()) space.flush();
    this.#spaces.clear();
    this.#last = undefined;
  }

  /** Device reset, destroy. */
  clear(): void {
    this.invalidate();
    this.#announced.clear();
  }

  /** The announced roots. Tables are copied and tracked again as the engine walks over them. */
  exchange(state: StateStream): void {
    const before = [...this.#announced];
    state.list('announced', before.length, ANNOUNCED_MAX, (i) => {
      const [key, count] = before[i] ?? [0, 0];
      const known = directoriesOf(key);
      const wide = state.bool('wide', typeof key === 'number');
      const directories = Array.from({ length: wide ? 1 : 4 }, (_, n) =>
        state.integer('directory', known[n] ?? 0, LAST_FRAME, wide ? 1 : 0),
      );
      const stored = state.u32('times', count, COUNT_MAX, 1);
      if (!state.restoring) return;
      const restored = keyOf({ wide, directories });
      if (this.#announced.has(restored)) state.refuse(`root ${i} is there twice`);
      this.#announced.set(restored, stored);
    });
  }

  // --- SpaceOwner -----------------------------------------------------------------------------------------------------

  makeRoom(space: AddressSpace): void {
    const key = keyOf(space);
    if (this.#last !== space) {
      // An engine may still go by one that was evicted, or evicted and found anew: its tables must have an owner here.
      if (this.#spaces.get(key) !== space) this.#evict(key);
      this.#spaces.delete(key);
      this.#admit(key, space);
      this.#last = space;
    }
    if (this.shadow.frames + WALK_TABLES <= this.#parts.tablesMax) return;
    for (const other of this.#spaces.keys()) {
      if (this.shadow.frames + WALK_TABLES <= this.#parts.tablesMax) return;
      if (other !== key) this.#evict(other);
    }
    if (this.shadow.frames + WALK_TABLES > this.#parts.tablesMax) space.flush();
  }

  charge(tables: number): void {
    this.#cost += 1 + tables * TABLE_UNITS;
  }

  #admit(key: Key, space: AddressSpace): void {
    const [oldest] = this.#spaces.size >= SPACES_MAX ? this.#spaces.keys() : [];
    if (oldest !== undefined) this.#evict(oldest);
    this.#spaces.set(key, space);
    this.#last = undefined;
  }

  #evict(key: Key): void {
    this.#spaces.get(key)?.flush();
    this.#spaces.delete(key);
    this.#last = undefined;
  }
}
