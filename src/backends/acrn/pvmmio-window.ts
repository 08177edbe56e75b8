/**
 * set_pvmmio while it is on: the register file is mapped without the right to write, so that the guest reads it without an exit and
 * each write is a request; the PVINFO page has no mapping and traps both ways; the shared page is the guest's and ours.
 */
import { PAGE_SIZE } from '../../core/addresses.js';
import { MptError } from '../../core/errors.js';
import { GuestRam, mapRegion } from '../../core/guest-ram.js';
import type { VgpuAttachment } from '../../core/mpt.js';
import { PVMMIO, PVMMIO_SIZE } from '../../core/pvmmio.js';
import type { RamAccess } from '../../core/ram-access.js';
import type { MemorySegments } from './segments.js';

const { registerFileSize, pvinfoOffset, sharedPageOffset } = PVMMIO;
const AFTER_PVINFO = pvinfoOffset + PAGE_SIZE;

/** What a window needs of its VM. */
export interface PvmmioVm {
  readonly segments: MemorySegments;
  readonly registerFiles: Set<RamAccess>;
}

interface Part {
  readonly gpa: number;
  readonly size: number;
}

export class PvmmioWindow {
  readonly #vm: PvmmioVm;
  readonly #start: number;
  readonly #file: RamAccess;
  /** What is mapped now. */
  readonly #parts: Part[] = [];

  /** All or nothing. @throws MptError LIMIT, NO_MEMORY, HYPERVISOR */
  constructor(vm: PvmmioVm, start: number, { registerFile, sharedPage }: NonNullable<VgpuAttachment['pvmmio']>) {
    this.#vm = vm;
    this.#start = start;
    const { bytes } = registerFile;
    this.#file = new GuestRam([
      mapRegion(start, bytes.subarray(0, pvinfoOffset)),
      mapRegion(start + AFTER_PVINFO, bytes.subarray(AFTER_PVINFO, registerFileSize)),
    ]);
    // Before the first part is mapped: from then on writes to it must find where they go.
    vm.registerFiles.add(this.#file);
    try {
      this.#map(start, pvinfoOffset, registerFile.hva, false);
      this.#map(start + AFTER_PVINFO, registerFileSize - AFTER_PVINFO, registerFile.hva + AFTER_PVINFO, false);
      this.#map(start + sharedPageOffset, PAGE_SIZE, sharedPage.hva, true);
    } catch (error) {
      try {
        this.close();
      } catch (second) {
        // What could not be taken away stays mapped until something else is to stand there; the first failure tells why.
        if (!MptError.is(second)) throw second;
      }
      vm.registerFiles.delete(this.#file);
      throw error;
    }
  }

  overlaps(first: number, last: number): boolean {
    return first < this.#start + PVMMIO_SIZE && last >= this.#start;
  }

  /** Every access traps again. Can be repeated when it failed: then it goes on where it stopped. @throws MptError HYPERVISOR */
  close(): void {
    for (let part = this.#parts.at(-1); part !== undefined; part = this.#parts.at(-1)) {
      this.#vm.segments.unmap(part.gpa, part.size);
      this.#parts.pop();
    }
    this.#vm.registerFiles.delete(this.#file);
  }

  #map(gpa: number, size: number, hva: number, writable: boolean): void {
    this.#vm.segments.map(gpa, size, hva, writable);
    this.#parts.push({ gpa, size });
  }
}
