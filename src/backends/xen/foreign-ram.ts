/**
 * A domain's RAM in this process: foreign mappings made when an address is first asked for, in buckets of 1 MiB as XenGT
 * had them, kept in a bounded cache. What is RAM is what Xen lets us map: the guest may balloon or change its map at any
 * time, and then says so with an invalidate request, on which the cache is dropped.
 *
 * A bucket that a DMA mapping holds outlives the cache: the page behind it is pinned by a grant, so the old mapping stays
 * right even when the guest has moved or given up the frame.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { type MappedRegion, mapRegion, RamAccess } from '../../core/ram-access.js';
import { OwnedMapping } from '../../native/mapping.js';
import type { Syscalls } from '../../native/syscalls.js';
import type { XenForeignMemory } from '../../native/xen-calls.js';
import { ERRNO } from './failure.js';

const BUCKET_PAGES = 256;
const BUCKET = BUCKET_PAGES * PAGE_SIZE;

/** Buckets kept without a holder: 256 MiB of mappings, which cost page tables only. */
export const CACHED_BUCKETS = 256;

/** What the mapping calls report of the domain itself. */
export interface ForeignOwner {
  readonly domid: number;
  /** Throws the MptError of a failed call; notices a domain that is gone. */
  fail(call: string, result: number, place?: { readonly gfn?: number }): never;
  /** Throws VM_GONE when the domain is gone: what fails for another reason on a domain that is being torn down is asked so. */
  requireAlive(): void;
}

/** One bucket's mapping. Closed when neither the cache nor a DMA mapping needs it. */
export class Bucket {
  /** The RAM inside, as runs of frames that could be mapped. */
  readonly runs: readonly MappedRegion[];
  readonly #mapping: OwnedMapping;
  #holders = 0;
  #cached = true;

  constructor(mapping: OwnedMapping, runs: readonly MappedRegion[]) {
    this.#mapping = mapping;
    this.runs = runs;
  }

  get held(): boolean {
    return this.#holders > 0;
  }

  /** The run around the byte. */
  find(gpa: number): MappedRegion | undefined {
    for (const run of this.runs) if (gpa >= run.gpa && gpa - run.gpa < run.size) return run;
    return undefined;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    this.#holders--;
    this.#closeIfUnused();
  }

  /** The cache lets go of it. */
  retire(): void {
    this.#cached = false;
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if (this.#holders <= 0 && !this.#cached) this.#mapping.close();
  }
}

export class ForeignRam extends RamAccess {
  readonly #sys: Syscalls;
  readonly #calls: XenForeignMemory;
  readonly #owner: ForeignOwner;
  readonly #limit: number;
  /** By number of the MiB; least recently used first. */
  readonly #buckets = new Map<number, Bucket>();
  readonly #gfns = new BigUint64Array(BUCKET_PAGES);
  readonly #errors = new Int32Array(BUCKET_PAGES);
  #last: MappedRegion | undefined;

  constructor(sys: Syscalls, calls: XenForeignMemory, owner: ForeignOwner, limit = CACHED_BUCKETS) {
    super();
    this.#sys = sys;
    this.#calls = calls;
    this.#owner = owner;
    this.#limit = limit;
  }

  /** Buckets in the cache. */
  get cached(): number {
    return this.#buckets.size;
  }

  find(gpa: number): MappedRegion | undefined {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa - last.gpa < last.size) return last;
    const run = this.bucket(gpa)?.find(gpa);
    if (run !== undefined) this.#last = run;
    return run;
  }

  /** The bucket around the byte, mapped if need be; undefined when none of its frames is RAM. */
  bucket(gpa: number): Bucket | undefined {
    const index = Math.floor(gpa / BUCKET);
    let bucket = this.#buckets.get(index);
    if (bucket !== undefined) this.#buckets.delete(index);
    else {
      bucket = this.#map(index);
      if (bucket === undefined) return undefined;
      if (this.#buckets.size >= this.#limit) this.#evict();
    }
    this.#buckets.set(index, bucket);
    return bucket;
  }

  /** The guest changed its map, or the domain is released: every mapping is made anew when it is next needed. */
  invalidate(): void {
    this.#last = undefined;
    this.dropPages();
    for (const bucket of this.#buckets.values()) bucket.retire();
    this.#buckets.clear();
  }

  describe(): string {
    return `what domain ${this.#owner.domid} has mapped now`;
  }

  #map(index: number): Bucket | undefined {
    const { domid } = this.#owner;
    const first = index * BUCKET_PAGES;
    for (let i = 0; i < BUCKET_PAGES; i++) this.#gfns[i] = BigInt(first + i);
    const address = this.#calls.mapForeign(domid, this.#gfns, this.#errors);
    // A library that maps nothing at all says so by one error for the call.
    if (address === -ERRNO.EINVAL) return this.#nothing();
    if (address < 0) this.#owner.fail('foreign_map', address, { gfn: first });
    const mapping = OwnedMapping.adopt(this.#sys, address, BUCKET, `memory of domain ${domid}`, () =>
      this.#calls.unmapForeign(address, BUCKET_PAGES),
    );
    const runs = this.#runs(first, mapping);
    if (runs.length > 0) return new Bucket(mapping, runs);
    mapping.close();
    const gone = this.#errors.find((error) => error === -ERRNO.ESRCH);
    if (gone !== undefined) this.#owner.fail('foreign_map', gone, { gfn: first });
    return this.#nothing();
  }

  /** A domain that is being destroyed has no RAM either, which is another answer. */
  #nothing(): undefined {
    this.#owner.requireAlive();
    return undefined;
  }

  #runs(first: number, mapping: OwnedMapping): MappedRegion[] {
    const runs: MappedRegion[] = [];
    for (let i = 0; i < BUCKET_PAGES; ) {
      let end = i;
      while (end < BUCKET_PAGES && this.#errors[end] === 0) end++;
      if (end > i) runs.push(mapRegion((first + i) * PAGE_SIZE, new Uint8Array(mapping.buffer, i * PAGE_SIZE, (end - i) * PAGE_SIZE)));
      i = end + 1;
    }
    return runs;
  }

  /** Lets go of the bucket that was not used for the longest time and that nobody holds. */
  #evict(): void {
    for (const [index, bucket] of this.#buckets) {
      if (bucket.held) continue;
      this.#buckets.delete(index);
      bucket.retire();
      this.#last = undefined;
      this.dropPages();
      return;
    }
  }
}
