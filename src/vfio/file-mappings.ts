/**
 * The files behind a client's memory, each mapped once however many DMA maps it stands for: a guest with an IOMMU makes a map for each
 * page, and a process has a limited number of mappings.
 */
import { MptError } from '../core/errors.js';
import { OwnedMapping } from '../native/mapping.js';
import { PROT, type Syscalls } from '../native/syscalls.js';

/** Files are mapped in pieces of this many bytes, as they are needed. */
const PIECE = 2 ** 30;
const EINVAL = 22;

/** A part of a file in memory, which lies in one piece. */
export interface MappedPart {
  readonly bytes: Uint8Array;
  readonly hva: number;
  /** From the first byte that was asked for. */
  readonly at: number;
}

export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
  readonly size: number;
}

interface MappedFile {
  readonly key: string;
  readonly pieces: Map<number, OwnedMapping>;
  users: number;
}

/** A user's hold on a file. */
export interface MappedRange {
  readonly parts: readonly MappedPart[];
  readonly release: () => void;
}

export class FileMappings {
  readonly #sys: Syscalls;
  readonly #files = new Map<string, MappedFile>();

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /** Files mapped now. */
  get count(): number {
    return this.#files.size;
  }

  /**
   * Maps part of a file, which ends inside it.
   * @throws MptError HYPERVISOR, NO_MEMORY; nothing is kept then
   */
  acquire(fd: number, { dev, ino, size: fileSize }: FileIdentity, offset: number, size: number, writable: boolean): MappedRange {
    const key = `${dev}:${ino}:${writable}`;
    const file = this.#files.get(key) ?? { key, pieces: new Map<number, OwnedMapping>(), users: 0 };
    const protection = writable ? PROT.READ | PROT.WRITE : PROT.READ;
    const parts: MappedPart[] = [];
    file.users++;
    this.#files.set(key, file);
    try {
      for (let at = 0; at < size; ) {
        const index = Math.floor((offset + at) / PIECE);
        let mapping = file.pieces.get(index);
        const needed = Math.min(offset + size, (index + 1) * PIECE) - index * PIECE;
        // A mapping in use is not replaced: a file that grew since has parts that cannot be reached.
        if (mapping !== undefined && mapping.length < needed)
          throw new MptError('HYPERVISOR', 'the file of guest memory grew while it was mapped', { errno: EINVAL });
        if (mapping === undefined) {
          const length = Math.min(PIECE, fileSize - index * PIECE);
          mapping = OwnedMapping.shared(this.#sys, fd, length, index * PIECE, protection, 'guest memory');
          file.pieces.set(index, mapping);
        }
        const from = offset + at - index * PIECE;
        const n = Math.min(size - at, PIECE - from);
        parts.push({ bytes: new Uint8Array(mapping.buffer, from, n), hva: mapping.hva + from, at });
        at += n;
      }
    } catch (error) {
      this.#release(file);
      throw error;
    }
    let held = true;
    return {
      parts,
      release: () => {
        if (held) this.#release(file);
        held = false;
      },
    };
  }

  #release(file: MappedFile): void {
    if (--file.users > 0) return;
    this.#files.delete(file.key);
    for (const mapping of file.pieces.values()) mapping.close();
  }
}
