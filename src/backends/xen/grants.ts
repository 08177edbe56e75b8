/**
 * Exact machine frames, pinned: dom0 writes a grant entry for itself into the domain's grant table and maps it with
 * GNTMAP_device_map. Xen then takes a reference on the page and answers its bus address, which is the machine address.
 * The page stays where it is until the grant is unmapped, whatever the guest does with the frame.
 *
 * The entries are taken from the table's end, which a guest fills last; an entry that the guest uses is passed over. A
 * hostile guest can change an entry before it is mapped: it names its own frames there and no others, since a grant gives
 * only what the domain owns.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { errnoText, MptError } from '../../core/errors.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls } from '../../native/xen-calls.js';
import { XEN_CONST as C, DOM0, XEN_STRUCT } from './abi.js';
import type { ForeignOwner } from './foreign-ram.js';
import type { Journal } from './journal.js';

const { grant_entry_v1: ENTRY, gnttab_map_grant_ref: MAP, gnttab_unmap_grant_ref: UNMAP, gnttab_query_size: SIZE } = XEN_STRUCT;
const ENTRIES = PAGE_SIZE / ENTRY.size;
/** Entries that Xen reserves at the table's start (grant_table.h, GNTTAB_NR_RESERVED_ENTRIES). */
const RESERVED_ENTRIES = 8;
/** A version 1 entry names frames of 32 bits. */
const FRAME_LIMIT = 2 ** 32;
const HIGH = 2 ** 32;

/** One pinned page. */
export interface Grant {
  readonly ref: number;
  readonly handle: number;
  /** Machine byte address. */
  readonly busAddress: number;
}

/** Status codes of grant operations (grant_table.h, GNTST_*), for messages. */
const STATUS: Readonly<Record<number, string>> = {
  [-1]: 'general error',
  [-2]: 'unknown domain',
  [-3]: 'bad grant reference',
  [-4]: 'bad handle',
  [-5]: 'bad virtual address',
  [-6]: 'bad device address',
  [-7]: 'no IOMMU space',
  [-8]: 'permission denied',
  [-9]: 'bad page',
  [-12]: 'try again',
  [-13]: 'no space',
};
const BAD_DOMAIN = -2;
const NO_SPACE = -13;

class TablePage {
  readonly mapping: OwnedMapping;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;

  constructor(mapping: OwnedMapping) {
    this.mapping = mapping;
    this.u16 = new Uint16Array(mapping.buffer);
    this.u32 = new Uint32Array(mapping.buffer);
  }

  get(index: number): number {
    return this.u16[(index * ENTRY.size + ENTRY.flags) / 2] as number;
  }

  set(index: number, frame: number): void {
    this.u16[(index * ENTRY.size + ENTRY.domid) / 2] = DOM0;
    this.u32[(index * ENTRY.size + ENTRY.frame) / 4] = frame;
    // Last: from here on the entry is valid.
    Atomics.store(this.u16, (index * ENTRY.size + ENTRY.flags) / 2, C.GTF_permit_access);
  }

  clear(index: number): void {
    Atomics.store(this.u16, (index * ENTRY.size + ENTRY.flags) / 2, 0);
  }
}

export class GrantTable {
  readonly #sys: Syscalls;
  readonly #calls: XenCalls;
  readonly #owner: ForeignOwner;
  readonly #journal: Journal;
  readonly #pages = new Map<number, TablePage>();
  readonly #free: number[] = [];
  /** Table pages below this one are not taken up yet; -1 before the table was looked at. */
  #nextPage = -1;
  #live = 0;
  /** Grants that could not be unmapped. */
  readonly #stuck = new Set<Grant>();
  readonly #map = new DataView(new ArrayBuffer(MAP.size));
  readonly #mapBytes = new Uint8Array(this.#map.buffer);
  readonly #unmap = new DataView(new ArrayBuffer(UNMAP.size));
  readonly #unmapBytes = new Uint8Array(this.#unmap.buffer);

  constructor(sys: Syscalls, calls: XenCalls, owner: ForeignOwner, journal: Journal) {
    this.#sys = sys;
    this.#calls = calls;
    this.#owner = owner;
    this.#journal = journal;
  }

  /** Pages pinned now. */
  get live(): number {
    return this.#live;
  }

  /** Flags of a grant's entry, for tests: 0 when the grant is gone. */
  entryFlags(ref: number): number {
    return this.#pages.get(Math.floor(ref / ENTRIES))?.get(ref % ENTRIES) ?? 0;
  }

  /**
   * Pins the page behind a frame.
   * @throws MptError NOT_RAM, LIMIT (the domain's grant table or dom0's map track is full), UNSUPPORTED, VM_GONE
   */
  map(gfn: number): Grant {
    if (gfn >= FRAME_LIMIT)
      throw new MptError('NOT_RAM', 'the frame is above 2^32, which a grant cannot name', { address: gfn * PAGE_SIZE });
    const ref = this.#take();
    const page = this.#pages.get(Math.floor(ref / ENTRIES)) as TablePage;
    const index = ref % ENTRIES;
    page.set(index, gfn);
    const view = this.#map;
    view.setUint32(MAP.flags, C.GNTMAP_device_map, true);
    view.setUint32(MAP.ref, ref, true);
    view.setUint16(MAP.dom, this.#owner.domid, true);
    view.setInt16(MAP.status, -1, true);
    const result = this.#calls.grantTableOp(C.GNTTABOP_map_grant_ref, this.#mapBytes);
    const status = result < 0 ? 0 : view.getInt16(MAP.status, true);
    if (result < 0 || status !== 0) {
      page.clear(index);
      this.#free.push(ref);
      if (result < 0) this.#owner.fail('grant_table_op map_grant_ref', result, { gfn });
      throw this.#mapFailure(status, gfn);
    }
    const handle = view.getUint32(MAP.handle, true);
    const busAddress = view.getUint32(MAP.dev_bus_addr, true) + view.getUint32(MAP.dev_bus_addr + 4, true) * HIGH;
    this.#journal.grantMapped(handle, busAddress);
    this.#live++;
    return { ref, handle, busAddress };
  }

  /** The reverse. The page may move or be freed from now on. What fails may be tried again, and is once more by `close`. */
  unmap(grant: Grant): void {
    const { ref, handle, busAddress } = grant;
    const problem = unmapGrant(this.#calls, handle, busAddress, this.#unmap, this.#unmapBytes);
    if (problem !== undefined) {
      this.#stuck.add(grant);
      throw new MptError('HYPERVISOR', `grant_table_op unmap_grant_ref of domain ${this.#owner.domid} failed: ${problem}`, {
        address: busAddress,
        hint: 'the page stays pinned; it is tried again when the machine is closed',
      });
    }
    this.#stuck.delete(grant);
    this.#pages.get(Math.floor(ref / ENTRIES))?.clear(ref % ENTRIES);
    this.#journal.grantUnmapped(handle);
    this.#free.push(ref);
    this.#live--;
  }

  /** Unmaps the table. Grants that are still mapped keep their pages. */
  close(): void {
    for (const grant of [...this.#stuck]) {
      try {
        this.unmap(grant);
      } catch {
        // The next process tries.
      }
    }
    for (const page of this.#pages.values()) page.mapping.close();
    this.#pages.clear();
  }

  #mapFailure(status: number, gfn: number): MptError {
    const { domid } = this.#owner;
    const what = `grant_table_op map_grant_ref of domain ${domid}, gfn 0x${gfn.toString(16)}, failed: ${STATUS[status] ?? status}`;
    if (status === BAD_DOMAIN) this.#owner.fail('grant_table_op map_grant_ref', -3, { gfn });
    this.#owner.requireAlive();
    if (status === NO_SPACE) return new MptError('LIMIT', what, { hint: 'raise gnttab_max_maptrack_frames on the command line of Xen' });
    return new MptError('NOT_RAM', what, { address: gfn * PAGE_SIZE, hint: 'the frame is not RAM of the domain' });
  }

  /** A free entry. @throws MptError LIMIT */
  #take(): number {
    for (;;) {
      const ref = this.#free.pop();
      if (ref !== undefined) {
        // The guest may have taken the entry for itself since.
        if (this.entryFlags(ref) === 0) return ref;
        continue;
      }
      this.#takePage();
    }
  }

  /** Takes up one more page of the table, from its end. */
  #takePage(): void {
    const { domid } = this.#owner;
    if (this.#nextPage < 0) this.#nextPage = this.#size();
    if (this.#nextPage === 0)
      throw new MptError('LIMIT', `the grant table of domain ${domid} has no free entry left`, {
        limit: this.#pages.size * ENTRIES,
        hint: 'raise max_grant_frames in the configuration of the domain',
      });
    const frame = this.#nextPage - 1;
    const address = this.#calls.mapResource(domid, C.XENMEM_resource_grant_table, 0, frame, 1);
    if (address < 0) this.#owner.fail('map_resource of the grant table', address);
    const mapping = OwnedMapping.adopt(this.#sys, address, PAGE_SIZE, 'the grant table', () => this.#calls.unmapResource(address, 1));
    const page = new TablePage(mapping);
    this.#pages.set(frame, page);
    this.#nextPage = frame;
    const first = frame === 0 ? RESERVED_ENTRIES : 0;
    for (let i = first; i < ENTRIES; i++) if (page.get(i) === 0) this.#free.push(frame * ENTRIES + i);
  }

  /** Pages that the table may have. @throws MptError UNSUPPORTED for a version 2 table */
  #size(): number {
    const { domid } = this.#owner;
    const { gnttab_get_version: VERSION } = XEN_STRUCT;
    const version = new DataView(new ArrayBuffer(VERSION.size));
    version.setUint16(VERSION.dom, domid, true);
    let result = this.#calls.grantTableOp(C.GNTTABOP_get_version, new Uint8Array(version.buffer));
    if (result < 0) this.#owner.fail('grant_table_op get_version', result);
    if (version.getUint32(VERSION.version, true) !== 1)
      throw new MptError('UNSUPPORTED', `domain ${domid} uses grant table version 2`, {
        hint: 'set max_grant_version=1 in the configuration of the domain',
      });
    const view = new DataView(new ArrayBuffer(SIZE.size));
    view.setUint16(SIZE.dom, domid, true);
    result = this.#calls.grantTableOp(C.GNTTABOP_query_size, new Uint8Array(view.buffer));
    const status = view.getInt16(SIZE.status, true);
    if (result < 0) this.#owner.fail('grant_table_op query_size', result);
    if (status !== 0) this.#owner.fail('grant_table_op query_size', status === BAD_DOMAIN ? -3 : -22);
    return view.getUint32(SIZE.max_nr_frames, true);
  }
}

/** Unmaps a device mapping. @returns why it failed, or undefined */
export function unmapGrant(
  calls: XenCalls,
  handle: number,
  busAddress: number,
  view = new DataView(new ArrayBuffer(UNMAP.size)),
  bytes = new Uint8Array(view.buffer),
): string | undefined {
  view.setUint32(UNMAP.dev_bus_addr, busAddress >>> 0, true);
  view.setUint32(UNMAP.dev_bus_addr + 4, Math.floor(busAddress / HIGH), true);
  view.setUint32(UNMAP.handle, handle, true);
  view.setInt16(UNMAP.status, -1, true);
  const result = calls.grantTableOp(C.GNTTABOP_unmap_grant_ref, bytes);
  if (result < 0) return `errno ${errnoText(-result)}`;
  const status = view.getInt16(UNMAP.status, true);
  return status === 0 ? undefined : (STATUS[status] ?? `status ${status}`);
}
