/**
 * The guest memory that a client made known by DMA_MAP. Three kinds:
 *
 * - mapped: the map came with a file that cannot shrink. Reached like any memory, and by the engine's DMA.
 * - file: the file can be shortened under our feet (no seals), which would end this process by SIGBUS. Reached by read and write calls,
 *   which answer an error instead; no DMA. `trustFiles` maps it all the same.
 * - message: no file. Reached by DMA_READ and DMA_WRITE to the client; no DMA by the engine.
 */
import { GPA_LIMIT, PAGE_SIZE } from '../core/addresses.js';
import { MptError } from '../core/errors.js';
import { describeRam, type MappedRegion, mapRegion, RamAccess } from '../core/ram-access.js';
import { RangeSet } from '../core/ranges.js';
import { OwnedFd } from '../native/fd.js';
import { SharedFiles } from '../native/shared-file.js';
import type { Syscalls } from '../native/syscalls.js';
import { FileMappings } from './file-mappings.js';
import { DmaFlag, E, LIMITS } from './protocol.js';

/** Memory that the client keeps to itself: read and written by messages. @returns false when the client refused or went */
export interface MessageMemory {
  dmaRead(address: number, target: Uint8Array): boolean;
  dmaWrite(address: number, source: Uint8Array): boolean;
}

export interface DmaMap {
  readonly iova: number;
  readonly size: number;
  /** `DmaFlag` bits. */
  readonly flags: number;
  readonly kind: 'mapped' | 'file' | 'message';
}

interface Entry extends DmaMap {
  /** Kind mapped: the bytes, in ascending pieces, and their release. */
  readonly pieces: readonly Piece[];
  readonly release: (() => void) | undefined;
  /** Kind file. */
  readonly fd: OwnedFd | undefined;
  readonly offset: number;
}

interface Piece extends MappedRegion {
  readonly hva: number;
}

const RAM_FLAGS = DmaFlag.READ | DmaFlag.WRITE;

export class DmaMaps extends RamAccess<Piece> {
  readonly #sys: Syscalls;
  readonly #files: SharedFiles;
  readonly #mappings: FileMappings;
  readonly #trustFiles: boolean;
  readonly #entries = new RangeSet<Entry>();
  #bytes = 0;
  /** Piece of the last hit. */
  #last: Piece | undefined;
  /** Where memory of kind message is reached. */
  messages: MessageMemory | undefined;
  /** Told when a map has gone: views of its memory must not be used any more. */
  onUnmap: ((map: DmaMap) => void) | undefined;
  /** Told when a map has come. */
  onMap: (() => void) | undefined;

  constructor(sys: Syscalls, options: { readonly trustFiles?: boolean } = {}) {
    super();
    this.#sys = sys;
    this.#files = new SharedFiles(sys);
    this.#mappings = new FileMappings(sys);
    this.#trustFiles = options.trustFiles === true;
  }

  get count(): number {
    return this.#entries.size;
  }

  /** The maps in ascending order. */
  get maps(): readonly DmaMap[] {
    return [...this.#entries].map(({ value }) => value);
  }

  /** The map that holds the byte. */
  mapAt(gpa: number): DmaMap | undefined {
    return this.#entries.find(gpa)?.value;
  }

  /**
   * DMA_MAP.
   * @param fd file with the memory, or undefined; taken over or left open for the caller to close
   * @returns 0, or a positive errno
   */
  map(iova: number, size: number, flags: number, fd: number | undefined, offset: number): number {
    const refused = this.#check(iova, size, flags);
    if (refused !== 0) return refused;
    const entry = fd === undefined ? message(iova, size, flags) : this.#open(iova, size, flags, fd, offset);
    if (typeof entry === 'number') return entry;
    this.#entries.add(iova, iova + size - 1, entry);
    this.#bytes += size;
    this.onMap?.();
    return 0;
  }

  /**
   * DMA_UNMAP, by the rules of VFIO's type 1 v2: every map that lies in the range goes; a map that the range would cut is refused.
   * @returns bytes unmapped, 0 when there was nothing (a guest's IOMMU unmaps without looking), or a negative errno
   */
  unmap(iova: number, size: number): number {
    if (size === 0 || iova % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0) return -E.INVAL;
    const end = iova + size - 1;
    const exact = this.#entries.exact(iova, end);
    const inside = exact === undefined ? this.#entries.within(iova, end) : [exact];
    if (inside === undefined) return -E.INVAL;
    let bytes = 0;
    for (const { value } of inside) {
      bytes += value.size;
      this.#remove(value);
    }
    return bytes;
  }

  /** Unmaps everything. @returns bytes unmapped */
  clear(): number {
    const bytes = this.#bytes;
    for (const { value } of [...this.#entries].reverse()) this.#remove(value);
    return bytes;
  }

  // --- RamAccess: what is mapped and both readable and writable ------------------------------------------------------

  find(gpa: number): Piece | undefined {
    const last = this.#last;
    if (last !== undefined && gpa >= last.gpa && gpa - last.gpa < last.size) return last;
    const entry = this.#entries.find(gpa)?.value;
    if (entry === undefined || entry.flags !== RAM_FLAGS) return undefined;
    const piece = pieceAt(entry, gpa);
    if (piece !== undefined) this.#last = piece;
    return piece;
  }

  describe(): string {
    const text = describeRam(this.maps.slice(0, 8).map(({ iova, size }) => ({ gpa: iova, size })));
    return this.count === 0 ? 'not mapped by a client' : `${text}${this.count > 8 ? ', …' : ''}`;
  }

  /** True when a map that can be read and written covers every byte, of whatever kind. */
  override covers(gpa: number, length: number): boolean {
    return this.#firstMiss(gpa, length, RAM_FLAGS) < 0;
  }

  override read(gpa: number, target: Uint8Array, offset: number, length: number): void {
    const piece = this.find(gpa);
    if (piece !== undefined && gpa - piece.gpa + length <= piece.size) super.read(gpa, target, offset, length);
    else
      this.#eachPart(gpa, length, DmaFlag.READ, (entry, at, done, n) =>
        this.#readPart(entry, at, target.subarray(offset + done, offset + done + n)),
      );
  }

  override write(gpa: number, source: Uint8Array, offset: number, length: number): void {
    const piece = this.find(gpa);
    if (piece !== undefined && gpa - piece.gpa + length <= piece.size) super.write(gpa, source, offset, length);
    else
      this.#eachPart(gpa, length, RAM_FLAGS, (entry, at, done, n) =>
        this.#writePart(entry, at, source.subarray(offset + done, offset + done + n)),
      );
  }

  /** True when a map touches [start, end]. */
  touches(start: number, end: number): boolean {
    return this.#entries.overlapping(start, end) !== undefined;
  }

  /** Guest-physical address of a host virtual one in a mapped entry, or undefined. */
  gpaOfHva(hva: number): number | undefined {
    for (const { value } of this.#entries)
      for (const piece of value.pieces) if (hva >= piece.hva && hva - piece.hva < piece.size) return piece.gpa + (hva - piece.hva);
    return undefined;
  }

  // --- maps ---------------------------------------------------------------------------------------------------------

  #check(iova: number, size: number, flags: number): number {
    if (flags === 0 || (flags & ~RAM_FLAGS) !== 0) return E.INVAL;
    if (size === 0 || iova % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0) return E.INVAL;
    // Both are below 2^64; as numbers their sum does not wrap.
    if (iova + size > GPA_LIMIT) return E.INVAL;
    if (this.#entries.overlapping(iova, iova + size - 1) !== undefined) return E.EXIST;
    return this.count >= LIMITS.maxDmaMaps || this.#bytes + size > LIMITS.maxDmaBytes ? E.NOSPC : 0;
  }

  /** An entry over the file, or a positive errno. */
  #open(iova: number, size: number, flags: number, fd: number, offset: number): Entry | number {
    if (offset % PAGE_SIZE !== 0 || offset >= GPA_LIMIT) return E.INVAL;
    const file = this.#files.identify(fd, (flags & DmaFlag.WRITE) !== 0);
    if (typeof file === 'number') return -file;
    if (offset + size > file.size) return E.INVAL;
    if (!this.#files.sealShrink(fd) && !this.#trustFiles) {
      const own = this.#files.dup(fd);
      if (own < 0) return -own;
      return { iova, size, flags, kind: 'file', pieces: [], release: undefined, fd: new OwnedFd(this.#sys, own, 'a DMA map'), offset };
    }
    try {
      const range = this.#mappings.acquire(fd, file, offset, size, (flags & DmaFlag.WRITE) !== 0);
      const pieces = range.parts.map(({ bytes, hva, at }) => ({ ...mapRegion(iova + at, bytes), hva }));
      return { iova, size, flags, kind: 'mapped', pieces, release: range.release, fd: undefined, offset };
    } catch (error) {
      return MptError.is(error) && error.errno !== undefined ? error.errno : E.NOMEM;
    }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.iova, entry.iova + entry.size - 1);
    this.#bytes -= entry.size;
    this.#last = undefined;
    this.dropPages();
    entry.release?.();
    entry.fd?.close();
    this.onUnmap?.(entry);
  }

  // --- copies over several maps, or of other kinds --------------------------------------------------------------------

  /** First byte that no map with these flags covers, or -1. */
  #firstMiss(gpa: number, length: number, flags: number): number {
    for (let at = gpa; at < gpa + length; ) {
      const range = this.#entries.find(at);
      if (range === undefined || (range.value.flags & flags) !== flags) return at;
      at = range.end + 1;
    }
    return -1;
  }

  #eachPart(gpa: number, length: number, flags: number, copy: (entry: Entry, at: number, done: number, n: number) => void): void {
    const hole = this.#firstMiss(gpa, length, flags);
    if (hole >= 0)
      throw new MptError('NOT_RAM', 'the guest-physical range runs into a hole', {
        address: hole,
        size: length,
        hint: `guest memory is ${this.describe()}`,
      });
    for (let done = 0; done < length; ) {
      const range = this.#entries.find(gpa + done);
      if (range === undefined)
        throw new MptError('NOT_RAM', 'the memory was unmapped during the copy', { address: gpa + done, size: length });
      const n = Math.min(length - done, range.end + 1 - (gpa + done));
      copy(range.value, gpa + done, done, n);
      done += n;
    }
  }

  #readPart(entry: Entry, gpa: number, target: Uint8Array): void {
    if (entry.kind === 'mapped') {
      for (let done = 0; done < target.length; ) {
        const piece = pieceAt(entry, gpa + done) as Piece;
        const at = gpa + done - piece.gpa;
        const n = Math.min(target.length - done, piece.size - at);
        target.set(piece.bytes.subarray(at, at + n), done);
        done += n;
      }
      return;
    }
    const ok =
      entry.kind === 'file'
        ? this.#files.read((entry.fd as OwnedFd).fd, target, entry.offset + (gpa - entry.iova))
        : this.messages?.dmaRead(gpa, target) === true;
    if (!ok) throw unreachable(entry, gpa, target.length);
  }

  #writePart(entry: Entry, gpa: number, source: Uint8Array): void {
    if (entry.kind === 'mapped') {
      for (let done = 0; done < source.length; ) {
        const piece = pieceAt(entry, gpa + done) as Piece;
        const at = gpa + done - piece.gpa;
        const n = Math.min(source.length - done, piece.size - at);
        piece.bytes.set(source.subarray(done, done + n), at);
        done += n;
      }
      return;
    }
    const ok =
      entry.kind === 'file'
        ? this.#files.write((entry.fd as OwnedFd).fd, source, entry.offset + (gpa - entry.iova))
        : this.messages?.dmaWrite(gpa, source) === true;
    if (!ok) throw unreachable(entry, gpa, source.length);
  }
}

const message = (iova: number, size: number, flags: number): Entry => ({
  iova,
  size,
  flags,
  kind: 'message',
  pieces: [],
  release: undefined,
  fd: undefined,
  offset: 0,
});

function pieceAt(entry: Entry, gpa: number): Piece | undefined {
  return entry.pieces.find((piece) => gpa >= piece.gpa && gpa - piece.gpa < piece.size);
}

const unreachable = ({ kind }: DmaMap, address: number, size: number): MptError =>
  new MptError('NOT_RAM', kind === 'file' ? "the client's file ends before the memory that it stands for" : 'the client refused the copy', {
    address,
    size,
  });
