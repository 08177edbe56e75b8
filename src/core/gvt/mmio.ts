/**
 * Guest accesses to BAR0 and BAR2 (facts: gvt.md 4.7): routes a guest-physical address to the register file, the GGTT's
 * entries or the aperture.
 */
import { PAGE_SIZE, pageOffset } from '../addresses.js';
import { Status } from '../gvt-ops.js';
import type { AccessValue } from '../io-request.js';
import type { Bars } from './bars.js';
import { BAR0_SIZE, GGTT_ENTRY_SIZE, GGTT_OFFSET, REGISTER_FILE_SIZE } from './device-info.js';
import type { Ggtt } from './ggtt.js';
import { PVINFO_BASE } from './pvinfo.js';
import type { RegisterFile } from './registers.js';
import type { GpuRange } from './resources.js';
import type { GuestErrorLog, VgpuStatistics } from './roles.js';

/** Where the display's registers begin, and the south display's (PCH); between them is PVINFO. All else is the GT's. */
const DISPLAY_START = 0x4_0000;
const PCH_START = 0xc_0000;
const PCH_END = 0x10_0000;

/** What of the vGPU the routing looks at. */
export interface MmioState {
  /** Registers and GGTT entries are plain memory. */
  readonly failsafe: boolean;
}

export class Mmio {
  readonly #bars: Bars;
  readonly #registers: RegisterFile;
  readonly #ggtt: Ggtt;
  readonly #aperture: GpuRange;
  /** Byte offset in BAR0 of the end of the GGTT's entries. */
  readonly #ggttEnd: number;
  readonly #state: MmioState;
  readonly #statistics: VgpuStatistics;
  readonly #log: GuestErrorLog;

  constructor(parts: {
    readonly bars: Bars;
    readonly registers: RegisterFile;
    readonly ggtt: Ggtt;
    readonly aperture: GpuRange;
    readonly ggttEntries: number;
    readonly state: MmioState;
    readonly statistics: VgpuStatistics;
    readonly log: GuestErrorLog;
  }) {
    this.#bars = parts.bars;
    this.#registers = parts.registers;
    this.#ggtt = parts.ggtt;
    this.#aperture = parts.aperture;
    this.#ggttEnd = GGTT_OFFSET + parts.ggttEntries * GGTT_ENTRY_SIZE;
    this.#state = parts.state;
    this.#statistics = parts.statistics;
    this.#log = parts.log;
  }

  /**
   * Load of 1, 2, 4 or 8 bytes at a guest-physical address.
   * @returns EFAULT when the address is not one of the vGPU's, EINVAL when size or alignment is not the target's
   */
  read(gpa: number, value: AccessValue, size: number): Status {
    this.#statistics.mmioReads++;
    const offset = this.#locate(gpa);
    let status: Status = Status.EFAULT;
    if (!powerOfTwoTo8(size)) status = Status.EINVAL;
    else if (offset >= 0 && offset + size <= BAR0_SIZE) status = this.#readBar0(offset, value, size);
    else if (this.#inAperture(gpa - this.#bars.bar2, size)) status = this.#readAperture(gpa - this.#bars.bar2, value, size);
    if (status !== Status.OK) this.#refused('read', gpa, size, status);
    return status;
  }

  /** Store, same rules; also what the register's handler answers. */
  write(gpa: number, value: AccessValue, size: number): Status {
    this.#statistics.mmioWrites++;
    const offset = this.#locate(gpa);
    let status: Status = Status.EFAULT;
    if (!powerOfTwoTo8(size)) status = Status.EINVAL;
    else if (offset >= 0 && offset + size <= BAR0_SIZE) status = this.#writeBar0(offset, value, size);
    else if (this.#inAperture(gpa - this.#bars.bar2, size)) status = this.#writeAperture(gpa - this.#bars.bar2, value, size);
    if (status !== Status.OK) this.#refused('write', gpa, size, status);
    return status;
  }

  /**
   * Counts an access by what it is for (i915_reg.h; where a block begins is the Programmer's Reference Manual's, volume 2c).
   * @returns its offset in BAR0, an integer to V8, too (guest-physical addresses are doubles, and so would all be that is computed of one), or -1
   */
  #locate(gpa: number): number {
    const statistics = this.#statistics;
    const distance = gpa - this.#bars.bar0;
    if (!(distance >= 0 && distance < BAR0_SIZE)) {
      statistics.apertureAccesses++;
      return -1;
    }
    const offset = distance | 0;
    if (offset >= GGTT_OFFSET) statistics.ggttAccesses++;
    else if (offset < DISPLAY_START || offset >= PCH_END) statistics.gtAccesses++;
    else if (offset >= PCH_START) statistics.pchAccesses++;
    else if (offset >= PVINFO_BASE && offset < PVINFO_BASE + PAGE_SIZE) statistics.pvinfoAccesses++;
    else statistics.displayAccesses++;
    return offset;
  }

  #readBar0(offset: number, value: AccessValue, size: number): Status {
    if (offset < REGISTER_FILE_SIZE) {
      if (!this.#state.failsafe) return this.#registers.read(offset, value, size);
      this.#registers.readPlain(offset, value, size);
      return Status.OK;
    }
    if (offset >= GGTT_OFFSET) {
      const status = offset < this.#ggttEnd ? this.#ggtt.readEntry(offset - GGTT_OFFSET, value, size) : Status.EINVAL;
      if (status === Status.OK || !this.#state.failsafe) return status;
    }
    // Between registers and entries there is nothing. In failsafe nothing is refused.
    value[0] = 0;
    value[1] = 0;
    return Status.OK;
  }

  #writeBar0(offset: number, value: AccessValue, size: number): Status {
    if (offset < REGISTER_FILE_SIZE) {
      if (!this.#state.failsafe) return this.#registers.write(offset, value, size);
      this.#registers.writePlain(offset, value, size);
      return Status.OK;
    }
    if (offset < GGTT_OFFSET) return Status.OK;
    if (this.#state.failsafe) {
      this.#ggtt.writePlain(offset - GGTT_OFFSET, value, size);
      return Status.OK;
    }
    return offset < this.#ggttEnd ? this.#ggtt.writeEntry(offset - GGTT_OFFSET, value, size) : Status.EINVAL;
  }

  /** The part of BAR2 that is the vGPU's: offsets there are GGTT addresses. */
  #inAperture(address: number, size: number): boolean {
    return address >= this.#aperture.start && address + size <= this.#aperture.start + this.#aperture.size;
  }

  /** An entry that is not present shows the scratch page: zeros. */
  #readAperture(address: number, value: AccessValue, size: number): Status {
    value[0] = 0;
    value[1] = 0;
    const page = this.#ggtt.page(address);
    const at = pageOffset(address);
    if ((at & (size - 1)) !== 0) return this.#readApertureBytes(address, value, size);
    if (page === undefined) return Status.OK;
    if (size >= 4) {
      value[0] = page.load32(at);
      if (size === 8) value[1] = page.load32(at + 4);
    } else value[0] = size === 1 ? page.load8(at) : page.load8(at) | (page.load8(at + 1) << 8);
    return Status.OK;
  }

  /** A quadword is stored as two dwords, low first; through a PCI aperture a driver cannot count on more. */
  #writeAperture(address: number, value: AccessValue, size: number): Status {
    const at = pageOffset(address);
    if ((at & (size - 1)) !== 0) return this.#writeApertureBytes(address, value, size);
    const page = this.#ggtt.page(address);
    if (page === undefined) return Status.OK;
    if (size >= 4) {
      page.store32(at, value[0] as number);
      if (size === 8) page.store32(at + 4, value[1] as number);
      return Status.OK;
    }
    page.store8(at, value[0] as number);
    if (size === 2) page.store8(at + 1, (value[0] as number) >>> 8);
    return Status.OK;
  }

  #readApertureBytes(address: number, value: AccessValue, size: number): Status {
    for (let i = 0; i < size; i++) {
      const byte = this.#ggtt.page(address + i)?.load8(pageOffset(address + i)) ?? 0;
      value[i >>> 2] = (value[i >>> 2] as number) | (byte << ((i & 3) * 8));
    }
    return Status.OK;
  }

  #writeApertureBytes(address: number, value: AccessValue, size: number): Status {
    for (let i = 0; i < size; i++) {
      const page = this.#ggtt.page(address + i);
      page?.store8(pageOffset(address + i), (value[i >>> 2] as number) >>> ((i & 3) * 8));
    }
    return Status.OK;
  }

  #refused(what: string, gpa: number, size: number, status: Status): void {
    const offset = gpa - this.#bars.bar0;
    const where = offset >= 0 && offset < BAR0_SIZE ? `BAR0 + 0x${offset.toString(16)}` : `0x${gpa.toString(16)}`;
    this.#log.guestError(`${what} of ${size} bytes at ${where} refused (status ${status})`);
  }
}

const powerOfTwoTo8 = (size: number): boolean => size === 4 || size === 8 || size === 1 || size === 2;
