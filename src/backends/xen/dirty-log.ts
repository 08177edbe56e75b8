/**
 * Which frames the guest wrote (page track level `sync`). Xen has two ways, and the frames that are tracked decide:
 *
 * - `window`: track_dirty_vram, one run of at most 262,144 frames a domain. Only the run is watched.
 * - `whole`: the domain's dirty log, for frames further apart. It makes the first write to every page of the guest fault
 *   once after each reading, and a domain in this state cannot be migrated.
 *
 * Starting either one loses what the other had seen, so the caller reads the log before it lets it cover new frames; the
 * domain is paused in between.
 */
import type { XenCalls } from '../../native/xen-calls.js';
import { XEN_CONST as C } from './abi.js';
import type { ForeignOwner } from './foreign-ram.js';

/** Frames that one window may have: 1 GiB (Xen, hap_track_dirty_vram). */
export const WINDOW_MAX = 262_144;
/** Windows grow in steps, so that tracking frame after frame does not start a new one each time. */
const WINDOW_STEP = 512;

type Mode = { readonly kind: 'window'; readonly first: number; readonly nr: number } | { readonly kind: 'whole' };

/** A bitmap over the frames from `first` on. */
export interface DirtyFrames {
  has(gfn: number): boolean;
}
const NOTHING: DirtyFrames = { has: () => false };

export class DirtyLog {
  readonly #calls: XenCalls;
  readonly #owner: ForeignOwner;
  #mode: Mode | undefined;
  #bitmap = new Uint8Array(0);

  constructor(calls: XenCalls, owner: ForeignOwner) {
    this.#calls = calls;
    this.#owner = owner;
  }

  get mode(): 'off' | 'window' | 'whole' {
    return this.#mode?.kind ?? 'off';
  }

  /** True when writes to all frames of [first, last] are seen already. */
  covers(first: number, last: number): boolean {
    const mode = this.#mode;
    if (mode === undefined) return false;
    return mode.kind === 'whole' || (first >= mode.first && last < mode.first + mode.nr);
  }

  /** Watches [first, last] from now on, with nothing written yet. @throws MptError BUSY, LIMIT, UNSUPPORTED, VM_GONE */
  start(first: number, last: number): void {
    const from = Math.floor(first / WINDOW_STEP) * WINDOW_STEP;
    const nr = Math.ceil((last + 1 - from) / WINDOW_STEP) * WINDOW_STEP;
    const { domid } = this.#owner;
    if (nr <= WINDOW_MAX) {
      if (this.#mode?.kind === 'whole') this.stop();
      // The first reading of a new window answers that everything is written.
      this.#read('track_dirty_vram', (bitmap) => this.#calls.trackDirtyVram(domid, from, nr, bitmap), nr, from);
      this.#mode = { kind: 'window', first: from, nr };
      return;
    }
    if (this.#mode?.kind === 'whole') return;
    this.stop();
    const result = this.#calls.logDirty(domid, C.XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, null, 0);
    if (result < 0) this.#owner.fail('logdirty', result);
    this.#mode = { kind: 'whole' };
  }

  /** The frames written since the last call. */
  take(): DirtyFrames {
    const mode = this.#mode;
    if (mode === undefined) return NOTHING;
    const { domid } = this.#owner;
    if (mode.kind === 'window')
      return this.#read('track_dirty_vram', (b) => this.#calls.trackDirtyVram(domid, mode.first, mode.nr, b), mode.nr, mode.first);
    const last = this.#calls.maximumGfn(domid);
    if (last < 0) this.#owner.fail('maximum_gpfn', last);
    const pages = last + 1;
    return this.#read('logdirty', (b) => this.#calls.logDirty(domid, C.XEN_DOMCTL_SHADOW_OP_CLEAN, b, pages), pages, 0);
  }

  /** Watches nothing any more. Never throws: the domain may be gone. */
  stop(): void {
    const mode = this.#mode;
    this.#mode = undefined;
    if (mode?.kind === 'window') this.#calls.trackDirtyVram(this.#owner.domid, mode.first, 0, new Uint8Array(0));
    if (mode?.kind === 'whole') this.#calls.logDirty(this.#owner.domid, C.XEN_DOMCTL_SHADOW_OP_OFF, null, 0);
  }

  #read(call: string, run: (bitmap: Uint8Array) => number, nr: number, first: number): DirtyFrames {
    const bytes = Math.ceil(nr / 64) * 8;
    if (this.#bitmap.length < bytes) this.#bitmap = new Uint8Array(bytes);
    const bitmap = this.#bitmap.subarray(0, bytes);
    bitmap.fill(0);
    const result = run(bitmap);
    if (result < 0) this.#owner.fail(call, result, { gfn: first });
    return {
      has: (gfn) => gfn >= first && gfn < first + nr && ((bitmap[(gfn - first) >> 3] as number) & (1 << ((gfn - first) & 7))) !== 0,
    };
  }
}
