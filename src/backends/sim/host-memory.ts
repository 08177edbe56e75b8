/**
 * The simulated machine address space: which host bytes are behind a machine frame. Guest RAM and host pages live in
 * it as blocks. A block's frame numbers keep the alignment of its guest frames within 2 MiB and never equal them.
 */

import { HUGE_PAGE_SIZE, PAGE_SIZE } from '../../core/addresses.js';
import { DmaBlock } from '../../core/dma-block.js';
import { MptError } from '../../core/errors.js';
import { RangeSet } from '../../core/ranges.js';
import { MACHINE_BASE, MACHINE_LIMIT } from './abi.js';

export interface HostBlock {
  /** First machine byte, 4 KiB aligned. */
  readonly base: number;
  readonly size: number;
  readonly bytes: Uint8Array;
  readonly dma: DmaBlock;
}

export class HostMemory {
  readonly #blocks = new RangeSet<HostBlock>();
  #next = MACHINE_BASE;

  /**
   * A new zeroed block.
   * @param gpa guest address that it will back, for the alignment of 2 MiB pages
   * @param bytes memory for it, zeroed; default: its own
   * @throws MptError NO_MEMORY
   */
  allocate(size: number, gpa = 0, bytes?: Uint8Array): HostBlock {
    let base = this.#next + (gpa % HUGE_PAGE_SIZE);
    if (base === gpa) base += HUGE_PAGE_SIZE;
    // One huge page stays empty after each block, so that running past an end is always refused.
    const next = (Math.floor((base + size) / HUGE_PAGE_SIZE) + 2) * HUGE_PAGE_SIZE;
    if (next >= MACHINE_LIMIT) throw new MptError('NO_MEMORY', 'the simulated machine address space is used up', { size });
    const memory = bytes ?? allocateBytes(size);
    const block = { base, size, bytes: memory, dma: new DmaBlock(base, memory) };
    this.#next = next;
    this.#blocks.add(base, base + size - 1, block);
    return block;
  }

  free(block: HostBlock): void {
    this.#blocks.delete(block.base, block.base + block.size - 1);
  }

  /** The block that wholly contains the machine range. */
  find(address: number, length: number): HostBlock | undefined {
    const block = this.#blocks.find(address)?.value;
    return block !== undefined && address - block.base + length <= block.size ? block : undefined;
  }

  /** The bytes of a machine range inside one block. @throws MptError INVALID_ADDRESS */
  view(address: number, length: number): Uint8Array {
    const block = this.find(address, length);
    if (block === undefined)
      throw new MptError('INVALID_ADDRESS', 'the machine range is neither guest RAM nor host pages of this backend', {
        address,
        size: length,
      });
    return block.bytes.subarray(address - block.base, address - block.base + length);
  }

  /** Bytes allocated now. */
  get size(): number {
    let size = 0;
    for (const { value } of this.#blocks) size += value.size;
    return size;
  }
}

/** glibc maps blocks of this size freshly, whatever it has learned; smaller ones it clears, page by page. */
const MAPPED_AT = 33 << 20;

/** Zeroed memory for the RAM of one VM in one piece, of which the kernel gives pages at their first touch. @throws MptError NO_MEMORY */
export function allocateRam(size: number): Uint8Array {
  return size < MAPPED_AT / 4 ? allocateBytes(size) : allocateBytes(Math.max(size, MAPPED_AT)).subarray(0, size);
}

function allocateBytes(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch (cause) {
    throw new MptError('NO_MEMORY', `the process cannot allocate ${size / PAGE_SIZE} pages`, { size, cause });
  }
}
