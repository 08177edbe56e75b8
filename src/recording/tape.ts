/**
 * What stands between the device model and everything outside. While it is recorded a tape passes each crossing on and writes it down;
 * while it is replayed the tape answers from the file and compares. The objects that the device model sees (`taped-host.ts`) are the same both
 * times.
 */

import type { PageView } from '../core/gvt/gpu-page.js';
import type { GvtHost } from '../core/gvt/gvt-options.js';
import type { HostPages, MptHostOps, MptOperationName, MptVgpuOps } from '../core/mpt.js';
import type { PageCopy } from './page-copies.js';

/** What a call is made on: in a replay nothing is behind it. */
export interface CallTarget {
  readonly host?: GvtHost | MptHostOps;
  readonly handle?: MptVgpuOps;
  readonly pages?: HostPages;
}

/** Ways in which the device model looks at guest memory. */
export const Look = { VIEW: 0, COPY: 1, READ: 2 } as const;
export type Look = (typeof Look)[keyof typeof Look];

export interface Tape {
  /**
   * One call of the MPT table. `run` makes it, in a recording.
   * @param op index in `CALLS`
   * @returns what the call answers. @throws what it throws
   */
  call(op: number, vgpu: number, a: number, b: number, c: number, d: number, run: () => number): number;
  /** The page for loads: what guest memory holds now. @param view the memory, in a recording */
  load(key: number, view: PageView | undefined): PageCopy | PageView;
  /** True when the memory behind the page went with its VM. */
  gone(key: number, view: PageView | undefined): boolean;
  /** Looks at guest bytes: copies `length` of them, which `run` gets in a recording. @throws what the look throws */
  look(what: Look, address: number, target: Uint8Array, offset: number, length: number, run: () => void): void;
  /** Takes a page for later loads. @throws what the backend throws */
  view(address: number, run: () => Uint8Array): PageView | undefined;
  store(key: number, offset: number, size: 1 | 4 | 8, low: number, high: number): void;
  fill(key: number, offset: number, end: number, value: number): void;
  bytes(key: number, offset: number, source: Uint8Array, from: number, to: number): void;
  /** Reports the frames that the guest wrote, by `GvtOps.pageWritten`. */
  sync(vgpu: number, run: () => number): number;
  /** Clock, whole nanoseconds. */
  now(): number;
}

/** Calls by the number that they have in a file: append only. */
export const CALLS = [
  'host_init',
  'host_exit',
  'attach_vgpu',
  'detach_vgpu',
  'inject_msi',
  'from_virt_to_mfn',
  'enable_page_track',
  'disable_page_track',
  'read_gpa',
  'write_gpa',
  'gfn_to_mfn',
  'map_gfn_to_mfn',
  'dma_map_guest_page',
  'dma_unmap_guest_page',
  'set_trap_area',
  'set_pvmmio',
  'dom0_ready',
  'set_opregion',
  'set_edid',
  'get_vfio_device',
  'put_vfio_device',
  'is_valid_gfn',
  'dma_pin_guest_page',
  'allocate_host_pages',
  'release_host_pages',
  'sync_page_track',
] as const satisfies readonly (MptOperationName | 'allocate_host_pages' | 'release_host_pages' | 'sync_page_track')[];

export const CALL = Object.fromEntries(CALLS.map((name, index) => [name, index])) as Readonly<Record<(typeof CALLS)[number], number>>;
