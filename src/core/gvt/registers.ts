/**
 * The register engine: registers are declared as data (`RegisterDefinition`), compiled once into a dense lookup by
 * dword (`RegisterTable`), and each vGPU has a plain 2 MiB register file on top (`RegisterFile`).
 *
 * A register without a definition is plain storage: the drivers that GVT-g serves read back what they wrote to most of
 * the roughly 1,100 registers that it tracks (facts: gvt.md 4.7).
 */
import { MptError } from '../errors.js';
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import { REGISTER_FILE_SIZE } from './device-info.js';
import type { RegisterContext } from './register-context.js';
import { ENGINES, type RegisterPort, type RegisterStore } from './roles.js';
import type { Saved, StateStream } from './state/stream.js';

/**
 * Replaces the load. `unit` is the engine id of a per-engine register, else 0.
 * @returns the dword; any 32-bit representation
 */
export type ReadHandler = (context: RegisterContext, offset: number, unit: number) => number;
/** Replaces the store. `value` is the unsigned dword as the guest wrote it. */
export type WriteHandler = (context: RegisterContext, offset: number, value: number, unit: number) => Status;
/** Runs after the declared store. `raw` is what the guest wrote, `old` the register before, both unsigned. */
export type AfterHandler = (context: RegisterContext, offset: number, raw: number, unit: number, old: number) => Status;

export interface RegisterDefinition {
  /** Name in i915_reg.h where there is one. */
  readonly name: string;
  /** Byte offset in BAR0, dword-aligned; with `perEngine` from each engine's base. */
  readonly offset: number;
  /** Registers of this kind, `stride` bytes apart. Default 1 and 4. */
  readonly count?: number;
  readonly stride?: number;
  readonly perEngine?: true;
  /** Value after reset. Default 0. */
  readonly reset?: number;
  /** Bits that a write stores. Default all. */
  readonly writable?: number;
  /** Bits that a 1 clears. */
  readonly clearable?: number;
  /** Mode register: the upper 16 bits of a write enable the lower ones; the upper half is not stored. */
  readonly masked?: true;
  /**
   * Access sizes besides 4 that are answered, as a mask (1, 2, or 3 for both). 8 bytes are always two dwords. Default
   * 3 for declared storage, 0 for masked registers and those with handlers.
   */
  readonly narrow?: 0 | 1 | 2 | 3;
  /** Accesses may be unaligned: each byte is then an access of its own. Needs `narrow` 3. */
  readonly unaligned?: true;
  /**
   * What a command that writes the register (MI_LOAD_REGISTER_IMM) gets; `privileged`: only in the ring and GGTT batches. Default:
   * refused.
   */
  readonly command?: 'allow' | 'privileged' | 'ignore';
  readonly read?: ReadHandler;
  readonly write?: WriteHandler;
  readonly after?: AfterHandler;
}

/** A definition at one place, all defaults filled in; one shape, for the sake of the lookup's speed. */
class RegisterEntry {
  readonly name: string;
  readonly unit: number;
  readonly writable: number;
  readonly clearable: number;
  readonly masked: boolean;
  readonly narrow: number;
  readonly unaligned: boolean;
  readonly command: 'refuse' | 'allow' | 'privileged' | 'ignore';
  readonly read: ReadHandler | undefined;
  readonly write: WriteHandler | undefined;
  readonly after: AfterHandler | undefined;

  constructor(definition: RegisterDefinition, unit: number) {
    const { name, clearable = 0, writable = ~0, masked = false, unaligned = false, command = 'refuse', read, write, after } = definition;
    this.name = name;
    this.unit = unit;
    this.clearable = clearable;
    this.writable = writable & ~clearable;
    this.masked = masked;
    this.narrow = definition.narrow ?? (masked || read !== undefined || write !== undefined || after !== undefined ? 0 : 3);
    this.unaligned = unaligned;
    this.command = command;
    this.read = read;
    this.write = write;
    this.after = after;
  }
}

const DWORDS = REGISTER_FILE_SIZE / 4;

/** The compiled definitions of one device, shared by its vGPUs. Immutable. */
export class RegisterTable {
  /** Entry number by dword; 0 is plain storage. */
  readonly index = new Uint16Array(DWORDS);
  readonly entries: readonly RegisterEntry[];
  /** Register file after reset. */
  readonly initial = new Uint32Array(DWORDS);

  /** @throws MptError INTERNAL when two definitions claim a dword, or one is misplaced */
  constructor(definitions: readonly RegisterDefinition[]) {
    const entries = [new RegisterEntry({ name: 'plain', offset: 0 }, 0)];
    for (const definition of definitions)
      for (const { id, base } of definition.perEngine ? ENGINES : [{ id: 0, base: 0 }]) {
        const entry = new RegisterEntry(definition, id);
        const number = entries.push(entry) - 1;
        const { count = 1, stride = 4, reset = 0 } = definition;
        for (let i = 0; i < count; i++) this.#place(number, entry, base + definition.offset + i * stride, reset, entries);
      }
    this.entries = entries;
  }

  /** The entry at a dword-aligned offset of the register file. */
  find(offset: number): RegisterEntry {
    return this.entries[this.index[offset >>> 2] as number] as RegisterEntry;
  }

  #place(number: number, entry: RegisterEntry, offset: number, reset: number, entries: readonly RegisterEntry[]): void {
    const refuse = (what: string): MptError =>
      new MptError('INTERNAL', `register ${entry.name} ${what}`, { op: 'register_table', address: offset });
    if (offset % 4 !== 0 || offset < 0 || offset + 4 > REGISTER_FILE_SIZE) throw refuse('is not a dword of the register file');
    const other = this.index[offset >>> 2] as number;
    if (other !== 0) throw refuse(`lies on ${entries[other]?.name}`);
    if (entry.unaligned && entry.narrow !== 3) throw refuse('is unaligned but not byte-accessible');
    this.index[offset >>> 2] = number;
    this.initial[offset >>> 2] = reset;
  }
}

/** All lanes of a dword. */
const ALL = -1;
/** Bits of an access of 1 or 2 bytes, by size. */
const LANES = [0, 0xff, 0xffff] as const;

export class RegisterFile implements RegisterStore, RegisterPort, Saved {
  readonly table: RegisterTable;
  readonly #context: RegisterContext;
  /** Not saved: the table's. */
  readonly #index: Uint16Array;
  /** Not saved: the table's. */
  readonly #entries: readonly RegisterEntry[];
  readonly #words: Uint32Array;

  constructor(table: RegisterTable, context: RegisterContext) {
    this.table = table;
    this.#context = context;
    this.#index = table.index;
    this.#entries = table.entries;
    this.#words = new Uint32Array(DWORDS);
    this.restore();
  }

  /** Stored dword, without side effects. Offsets wrap at the register file's end. */
  get(offset: number): number {
    return this.#words[(offset >>> 2) & (DWORDS - 1)] as number;
  }

  set(offset: number, value: number): void {
    this.#words[(offset >>> 2) & (DWORDS - 1)] = value;
  }

  /** Puts [0, end) back to its reset values. @param end byte offset, default the whole file */
  restore(end = REGISTER_FILE_SIZE): void {
    const words = this.#words;
    const { initial } = this.table;
    // Most of the file is never written and takes no memory, which reading does not change and a copy of it would.
    for (let i = 0; i < end >>> 2; i++) if (words[i] !== initial[i]) words[i] = initial[i] as number;
  }

  /** What is stored. Nothing of it is trusted: whoever uses a register takes it for what a guest has written. */
  exchange(state: StateStream): void {
    state.words('file', this.#words);
  }

  /**
   * Guest load of 1, 2, 4 or 8 bytes inside the register file. Naturally aligned, or to registers declared unaligned.
   * 8 bytes are two dword accesses, low first: GVT-g gives them to the first register's handler alone.
   * @returns EINVAL when alignment or size is not the register's
   */
  read(offset: number, value: AccessValue, size: number): Status {
    if ((offset & (size - 1)) !== 0) return this.#unaligned(offset, value, size, false);
    if (size >= 4) {
      value[0] = this.#load(offset);
      value[1] = size === 8 ? this.#load(offset + 4) : 0;
      return Status.OK;
    }
    const number = this.#index[offset >>> 2] as number;
    if (number !== 0 && ((this.#entries[number] as RegisterEntry).narrow & size) === 0) return Status.EINVAL;
    value[0] = (this.#load(offset) >>> ((offset & 3) * 8)) & (LANES[size] as number);
    value[1] = 0;
    return Status.OK;
  }

  /** Guest store, same rules; GVT-g lets unaligned stores pass, which no driver makes. */
  write(offset: number, value: AccessValue, size: number): Status {
    if ((offset & (size - 1)) !== 0) return this.#unaligned(offset, value, size, true);
    if (size === 4) return this.#store(offset, value[0] as number, ALL);
    if (size === 8) {
      const low = this.#store(offset, value[0] as number, ALL);
      const high = this.#store(offset + 4, value[1] as number, ALL);
      return low === Status.OK ? high : low;
    }
    return this.#storeNarrow(offset, value[0] as number, size);
  }

  /** Failsafe: the register file as plain memory, any alignment. */
  readPlain(offset: number, value: AccessValue, size: number): void {
    value[0] = 0;
    value[1] = 0;
    for (let i = 0; i < size; i++) {
      const byte = (this.get(offset + i) >>> (((offset + i) & 3) * 8)) & 0xff;
      value[i >>> 2] = (value[i >>> 2] as number) | (byte << ((i & 3) * 8));
    }
  }

  writePlain(offset: number, value: AccessValue, size: number): void {
    for (let i = 0; i < size; i++) {
      const byte = ((value[i >>> 2] as number) >>> ((i & 3) * 8)) & 0xff;
      const shift = ((offset + i) & 3) * 8;
      this.set(offset + i, (this.get(offset + i) & ~(0xff << shift)) | (byte << shift));
    }
  }

  writeFromCommand(offset: number, value: number, privileged: boolean): Status {
    if (!(offset >= 0 && offset + 4 <= REGISTER_FILE_SIZE)) return privileged ? Status.EFAULT : Status.OK;
    const { command } = this.table.find(offset);
    if (command === 'allow' || (command === 'privileged' && privileged)) return this.#store(offset & ~3, value, ALL);
    return command === 'ignore' || !privileged ? Status.OK : Status.EBADRQC;
  }

  readFromCommand(offset: number): number {
    return offset >= 0 && offset + 4 <= REGISTER_FILE_SIZE ? this.#load(offset) : 0;
  }

  #load(offset: number): number {
    const dword = offset >>> 2;
    const number = this.#index[dword] as number;
    if (number !== 0) {
      const { read, unit } = this.#entries[number] as RegisterEntry;
      if (read !== undefined) return read(this.#context, offset & ~3, unit) >>> 0;
    }
    return this.#words[dword] as number;
  }

  /** @param lanes bits of the dword that the access carries; `value` stands in its place inside the dword */
  #store(offset: number, value: number, lanes: number): Status {
    const dword = offset >>> 2;
    const number = this.#index[dword] as number;
    if (number !== 0) return this.#storeEntry(this.#entries[number] as RegisterEntry, dword, value, lanes);
    this.#words[dword] = lanes === ALL ? value : ((this.#words[dword] as number) & ~lanes) | (value & lanes);
    return Status.OK;
  }

  #storeEntry(entry: RegisterEntry, dword: number, value: number, lanes: number): Status {
    const old = this.#words[dword] as number;
    if (entry.write !== undefined) return entry.write(this.#context, dword * 4, ((old & ~lanes) | (value & lanes)) >>> 0, entry.unit);
    const enabled = entry.masked ? value >>> 16 : entry.writable & lanes;
    this.#words[dword] = ((old & ~enabled) | (value & enabled)) & ~(value & entry.clearable & lanes);
    return entry.after === undefined ? Status.OK : entry.after(this.#context, dword * 4, value >>> 0, entry.unit, old);
  }

  #storeNarrow(offset: number, value: number, size: number): Status {
    const number = this.#index[offset >>> 2] as number;
    if (number !== 0 && ((this.#entries[number] as RegisterEntry).narrow & size) === 0) return Status.EINVAL;
    const shift = (offset & 3) * 8;
    return this.#store(offset, value << shift, (LANES[size] as number) << shift);
  }

  #unaligned(offset: number, value: AccessValue, size: number, write: boolean): Status {
    if (offset + size > REGISTER_FILE_SIZE) return Status.EINVAL;
    if (!this.table.find(offset).unaligned || !this.table.find(offset + size - 1).unaligned) return Status.EINVAL;
    if (write) {
      for (let i = 0; i < size; i++) this.#storeNarrow(offset + i, ((value[i >>> 2] as number) >>> ((i & 3) * 8)) & 0xff, 1);
      return Status.OK;
    }
    value[0] = 0;
    value[1] = 0;
    for (let i = 0; i < size; i++) {
      const byte = (this.#load(offset + i) >>> (((offset + i) & 3) * 8)) & 0xff;
      value[i >>> 2] = (value[i >>> 2] as number) | (byte << ((i & 3) * 8));
    }
    return Status.OK;
  }
}
