/**
 * Records of what outlives its process: hypervisor objects that no descriptor owns. Each record is one store into a mapped
 * file, so that it survives `kill -9`; the next process that opens the directory finds the files whose owner is dead, by a
 * lock that the kernel drops with it, and undoes what they name.
 */
import { mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { OwnedFd } from './fd.js';
import { OwnedMapping } from './mapping.js';
import { O, type Syscalls } from './syscalls.js';

export interface JournalRecord {
  /** What it is, 1 or more: the caller's numbering. */
  readonly kind: number;
  readonly id: number;
  /** Below 2^53: what tells the object from a later one with the same id. */
  readonly tag: number;
}

const LOCK_EX = 2;
const LOCK_NB = 4;
/** Slots of 16 bytes; the file is sparse, so empty ones cost nothing. */
const SLOTS = 262_144;
const SLOT_WORDS = 4;
const BYTES = SLOTS * SLOT_WORDS * 4;
const HIGH = 2 ** 32;

let serial = 0;

export class CrashJournal {
  readonly #path: string;
  readonly #fd: OwnedFd;
  readonly #mapping: OwnedMapping;
  readonly #words: Uint32Array;
  readonly #free: number[] = [];
  #used = 0;

  private constructor(path: string, fd: OwnedFd, mapping: OwnedMapping) {
    this.#path = path;
    this.#fd = fd;
    this.#mapping = mapping;
    this.#words = new Uint32Array(mapping.buffer);
  }

  /** @param prefix of the file's name @returns undefined where the directory cannot be written: then nothing is recorded */
  static open(sys: Syscalls, directory: string, prefix: string): CrashJournal | undefined {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch {
      return undefined;
    }
    const path = join(directory, `${prefix}-${process.pid}-${serial++}-${Date.now()}`);
    const raw = sys.open(path, O.RDWR | O.CLOEXEC | O.CREAT | O.EXCL);
    if (raw < 0) return undefined;
    const fd = new OwnedFd(sys, raw, path);
    try {
      if (sys.flock(raw, LOCK_EX | LOCK_NB) < 0 || sys.ftruncate(raw, BYTES) < 0) throw new Error('no lock');
      return new CrashJournal(path, fd, OwnedMapping.file(sys, raw, BYTES, 'the journal'));
    } catch {
      fd.close();
      unlinkSync(path);
      return undefined;
    }
  }

  /** The files of dead processes, each with its records. `done()` removes the file, `keep()` leaves it for the next process. */
  static stale(
    sys: Syscalls,
    directory: string,
    prefix: string,
  ): { readonly records: readonly JournalRecord[]; done(): void; keep(): void }[] {
    let names: string[];
    try {
      names = readdirSync(directory).filter((name) => name.startsWith(`${prefix}-`));
    } catch {
      return [];
    }
    return names.flatMap((name) => {
      const path = join(directory, name);
      const raw = sys.open(path, O.RDWR | O.CLOEXEC);
      if (raw < 0) return [];
      const fd = new OwnedFd(sys, raw, path);
      // A file that is still locked has a living owner; one that is too short was never finished and names nothing.
      if (sys.flock(raw, LOCK_EX | LOCK_NB) < 0) {
        fd.close();
        return [];
      }
      const records = readRecords(sys, raw);
      const done = (): void => {
        unlinkSync(path);
        fd.close();
      };
      return [{ records, done, keep: () => fd.close() }];
    });
  }

  /** @returns the slot, for `remove`; -1 when the journal is full: then this object is not recorded */
  add({ kind, id, tag }: JournalRecord): number {
    const slot = this.#free.pop() ?? (this.#used < SLOTS ? this.#used++ : -1);
    if (slot < 0) return -1;
    const at = slot * SLOT_WORDS;
    this.#words[at + 1] = id;
    this.#words[at + 2] = tag >>> 0;
    this.#words[at + 3] = Math.floor(tag / HIGH);
    // Last: a record is complete or absent.
    Atomics.store(this.#words, at, kind);
    return slot;
  }

  remove(slot: number): void {
    if (slot < 0) return;
    Atomics.store(this.#words, slot * SLOT_WORDS, 0);
    this.#free.push(slot);
  }

  /** Closes and leaves the file with its records. */
  abandon(): void {
    if (!this.#fd.open) return;
    this.#mapping.close();
    this.#fd.close();
  }

  close(): void {
    if (!this.#fd.open) return;
    this.#mapping.close();
    try {
      unlinkSync(this.#path);
    } catch {
      // Someone tidied the directory.
    }
    this.#fd.close();
  }
}

function readRecords(sys: Syscalls, fd: number): JournalRecord[] {
  const records: JournalRecord[] = [];
  const chunk = new Uint8Array(65_536);
  const words = new Uint32Array(chunk.buffer);
  for (;;) {
    const length = sys.read(fd, chunk);
    if (length <= 0) return records;
    for (let at = 0; at + SLOT_WORDS <= length / 4; at += SLOT_WORDS) {
      const [kind = 0, id = 0, low = 0, high = 0] = words.subarray(at, at + SLOT_WORDS);
      if (kind === 0) continue;
      records.push({ kind, id, tag: low + high * HIGH });
    }
  }
}
