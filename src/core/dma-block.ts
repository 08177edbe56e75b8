/** Memory in which DMA addresses follow one another as the bytes do: a region of guest RAM, on hypervisors where it is one piece for the device, too. */

export class DmaBlock {
  /** DMA address of the first byte. */
  readonly start: number;
  readonly bytes: Uint8Array;
  #u32: Uint32Array | undefined;
  #u64: BigUint64Array | undefined;

  /** @param bytes 8-byte aligned, a multiple of 8 long */
  constructor(start: number, bytes: Uint8Array) {
    this.start = start;
    this.bytes = bytes;
  }

  /** The memory went with its VM or its client: the views are empty. */
  get gone(): boolean {
    return this.bytes.length === 0;
  }

  get u32(): Uint32Array {
    return this.#u32 ?? this.#words();
  }

  get u64(): BigUint64Array {
    return this.#u64 ?? this.#qwords();
  }

  #words(): Uint32Array {
    const { buffer, byteOffset, length } = this.bytes;
    this.#u32 = length === 0 ? new Uint32Array() : new Uint32Array(buffer, byteOffset, length / 4);
    return this.#u32;
  }

  #qwords(): BigUint64Array {
    const { buffer, byteOffset, length } = this.bytes;
    this.#u64 = length === 0 ? new BigUint64Array() : new BigUint64Array(buffer, byteOffset, length / 8);
    return this.#u64;
  }
}
