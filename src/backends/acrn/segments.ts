/**
 * What the VM sees at which guest-physical address: RAM, host pages, and frames without the right to write. ACRN has no call that
 * changes a mapping's rights, so a frame is taken away and mapped again; what the guest does to it between the two arrives as
 * a request and is carried out by `AcrnRequests`.
 *
 * Each mapping uses up a row of the kernel's table for the VM's life, so mappings are counted here and refused before the
 * kernel does. Mapping over what is mapped panics the real hypervisor: nothing here does.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { RangeSet } from '../../core/ranges.js';
import { ACRN_CONST, ACRN_HYPERVISOR } from './abi.js';
import { type AcrnCalls, checkAcrn } from './calls.js';

const { ACRN_MEM_ACCESS_READ: READ, ACRN_MEM_ACCESS_EXEC: EXEC, ACRN_MEM_ACCESS_RWX: RWX, ACRN_MEMMAP_RAM: RAM } = ACRN_CONST;

/** With the right to execute, or the hypervisor reports a write as MMIO and not as one to a protected page. */
const READ_ONLY = READ | EXEC;
const ROWS = ACRN_HYPERVISOR.MEM_MAPPING_MAX;
/**
 * One call maps no more. The HSM lists the pages of a call in one piece of kernel memory, 32 bytes each, and no piece is larger
 * than 4 MiB: 512 MiB of small pages are too much, and long before that the kernel may find no such piece.
 */
const PIECE = 128 * 2 ** 20;

export class MemorySegments {
  readonly #calls: AcrnCalls;
  /** Frames without the right to write, and the host address behind each. */
  readonly #protected = new Map<number, number>();
  /** Frames that were taken away and could not be mapped again. */
  readonly #holes = new Set<number>();
  /** What `map` mapped and `unmap` did not take away. */
  readonly #mapped = new RangeSet<true>();
  /** Physical memory that `VhmApi` mapped. */
  readonly #physical = new RangeSet<true>();
  #rows = 0;

  constructor(calls: AcrnCalls) {
    this.#calls = calls;
  }

  /** Rows of the kernel's table that are used up. */
  get rows(): number {
    return this.#rows;
  }

  /** True when something of ours is mapped in [gpa, last]. */
  touches(gpa: number, last: number): boolean {
    return this.#mapped.overlapping(gpa, last) !== undefined || this.#physical.overlapping(gpa, last) !== undefined;
  }

  /** Physical memory was mapped there, or taken away again, past these segments. */
  physicalMemory(gpa: number, last: number, mapped: boolean): void {
    if (mapped) this.#physical.add(gpa, last, true);
    else this.#physical.delete(gpa, last);
  }

  /** Maps memory of this process. @throws MptError OVERLAP, LIMIT, NO_MEMORY, HYPERVISOR; then nothing changed */
  map(gpa: number, size: number, hva: number, writable = true): void {
    const last = gpa + size - 1;
    if (this.#physical.overlapping(gpa, last) !== undefined)
      throw new MptError('OVERLAP', 'physical memory was mapped there (add_memory_region)', { address: gpa, size });
    // What could not be taken away when it was to go is still there; the hypervisor does not survive a mapping over it.
    for (let left = this.#mapped.overlapping(gpa, last); left !== undefined; left = this.#mapped.overlapping(gpa, last))
      this.unmap(left.start, left.end - left.start + 1);
    this.#requireRows(Math.ceil(size / PIECE), gpa, size);
    for (let done = 0; done < size; done += PIECE) {
      try {
        this.#set(gpa + done, Math.min(PIECE, size - done), hva + done, writable);
      } catch (error) {
        if (done > 0) this.#takeBack(gpa, done);
        throw error;
      }
    }
    this.#mapped.add(gpa, last, true);
  }

  /** Takes away exactly what one `map` mapped. @throws MptError HYPERVISOR; then it is still mapped */
  unmap(gpa: number, size: number): void {
    this.#unset(gpa, size);
    this.#mapped.delete(gpa, gpa + size - 1);
  }

  /** Guest writes to the frame become requests. @throws MptError LIMIT, NO_MEMORY, HYPERVISOR; then nothing changed */
  protect(gfn: number, hva: number): void {
    if (this.#protected.has(gfn)) return;
    this.#remap(gfn, hva, false);
    this.#protected.set(gfn, hva);
  }

  /**
   * The reverse. When the kernel's table is used up the frame stays protected: its writes are carried out as requests that
   * nobody is told of, and protecting it again costs nothing.
   */
  unprotect(gfn: number): void {
    const hva = this.#protected.get(gfn);
    if (hva === undefined || this.#rows >= ROWS) return;
    this.#remap(gfn, hva, true);
    this.#protected.delete(gfn);
  }

  /** What was mapped before a piece failed. Where that fails too it counts as mapped, and goes before something else stands there. */
  #takeBack(gpa: number, size: number): void {
    try {
      this.#unset(gpa, size);
    } catch (error) {
      if (!MptError.is(error)) throw error;
      this.#mapped.add(gpa, gpa + size - 1, true);
    }
  }

  #remap(gfn: number, hva: number, writable: boolean): void {
    const gpa = gfn * PAGE_SIZE;
    this.#requireRows(1, gpa, PAGE_SIZE);
    if (!this.#holes.has(gfn)) this.#unset(gpa, PAGE_SIZE);
    this.#holes.add(gfn);
    try {
      this.#set(gpa, PAGE_SIZE, hva, writable);
    } catch (error) {
      this.#restore(gfn, hva, !writable);
      throw error;
    }
    this.#holes.delete(gfn);
  }

  /** A frame that cannot be mapped back stays a hole: accesses to it are requests, and the next change tries again. */
  #restore(gfn: number, hva: number, writable: boolean): void {
    try {
      this.#set(gfn * PAGE_SIZE, PAGE_SIZE, hva, writable);
      this.#holes.delete(gfn);
    } catch (error) {
      if (!MptError.is(error)) throw error;
    }
  }

  #requireRows(count: number, address: number, size: number): void {
    if (this.#rows + count <= ROWS) return;
    throw new MptError('LIMIT', "the VM's table of memory mappings is used up", {
      address,
      size,
      limit: ROWS,
      hint: 'ACRN gives no row back before the VM is destroyed: create a new VM',
    });
  }

  #set(gpa: number, size: number, hva: number, writable: boolean): void {
    const rights = writable ? RWX : READ_ONLY;
    checkAcrn(this.#calls.setMemseg({ gpa, size, type: RAM, from: hva, rights }), 'SET_MEMSEG', { address: gpa, size });
    this.#rows++;
  }

  #unset(gpa: number, size: number): void {
    checkAcrn(this.#calls.unsetMemseg(gpa, size), 'UNSET_MEMSEG', { address: gpa, size });
  }
}
