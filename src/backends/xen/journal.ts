/**
 * What this backend leaves behind in Xen when its process is killed: domains that it created, and pages of guests that it
 * pinned, which would keep a destroyed guest's memory for ever. Xen ties neither to a process. They are recorded
 * (`CrashJournal`), and the next process that opens the backend removes what a dead one left.
 */
import { CrashJournal, type JournalRecord } from '../../native/crash-journal.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenCalls } from '../../native/xen-calls.js';
import type { XenctrlLayout } from './abi.js';
import { unmapGrant } from './grants.js';

export const JOURNAL_DIRECTORY = '/run/mediated-passthrough';
const PREFIX = 'xen';
const GRANT = 1;
const DOMAIN = 2;
/** The domain that holds the host pages. */
const HOLDER = 3;
/** A domain that is not ours maps host pages. */
const MAPS = 4;

/** First bytes of the handle (UUID) of each domain that we create: `mptX`. The tag follows. */
const HANDLE_MAGIC = [0x6d, 0x70, 0x74, 0x58] as const;
const TAG_BYTES = 6;
export const HANDLE_SIZE = 16;

/** A new domain handle with a tag that tells the domain from a later one with the same id. */
export function newDomainHandle(): { readonly handle: Uint8Array; readonly tag: number } {
  const tag = Math.floor(Math.random() * 2 ** 48);
  const handle = new Uint8Array(HANDLE_SIZE);
  handle.set(HANDLE_MAGIC);
  for (let i = 0; i < TAG_BYTES; i++) handle[HANDLE_MAGIC.length + i] = Math.floor(tag / 256 ** i) & 0xff;
  return { handle, tag };
}

/** The tag of a handle of ours, or -1. */
export function tagOf(handle: Uint8Array): number {
  if (HANDLE_MAGIC.some((byte, i) => handle[i] !== byte)) return -1;
  let tag = 0;
  for (let i = TAG_BYTES - 1; i >= 0; i--) tag = tag * 256 + (handle[HANDLE_MAGIC.length + i] as number);
  return tag;
}

export class Journal {
  readonly #file: CrashJournal | undefined;
  readonly #grants = new Map<number, number>();
  readonly #domains = new Map<number, number>();
  readonly #mapping = new Map<number, { count: number; readonly slot: number }>();

  constructor(sys: Syscalls, directory = JOURNAL_DIRECTORY) {
    this.#file = CrashJournal.open(sys, directory, PREFIX);
  }

  /** False where the directory cannot be written: a kill then leaves what it leaves. */
  get kept(): boolean {
    return this.#file !== undefined;
  }

  grantMapped(handle: number, busAddress: number): void {
    const slot = this.#file?.add({ kind: GRANT, id: handle, tag: busAddress });
    if (slot !== undefined) this.#grants.set(handle, slot);
  }

  grantUnmapped(handle: number): void {
    const slot = this.#grants.get(handle);
    if (slot === undefined) return;
    this.#grants.delete(handle);
    this.#file?.remove(slot);
  }

  domainCreated(domid: number, tag: number, role: 'guest' | 'holder'): void {
    const slot = this.#file?.add({ kind: role === 'holder' ? HOLDER : DOMAIN, id: domid, tag });
    if (slot !== undefined) this.#domains.set(domid, slot);
  }

  domainDestroyed(domid: number): void {
    const slot = this.#domains.get(domid);
    if (slot === undefined) return;
    this.#domains.delete(domid);
    this.#file?.remove(slot);
  }

  /** One more mapping of host pages in a domain that outlives us. */
  guestMaps(domid: number): void {
    const mapping = this.#mapping.get(domid) ?? { count: 0, slot: this.#file?.add({ kind: MAPS, id: domid, tag: 0 }) ?? -1 };
    mapping.count++;
    this.#mapping.set(domid, mapping);
  }

  guestUnmaps(domid: number): void {
    const mapping = this.#mapping.get(domid);
    if (mapping === undefined || --mapping.count > 0) return;
    this.#mapping.delete(domid);
    this.#file?.remove(mapping.slot);
  }

  /**
   * A grant that could not be unmapped keeps the file, too.
   * @param leave keeps the file: a guest still maps host pages, and a later process cleans up when it is gone
   */
  close(leave = false): void {
    if (leave || this.#grants.size > 0) this.#file?.abandon();
    else this.#file?.close();
  }
}

/** What was removed after dead processes. */
export interface Recovered {
  readonly grants: number;
  readonly domains: number;
}

/**
 * Removes what dead processes left. Safe against numbers that were given out again: a domain must carry the recorded tag, and
 * Xen unmaps a grant only when handle and machine address belong together.
 *
 * While a guest that was not ours still lives with host pages in its map, the domain that owns them and all grants stay:
 * else the guest would reach memory that Xen gives to somebody else. The file is looked at again by the next process.
 */
export function recoverStale(sys: Syscalls, calls: XenCalls, layout: XenctrlLayout, directory = JOURNAL_DIRECTORY): Recovered {
  let grants = 0;
  let domains = 0;
  const info = new Uint8Array(layout.xc_domaininfo_t.size);
  const { handle: at } = layout.xc_domaininfo_t;
  const destroy = ({ id, tag }: JournalRecord): void => {
    if (calls.domainInfo(id, info) !== id || tagOf(info.subarray(at, at + HANDLE_SIZE)) !== tag) return;
    if (calls.destroyDomain(id) >= 0) domains++;
  };
  for (const { records, done, keep } of CrashJournal.stale(sys, directory, PREFIX)) {
    for (const record of records) if (record.kind === DOMAIN) destroy(record);
    if (records.some(({ kind, id }) => kind === MAPS && calls.domainInfo(id, info) === id)) {
      keep();
      continue;
    }
    for (const record of records) if (record.kind === HOLDER) destroy(record);
    for (const { kind, id, tag } of records) if (kind === GRANT && unmapGrant(calls, id, tag) === undefined) grants++;
    done();
  }
  return { grants, domains };
}
