/**
 * All shadow tables of a vGPU, shared by its address spaces (facts: gvt.md 4.11): found by guest frame, counted by reference, kept in
 * step with the guest by page tracking. Built lazily, table by table, as the engine walks (docs/decisions/0018-lazy-ppgtt.md): what a
 * guest claims to have mapped costs nothing, and the tables that exist are bounded by `TABLES_MAX`.
 *
 * Level `trap`: a write is applied when it is reported. Level `sync`, and tables that nobody tracks: `synchronise()` compares them entry
 * by entry with the copy. It is called before a workload's first use of its address space.
 */
import { type Gfn, type Gpa, gfnToGpa, hex, PAGE_SIZE } from '../../addresses.js';
import type { PageTrackLevel } from '../../capabilities.js';
import { Status } from '../../gvt-ops.js';
import type { AccessValue } from '../../io-request.js';
import type { GuestMemory, PageTracker } from '../../mpt.js';
import { refusedByHypervisor } from '../guest-error-log.js';
import type { PageTrack, PageTrackHandler } from '../page-track.js';
import type { GuestErrorLog, VgpuStatistics } from '../roles.js';
import { ENTRIES, ENTRY_SIZE, KINDS, type Kind } from './entry.js';
import type { LeafParts } from './leaf-pages.js';
import { ShadowTable, TableCopy, TableFrame, Watch } from './shadow-table.js';

/** Bounds and thresholds, with their reasons. */
export const SHADOW_LIMITS = {
  /**
   * Guest frames that are shadowed at once: 8 GiB of densely mapped memory. A frame takes about 12 KiB here, so this is 48 MiB a vGPU;
   * comparing all of them takes 1 ms where the backend compares, 5 ms here.
   */
  TABLES_MAX: 4096,
  /**
   * Trapped writes to a leaf table, between two synchronisations, that make it out of sync. Measured: to compare a whole table takes
   * 1.2 us, to apply a trapped write 0.6 us and the exit, which is at least 1 us anywhere. So the second write costs more than all that
   * follow. One is a single page that is bound, after which the table is quiet. GVT-g has 2, too.
   */
  OUT_OF_SYNC_WRITES: 2,
  /** Comparisons in a row that find nothing: the table is tracked again. By then they have cost what some traps do. */
  QUIET_SYNCS: 8,
} as const;

export interface ShadowParts extends LeafParts {
  readonly memory: Pick<GuestMemory, 'readGpa'>;
  readonly tracker: Pick<PageTracker, 'syncPageTrack'>;
  readonly pageTrack: PageTrack;
  /** What the backend offers; null: every table is compared each time. */
  readonly level: PageTrackLevel | null;
  /** Frames that may be shadowed at once; at least those of one walk. */
  readonly tablesMax: number;
  readonly statistics: VgpuStatistics;
  readonly log: GuestErrorLog;
}

export class Shadow {
  readonly parts: ShadowParts;
  /** Changes whenever a translation may have become another one. */
  generation = 0;
  readonly #frames = new Map<Gfn, TableFrame>();
  /** Frames to be looked at by the next `synchronise()`. */
  readonly #attention = new Set<TableFrame>();
  /** Tables are read into it. */
  readonly #page = new TableCopy();
  readonly #put = (table: ShadowTable): void => this.put(table);
  readonly #handler: PageTrackHandler = {
    written: (gpa, value, size) => this.#written(gpa, value, size),
    frameWritten: (gfn) => this.#frameWritten(gfn),
  };

  constructor(parts: ShadowParts) {
    this.parts = parts;
  }

  /** Guest frames that are shadowed. */
  get frames(): number {
    return this.#frames.size;
  }

  /** The table of a guest frame in one of its uses, with one more reference; undefined when the frame cannot be read. */
  get(gfn: Gfn, kind: Kind): ShadowTable | undefined {
    const frame = this.#frames.get(gfn) ?? this.#add(gfn);
    if (frame === undefined) return undefined;
    let table = frame.tables[kind];
    if (table === undefined) {
      table = new ShadowTable(frame, kind, this.parts);
      frame.tables[kind] = table;
      // A directory cannot be out of sync: its children would be found too late.
      if (frame.watch === Watch.OUT_OF_SYNC && !frame.isLeaf) this.#track(frame);
    }
    table.references++;
    return table;
  }

  /** Drops one reference; the last one's table goes with all that only it led to. */
  put(table: ShadowTable): void {
    if (--table.references > 0) return;
    const { frame } = table;
    frame.tables[table.kind] = undefined;
    table.release(this.#put);
    if (frame.uses === 0 && this.#frames.get(frame.gfn) === frame) this.#remove(frame);
  }

  #remove(frame: TableFrame): void {
    this.#frames.delete(frame.gfn);
    this.#attention.delete(frame);
    this.parts.pageTrack.remove(frame.gfn);
    frame.giveUp();
  }

  /**
   * Brings the copies up to date with guest memory: reported frames, frames that nobody tracks, half-written entries.
   * @returns frames that were looked at
   */
  synchronise(): number {
    const { level, tracker, log, statistics } = this.parts;
    if (this.#frames.size === 0) return 0;
    statistics.shadowSyncs++;
    if (level === 'sync') {
      try {
        tracker.syncPageTrack();
      } catch (error) {
        refusedByHypervisor(log, error);
      }
    }
    const looked = this.#attention.size;
    for (const frame of this.#attention) this.#refresh(frame);
    return looked;
  }

  // --- frames -------------------------------------------------------------------------------------------------------

  #add(gfn: Gfn): TableFrame | undefined {
    const frame = new TableFrame(gfn);
    this.#frames.set(gfn, frame);
    // Tracked before it is read: what is written in between is then reported.
    this.#track(frame);
    if (this.#read(frame)) {
      frame.words.set(this.#page.words);
      this.parts.statistics.shadowTables++;
      return frame;
    }
    this.#remove(frame);
    return undefined;
  }

  #track(frame: TableFrame): void {
    const { level, pageTrack, log } = this.parts;
    frame.writes = 0;
    frame.quiet = 0;
    if (level !== null) {
      try {
        pageTrack.add(frame.gfn, this.#handler);
        frame.watch = Watch.TRACKED;
        if (!frame.hasPending) this.#attention.delete(frame);
        return;
      } catch (error) {
        refusedByHypervisor(log, error);
      }
    }
    frame.watch = Watch.UNTRACKED;
    this.#attention.add(frame);
  }

  #read(frame: TableFrame): boolean {
    try {
      this.parts.memory.readGpa(gfnToGpa(frame.gfn), this.#page.bytes, 0, PAGE_SIZE);
      return true;
    } catch (error) {
      refusedByHypervisor(this.parts.log, error, `PPGTT: the table at frame ${hex(frame.gfn)}`);
      return false;
    }
  }

  /** Compares the frame with its copy, entry by entry. A frame that cannot be read any more leads nowhere. */
  #refresh(frame: TableFrame): void {
    if (this.#frames.get(frame.gfn) !== frame) return;
    // Before it is compared it is tracked again, so that no write falls between.
    if (frame.watch === Watch.OUT_OF_SYNC && frame.quiet >= SHADOW_LIMITS.QUIET_SYNCS) this.#track(frame);
    frame.dirty = false;
    frame.writes = 0;
    if (!this.#read(frame)) this.#page.words.fill(0);
    frame.settleAll();
    const { words, doubles } = frame.copy;
    const page = this.#page;
    let changed = 0;
    for (let group = differsAt(doubles, page.doubles, 0); group < ENTRIES; group = differsAt(doubles, page.doubles, group + GROUP))
      for (let i = group; i < group + GROUP; i++) {
        const low = page.words[i * 2] as number;
        const high = page.words[i * 2 + 1] as number;
        if (words[i * 2] === low && words[i * 2 + 1] === high) continue;
        words[i * 2] = low;
        words[i * 2 + 1] = high;
        this.#changed(frame, i);
        changed++;
        // The entry may have led back to this very frame, which is then gone.
        if (frame.uses === 0) return;
      }
    this.parts.statistics.shadowEntries += changed;
    frame.quiet = changed === 0 ? frame.quiet + 1 : 0;
    if (frame.watch === Watch.TRACKED) this.#attention.delete(frame);
  }

  #changed(frame: TableFrame, index: number): void {
    const { tables } = frame;
    for (let kind = 0; kind < KINDS; kind++) if (tables[kind]?.unlink(index, this.#put)) this.generation++;
  }

  // --- reports of the hypervisor --------------------------------------------------------------------------------------

  #frameWritten(gfn: Gfn): Status {
    const frame = this.#frames.get(gfn);
    if (frame === undefined) return Status.ENXIO;
    frame.dirty = true;
    this.#attention.add(frame);
    return Status.OK;
  }

  /**
   * A whole entry is taken at once. Any other write leaves the entries that it touches leading nowhere until they are read whole at the
   * next synchronisation (GVT-g does so for halves and refuses the rest, which a guest's memset would meet).
   */
  #written(gpa: Gpa, value: AccessValue, size: number): Status {
    const first = Math.floor(gpa / PAGE_SIZE) as Gfn;
    const last = Math.floor((gpa + size - 1) / PAGE_SIZE) as Gfn;
    let known = false;
    for (let gfn: number = first; gfn <= last; gfn++) {
      const frame = this.#frames.get(gfn as Gfn);
      if (frame === undefined) continue;
      known = true;
      this.parts.statistics.shadowWrites++;
      const start = gfn * PAGE_SIZE;
      if (size === ENTRY_SIZE && (gpa & (ENTRY_SIZE - 1)) === 0) this.#store(frame, (gpa - start) / ENTRY_SIZE, value);
      else this.#tear(frame, Math.max(0, gpa - start), Math.min(PAGE_SIZE, gpa + size - start));
      if (frame.watch === Watch.TRACKED && frame.isLeaf && ++frame.writes >= SHADOW_LIMITS.OUT_OF_SYNC_WRITES) this.#letGo(frame);
    }
    return known ? Status.OK : Status.ENXIO;
  }

  #store(frame: TableFrame, index: number, value: AccessValue): void {
    const { words } = frame;
    frame.settle(index);
    if (words[index * 2] === value[0] && words[index * 2 + 1] === value[1]) return;
    words[index * 2] = value[0] as number;
    words[index * 2 + 1] = value[1] as number;
    this.parts.statistics.shadowEntries++;
    this.#changed(frame, index);
  }

  #tear(frame: TableFrame, from: number, to: number): void {
    for (let index = Math.floor(from / ENTRY_SIZE); index * ENTRY_SIZE < to; index++) {
      frame.setPending(index);
      this.#changed(frame, index);
    }
    // An entry that led back here took the frame with it.
    if (frame.uses > 0) this.#attention.add(frame);
  }

  /** Stops tracking a leaf table that is written over and over. */
  #letGo(frame: TableFrame): void {
    if (frame.uses === 0) return;
    this.parts.pageTrack.remove(frame.gfn);
    frame.watch = Watch.OUT_OF_SYNC;
    frame.quiet = 0;
    this.#attention.add(frame);
  }
}

/** Entries that are compared at once: most tables are as they were, but for an entry or two. */
const GROUP = 8;

/**
 * The first group from `at` on in which the tables differ, or their end. Entries are compared as doubles, which takes half as long as by dwords.
 * A NaN is unequal to itself: the group is then looked at dword by dword. Zero equals minus zero: an entry of bit 63 alone is taken for 0, and
 * neither is present.
 */
function differsAt(a: Float64Array, b: Float64Array, at: number): number {
  let i = at;
  while (
    i < ENTRIES &&
    a[i] === b[i] &&
    a[i + 1] === b[i + 1] &&
    a[i + 2] === b[i + 2] &&
    a[i + 3] === b[i + 3] &&
    a[i + 4] === b[i + 4] &&
    a[i + 5] === b[i + 5] &&
    a[i + 6] === b[i + 6] &&
    a[i + 7] === b[i + 7]
  )
    i += GROUP;
  return i;
}
